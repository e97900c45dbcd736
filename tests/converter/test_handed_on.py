"""Names that only hand a value on become one: moved parts of a batch, and parameters that are assigned anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, converted, methods, script

DEVICE = "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\nmodel.to(device)\n"
TRAIN = "loss = criterion(model(inputs), labels)\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()"
MOVES = "inputs = x.to(device)\nlabels = y.to(device)"

ONE = {
    "one by one": MOVES,
    "a pair": "inputs, labels = x.to(device), y.to(device)",
    "once its size was asked": f"size = x.size(0)\n{MOVES}",
    "assigned anew later": f"{MOVES}\ninputs = inputs * 2",
}
APART = {
    "read later, too": (f"{MOVES}\nx = x + 1\ninputs = inputs + x.mean()", {}),
    "read before": (f"if epoch:\n    inputs = inputs + 1\n{MOVES}", {"before": f"{DEVICE}inputs = torch.zeros(1)\n"}),
    "read after the epoch": (MOVES, {"end": "print(x.mean(), inputs.mean())"}),
    "both from one": ("inputs, labels = x.to(device), y.to(device)\nmore = x.to(device)\ninputs = inputs + more", {}),
}


@pytest.mark.parametrize("moves", ONE.values(), ids=ONE)
def test_a_part_bears_the_name_that_it_moves_to(moves: str) -> None:
    step = methods(converted(script(f"{moves}\n{TRAIN}", before=DEVICE)).text)["training_step"]
    assert step.startswith("inputs, labels = batch") and "= x" not in step and "= y" not in step


@pytest.mark.parametrize(("moves", "parts"), APART.values(), ids=APART)
def test_names_that_are_read_apart_stay_two(moves: str, parts: dict[str, str]) -> None:
    text = script(f"{moves}\n{TRAIN}", **{"before": DEVICE, **parts})
    assert methods(converted(text).text)["training_step"].startswith(("x, ", "self.x, "))


CHECK = """\
def check(model, loader):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for a, b in loader:
            images = a.to(device)
            target = b.to(device)
            total += criterion(model(images), target).item()
    model.train()
    return total / len(loader)

"""


def test_an_evaluation_does_so_as_well() -> None:
    text = script(f"{MOVES}\n{TRAIN}", define=CHECK, before=DEVICE, end="print('val loss', check(model, val_loader))")
    hooks = methods(converted(text).text)
    assert hooks["validation_step"].startswith("images, target = batch")


STEP = """\
def step(x, y):
    size = x.size(0)
    x = x * 2
    loss = criterion(model(x), y) / size
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

"""


def of_calls(call: str, batch: str = "x, y", end: str = "") -> str:
    loop = f"for epoch in range(3):\n    for {batch} in train_loader:\n        {call}\n{end}"
    return f"{PROLOGUE}{SETUP}{STEP}{loop}\n"


CALLS = {
    "under the same name": (of_calls("step(x, y)"), "x, y = batch\nsize = x.size(0)\nx = x * 2"),
    "under another": (
        of_calls("step(image, y)", "image, y"),
        "image, y = batch\nsize = image.size(0)\nimage = image * 2",
    ),
    "read again": (of_calls("step(x, y); print(x.mean())"), "x, y = batch\nstep_x = x\n"),
}


@pytest.mark.parametrize(("text", "begins"), CALLS.values(), ids=CALLS)
def test_a_parameter_that_is_assigned_anew_is_its_argument(text: str, begins: str) -> None:
    assert methods(converted(text).text)["training_step"].startswith(begins)


def test_a_part_that_is_thrown_away_is_not_the_number_of_the_batch() -> None:
    text = script(f"labels = (x[:, 0] > 0).long()\n{TRAIN}", batches="for _, (inputs, _) in enumerate(train_loader):")
    text = text.replace("labels = (x", "labels = (inputs")
    assert methods(converted(text).text)["training_step"].startswith("inputs, _ = batch\n")


COUNTED = "for batch_idx in range(3):"


@pytest.mark.parametrize("reads", ["", "print(batch_idx)"], ids=["unread", "read"])
def test_a_count_of_the_trainers_name_is_the_trainers(reads: str) -> None:
    batch = f"{reads}\ninputs, labels = data[batch_idx * 8 : batch_idx * 8 + 8]\n{TRAIN}"
    step = methods(converted(script(batch, batches=COUNTED)).text)["training_step"]
    assert "batch_idx =" not in step and "data[batch_idx * 8:batch_idx * 8 + 8]" in step


def test_another_count_is_told_apart() -> None:
    batch = f"inputs, labels = data[batch_idx : batch_idx + 8]\n{TRAIN}"
    step = methods(converted(script(batch, batches="for batch_idx in range(0, 24, 8):")).text)["training_step"]
    assert step.startswith("inputs, labels = data[batch:batch + 8]\n")


TRAINED = {
    "a part": script(f"size = x.size(0)\n{MOVES}\ninputs = inputs * size\n{TRAIN}", before=DEVICE),
    "a parameter": CALLS["under another"][0],
    "an evaluation": script(f"{MOVES}\n{TRAIN}", define=CHECK, before=DEVICE, end="print(check(model, val_loader))"),
}


@pytest.mark.parametrize("text", TRAINED.values(), ids=TRAINED)
def test_it_trains_identically(text: str, trains_identically: Callable[[str, str | None], None]) -> None:
    trains_identically(text, converted(text).text)


TWICE = """\
def step(x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    norms.append(model[0].weight.norm().item())
    return loss

losses, norms = [], []
for x, y in train_loader:
    if len(x) > 6:
        loss = step(x, y)
        losses.append(loss.item())
for x, y in train_loader:
    if len(x) > 7:
        loss = step(x, y)
        losses.append(loss.item())
print(losses)
"""


def test_a_result_that_two_runs_call_alike_stays_the_hosts() -> None:
    done = converted(PROLOGUE + SETUP + TWICE)
    assert done.text is not None and done.text.count(".fit(") == 2
