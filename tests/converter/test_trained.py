"""Shapes that once trained differently, or not at all, after conversion: now bit for bit as before."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, script
from tests.converter.test_evaluation import EVALUATE
from tests.converter.test_exits import RAISED
from tests.converter.test_homes import COUNTER, OUTER, REBOUND
from tests.converter.test_nest import RUN
from tests.converter.test_runs import EPOCH, LAST, LOOP, OTHER, TRAINERS

AVERAGE = """
class Average:
    def __init__(self, model):
        self.model = model
        self.shadow = [p.detach().clone() for p in model.parameters()]

    def update(self):
        for kept, now in zip(self.shadow, self.model.parameters()):
            kept.mul_(0.9).add_(now.detach(), alpha=0.1)

    def swap(self):
        for kept, now in zip(self.shadow, self.model.parameters()):
            kept.data, now.data = now.data, kept.data

"""
RUNNER = """
class Runner:
    def __init__(self, model, callbacks):
        self.model, self.callbacks = model, callbacks
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.epoch, self.stop = 0, False

    def train_step(self, x, y):
        self.optimizer.zero_grad()
        loss = criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, epochs):
        for epoch in range(epochs):
            self.epoch = epoch
            losses = [self.train_step(x, y) for x, y in train_loader]
            for callback in self.callbacks:
                callback(self, sum(losses))
            if self.stop:
                break


def halt(runner, loss):
    runner.stop = runner.epoch == 1


Runner(model, [halt]).run(5)
"""
LEARNER = """
class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    def forward(self, x, y):
        for _ in range(2):
            loss = F.cross_entropy(self.net(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()


learner = Learner().to("cpu")
"""
AGENT = """
class Agent:
    def __init__(self):
        self.net = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.seen = []

    def look(self, batch):
        self.seen.append(batch.sum().item())

    def learn(self, x, y):
        for batch in (x, y):
            self.look(batch)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def replay(self, x, y):
        order = torch.randperm(len(x))
        return self.learn(x[order], y[order])


agent = Agent()
"""
ELSEWHERE = {"epochs": "if True:", "batches": "if True:"}
PHASES = """\
for phase in ('train', 'val'):
    model.train(phase == 'train')
    total = 0.0
    for x, y in loaders[phase]:
        optimizer.zero_grad()
        with torch.set_grad_enabled(phase == 'train'):
            loss = criterion(model(x), y)
            if phase == 'train':
                loss.backward()
                optimizer.step()
        total += loss.item()
    if phase == 'val' and total < best:
        best, weights = total, copy.deepcopy(model.state_dict())
"""

LEAVES = f"""
def train(limit, tolerance=0.1):
    steps = epoch = 0
    while epoch < limit or tolerance > 0.5:
        for x, y in train_loader:
{indent(STEP, " " * 12)}
            steps += 1
            if steps == 13:
                return steps, loss.item()
            if loss.item() < 0.55:
                break
        else:
            print("a whole pass", epoch)
        epoch += 1
        if loss.item() < tolerance:
            break
    else:
        return None
    return epoch

"""

CHANGED = """
import argparse


class Config:
    weight = 1.0


class Base:
    def fit(self, model):
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for self.epoch in range(2):
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss(model(x), y).backward()
                self.optimizer.step()


class Scaled(Base):
    def loss(self, out, y):
        return criterion(out, y) * (self.epoch + 1)


def lower():
    global scale
    scale = scale * 0.5


def restart():
    global optimizer
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def weighted(weight, factor):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y) * weight * factor
        loss.backward()
        optimizer.step()
        Config.weight *= 0.9
        lower()


def collected(seen=[]):
    for cursor["x"], y in train_loader:
        x = cursor["x"]
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        seen.append(len(x))
    return len(seen), cursor["epoch"]


scale, L, cursor = 1.0, 2.0, {}
Scaled().fit(model)
for epoch in range(2):
    weighted(Config.weight, scale)
for cursor["epoch"] in range(2):
    seen, (n, number) = [], collected()
print(scale, L, seen, n, number)
for epoch in range(3):
    if epoch == 1:
        restart()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args([])
for epoch in range(2):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y) * args.lr
        loss.backward()
        optimizer.step()
    args.lr *= 0.5
last, now = 9.0, 8.0
while last - now > 1e-2:
    last = now
    optimizer.zero_grad()
    loss = criterion(model(data[:20][0]), data[:20][1]) * args.lr
    loss.backward()
    optimizer.step()
    now = loss.item()
state, count = {"epoch": epoch}, Config()
count.seen, scale = 0, 8.0
Config.see = lambda self, n: setattr(self, "seen", self.seen + n)
for epoch in range(epoch + 1, 4):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        lower()
        if scale < 1:
            break
    if epoch == 2:

        def shown(value):
            return value + 1
for epoch in range(state["epoch"], 4):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y) * shown(epoch)
        loss.backward()
        optimizer.step()
        count.see(len(x))
        if count.seen > 40:
            break
    state["epoch"] = epoch + 2
print(epoch, count.seen)
"""

REPLACED = """
import functools


class Stepper:
    def __init__(self):
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.step = self.other

    def step(self, x, y, factor=1.0):
        self.optimizer.zero_grad()
        loss = criterion(model(x), y) * factor
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def other(self, x, y):
        return Stepper.step(self, x, y, 2.0)

    def fit(self):
        total = 0.0
        for epoch in range(2):
            for x, y in train_loader:
                total += self.step(x, y)
        return total


def step(x, y, factor=1.0):
    optimizer.zero_grad()
    loss = criterion(model(x), y) * factor
    loss.backward()
    optimizer.step()
    return loss.item()


def within():
    def step_of_its_own(x, y, factor=1.0):
        optimizer.zero_grad()
        loss = criterion(model(x), y) * factor
        loss.backward()
        optimizer.step()
        return loss.item()

    step_of_its_own = functools.partial(step_of_its_own, factor=4.0)
    for epoch in range(2):
        total = 0.0
        for x, y in train_loader:
            total += step_of_its_own(x, y)
    return total


weight = 3.0


def weighted(factor=weight):
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = loss_of(model(x), y) * factor
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def loss_of(out, y):
    return criterion(out, y)


print(Stepper().fit(), within())
step, weight = functools.partial(step, factor=2.0), 5.0
for epoch in range(2):
    for x, y in train_loader:
        last = step(x, y)
    step = functools.partial(step, factor=0.5)
print(last)
for epoch in range(3):
    total = weighted()
    loss_of = lambda out, y: 0.5 * criterion(out, y)
print(total)
"""

RETURNS = f"""
def train(loader):
    total, seen = 0.0, 0
    for x, y in loader:
{indent(STEP, " " * 8)}
        total += loss.item() * len(x)
        seen += len(x)
    return total, seen


best = 9.0
for epoch in range(3):
    spent, count = train(train_loader)
    spent /= count
    if spent < best:
        best = spent
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * spent / best
print(best)
"""
SCRIPTS = {
    "a rate that follows what the pass returned": f"{PROLOGUE}{SETUP}{RETURNS}",
    "the loss after the step decides about the rate": script(
        f"{STEP}\nworst = max(worst, loss.item())\nfor group in optimizer.param_groups:\n"
        "    group['lr'] = 0.05 if loss < 0.7 else 0.1 / (1 + worst)",
        before="worst = 0.0\n",
    ),
    "a bar that makes an iterator of its own, around training and evaluation": script(
        before="from tqdm.auto import tqdm\n",
        batches="for x, y in tqdm(train_loader):",
        start="model.train()",
        end="model.eval()\nfor a, b in tqdm(val_loader):\n    print(criterion(model(a), b).item())",
    ),
    "names that come to stand for other functions": script("pass", after=REPLACED, **ELSEWHERE),
    "what changes while a function runs": script("pass", after=CHANGED, **ELSEWHERE),
    "examples drawn by Python's random": script(
        f"x, y = data[random.sample(range(30), 8)]\n{STEP}",
        before="import random\nrandom.seed(0)\n",
        epochs="if True:",
        batches="for step in range(8):",
    ),
    "an average of the weights": script(
        f"{STEP}\nema.update()",
        define=AVERAGE,
        before="ema = Average(model)\n",
        end=f"ema.swap()\n{EVALUATE}model.train()\nema.swap()",
    ),
    "a trainer whose callbacks stop it": script("pass", after=RUNNER, **ELSEWHERE),
    "a flag ends both loops": script(
        f"{STEP}\ncount += 1\nif count == 6:\n    done = True\n    break",
        epochs="while not done:",
        before="count, done = 0, False\n",
        after="print(count)",
    ),
    "a network replaced by a function": script(before=REBOUND, start="if epoch == 1:\n    reset()"),
    "momentum outlives an outer loop": script("pass", after=OUTER, **ELSEWHERE),
    "names that only some paths bind": script(
        f"if resumed and not step:\n    print(best)\n{STEP}\nif step % 2:\n    print(epoch, step)",
        before="resumed = start = len(data) - len(data)\nif resumed:\n    best = 3.0\nfor epoch in range(start):\n    print(epoch)\n",
        epochs="for epoch in range(start, 2):",
        batches="for step, (x, y) in enumerate(train_loader):",
        end="print(epoch, loss.item() / (step + 1))",
    ),
    "nonlocal state": script("pass", after=COUNTER, **ELSEWHERE),
    "phases": script(
        "pass",
        before="loaders = {'train': train_loader, 'val': val_loader}\nbest, weights = 9e9, None\n",
        after=f"for epoch in range(3):\n{PHASES}\nmodel.load_state_dict(weights)".replace("\n", "\n    ").replace(
            "\n    \n    model", "\nmodel"
        ),
        **ELSEWHERE,
    ),
    "several runs that share a network, momentum and gradients": script(
        "pass",
        define=EPOCH.replace("loss.item()", "loss.item() * scale"),
        before="scale = 2.0\n",
        after=f"first = train_epoch()\n{LOOP}model[0].weight.requires_grad = False\n{LOOP}print(epoch, first, loss.item())\n"
        f"{OTHER}for run in range(2):\n{indent(LAST + OTHER, '    ')}\nprint(model[2].weight.grad is None)",
        **ELSEWHERE,
    ),
    "a function that returns from its loops, loops with else, an exception": script(
        "pass",
        define=LEAVES,
        after=f"print(train(9), train(0, 0.6), train(2), model.training)\n{RAISED}",
        **ELSEWHERE,
    ),
    "one of several trainer classes": script("pass", after=TRAINERS, **ELSEWHERE),
    "a network that trains itself when it is called": script("print(learner(x, y))", before=LEARNER),
    "a step that another returns, of an object that the script holds": script(
        "agent.look(x)\nlosses.append(agent.replay(x, y))",
        before=f"{AGENT}losses = []\n",
        after="print(agent.seen, losses)",
    ),
    "names of a function around, and of the top level": script(
        "pass",
        define=f"def outer(train_loader, model, criterion, optimizer):\n    seen, last = 0, None\n    def run():\n"
        f"        global total\n        nonlocal seen, last\n        for epoch in range(2):\n"
        f"            for x, y in train_loader:\n{indent(STEP, ' ' * 16)}\n                seen += len(x)\n"
        "                last, total = loss.item() * 2, seen\n    run()\n    return seen, last\n\n",
        before="total = 7\n",
        after="print(outer(train_loader, model, criterion, optimizer), total)",
        **ELSEWHERE,
    ),
    "a function that trains or evaluates": script(
        "pass", define=RUN, start="run(train_loader, optimizer)\nrun(val_loader)", batches="if False:"
    ),
    "a rate that falls after the step": script(
        "loss = criterion(model(x), y)\noptimizer.zero_grad()\nloss.backward()\nfor group in optimizer.param_groups:\n"
        "    group['lr'] = rate\noptimizer.step()\nrate *= 0.8",
        before="rate = 0.1\n",
    ),
    "a result set only sometimes": script(
        f"{STEP}\nif loss.item() < low:\n    low, kept = loss.item(), copy.deepcopy(model.state_dict())",
        before="low, kept = -1.0, copy.deepcopy(model.state_dict())\n",
        end="scale = 0.5",
        after="model.load_state_dict(kept)\nwith torch.no_grad():\n    print(model(data[:8][0]).sum() * scale)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_it_trains_identically(text: str, trains_identically: Callable[[str, str | None], None]) -> None:
    done = converted(text)
    assert done.text is not None, done.refusals
    trains_identically(text, done.text)


def test_a_step_that_another_returns_is_the_trainers() -> None:
    done = converted(SCRIPTS["a step that another returns, of an object that the script holds"])
    assert done.mode == "automatic"
    assert "LitScript(agent.net, agent.optimizer" in (done.text or "")


def test_each_is_converted() -> None:
    for text in SCRIPTS.values():
        assert ".fit(" in (converted(text).text or "")
