"""One step with a closure that no loop repeats: a run of one batch."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from lightify.loops.once import with_rounds
from lightify.settings import RuntimeName, Style
from lightify.sources import Source
from lightify.syntax.parse import parse
from tests.converter.scripts import PROLOGUE, converted, in_each_mode

NET = "net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))\n"
START = f"{PROLOGUE}criterion = nn.CrossEntropyLoss()\nx, y = data[:]\n"
LBFGS = "optimizer = torch.optim.LBFGS(net.parameters(), max_iter=5)\n"
CLOSURE = """
def closure():
    optimizer.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    print("loss", loss.item())
    return loss

"""
COUNTING = CLOSURE.replace("():\n", "():\n    global calls\n    calls += 1\n")
STEP = "optimizer.step(closure)\nprint(criterion(net(x), y).item())\n"
ADAM = """\
adam = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(3):
    adam.zero_grad()
    loss = criterion(net(x), y)
    loss.backward()
    adam.step()
    print(epoch, loss.item())
"""
SOLVER = """
class Solver:
    def __init__(self, x, y):
        self.x, self.y, self.calls = x, y, 0
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = torch.optim.LBFGS(self.net.parameters(), max_iter=5)

    def loss_func(self):
        self.optimizer.zero_grad()
        loss = criterion(self.net(self.x), self.y)
        loss.backward()
        self.calls += 1
        if self.calls % 2 == 0:
            print("call", self.calls, loss.item())
        return loss

    def train(self):
        self.net.train()
        self.optimizer.step(self.loss_func)


solver = Solver(x, y)
solver.train()
print(solver.calls, solver.net(x).sum().item())
"""
IN_MAIN = f"def main():\n{indent(NET + LBFGS + CLOSURE + STEP, '    ')}\n\nmain()\n"
RETURNED = (
    f"def fit(net):\n    {LBFGS}\n{indent(CLOSURE, '    ')}    loss = optimizer.step(closure)\n    return loss.item()\n\n"
    f"{NET}print(fit(net))\n"
)
HANDED = (
    "def loss_of(net, optimizer):\n    optimizer.zero_grad()\n    loss = criterion(net(x), y)\n    loss.backward()\n"
    f"    return loss\n\n{NET}{LBFGS}optimizer.step(lambda: loss_of(net, optimizer))\nprint(net(x).sum().item())\n"
)
ROWS = {
    "at the top level": (f"{NET}{LBFGS}{CLOSURE}{STEP}", "automatic", 1),
    "in a function": (IN_MAIN, "automatic", 1),
    "its result is read": (RETURNED, "manual", 1),
    "a closure that counts": (f"calls = 0\n{NET}{LBFGS}{COUNTING}{STEP}print(calls)\n", "manual", 1),
    "a method of a class": (SOLVER, "manual", 1),
    "a lambda": (HANDED, "manual", 1),
    "after another run": (f"{NET}{ADAM}{LBFGS}{CLOSURE}{STEP}", "automatic", 2),
    "under a condition": (f"{NET}{LBFGS}if len(x) > 3:\n{indent(CLOSURE + STEP, '    ')}\n", "automatic", 1),
}
UNCHANGED = {
    "a loop around it": f"{NET}{LBFGS}for i in range(2):\n{indent(CLOSURE + STEP, '    ')}",
    "a loop that calls its function": IN_MAIN.replace("\nmain()", "\nfor i in range(2):\n    main()"),
    "a closure that takes no gradients": f"{NET}{ADAM}{LBFGS}{CLOSURE.replace('loss.backward()', 'pass')}{STEP}",
    "no closure": f"{NET}{LBFGS}criterion(net(x), y).backward()\noptimizer.step()\n",
    "something else that steps": f"{NET}{ADAM}env = make()\nenv.step(net)\n",
}


@pytest.mark.parametrize("body", UNCHANGED.values(), ids=UNCHANGED)
def test_what_stays_as_it_is(body: str) -> None:
    tree = parse(Source("script.py", START + body))
    assert with_rounds(tree) is tree


@pytest.mark.parametrize(("body", "mode", "runs"), ROWS.values(), ids=ROWS)
def test_it_is_one_batch_of_one_epoch(body: str, mode: str, runs: int) -> None:
    done = converted(START + body)
    assert done.text is not None, done.refusals
    assert done.mode == mode, done.reasons
    assert done.text.count(".fit(") == runs and ".fit(module, range(1))" in done.text
    assert not [one for one in done.findings if one.code > "LF4"], done.findings


@pytest.mark.slow
@pytest.mark.parametrize("body", [row[0] for row in ROWS.values()], ids=ROWS)
@in_each_mode
def test_it_trains_identically(
    body: str, style: Style, runtime: RuntimeName, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(START + body, converted(START + body, style=style, runtime=runtime).text)
