"""An optimizer is made where the script makes it, when what it is made from changes before the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import STEP, converted, methods, script

OWN = STEP.replace("optimizer.", "own.")
MADE = "own = torch.optim.SGD(model.parameters(), lr=0.1)"
DEFINE = """
from types import SimpleNamespace

class Rates:
    first = 0.1

def built(net):
    return torch.optim.SGD(net.parameters(), lr=Rates.first)

def freeze(net, flag):
    for p in net.parameters():
        p.requires_grad = flag

args = SimpleNamespace(lr=0.1, decay=0.1)
"""
CHANGED = {
    "an argument": (MADE.replace("0.1", "args.lr"), "args.lr = 0.4"),
    "a field that its function reads": ("own = built(model)", "Rates.first = 0.4"),
    "a layer": (MADE, "model[2] = nn.Linear(8, 2)"),
    "which weights learn": (
        "freeze(model[0], False)\nown = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)",
        "freeze(model[0], True)",
    ),
}
KEPT = {
    "another argument": (MADE.replace("0.1", "args.lr"), "args.decay = 0.4"),
    "the mode": (MADE, "model.train()"),
    "weights": (MADE, "model[0].weight.data.mul_(0.5)"),
}


@pytest.mark.parametrize(("made", "change"), CHANGED.values(), ids=CHANGED)
def test_what_it_is_made_from_changes(
    made: str, change: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    text = script(OWN, define=DEFINE, before=f"{made}\n{change}\n")
    done = converted(text, runtime="bundled")
    assert methods(done.text)["configure_optimizers"] == "return self.own"
    trains_identically(text, done.text)


@pytest.mark.parametrize(("made", "change"), KEPT.values(), ids=KEPT)
def test_something_else_changes(made: str, change: str) -> None:
    done = converted(script(OWN, define=DEFINE, before=f"{made}\n{change}\n"))
    assert "torch.optim.SGD(" in methods(done.text)["configure_optimizers"]
