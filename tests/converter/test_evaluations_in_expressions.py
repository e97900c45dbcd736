"""An evaluation is seen wherever a statement surely makes it: inside an expression, under `no_grad`, over a parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import converted, in_each_mode, methods, script
from tests.converter.test_several_evaluations import TRAIN

RETURNS = """\
def test(net, batches):
    net.eval()
    right = 0
    with torch.no_grad():
        for a, b in batches:
            right += int((net(a).argmax(1) == b).sum())
        return right / len(batches.dataset)
"""
GRADED = """\
def test(net, batches):
    right = 0
    for a, b in batches:
        right += int((net(a).argmax(1) == b).sum())
    return right / len(batches.dataset)
"""


def ended(end: str, before: str = "", define: str = RETURNS, after: str = "", start: str = TRAIN) -> str:
    return script(start=start, before=f"{define}{before}", end=end, after=after)


MINE, THEIRS = "test(model, train_loader)", "test(model, val_loader)"
TAKEN = {
    "a function that returns under no_grad": ended(f"share = {THEIRS}\nprint(share)"),
    "a loader under another name": ended(
        f"share = {THEIRS}\nprint(share)", define=RETURNS.replace("        ret", "    ret")
    ),
    "appended": ended(f"shares.append({THEIRS})", "shares = []\n", after="print(shares)"),
    "an entry": ended(f"seen['val'].append(({THEIRS}, epoch))", "seen = {'val': []}\n", after="print(seen)"),
    "in a comparison": ended(f"if {THEIRS} > best:\n    best = 1\n    print(epoch)", "best = 0.5\n"),
    "in max": ended(f"best = max(best, {THEIRS})", "best = 0\n", after="print(best)"),
    "an operand": ended(f"share = 100 * {THEIRS} + 1\nprint(share)"),
    "printed": ended(f"print('epoch', epoch, 'test acc:', {THEIRS})"),
    "in a text": ended(f"print(f'{{epoch}} accuracy {{{THEIRS}:.3f}}')"),
    "under no_grad": ended(
        f"model.eval()\nwith torch.no_grad():\n    print('%d acc: %.3f' % (epoch, {THEIRS}))", define=GRADED
    ),
    "under set_grad_enabled(False)": ended(
        f"model.eval()\nwith torch.set_grad_enabled(False):\n    share = {THEIRS}\n    print(share)", define=GRADED
    ),
    "with what is changed without gradients": ended(
        f"with torch.no_grad():\n    share = {THEIRS}\n    weight.mul_(0.99)\nprint(share)",
        "weight = model[0].weight\n",
    ),
    "two in a text": ended(f"print(f'train accuracy: {{{MINE}:.3f}}\\nvalid accuracy: {{{THEIRS}:.3f}}')"),
    "two in two texts": ended(
        f"print(f'train accuracy: ' f'{{{MINE}:.3f}}' f'\\nvalid accuracy: ' f'{{{THEIRS}:.3f}}')"
    ),
    "two in a row": ended(
        f"mine.append({MINE})\ntheirs.append({THEIRS})", "mine, theirs = [], []\n", after="print(mine, theirs)"
    ),
    "two in a tuple": ended(f"both.append(({MINE}, {THEIRS}))", "both = []\n", after="print(both)"),
    "assigned together": ended(f"mine, theirs = {MINE}, {THEIRS}\nprint(f'{{mine:.3f}} {{theirs:.3f}}')"),
    "every second epoch": ended(
        f"if (epoch + 1) % 2 == 0:\n    shares.append({THEIRS})", "shares = []\n", after="print(shares)"
    ),
}
LEFT = {
    "not sure to run": ended(f"share = {THEIRS} if epoch else 0\nprint(share)"),
    "behind or": ended(f"if epoch or {THEIRS} > 0.5:\n    print(epoch)"),
    "in a comprehension": ended("shares = [test(model, one) for one in (train_loader, val_loader)]\nprint(shares)"),
    "what comes before it may change in it": ended(
        f"share = best + {THEIRS}\nprint(share)",
        "best = 0\n",
        RETURNS.replace("    net.eval", "    global best\n    best += 1\n    net.eval"),
    ),
    "what comes before it draws": ended(f"share = torch.rand(1).item() + {THEIRS}\nprint(share)"),
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_is_the_validation(text: str, style: str) -> None:
    done = converted(text, style=style)
    assert done.text is not None and "model(a)" in methods(done.text)["validation_step"]
    assert "def test" not in done.text and not [finding for finding in done.findings if finding.code == "LF222"]


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_it_stays_in_its_expression(text: str) -> None:
    assert "test(self.model" in methods(converted(text).text)["on_train_epoch_end"]


def test_a_print_names_what_it_shows() -> None:
    hooks = methods(converted(TAKEN["in a text"]).text)
    assert hooks["on_validation_epoch_end"].startswith("self.accuracy = self.right / ")
    for text in (TAKEN["two in a text"], TAKEN["two in two texts"]):
        step = methods(converted(text, style="idiomatic").text)["validation_step"]
        assert "self.log(('train_accuracy', 'val_accuracy')[dataloader_idx], " in step


def test_a_function_names_what_it_gives() -> None:
    text = TAKEN["two in a tuple"].replace("test(", "compute_accuracy(")
    end = methods(converted(text).text)["on_validation_epoch_end"]
    assert "self.accuracy = " in end and "self.accuracy_2 = " in end


def test_values_that_are_assigned_together_are_named_one_by_one() -> None:
    hooks = methods(converted(TAKEN["assigned together"]).text)
    assert "self.mine = self.right[0] / len(train_loader.dataset)" in hooks["on_validation_epoch_end"]


def test_a_result_takes_the_place_of_the_call() -> None:
    assert "share = 100 * (self.right / len(val_loader.dataset)) + 1" in str(converted(TAKEN["an operand"]).text)


@pytest.mark.slow
@in_each_mode
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_evaluates_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)
