from __future__ import annotations

import pytest

from tests.upgrade.scripts import check, check_refused, check_same, of_module, script

INIT = "def __init__(self):\n    super().__init__()\n{}    self.a, self.b = net(), net()\n\n"
STEP = "def {}(self, batch, batch_idx, optimizer_idx):\n    return (self.a, self.b)[optimizer_idx](batch).mean()\n\n"
LOOP = """\
def training_step(self, batch, batch_idx):
    for optimizer_idx, optimizer in enumerate(self.optimizers()):
        self.toggle_optimizer(optimizer)
        loss = self._loss_of_optimizer(batch, batch_idx, optimizer_idx)
        if loss is not None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.untoggle_optimizer(optimizer)
"""
TURN = """\
def training_step(self, batch, batch_idx):
    turn = batch_idx % (self.n + 1)
    optimizer_idx = 0 if turn < self.n else 1
    optimizer = self.optimizers()[optimizer_idx]
    self.toggle_optimizer(optimizer)
    loss = self._loss_of_optimizer(batch, batch_idx, optimizer_idx)
    if loss is not None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
    self.untoggle_optimizer(optimizer)
"""
MANUAL = "    self.automatic_optimization = False\n"
NEW_INIT, NEW_STEP = INIT.format(MANUAL), STEP.format("_loss_of_optimizer")
OPTIMIZERS = "def configure_optimizers(self):\n    a, b = sgd(self.a), sgd(self.b)\n    return "
SAME = {"one optimizer": "def training_step(self, batch, batch_idx):\n    return batch\n\n" + OPTIMIZERS + "a"}
SAME["one optimizer, and an index by default"] = (
    "def training_step(self, batch, batch_idx, optimizer_idx=0):\n    return batch\n\n" + OPTIMIZERS + "[a]"
)
ROWS = {
    "each in its turn": ("[a, b]", LOOP, "[a, b]"),
    "with schedulers by epoch": (
        "[a, b], [StepLR(a), StepLR(b)]",
        LOOP
        + "    if self.trainer.is_last_batch:\n        for scheduler in self.lr_schedulers():\n            scheduler.step()\n",
        "[a, b], [StepLR(a), StepLR(b)]",
    ),
    "with one scheduler by step": (
        "[a, b], [{'scheduler': StepLR(a), 'interval': 'step'}]",
        LOOP + "    self.lr_schedulers().step()\n",
        "[a, b], [{'scheduler': StepLR(a), 'interval': 'step'}]",
    ),
    "with frequencies": (
        "{'optimizer': a, 'frequency': self.n}, {'optimizer': b, 'frequency': 1}",
        TURN,
        "{'optimizer': a}, {'optimizer': b}",
    ),
}
REFUSED = {
    "a scheduler that follows a metric": (
        STEP.format("training_step") + OPTIMIZERS + "[a, b], [{'scheduler': s, 'monitor': 'loss'}]",
        "a scheduler follows a metric",
        "def configure_optimizers",
    ),
    "optimizers that are not written out": (
        STEP.format("training_step") + "def configure_optimizers(self):\n    return make(self)",
        "not written out",
        "def configure_optimizers",
    ),
    "an overridden step": (
        STEP.format("training_step") + OPTIMIZERS + "a, b\n\ndef optimizer_step(self, *args): ...",
        "`optimizer_step` is not called",
        "def optimizer_step",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


@pytest.mark.parametrize(("before", "step", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, step: str, after: str) -> None:
    old = INIT.format("") + STEP.format("training_step") + OPTIMIZERS + before
    check(of_module(old), of_module(NEW_INIT + NEW_STEP + step + "\n" + OPTIMIZERS + after), "optimizer_index")


def test_a_module_without_a_constructor_gets_one() -> None:
    made = "def __init__(self):\n    super().__init__()\n    self.automatic_optimization = False\n\n"
    rest = OPTIMIZERS + "a, b"
    after = made + NEW_STEP + LOOP + "\n" + rest
    check(of_module(STEP.format("training_step") + rest), of_module(after), "optimizer_index")


def test_an_index_that_manual_optimization_never_used_goes() -> None:
    body = INIT.format(MANUAL) + "def training_step(self, batch, batch_idx{}):\n    self.optimizers()[0].step()"
    check(of_module(body.format(", optimizer_idx")), of_module(body.format("")), "optimizer_index")


@pytest.mark.parametrize(("body", "reason", "line"), REFUSED.values(), ids=REFUSED)
def test_is_refused(body: str, reason: str, line: str) -> None:
    check_refused(of_module(body), reason, line)


def test_clipping_by_the_trainer_is_refused() -> None:
    text = of_module(STEP.format("training_step") + OPTIMIZERS + "a, b")
    text += "\n" + script("trainer = pl.Trainer(\n    gradient_clip_val=1.0,\n)").split("\n\n\n")[1]
    check_refused(text, "`gradient_clip_val` does nothing", "gradient_clip_val=1.0")
