from __future__ import annotations

import pytest

from lightify.upgrade.attributes import ATTRIBUTES
from tests.upgrade.scripts import check, check_same, of_module, script

SAME = {
    "a field of the module's own": "def __init__(self):\n    self.use_amp = True\n\ndef f(self):\n    return self.use_amp",
    "another object's": "def f(self):\n    return self.model.use_amp",
    "the module's own schedulers": "def f(self):\n    return self.lr_schedulers()[0]",
    "hyperparameters that are read": "def f(self):\n    return self.hparams.lr",
}
ROWS = {
    "of the Trainer": (
        "def f(self):\n    return self.trainer.proc_rank",
        "def f(self):\n    return self.trainer.global_rank",
    ),
    "of the module": ("def f(self):\n    return self.use_dp", "def f(self):\n    return False"),
    "an entry of a scheduler": (
        "def f(self):\n    return self.trainer.lr_schedulers[0]['scheduler'].get_last_lr()",
        "def f(self):\n    return self.trainer.lr_scheduler_configs[0].scheduler.get_last_lr()",
    ),
    "the schedulers themselves": (
        "def f(self):\n    for s in self.trainer.lr_schedulers:\n        s['scheduler'].step()",
        "def f(self):\n    for s in [vars(config) for config in self.trainer.lr_scheduler_configs]:\n"
        "        s['scheduler'].step()",
    ),
    "hyperparameters": (
        "def __init__(self, hparams):\n    super().__init__()\n    self.hparams = hparams  # all",
        "def __init__(self, hparams):\n    super().__init__()\n    self.save_hyperparameters(hparams)  # all",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "attributes")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_attribute_of_a_trainer_by_name(name: str) -> None:
    after = ATTRIBUTES[name].format("t")
    check(script(f"t = pl.Trainer()\nprint(t.{name})"), script(f"t = pl.Trainer()\nprint({after})"), "attributes")
