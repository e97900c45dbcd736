"""What may stand for weights is read after the step that changes them."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

FUNCTIONS = """
shown = []

def chosen(net):
    return [one for one in net.parameters() if one.dim() > 1]

def parts(net):
    return len(net), net[0].weight

def sizes(net):
    return [one.numel() for one in net.parameters()]
"""
WEIGHTS = {
    "an argument": ("model[0].weight", "shown.append(given.sum())"),
    "a list that is handed on": ("[model[0].weight]", "shown.append(given[0].sum())"),
    "all parameters": ("list(model.parameters())", "shown.append(max(p.abs().max() for p in given))"),
    "named ones": ("dict(model.named_parameters())", "shown.append(given['0.bias'].sum())"),
    "a view": ("model[0].weight.view(-1)", "shown.append(given[0])"),
    "what a function chooses": ("chosen(model)", "shown.append(given[0].sum())"),
    "one of what a function returns": ("parts(model)[1]", "shown.append(given.sum())"),
    "one that is unpacked": ("weight", "shown.append(given.sum())"),
    "one or none": ("model[0].bias if len(shown) else None", "shown.append(given is not None and given.sum())"),
    "an optimizer's groups": ("optimizer.param_groups", "shown.append(given[0]['params'][0].sum())"),
}
NUMBERS = {
    "numbers of them": ("sizes(model)", "shown.append(given[0])"),
    "one of what a function returns": ("layers", "shown.append(given)"),
    "their norm": ("model[0].weight.norm().item()", "shown.append(given)"),
    "the rate of a group": ("optimizer.param_groups[0]['lr']", "shown.append(given)"),
    "the length of a list": ("len(list(model.parameters()))", "shown.append(given)"),
}


def _handed_on(argument: str, line: str) -> str:
    """A script that hands something to the function with the loops, which reads it after the step."""
    batch = indent(f"{STEP}\n{line}", " " * 8)
    loops = f"for epoch in range(2):\n    for x, y in train_loader:\n{batch}"
    train = f"def train(model, given):\n{indent(loops, '    ')}\n"
    return f"{PROLOGUE}{FUNCTIONS}\n{train}\n{SETUP}layers, weight = parts(model)\ntrain(model, {argument})\n"


@pytest.mark.parametrize(("argument", "line"), WEIGHTS.values(), ids=WEIGHTS)
def test_what_may_stand_for_weights_is_read_after_the_step(argument: str, line: str) -> None:
    hooks = methods(converted(_handed_on(argument, line)).text)
    assert "shown.append" in hooks["on_train_batch_end"]


@pytest.mark.parametrize(("argument", "line"), NUMBERS.values(), ids=NUMBERS)
def test_what_is_computed_from_weights_stays(argument: str, line: str) -> None:
    assert "on_train_batch_end" not in methods(converted(_handed_on(argument, line)).text)


@pytest.mark.parametrize("value", ["model[0].weight", "[p for p in model.parameters()]"], ids=["one", "several"])
def test_weights_that_the_batch_names_before_the_step_are_read_after_it(value: str) -> None:
    text = script(f"named = {value}\n{STEP}\nshown.append(named[0].sum())", before="shown = []\n")
    assert "named[0].sum()" in methods(converted(text).text)["on_train_batch_end"]


def test_a_field_of_a_base_class_may_stand_for_weights() -> None:
    step = STEP.replace("model", "self.model").replace("optimizer", "self.optimizer")
    batch = indent(f"{step}\nshown.append(float(self.head[0]))", "    ")
    run = f"for x, y in train_loader:\n{batch}"
    runner = (
        "class Base:\n    def __init__(self, model, head):\n        self.model, self.head = model, head\n"
        "        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)\n\n"
        f"class Runner(Base):\n    def run(self):\n{indent(run, '        ')}\n"
    )
    text = f"{PROLOGUE}shown = []\n{SETUP}\n{runner}\nRunner(model, model[0].bias).run()\n"
    assert "shown.append" in methods(converted(text).text)["on_train_batch_end"]
