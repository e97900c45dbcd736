from __future__ import annotations

import pytest

from tests.upgrade.scripts import HEAD, check, check_refused, check_same, of_module

SAME = {
    "today's optimizer_step": "def optimizer_step(self, epoch, batch_idx, optimizer, closure):\n    optimizer.step(closure)",
    "today's backward": "def backward(self, loss):\n    loss.backward()",
    "backward with more for autograd": "def step(self, loss):\n    self.manual_backward(loss, retain_graph=True)",
    "any arguments": "def optimizer_step(self, *args, **kwargs):\n    super().optimizer_step(*args, **kwargs)",
}
ROWS = {
    "all arguments of optimizer_step": (
        "def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu=False,\n"
        "                   using_native_amp=False, using_lbfgs=False):\n"
        "    optimizer.step(closure=optimizer_closure)",
        "def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):\n"
        "    optimizer.step(closure=optimizer_closure)",
    ),
    "an index that is used": (
        "def optimizer_step(self, epoch, i, opt, optimizer_idx, optimizer_closure):\n"
        "    if optimizer_idx == 0:\n        opt.step(closure=optimizer_closure)",
        "def optimizer_step(self, epoch, i, opt, optimizer_closure):\n    optimizer_idx = 0\n"
        "    if optimizer_idx == 0:\n        opt.step(closure=optimizer_closure)",
    ),
    "a step without the closure": (
        "def optimizer_step(self, epoch, batch_nb, optimizer, optimizer_i, second_order_closure=None):\n"
        "    optimizer.step()\n    optimizer.zero_grad()",
        "def optimizer_step(self, epoch, batch_nb, optimizer, optimizer_closure=None):\n"
        "    optimizer.step(closure=optimizer_closure)\n    optimizer.zero_grad()",
    ),
    "passed on to the base class": (
        "def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu):\n"
        "    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu=on_tpu)",
        "def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):\n"
        "    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)",
    ),
    "backward with an optimizer": (
        "def backward(self, loss, optimizer, optimizer_idx):\n    loss.backward()\n    print(optimizer)",
        "def backward(self, loss):\n    optimizer = self.trainer.optimizers[0]\n    loss.backward()\n    print(optimizer)",
    ),
    "hooks that had an index": (
        "def on_before_optimizer_step(self, optimizer, optimizer_idx):\n    pass\n\n"
        "def on_train_batch_end(self, outputs, batch, batch_idx, dataloader_idx):\n    pass",
        "def on_before_optimizer_step(self, optimizer):\n    pass\n\n"
        "def on_train_batch_end(self, outputs, batch, batch_idx):\n    pass",
    ),
    "a hook that has one now": (
        "def transfer_batch_to_device(self, batch, device):\n    return super().transfer_batch_to_device(batch, device)",
        "def transfer_batch_to_device(self, batch, device, dataloader_idx):\n"
        "    return super().transfer_batch_to_device(batch, device, dataloader_idx)",
    ),
    "manual calls": (
        "def training_step(self, batch, i):\n    a, b = self.optimizers()\n    loss = self(batch)\n"
        "    self.toggle_optimizer(a, optimizer_idx=0)\n    self.manual_backward(loss, a, retain_graph=True)\n"
        "    self.manual_optimizer_step(a)\n    self.untoggle_optimizer(0)",
        "def training_step(self, batch, i):\n    a, b = self.optimizers()\n    loss = self(batch)\n"
        "    self.toggle_optimizer(a)\n    self.manual_backward(loss, retain_graph=True)\n"
        "    a.step()\n    self.untoggle_optimizer(self.optimizers()[0])",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "signatures")


def test_callbacks() -> None:
    head = f"{HEAD}class C(pl.callbacks.ModelCheckpoint):\n    def on_train_batch_start(self, t, m, batch, batch_idx"
    check(f"{head}, dataloader_idx): ...\n", f"{head}): ...\n", "signatures")


def test_outputs_that_nobody_gives_are_refused() -> None:
    body = "def on_train_epoch_end(self, outputs):\n    print(outputs)"
    check_refused(of_module(body), "`outputs`, which is no longer given", "def on_train_epoch_end")
