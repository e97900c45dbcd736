"""Whole training scripts, put together at random from what real ones do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import indent

from hypothesis import strategies as st

from tests.converter.scripts import PROLOGUE, SETUP

NET = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))

"""
METER = """\
class Meter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n
        self.avg = self.sum / self.count

"""


@dataclass(frozen=True)
class Habit:
    """What a script does beside the plain loop, by the place where it does it; no two habits share a name."""

    define: str = ""
    setup: str = ""
    before: str = ""
    start: str = ""
    batch: str = ""
    gradients: str = ""
    stepped: str = ""
    end: str = ""
    after: str = ""


PLAIN = Habit()
HABITS = (
    Habit(batch="x = x + 0.1 * torch.randn_like(x)"),
    Habit(before="eps = 0.2", batch="x = x + eps * torch.randn_like(x)", end="eps *= 0.5"),
    Habit(batch="order = torch.randperm(len(x))\nx, y = x[order], y[order]"),
    Habit(before="state = None", batch="if state is not None:\n    x = x + state", stepped="state = 0.1 * x.mean(0)"),
    Habit(start="carried = 0", batch="x = x + carried", stepped="carried = 0.1 * out.detach().mean()"),
    Habit(gradients="torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)"),
    Habit(gradients="norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)", stepped="print(f'norm {norm:.3f}')"),
    Habit(gradients="for p in model.parameters():\n    if p.grad is not None:\n        p.grad.mul_(0.5)"),
    Habit(stepped="for p in model.parameters():\n    p.data.clamp_(-0.5, 0.5)"),
    Habit(start="total = 0.0", stepped="total += loss.item() * len(x)", end="print('loss', total / len(data))"),
    Habit(start="losses = []", stepped="losses.append(loss.item())", end="print(f'{sum(losses) / len(losses):.4f}')"),
    Habit(before="history = []", stepped="last = loss.item()", end="history.append(last)", after="print(history)"),
    Habit(
        start="hits, seen = 0, 0",
        stepped="hits += (out.argmax(1) == y).sum().item()\nseen += len(y)",
        end="print(f'accuracy {100.0 * hits / seen:.2f}')",
    ),
    Habit(
        define=METER,
        start="meter = Meter()",
        stepped="meter.update(loss.item(), x.size(0))",
        end="print(f'mean {meter.avg:.4f}')",
    ),
    Habit(
        before="window = 0.0",
        stepped="window += loss.item()\nif i % 2 == 1:\n    print('%d, %.3f' % (i, window / 2))\n    window = 0.0",
    ),
    Habit(before="steps = 0", stepped="steps += 1\nif steps == 9:\n    print('nine steps')", after="print(steps)"),
    Habit(
        setup="average = copy.deepcopy(model)",
        stepped="with torch.no_grad():\n    for kept, now in zip(average.parameters(), model.parameters()):\n"
        "        kept.mul_(0.9).add_(now, alpha=0.1)",
        after="print(sum(p.sum().item() for p in average.parameters()))",
    ),
    Habit(
        setup="scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)", end="scheduler.step()"
    ),
    Habit(
        setup="warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, (n + 1) / 4))",
        stepped="warm_up.step()",
    ),
    Habit(start="for group in optimizer.param_groups:\n    group['lr'] = 0.1 * 0.5 ** epoch"),
    Habit(start="if epoch == 1:\n    for p in model.body.parameters():\n        p.requires_grad = False"),
    Habit(end="torch.save({'epoch': epoch, 'model': model.state_dict()}, 'last.pt')"),
    Habit(end="with torch.no_grad():\n    print(model(torch.randn(2, 4)).argmax(1).tolist())"),
    Habit(end="print(optimizer.param_groups[0]['lr'])"),
)
STEPS = (
    "optimizer.zero_grad()\n{loss}\nloss.backward()\n{gradients}\noptimizer.step()",
    "{loss}\noptimizer.zero_grad()\nloss.backward()\n{gradients}\noptimizer.step()",
    "{loss}\nloss.backward()\n{gradients}\noptimizer.step()\noptimizer.zero_grad()",
    "{loss}\npenalty = sum(p.pow(2).sum() for p in model.parameters())\nloss = loss + 1e-3 * penalty\n"
    "optimizer.zero_grad()\nloss.backward()\n{gradients}\noptimizer.step()",
    "{loss}\nloss.backward()\n{gradients}\noptimizer.step()",
)
HEADS = (
    ("for i, (x, y) in enumerate(train_loader):", ""),
    ("for i, batch in enumerate(train_loader):", "x, y = batch"),
    ("for x, y in train_loader:", "i = len(x)"),
    ("for i, (x, y) in enumerate(train_loader, 1):", "if len(x) < 8:\n    continue"),
    ("for i, (x, y) in zip(range(3), train_loader):", ""),
)
EPOCHS = (
    "for epoch in range(2):\n{}",
    "for epoch in range(1, 4):\n{}",
    "epoch = 0\nwhile epoch < 2:\n{}\n    epoch += 1",
    "try:\n    for epoch in range(2):\n{}\nexcept KeyboardInterrupt:\n    print('stopped')",
)
EVALUATION = """\
model.eval()
val_loss, right = 0.0, 0
with torch.no_grad():
    for a, b in val_loader:
        val_loss += criterion(model(a), b).item() * len(b)
        right += (model(a).argmax(1) == b).sum().item()
val_loss /= len(data)
print(f'val loss {val_loss:.4f}, accuracy {right / len(data):.3f}')
"""
ASKED = (
    Habit(),
    Habit(before="best = float('inf')", end="best = min(best, val_loss)", after="print(best)"),
    Habit(
        before="least, weights = float('inf'), None",
        end="if val_loss < least:\n    least = val_loss\n    weights = copy.deepcopy(model.state_dict())",
        after="model.load_state_dict(weights)\nprint(least)",
    ),
    Habit(
        setup="plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)",
        end="plateau.step(val_loss)",
    ),
)
LAYOUTS = ("top level", "function", "class", "fields")


@st.composite
def training_scripts(draw: st.DrawFn) -> str:
    """A script that trains a small network for two or three epochs of four batches."""
    habits = draw(st.lists(st.sampled_from(HABITS), max_size=4, unique=True))
    head, first = draw(st.sampled_from(HEADS))
    evaluates = draw(st.booleans())
    if evaluates:
        habits.append(draw(st.sampled_from(ASKED)))

    def at(place: str) -> list[str]:
        return [getattr(habit, place) for habit in habits if getattr(habit, place)]

    loss = "out = model(x)\nloss = criterion(out, y)"
    step = draw(st.sampled_from(STEPS)).format(loss=loss, gradients="\n".join(at("gradients")))
    batch = indent("\n".join([first, *at("batch"), step, *at("stepped")]), "    ")
    mode = draw(st.sampled_from(("model.train()", ""))) if not evaluates else "model.train()"
    epoch = [mode, *at("start"), f"{head}\n{batch}", EVALUATION if evaluates else "", *at("end")]
    loops = draw(st.sampled_from(EPOCHS))
    inner = indent("\n".join(epoch), " " * (8 if loops.startswith("try") else 4))
    run = "\n".join([*at("before"), loops.format(inner), *at("after")])
    setup = "\n".join([SETUP.partition("\n")[2], *at("setup")])
    text = _laid_out(draw(st.sampled_from(LAYOUTS)), f"model = Net()\n{setup}", run)
    return "\n".join(line for line in f"{PROLOGUE}{''.join([NET, *at('define')])}{text}".splitlines() if line.strip())


def _laid_out(layout: str, setup: str, run: str) -> str:
    """The set-up and the run at the top level, in a function, or in a class that holds the objects, or its numbers."""
    if layout == "top level":
        return f"{setup}\n{run}"
    if layout == "function":
        inner = indent(f"{setup}\n{run}", "    ")
        return f"def main():\n{inner}\nif __name__ == '__main__':\n    main()"
    held = re.findall(r"^(\w+) = ", setup, re.MULTILINE)
    fields = held if layout == "class" else [*held, *re.findall(r"^ *(loss|total|state|history|best|steps) = ", run)]
    names = re.compile(rf"(?<![\w.'])({'|'.join(fields)})\b(?!['=]|\w)")
    given = "\n".join(f"        self.{name} = {name}" for name in held)
    inner = indent(names.sub(r"self.\1", run), " " * 8)
    made = f"class Runner:\n    def __init__(self, {', '.join(held)}):\n{given}\n    def run(self):\n{inner}"
    return f"{made}\n{setup}\nRunner({', '.join(held)}).run()"
