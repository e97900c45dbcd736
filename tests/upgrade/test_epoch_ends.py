from __future__ import annotations

import pytest

from tests.upgrade.scripts import HEAD, check, check_refused, check_same, of_module

STEP = "def validation_step(self, batch, batch_idx):\n    return batch\n"
START = "def on_validation_epoch_start(self):\n    self.validation_step_outputs = []\n"
FILL = (
    "def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):\n"
    "    self.validation_step_outputs.append(outputs)\n"
)
TAKE = "self.validation_step_outputs = self.validation_step_outputs, []\n"
SAME = {
    "today's hook": STEP + "\ndef on_validation_epoch_end(self):\n    pass",
    "a property of that name": "validation_epoch_end = None",
}
ROWS = {
    "outputs of one loader": (
        f"{STEP}\n# mean\ndef validation_epoch_end(self, outs):\n    '''All.'''\n    print(outs)",
        f"{STEP}\n{START}\n{FILL}\n# mean\ndef on_validation_epoch_end(self):\n    '''All.'''\n    outs, {TAKE}    print(outs)",
    ),
    "a list for each loader": (
        "def validation_step(self, batch, batch_idx, dataloader_idx):\n    return batch\n\n"
        "def validation_epoch_end(self, outputs):\n    print(outputs)",
        "def validation_step(self, batch, batch_idx, dataloader_idx):\n    return batch\n\n"
        f"{START}\ndef on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):\n"
        "    while len(self.validation_step_outputs) <= dataloader_idx:\n        self.validation_step_outputs.append([])\n"
        "    self.validation_step_outputs[dataloader_idx].append(outputs)\n\n"
        f"def on_validation_epoch_end(self):\n    outputs, {TAKE}    if len(outputs) == 1:\n        outputs = outputs[0]\n"
        "    print(outputs)",
    ),
    "outputs that nobody reads are not kept": (
        f"{STEP}\ndef validation_epoch_end(self, outputs):\n    print('done')",
        f"{STEP}\ndef on_validation_epoch_end(self):\n    print('done')",
    ),
    "hooks that are there already": (
        f"{STEP}\ndef on_validation_epoch_start(self):\n    print('go')\n\ndef validation_epoch_end(self, outputs):\n    f(outputs)\n\n"
        "def on_validation_epoch_end(self):\n    g()\n\ndef on_validation_batch_end(self, out, batch, i, j=0):\n    h(out)",
        f"{STEP}\ndef on_validation_epoch_start(self):\n    self.validation_step_outputs = []\n    print('go')\n\n"
        "def _validation_epoch_end(self, outputs):\n    f(outputs)\n\n"
        f"def on_validation_epoch_end(self):\n    outputs, {TAKE}    self._validation_epoch_end(outputs)\n    g()\n\n"
        "def on_validation_batch_end(self, out, batch, i, j=0):\n    self.validation_step_outputs.append(out)\n    h(out)",
    ),
    "training": (
        "def training_step(self, batch, i):\n    return batch.sum()\n\ndef training_epoch_end(self, outputs):\n    print(outputs)",
        "def training_step(self, batch, i):\n    return batch.sum()\n\ndef on_train_epoch_start(self):\n    self.training_step_outputs = []\n\n"
        "def on_train_batch_end(self, outputs, batch, batch_idx):\n    self.training_step_outputs.append(outputs)\n\n"
        "def on_train_epoch_end(self):\n    outputs, self.training_step_outputs = self.training_step_outputs, []\n    print(outputs)",
    ),
}
REFUSED = {
    "the base of another file": (
        "def validation_epoch_end(self, outputs):\n    super().validation_epoch_end(outputs)",
        "a class in another file",
        "def validation_epoch_end",
    ),
    "by optimizer": (
        "def training_step(self, batch, i, optimizer_idx):\n    return batch\n\ndef training_epoch_end(self, outputs):\n    print(outputs)",
        "outputs by optimizer",
        "def training_epoch_end",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


def test_stays_in_a_plain_module() -> None:
    check_same(HEAD + "class Base(torch.nn.Module):\n    def validation_epoch_end(self, outputs): ...\n")


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "epoch_ends")


def test_one_stage_that_calls_another() -> None:
    before = of_module(
        STEP + "\ndef validation_epoch_end(self, outputs):\n    return sum(outputs)\n\n"
        "def test_epoch_end(self, outputs):\n    print(self.validation_epoch_end(outputs))"
    )
    result = before.replace("validation_epoch_end", "_validation_epoch_end")
    start = result.index("    def _validation")
    kept = result[start : result.index("\n    def test_epoch_end")]
    assert kept.endswith("return sum(outputs)\n")
    from tests.upgrade.scripts import run

    text = run(before).text
    assert text is not None and kept in text
    assert (
        "        outputs, self.validation_step_outputs = self.validation_step_outputs, []\n        self._validation"
        in text
    )
    assert "        print(self._validation_epoch_end(outputs))" in text


@pytest.mark.parametrize(("body", "reason", "line"), REFUSED.values(), ids=REFUSED)
def test_is_refused(body: str, reason: str, line: str) -> None:
    base = "Base" if "super" in body else "pl.LightningModule"
    text = of_module(body, base).replace("import torch\n", "import torch\nfrom base import Base\n")
    check_refused(text, reason, line)
