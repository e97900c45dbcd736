"""Builds small scripts around one loop, and reads parts of their conversions."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from textwrap import indent

import pytest

from lightify.analysis.analyze import analyze
from lightify.convert import Conversion, convert
from lightify.errors import Refusal
from lightify.plan.make import make_plans
from lightify.plan.types import Plan
from lightify.settings import Settings
from lightify.sources import Source
from lightify.syntax.parse import Tree, parse

PROLOGUE = """\
import copy
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(30, 4), torch.randint(2, (30,)))
train_loader = DataLoader(data, batch_size=8, shuffle=True)
val_loader = DataLoader(data, batch_size=8)
"""

SETUP = """\
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""

#: The mean loss over `val_loader`, in evaluation mode.
EVALUATE = """\
model.eval()
total, n = 0.0, 0
with torch.no_grad():
    for a, b in val_loader:
        total += criterion(model(a), b).item() * len(b)
        n += len(b)
val_loss = total / n
"""
#: Runs a test in each style, and on the lightning package where that is installed.
in_each_mode = pytest.mark.parametrize(
    ("style", "runtime"),
    [
        ("faithful", "bundled"),
        ("idiomatic", "bundled"),
        pytest.param(
            *("faithful", "lightning"),
            marks=pytest.mark.skipif(find_spec("lightning") is None, reason="lightning is not installed"),
        ),
    ],
)
FORWARD = "loss = criterion(model(x), y)"
STEP = f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()"


def script(
    batch: str = STEP,
    *,
    define: str = "",
    setup: str = SETUP,
    before: str = "",
    epochs: str = "for epoch in range(3):",
    start: str = "",
    batches: str = "for x, y in train_loader:",
    end: str = "",
    after: str = "",
) -> str:
    """A script of one training run at the top level."""
    inner = f"{start}\n{batches}\n{indent(batch.strip() or 'pass', '    ')}\n{end}"
    return f"{PROLOGUE}{define}\n{setup}{before}\n{epochs}\n{indent(inner, '    ')}\n{after}\n"


def converted(text: str, **settings: object) -> Conversion:
    return convert(Source("script.py", text), Settings(**settings))  # type: ignore[arg-type]


def planned(text: str) -> tuple[Tree, Plan | Refusal]:
    tree = parse(Source("script.py", text))
    plans = make_plans(tree, analyze(tree), Settings())
    return tree, plans if isinstance(plans, Refusal) else plans.runs[-1]


@cache
def methods(text: str | None) -> dict[str, str]:
    """The methods of a conversion's module, by name, as plain text of their bodies."""
    assert text is not None
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "L.LightningModule" for b in node.bases):
            return {
                part.name: "\n".join(ast.unparse(line) for line in part.body)
                for part in node.body
                if isinstance(part, ast.FunctionDef)
            }
    raise AssertionError("the result has no module")
