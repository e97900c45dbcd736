"""Builds small scripts and compares what is found with the `# <- CODE` comments in them."""

from __future__ import annotations

import re
from textwrap import dedent, indent

from lightify.analysis.analyze import analyze
from lightify.errors import Diagnostic, Refusal
from lightify.findings import find
from lightify.plan.make import make_plans
from lightify.settings import Settings
from lightify.sources import Source
from lightify.syntax.parse import parse

TEMPLATE = """\
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
{network}
data = TensorDataset(torch.randn(30, 4), torch.randint(2, (30,)))
{loaders}
model = Net()
{criterion}
{optimizer}
{setup}
for epoch in range(3):
{epoch_start}
    for i, (x, y) in enumerate(train_loader):
{batch}
{epoch_end}
{after}
"""

NETWORK = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 8)
        self.two = nn.Linear(8, 2)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))
"""

MODAL_NETWORK = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.5)
        self.two = nn.Linear(8, 2)

    def forward(self, x):
        return self.two(self.drop(torch.relu(self.one(x))))
"""

STEP = """
optimizer.zero_grad()
loss = criterion(model(x), y)
loss.backward()
optimizer.step()
"""

DEFAULTS = {
    "network": NETWORK,
    "loaders": "train_loader = DataLoader(data, batch_size=8, shuffle=True)\nval_loader = DataLoader(data, batch_size=8)",
    "criterion": "criterion = nn.CrossEntropyLoss()",
    "optimizer": "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    "setup": "",
    "epoch_start": "",
    "batch": STEP,
    "epoch_end": "",
    "after": "",
}
INDENTED = {"epoch_start": 4, "batch": 8, "epoch_end": 4}


def script(**parts: str) -> str:
    """A whole script: the template with some of its parts replaced."""
    assert parts.keys() <= DEFAULTS.keys(), "a part that the template does not have"
    filled = {name: dedent(text).strip("\n") for name, text in (DEFAULTS | parts).items()}
    return TEMPLATE.format(**{name: indent(text, " " * INDENTED.get(name, 0)) for name, text in filled.items()})


def findings(text: str) -> tuple[Diagnostic, ...]:
    tree = parse(Source("train.py", text))
    analysis = analyze(tree)
    plans = make_plans(tree, analysis, Settings())
    assert not isinstance(plans, Refusal), plans
    return find(tree, analysis, plans)


def marked(text: str) -> list[tuple[int, str]]:
    """(line, code) of each `# <- CODE` comment."""
    lines = enumerate(text.splitlines(), start=1)
    return [(number, code) for number, line in lines for code in re.findall(r"# <- (LF\d+)", line)]


def check(text: str, rules: tuple) -> None:
    """The findings of these rules stand on exactly the marked lines."""
    codes = {rule.code for rule in rules}
    found = [(d.span.line, d.code) for d in findings(text) if d.code in codes and d.span is not None]
    assert found == marked(text), text
