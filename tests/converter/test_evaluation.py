"""The evaluation at an epoch's end becomes validation hooks only where that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, STEP, converted, in_each_mode, methods, script

EVALUATE = """\
model.eval()
right = 0
with torch.no_grad():
    for a, b in val_loader:
        right += (model(a).argmax(1) == b).sum().item()
print(f'{right / 30:.3f}')
"""

TOOLS = """\
import functools
class Tool:
    net = None
    def __init__(self, *nets):
        self.nets = nets
    def show(self, *about):
        print([net(data[:2][0]).sum() for net in (*self.nets, self.net) if net is not None])
    __call__ = show
class Shelf:
    def __init__(self, tool):
        self.tool = tool
class Printer:
    sum = 0
    def __init__(self):
        self.sum = 0
    def count(self, more):
        self.sum += more
    def tell(self, *about):
        print(about)
def paint(net, *about):
    print(net(data[:2][0]).sum())
tool = Tool(model)
late = Tool()
shelf = Shelf(Tool(model))
late.net = model
tools = {"first": tool}
part = functools.partial(paint, model)
draw = lambda epoch: paint(model, epoch)
printer = Printer()
"""

#: Calls that run the network after its evaluation, most of them without naming it.
RUNNING = {
    "its name": "print(model(data[:8][0]).sum())",
    "a method": "tool.show(epoch)",
    "an object": "tool(epoch)",
    "a method, bound before": "show = tool.show\nshow(epoch)",
    "an object that got it later": "late.show(epoch)",
    "a field's method": "shelf.tool.show(epoch)",
    "an element": "tools['first'].show(epoch)",
    "a partial": "part(epoch)",
    "a lambda": "draw(epoch)",
    "a method by its name": "getattr(tool, 'show')(epoch)",
    "a function that a builtin calls": "list(map(part, [epoch]))",
}
#: They run another one, too, which the script may have left in training mode.
HIDDEN = {
    name: script(start="model.train()", before=f"{TOOLS}other = nn.Linear(4, 2)\n", end=f"{EVALUATE}{call}")
    for name, call in RUNNING.items()
    if name != "its name"
}

GRADED = "model.eval()\nright = 0\nfor a, b in val_loader:\n    right += (model(a).argmax(1) == b).sum().item()\n"
MOVED = "def moved(a):\n    a.requires_grad_()\n    return a + torch.autograd.grad(model(a).sum(), a)[0]\n"
FORWARD = "def forward(self, a):\n    a.register_hook(print)\n    return a"

#: What an epoch does after its evaluation, before it trains again.
SAMPLES = """\
spare = nn.Dropout(0.5)
@torch.no_grad()
def sample(n):
    print(model(torch.randn(n, 4)).sum())
def plot():
    with torch.no_grad():
        print(model(data[:3][0]).sum())
def again():
    model.train()
    plot()
def mixed():
    with torch.no_grad():
        print(spare(model(data[:3][0])).sum())
def evaluate():
    model.eval()
    with torch.no_grad():
        for a, b in val_loader:
            print(criterion(model(a), b).item())
"""


def after(*lines: str, train: str = "model.train()", spare: bool = False) -> str:
    before = SAMPLES if spare else SAMPLES.partition("\n")[2]
    return script(start=train, before=f"share = 0\n{before}", end=EVALUATE + "\n".join(lines))


FOLLOWED = {
    "in a decorated function": after("sample(2)"),
    "in a function": after("if epoch % 2 == 0:\n    plot()", "print(right)"),
    "in training mode, for itself": after("again()", "plot()"),
    "in the loop": after("with torch.no_grad():\n    out = model(torch.randn(2, 4))\n    print(out.sum())"),
    "before it goes back to training": script(
        end=f"{EVALUATE}sample(2)\nmodel.train()\nprint(right)", before=SAMPLES.partition("\n")[2]
    ),
}
NOT_FOLLOWED = {
    "what training uses, with gradients": after(
        "share = model(data[:8][0]).mean()", train="model.train()\nprint(share)"
    ),
    "another network": after("mixed()", spare=True),
    "a step of something before it": after("other.step()", "plot()"),
    "the end of the run before it": after("if right > 99:\n    break", "plot()"),
    "another evaluation": after("evaluate()"),
}

PREPARED = """\
loss_fn = nn.BCELoss()
bar = tqdm(total=len(val_loader))
size = sum(p.nelement() for p in model.parameters())
"""

DRY = EVALUATE.replace(".item()\n", ".item()\n        if dry:\n            break\n")

INLINE = {
    "there is none": script(),
    "left early": script(
        start="model.train()", end=EVALUATE.replace("right +=", "if right > 9:\n            break\n        right +=")
    ),
    "ended by what it changes": script(
        start="model.train()",
        end=DRY.replace("        if dry", "        dry = right > 9\n        if dry"),
        before="dry = True\n",
    ),
    "a call draws random numbers before it, in training mode": script(
        start="model.train()", end=f"sample = model(torch.randn(2, 4))\n{EVALUATE}"
    ),
    "what follows runs the network and may end the epochs": script(
        start="model.train()", end=f"{EVALUATE}if model(data[:8][0]).sum() > 9:\n    break"
    ),
    "it takes gradients": script(
        start="model.train()", end="model.eval()\nfor a, b in val_loader:\n    criterion(model(a), b).backward()\n"
    ),
    "a function that it calls takes gradients": script(
        start="model.train()", end=GRADED.replace("(a)", "(moved(a))"), before=MOVED
    ),
    "the network takes gradients": script(
        start="model.train()", end=GRADED, before=f"class Field(nn.Module):\n{indent(FORWARD, '    ')}\n"
    ),
    "the network is another one without gradients": script(
        start="model.train()", end=GRADED, before="layer = nn.TransformerEncoderLayer(8, 2)\n"
    ),
    "an LSTM is another one without gradients": script(
        start="model.train()", end=GRADED, before="layer = nn.LSTM(8, 2)\n"
    ),
    "an LSTM is, in the mode that it trains in, too": script(
        end=GRADED.replace("model.eval()\n", ""), before="layer = nn.LSTM(8, 2)\n"
    ),
    "the training pass may end early": script(
        f"{STEP}\nif loss.item() < 0.1:\n    break", start="model.train()", end=EVALUATE
    ),
}

FUNCTION = "def evaluate():\n" + indent(f"{EVALUATE}return right", "    ") + "\n"
TOLD = {
    "every k batches": (
        script(
            f"{STEP}\nif i % 3 == 0:\n" + indent(EVALUATE, "    ") + "    model.train()",
            batches="for i, (x, y) in enumerate(train_loader):",
        ),
        "the step: val_check_interval counts batches, the k-th first, and evaluates when all of a batch is done",
    ),
    "each batch": (
        script(f"{STEP}\nevaluate()\nmodel.train()", before=FUNCTION),
        "the step: the Trainer evaluates between epochs, or every k batches",
    ),
    "in a loop that trains in two places": (
        script(start="model.train()", end=f"{EVALUATE}a = data[:8][0].requires_grad_()\nmodel(a).sum().backward()"),
        "the step: there are no epochs",
    ),
    "over something else": (
        script(
            start="model.train()",
            before=FUNCTION.replace("in val_loader", "in parts") + "parts = [data[:9]]\n",
            end="evaluate()",
        ),
        "on_train_epoch_end: what it goes over is not known to be a loader",
    ),
    "a function that returns from its middle": (
        script(
            start="model.train()",
            before=FUNCTION.replace("    right = 0", "    if model is None:\n        return 0\n    right = 0"),
            end="evaluate()",
        ),
        "on_train_epoch_end: evaluate returns from its middle",
    ),
    "inside of another statement": (
        script(start="model.train()", before=FUNCTION, end="try:\n    evaluate()\nexcept ValueError:\n    pass"),
        "on_train_epoch_end: it stands inside of another statement",
    ),
    "another context": (
        script(start="model.train()", before=FUNCTION, end="with open('log', 'w'):\n    evaluate()"),
        "on_train_epoch_end: it stands in another context than that of its gradients",
    ),
}

HOOKS = {
    "eval, then train at the next epoch's start": script(start="model.train()", end=EVALUATE),
    "eval and train around it": script(end=f"{EVALUATE}model.train()"),
    "train(False) is eval": script(
        start="model.train(True)", end=EVALUATE.replace("model.eval()", "model.train(False)")
    ),
    "a method that counts for its own object, after it": script(
        start="model.train()", before=TOOLS, end=f"{EVALUATE}printer.count(right)\nprint(printer.sum)"
    ),
    "what an evaluation's value tells, after it": script(
        start="model.train()",
        before="def rightly(net):\n    return torch.tensor(0.5) if net is None else torch.ones(1)\nshare = rightly(model)\n",
        end=f"{EVALUATE}print(share.item())",
    ),
    "a method that only prints, after it": script(
        start="model.train()", before=TOOLS, end=f"{EVALUATE}printer.tell(epoch)"
    ),
    "in a function": script(
        start="model.train()",
        end="right = evaluate()\nprint(right)",
        before="def evaluate():\n"
        + "".join(f"    {line}\n" for line in EVALUATE.splitlines())
        + "    return right\n\n",
    ),
    "a criterion, a bar and a count made before it": script(
        start="model.train()",
        end=f"{PREPARED}{EVALUATE}bar.update(size)\nprint(loss_fn)\n",
        before="from tqdm import tqdm\n",
    ),
    "over the loader's iterator": script(
        start="model.train()", end=EVALUATE.replace("in val_loader", "in iter(val_loader)")
    ),
    "where gradients are on": script(start="model.train()", end=GRADED, before=MOVED),
    "what takes gradients runs without": script(
        start="model.train()",
        end=EVALUATE.replace("right +=", "moved(a)\n        right +="),
        before=f"layer = nn.TransformerEncoderLayer(8, 2)\n@torch.enable_grad()\n{MOVED}",
    ),
    "in a decorated function": script(
        start="model.train()",
        end="evaluate()",
        before="@torch.no_grad()\ndef evaluate():\n    model.eval()\n    for a, b in val_loader:\n"
        "        print(criterion(model(a), b).item())\n\n",
    ),
}

FUNCTIONS = """
def train(it):
    model.train()
    for x, y in it:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def evaluate(it):
    model.eval()
    with torch.no_grad():
        for a, b in it:
            print(criterion(model(a), b).item())
"""
EPOCHS = "for epoch in range(2):\n    train(first)\n    evaluate(second)\n"

#: What is known to be a loader by how it is made, whatever it is called: the lines that make both, and the epochs.
LOADERS = {
    "a function's, in a pair": (
        "def get(n):\n    return DataLoader(data, batch_size=n)\nfirst, second = get(4), get(8)\n",
        EPOCHS,
    ),
    "a class of the script's own": (
        "class Own(DataLoader):\n    def __init__(self, *args):\n        super().__init__(*args)\n"
        "first = Own(data, 4)\nsecond = Own(data, 8)\n",
        EPOCHS,
    ),
    "such a class, in a pair": (
        "class Own(DataLoader):\n    pass\nfirst, second = Own(data, 4), Own(data, 8)\n",
        EPOCHS,
    ),
    "of a dict": (
        "parts = {'train': DataLoader(data, 4), 'val': DataLoader(data, 8)}\n",
        EPOCHS.replace("first", "parts['train']").replace("second", "parts['val']"),
    ),
    "what the one call hands on": (
        "def get():\n    train, b = DataLoader(data, 4), DataLoader(data, 8)\n    return train, b\n",
        "def run(first, second):\n    for epoch in range(2):\n        model.train()\n        for x, y in first:\n"
        "            loss = criterion(model(x), y)\n            optimizer.zero_grad()\n            loss.backward()\n"
        "            optimizer.step()\n        evaluate(second)\na, b = get()\nrun(a, b)\n",
    ),
}
OTHERS = {
    "a class that goes over it in its own way": (
        "class Own(DataLoader):\n    def __iter__(self):\n        return iter([next(super().__iter__())])\n"
        "first, second = Own(data, 4), Own(data, 8)\n",
        EPOCHS,
    ),
    "a dict that gets another loader": (
        "parts = {'train': DataLoader(data, 4), 'val': DataLoader(data, 8)}\n",
        EPOCHS.replace(
            "    train(first)", "    parts['train'] = DataLoader(data, 2 + epoch)\n    train(parts['train'])"
        ).replace("second", "parts['val']"),
    ),
    "a dict that a function gives another loader": (
        "parts = {'train': DataLoader(data, 4), 'val': DataLoader(data, 8)}\n"
        "def renew(n):\n    parts['train'] = DataLoader(data, n)\n",
        EPOCHS.replace("    train(first)", "    renew(2 + epoch)\n    train(parts['train'])").replace(
            "second", "parts['val']"
        ),
    ),
    "a dict that is updated": (
        "parts = {'train': DataLoader(data, 4), 'val': DataLoader(data, 8)}\n",
        EPOCHS.replace(
            "    train(first)", "    parts.update(train=DataLoader(data, 2 + epoch))\n    train(parts['train'])"
        ).replace("second", "parts['val']"),
    ),
    "a dict that holds a list": (
        "parts = {'train': DataLoader(data, 4), 'val': [data[:4]]}\n",
        EPOCHS.replace("first", "parts['train']").replace("second", "parts['val']"),
    ),
}


@pytest.mark.parametrize("made, epochs", (LOADERS | OTHERS).values(), ids=LOADERS | OTHERS)
def test_a_loader_is_told_by_how_it_is_made(made: str, epochs: str) -> None:
    top = "import torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader, TensorDataset\n"
    data = "data = TensorDataset(torch.randn(32, 4), torch.randn(32, 1))\nmodel = nn.Linear(4, 1)\n"
    tools = "criterion = nn.MSELoss()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    done = converted(f"{top}{data}{tools}{made}{FUNCTIONS}{epochs}")
    assert done.text is not None
    assert ("validation_step" in done.text) == ((made, epochs) in LOADERS.values())


@pytest.mark.parametrize("text", (INLINE | HIDDEN | NOT_FOLLOWED).values(), ids=INLINE | HIDDEN | NOT_FOLLOWED)
def test_it_stays_where_it_is(text: str) -> None:
    done = converted(text)
    assert "validation_step" not in methods(done.text)
    told = [finding.message for finding in done.findings if finding.code == "LF222"]
    assert len(told) == ("for a, b in val_loader" in methods(done.text).get("on_train_epoch_end", "")), told


@pytest.mark.parametrize("text, reason", TOLD.values(), ids=TOLD)
def test_each_that_stays_is_told(text: str, reason: str) -> None:
    told = [finding.message for finding in converted(text).findings if finding.code == "LF222"]
    assert told == [f"the evaluation stays in {reason}"]


def test_samples_that_a_network_draws_are_no_evaluation() -> None:
    draw = "model.eval()\nwith torch.no_grad():\n    for n in range(3):\n        print(model(torch.zeros(1, 4)))\nmodel.train()"
    assert not converted(script(end=draw)).findings


@pytest.mark.parametrize("text", HOOKS.values(), ids=HOOKS)
def test_it_becomes_validation_hooks(text: str) -> None:
    done = converted(text)
    assert done.text is not None
    hooks = methods(done.text)
    assert "model(a)" in hooks["validation_step"] and "eval()" not in hooks["validation_step"]
    assert ", val_loader)" in done.text and "num_sanity_val_steps=0" in done.text


@pytest.mark.parametrize("text", FOLLOWED.values(), ids=FOLLOWED)
def test_what_runs_the_network_after_it_ends_the_validation(text: str) -> None:
    hooks = methods(converted(text).text)
    assert "model(a)" in hooks["validation_step"]
    ends = hooks["on_validation_epoch_end"]
    assert any(call in ends for call in ("sample(2)", "plot()", "again()", "model(torch.randn(2, 4))"))
    assert "no_grad" not in ends and "print(right)" not in ends


SUMMED = {"start": "model.train()\nseen = 0.0", "batch": f"{STEP}\nseen += loss.item()"}
MEAN = "mean = seen / 30"
BEFORE = {
    "a mean that is kept": (f"{MEAN}\nmeans.append(mean)\n", "means.append(mean)", False),
    "a mean that is told": (f"{MEAN}\nprint(f'{{mean:.3f}}')\n", "self.print(f'{mean:.3f}')", False),
    "a sum that the evaluation goes on with": (f"{MEAN}\nright = seen\n", "right = self.seen", True),
    "what the network has": (
        "means.append(len(model.state_dict()))\n",
        "means.append(len(self.model.state_dict()))",
        True,
    ),
    "what follows from that": (
        "state = model.state_dict()\nmeans.append(len(state))\n",
        "means.append(len(state))",
        True,
    ),
    "the time": ("means.append(time.time())\n", "means.append(time.time())", True),
}


@pytest.mark.parametrize("before, line, stays", BEFORE.values(), ids=BEFORE)
def test_what_gives_it_nothing_follows_it(before: str, line: str, stays: bool) -> None:
    text = script(**SUMMED, before="import time\nmeans = []\n", end=f"{before}{EVALUATE}print(means)")
    hooks = methods(converted(text).text)
    assert line in hooks["on_validation_epoch_start" if stays else "on_train_epoch_end"]


def test_a_name_with_two_meanings_keeps_its_hooks() -> None:
    body = EVALUATE.rpartition("print")[0] + "mean = right / 30\nmeans.append(mean)\nreturn mean"
    define = f"means = []\ndef evaluate():\n{indent(body, '    ')}\n"
    hooks = methods(converted(script(**SUMMED, before=define, end=f"{MEAN}\nprint(mean)\nprint(evaluate())")).text)
    assert "mean = self.seen / 30" in hooks["on_validation_epoch_start"]


def test_prints_keep_their_order() -> None:
    told = EVALUATE.replace("        right", "        print(len(a))\n        right")
    hooks = methods(converted(script(**SUMMED, end=f"{MEAN}\nprint(f'{{mean:.3f}}')\n{told}")).text)
    assert "mean" in hooks["on_validation_epoch_start"] and "mean" not in hooks["on_train_epoch_end"]


def test_a_flag_that_ends_it_after_one_batch_is_the_trainers_limit() -> None:
    done = converted(script(start="model.train()", end=DRY, before="dry = True\n"))
    assert done.text is not None and "limit_val_batches=1 if dry else None," in done.text
    assert "break" not in methods(done.text)["validation_step"]


@pytest.mark.parametrize("call", RUNNING.values(), ids=RUNNING)
def test_what_runs_the_network_ends_its_evaluation(call: str) -> None:
    done = converted(script(start="model.train()", before=TOOLS, end=f"{EVALUATE}{call}\nprint('done')"))
    hooks = methods(done.text)
    last = call.rpartition("\n")[2]
    assert last.split("(")[0].removeprefix("print(") in hooks["on_validation_epoch_end"]
    assert "print('done')" not in hooks["on_validation_epoch_end"] and "'done'" in hooks["on_train_epoch_end"]


def test_what_runs_the_network_in_training_mode_again_follows_the_evaluation() -> None:
    """In the function that evaluates, too: the hook that ends an evaluation runs in its mode."""
    evaluate = "def evaluate():\n" + indent(f"{EVALUATE}model.train()\nprint(model(a).sum())", "    ") + "\n"
    hooks = methods(converted(script(before=evaluate, end="evaluate()")).text)
    assert "sum()" in hooks["on_train_epoch_end"] and "print(self.model" not in hooks.get("on_validation_epoch_end", "")


def test_evaluation_in_training_mode_keeps_that_mode() -> None:
    done = converted(script(end=EVALUATE.replace("model.eval()\n", "")))
    hooks = methods(done.text)
    assert hooks.get("on_validation_model_eval") == "pass" or "val_loader" in hooks["on_train_epoch_end"]


PAIRS = "for (x, y), (u, v) in zip(train_loader, val_loader):"
PAIRED = STEP.replace("criterion(model(x), y)", "criterion(model(x), y) + 0.1 * model(u).pow(2).mean()")
ANEW = {
    "loaders side by side": script(PAIRED, start="model.train()", batches=PAIRS, end=EVALUATE),
    "every second epoch": script(
        PAIRED, start="model.train()", batches=PAIRS, end=f"if (epoch + 1) % 2 == 0:\n{indent(EVALUATE, '    ')}"
    ),
    "data that each epoch makes": script(
        start="model.train()\npart = [batch for batch in train_loader if batch[0][0, 0] > -1]",
        batches="for x, y in part:",
        end=EVALUATE,
    ),
    "a count that each epoch makes": script(
        f"x, y = next(taken)\n{STEP}",
        start="model.train()\ntaken, steps = iter(train_loader), len(train_loader) - 1",
        batches="for step in range(steps):",
        end=EVALUATE,
    ),
}


@pytest.mark.parametrize("text", ANEW.values(), ids=ANEW)
def test_a_pass_that_is_made_anew_ends_before_the_validation(text: str) -> None:
    assert "model(a)" in methods(converted(text).text)["validation_step"]
    done = converted(text, runtime="lightning")
    assert "validation_step" not in methods(done.text) and "LF222" in [one.code for one in done.findings]


@pytest.mark.slow
@in_each_mode
@pytest.mark.parametrize("text", ANEW.values(), ids=ANEW)
def test_passes_made_anew_train_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)


FITTER = """\
class Fitter:
    def __init__(self, schedule):
        self.model = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scheduler = schedule(self.optimizer)
        self.best = 0.0

    def fit(self):
        for epoch in range(2):
            self.model.train()
            for x, y in train_loader:
                loss = F.cross_entropy(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            right = self.check()
            self.scheduler.step()
            print(right)

    @torch.no_grad()
    def check(self):
        self.model.eval()
        right = 0
        for a, b in val_loader:
            right += (self.model(a).argmax(1) == b).sum().item()
        if right > self.best:
            self.best = right
            self.save("best.pt")
        return right

    def save(self, path):
        self.model.eval()
        torch.save([self.model.state_dict(), self.scheduler.state_dict()], path)


"""


def test_a_schedule_is_no_network_and_steps_after_it(trains_identically: Callable[[str, str | None], None]) -> None:
    text = f"{PROLOGUE}{FITTER}Fitter(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1)).fit()\n"
    assert "self.right += " in methods(converted(text).text)["validation_step"]
    trains_identically(text, converted(text).text)


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "tested"), [(", 1", ", 1"), (", 1", ""), ("", ", 1"), ("", "")])
def test_a_counter_of_both_loops_counts_each_from_its_own_start(
    trained: str, tested: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    text = script(
        f"optimizer.param_groups[0]['momentum'] = 0.9 / (i + 1)\n{STEP}\noptimizer.param_groups[0]['lr'] = 0.1 / (i + 1)",
        start="model.train()",
        batches=f"for i, (x, y) in enumerate(train_loader{trained}):",
        end="model.eval()\nmean = 0\nwith torch.no_grad():\n"
        f"    for i, (a, b) in enumerate(val_loader{tested}):\n        mean += i * criterion(model(a), b).item()\n"
        "optimizer.param_groups[0]['weight_decay'] = mean / 100",
    )
    done = converted(text)
    assert "validation_step" in methods(done.text)
    trains_identically(text, done.text)
