from __future__ import annotations

import pytest

from tests.upgrade.scripts import HEAD, check, check_refused, check_same, of_module

SAME = {
    "today's hooks": "def on_train_epoch_start(self):\n    pass",
    "a method of another name": "def on_epoch(self):\n    pass",
}
ROWS = {
    "training only": (
        "def training_step(self, batch, batch_idx): ...\n\ndef on_epoch_start(self):  # kept\n    self.seen = 0",
        "def training_step(self, batch, batch_idx): ...\n\ndef on_train_epoch_start(self):  # kept\n    self.seen = 0",
    ),
    "training and validation": (
        "def validation_step(self, batch, batch_idx): ...\n\ndef on_epoch_end(self):\n    print(self.seen)",
        "def validation_step(self, batch, batch_idx): ...\n\ndef _on_epoch_end(self):\n    print(self.seen)\n\n"
        "def on_train_epoch_end(self):\n    self._on_epoch_end()\n\n"
        "def on_validation_epoch_end(self):\n    self._on_epoch_end()",
    ),
    "beside today's hook": (
        "def on_epoch_start(self):\n    a()\n\ndef on_train_epoch_start(self):\n    b()",
        "def _on_epoch_start(self):\n    a()\n\ndef on_train_epoch_start(self):\n    self._on_epoch_start()\n    b()",
    ),
    "the batch, and what came after it": (
        "def on_batch_start(self, x):\n    print(x)\n\ndef on_batch_end(self):\n    pass",
        "def on_train_batch_start(self, x, batch_idx):\n    print(x)\n\n"
        "def on_train_batch_end(self, outputs, batch, batch_idx):\n    pass",
    ),
    "before training": (
        "def on_pretrain_routine_start(self): self.a = 1\ndef on_pretrain_routine_end(self): self.b = 1",
        "def on_fit_start(self): self.a = 1\ndef on_train_start(self): self.b = 1",
    ),
}
CALLBACK = f"{HEAD}class C(pl.Callback):\n    "


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


def test_stays_in_a_class_that_is_not_lightnings() -> None:
    check_same(HEAD + "class Mine:\n    def on_epoch_start(self): ...\n")


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "hooks")


def test_callbacks_have_all_stages() -> None:
    check(
        CALLBACK + "def on_batch_end(self, t, m):\n        print(t)\n",
        CALLBACK + "def on_train_batch_end(self, t, m, outputs, batch, batch_idx):\n        print(t)\n",
        "hooks",
    )
    given = "(self, trainer, pl_module)"
    added = "".join(
        f"\n    def on_{stage}_epoch_end{given}:\n        self._on_epoch_end(trainer, pl_module)\n"
        for stage in ("train", "validation", "test")
    )
    check(
        CALLBACK + f"def on_epoch_end{given}:\n        print(trainer)\n",
        CALLBACK + f"def _on_epoch_end{given}:\n        print(trainer)\n{added}",
        "hooks",
    )


def test_a_hook_that_takes_more_is_refused() -> None:
    check_refused(of_module("def on_batch_end(self, *args):\n    pass"), "today's hook does not", "def on_batch_end")
