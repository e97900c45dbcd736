"""Functions that a function makes and returns: `train_step = make_train_step(model, criterion, optimizer)`."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import STEP, converted, script

MAKE = (
    "def make(model, criterion, optimizer):\n    def step(x, y):\n"
    f"{indent(STEP, ' ' * 8)}\n        return loss.item()\n    return step\n\n\n"
)
CALL = "losses.append(train_step(x, y))"
MADE = "losses = []\ntrain_step = make(model, criterion, optimizer)\n"
NONLOCAL = MAKE.replace("    def step(x, y):\n", "    n = 0\n    def step(x, y):\n        nonlocal n\n        n += 1\n")
KEPT = {
    "an argument bound anew": (MAKE, f"{MADE}criterion = nn.MSELoss()\n", ""),
    "a name bound anew": (MAKE, MADE, MADE),
    "one that counts": (NONLOCAL, MADE, ""),
}


def test_a_step_that_a_function_makes_moves_to_the_training_step() -> None:
    done = converted(script(CALL, define=MAKE, before=MADE))
    assert done.mode == "automatic", done.reasons
    assert done.text is not None
    assert "make(" not in done.text and "return torch.optim.SGD(" in done.text


def test_a_step_that_is_called_again_stays_and_finds_no_gradients() -> None:
    last = MAKE.replace("        optimizer.zero_grad()\n", "").replace(
        ".step()\n", ".step()\n        optimizer.zero_grad()\n"
    )
    done = converted(script(CALL, define=last, before=MADE, after="print(train_step(*data[:8]))"))
    assert done.mode == "automatic", done.reasons
    assert done.text is not None and "train_step = make(" in done.text
    assert done.text.count("zero_grad()") == 2


@pytest.mark.parametrize(("make", "before", "end"), KEPT.values(), ids=KEPT)
def test_a_function_that_may_hold_other_values_is_called_as_before(make: str, before: str, end: str) -> None:
    done = converted(script(CALL, define=make, before=before, end=end))
    assert done.mode == "manual", done.reasons
    assert done.text is not None and "train_step = make(" in done.text


def test_a_call_whose_phase_never_trains_is_no_step() -> None:
    step = indent(STEP.partition("\n")[2], " " * 12)
    run = (
        "def run(loader, phase):\n    for x, y in loader:\n        loss = criterion(model(x), y)\n"
        f"        if phase == 'train':\n{step}\n    return loss.item()\n\n\n"
    )
    body = "a = run(train_loader, 'train')\nwith torch.no_grad():\n    b = run(val_loader, 'val')\nprint(a, b)"
    done = converted(script("pass", define=run, start=body, batches="if True:"))
    assert done.mode == "automatic", done.reasons
    assert done.text is not None and "fit(module, train_loader, val_loader)" in done.text
