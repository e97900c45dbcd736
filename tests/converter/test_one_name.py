"""What a function returns bears the caller's name for it from the start, where that is all that the caller does."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods

TRAIN = f"""\
def train(loader):
    total, seen = 0.0, 0
    for x, y in loader:
{indent(STEP, " " * 8)}
        total += loss.item() * len(x)
        seen += len(x)
    {{more}}
    return total, seen

"""
READS = "print('%.4f of %d' % (spent / count, epoch))"


def of_epochs(
    end: str = READS,
    *,
    more: str = "total /= 2",
    start: str = "",
    before: str = "",
    after: str = "",
    name: str = "spent",
) -> str:
    body = "\n".join(filter(None, (start, f"{name}, count = train(train_loader)", end)))
    define = TRAIN.format(more=more)
    return f"{PROLOGUE}{SETUP}{before}{define}for epoch in range(3):\n{indent(body, '    ')}\n{after}\n"


APART = {
    "read after the run": of_epochs(after="print(spent)"),
    "read before it is bound": of_epochs(start="if epoch > 0:\n    print(spent)"),
    "set before the run": of_epochs(before="spent = 0\n", after="print(spent)"),
    "bound twice": of_epochs(f"{READS}\nspent = 0"),
    "seen by a function": of_epochs(more="half = lambda: total / 2\n    total = half()"),
    "an element": of_epochs("print(spent[0], count)", before="spent = [0]\n", name="spent[0]"),
}


def test_a_result_is_called_as_its_caller_does() -> None:
    hooks = methods(converted(of_epochs()).text)
    assert hooks["on_train_epoch_start"] == "self.spent, self.count = (0.0, 0)"
    assert "self.spent += loss.item() * len(x)" in hooks["training_step"]
    assert hooks["on_train_epoch_end"].startswith("self.spent /= 2\nself.print('%.4f of %d' % (self.spent / self.count")


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_a_name_that_holds_more_than_the_result_keeps_its_own_place(text: str) -> None:
    assert "total +=" in str(converted(text).text)


def test_a_function_that_runs_twice_serves_both_callers() -> None:
    define = (
        "def test(loader):\n    total = 0.0\n    model.eval()\n    with torch.no_grad():\n        for x, y in loader:\n"
        "            total += criterion(model(x), y).item()\n    return total\n\n"
    )
    end = "first = test(val_loader)\nsecond = test(train_loader)\nprint(spent, count, first, second)"
    text = of_epochs(end, start="model.train()").replace("for epoch", f"{define}for epoch")
    result = str(converted(text).text)
    assert "first" in result and "second" in result and "total = self" not in result
