from __future__ import annotations

import pytest

from tests.upgrade.scripts import check, check_refused, check_same, of_module

SAME = {"no ending": "def training_step(self, batch, i):\n    return batch.sum()"}
ROWS = {
    "every return goes through it": (
        "def training_step(self, batch, i):\n    if i:\n        return batch, i  # early\n    return batch.sum()\n\n"
        "def training_step_end(self, outputs):\n    return outputs[0]",
        "def training_step(self, batch, i):\n    if i:\n        return self._finish_training_step((batch, i))  # early\n"
        "    return self._finish_training_step(batch.sum())\n\n"
        "def _finish_training_step(self, outputs):\n    return outputs[0]",
    ),
    "so does the end without a return": (
        "def validation_step(self, batch, i):\n    self.log('a', i)\n\ndef validation_step_end(self, out):\n    print(out)",
        "def validation_step(self, batch, i):\n    self.log('a', i)\n    return self._finish_validation_step(None)\n\n"
        "def _finish_validation_step(self, out):\n    print(out)",
    ),
    "a lambda's and a nested function's return is theirs": (
        "def test_step(self, batch, i):\n    def f():\n        return 1\n    return f()\n\ndef test_step_end(self, o): ...",
        "def test_step(self, batch, i):\n    def f():\n        return 1\n    return self._finish_test_step(f())\n\n"
        "def _finish_test_step(self, o): ...",
    ),
}
REFUSED = {
    "the step is elsewhere": (
        "def training_step_end(self, o):\n    return o",
        "in another class",
        "def training_step_end",
    ),
    "the step is called by others": (
        "def validation_step(self, b, i):\n    return b\n\ndef test_step(self, b, i):\n    return self.validation_step(b, i)\n\n"
        "def validation_step_end(self, o):\n    return o",
        "`validation_step` is called by other code",
        "def validation_step(",
    ),
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_stays(body: str) -> None:
    check_same(of_module(body))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(of_module(before), of_module(after), "step_ends")


@pytest.mark.parametrize(("body", "reason", "line"), REFUSED.values(), ids=REFUSED)
def test_is_refused(body: str, reason: str, line: str) -> None:
    check_refused(of_module(body), reason, line)
