"""Training steps that are called by the names that hold them: parameters, fields, objects that are called."""

from __future__ import annotations

import pytest

from tests.converter.scripts import converted, script

TRAIN = """
def train_step(x, y, factor=1.0):
    loss = criterion(model(x), y) * factor
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
"""
RUN = """
def run(loader, step):
    losses = []
    for x, y in loader:
        losses.append(step(x, y))
    return sum(losses)
"""
MADE = """
def make_train_step(model, criterion, optimizer):
    def train_step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train_step


def make_val_step(model, criterion):
    def val_step(x, y):
        return criterion(model(x), y).item()

    return val_step
"""
COUNTED = """
def make_step(model, optimizer):
    count = 0

    def step(x, y):
        nonlocal count
        count += 1
        optimizer.zero_grad()
        loss = criterion(model(x), y) / count
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
"""
WARMED = """
class Warmed:
    def __init__(self, optimizer):
        self.optimizer, self.steps = optimizer, 0

    def step(self):
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.01 * self.steps
        self.optimizer.step()


class LossCompute:
    def __init__(self, criterion, optimizer=None):
        self.criterion, self.optimizer = criterion, optimizer

    def __call__(self, out, y):
        loss = self.criterion(out, y)
        loss.backward()
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.optimizer.zero_grad()
        return loss.item()


def run(loader, model, compute):
    return sum([compute(model(x), y) for x, y in loader])
"""
TRAINER = """
class Steps:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.step = self.make()

    def make(self):
        def step(x, y):
            self.optimizer.zero_grad()
            loss = criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss.item()

        return step

    def batches(self, loader):
        step = self.step
        return sum([step(x, y) for x, y in loader])

    def train(self, epochs):
        for epoch in range(epochs):
            print(self.batches(train_loader))
"""
NOWHERE = {"epochs": "if True:", "batches": "if True:"}
HANDED = {
    "a parameter": script("", define=TRAIN + RUN, start="print(run(train_loader, train_step))", batches="if True:"),
    "a parameter, of two functions that others make": script(
        "",
        define=MADE + RUN,
        before="train_step = make_train_step(model, criterion, optimizer)\nval_step = make_val_step(model, criterion)\n",
        start="print(run(train_loader, train_step))\nwith torch.no_grad():\n    print(run(val_loader, val_step))",
        batches="if True:",
    ),
}
HELD = {
    "a default": script(
        "", define=TRAIN + RUN.replace("step)", "step=train_step)", 1), start="run(train_loader)", batches="if True:"
    ),
    "a part of its arguments": script(
        "",
        define="import functools\n" + TRAIN + RUN,
        start="run(train_loader, functools.partial(train_step, factor=2.0))",
        batches="if True:",
    ),
    "one of several": script("steps['a'](x, y)", define=TRAIN, before="steps = {'a': train_step}\n"),
    "state of its factory": script("step(x, y)", define=COUNTED, before="step = make_step(model, optimizer)\n"),
    "an object that is called, and its optimizer": script(
        "",
        define=WARMED,
        before="optimizer = Warmed(optimizer)\n",
        start="print(run(train_loader, model, LossCompute(criterion, optimizer)))",
        batches="if True:",
    ),
    "a field": script("pass", define=TRAINER, after="Steps(model, optimizer).train(2)", **NOWHERE),
}


@pytest.mark.parametrize("text", HANDED.values(), ids=HANDED)
def test_a_step_that_is_handed_on_is_the_trainers(text: str) -> None:
    done = converted(text)
    assert done.mode == "automatic", done.refusals or done.reasons
    assert "def run(" not in (done.text or "") or "val_step" in text


@pytest.mark.parametrize("text", HELD.values(), ids=HELD)
def test_a_step_is_called_by_the_name_that_holds_it(text: str) -> None:
    done = converted(text)
    assert ".fit(" in (done.text or ""), done.refusals


def test_a_target_over_several_lines_stays_one() -> None:
    done = converted(script(batches="for (\n    x,\n    y,\n) in train_loader:".replace("\n", "\n    ")))
    assert done.mode == "automatic" and ") = batch" in (done.text or "")


def test_what_a_comprehension_goes_over_is_renamed_with_its_name() -> None:
    batch = "parts = [state * 0.5 for state in (state, x)]\nloss = criterion(model(x) + parts[0].sum(), y)\n"
    done = converted(
        script(
            f"{batch}optimizer.zero_grad()\nloss.backward()\noptimizer.step()\nstate = x.mean()", before="state = 0\n"
        )
    )
    assert "for state in (self.state, x)" in (done.text or ""), done.refusals
