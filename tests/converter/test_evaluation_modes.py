"""Whose mode an evaluation sets, and which networks do not ask for theirs."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from lightify.ledger import Fate
from tests.converter.scripts import EVALUATE, PROLOGUE, SETUP, STEP, converted, in_each_mode, methods, script

OWN = """\
class Smooth(nn.Module):
    def __init__(self, eps=0.1):
        super().__init__()
        self.eps = eps
        self.log = nn.LogSoftmax(dim=-1)
    def forward(self, out, y):
        p = self.log(out)
        told = -p.gather(1, y.unsqueeze(1)).squeeze(1)
        return ((1 - self.eps) * told - self.eps * p.mean(1)).mean()
"""
TOLD = f"{EVALUATE}print(f'{{val_loss:.3f}}')"
SMOOTH = SETUP.replace("nn.CrossEntropyLoss()", "Smooth()")


def own(define: str) -> str:
    return script(start="model.train()", define=define, setup=SMOOTH, end=TOLD)


def on_features(start: str, last: str = "") -> str:
    """A linear layer on what a network gives that trains no more."""
    setup = SETUP.replace("optimizer =", "head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 2))\noptimizer =")
    end = TOLD.replace("model.eval()", "model.eval()\nhead.eval()").replace("model(a)", "head(model(a))")
    step = STEP.replace("model(x)", "head(model(x))")
    return script(step, start=start, setup=setup.replace("model.parameters()", "head.parameters()"), end=end + last)


PARTS = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.drop = nn.Dropout(0.2)
    def forward(self, x):
        return self.head(self.drop(self.body(x)))
def save(net, name):
    torch.save({"net": net.state_dict()}, name)
spare = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.2))
"""
BUILT = SETUP.replace("nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))", "Net()")


def followed(*lines: str) -> str:
    """What an epoch does after its evaluation, where the script has another network, too."""
    end = "\n".join([TOLD, *lines])
    return script(
        start="model.train()", define=f"import io\n{PARTS}", setup=BUILT, before="out = io.BytesIO()\n", end=end
    )


def ahead(net: str) -> str:
    """A network that runs once where the evaluation begins."""
    end = TOLD.replace("    for a, b", f"    seen = {net}(data[:8][0]).mean().item()\n    for a, b")
    spare = "spare = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.2))\n"
    return script(start="model.train()", before=spare, end=f"{end}\nprint(seen)")


WRITER = """\
from io import StringIO
class Board:
    def __init__(self, title):
        self.lines = StringIO()
        self.title = title
    def point(self, name, value):
        self.lines.write(f"{self.title} {name} {value:.3f}\\n")
        self.lines.truncate()
def report(board, name, values):
    board.point(name, sum(values) / len(values))
"""
BOARD = "board = Board('run')\n"
HELPED = OWN.replace(
    "class Smooth", "def picked(p, y):\n    return p.gather(1, y.unsqueeze(1)).squeeze(1)\nclass Smooth"
)
HELPED = HELPED.replace("-p.gather(1, y.unsqueeze(1)).squeeze(1)", "-picked(p, y)")
HOLDS = WRITER.replace("title):", "title, net=None):\n        self.net = net").replace(
    "self.lines.truncate()", "self.net(torch.randn(2, 4))"
)


def noted(define: str, board: str = BOARD, before: str = "", after: str = "") -> str:
    """What the epoch's end notes on an object of the script's own class, before its evaluation and after it."""
    batch = f"{STEP}\nlosses.append(loss.item())"
    end = f"{before}\n{TOLD}\n{after}"
    text = script(batch, start="model.train()\nlosses = []", define=f"{PARTS}{define}", before=board, end=end)
    return text.replace("spare = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.2))", "")


RUNNER = """\
class Runner:
    def __init__(self, model, optimizer):
        self.model, self.optimizer, self.spare = model, optimizer, nn.Dropout(0.2)
    def run(self):
        best = weights = None
        for epoch in range(2):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                loss = criterion(self.spare(self.model(x)), y)
                loss.backward()
                self.optimizer.step()
            self.model.eval()
            hits = 0
            with torch.no_grad():
                for a, b in val_loader:
                    hits += (self.model(a).argmax(1) == b).sum().item()
            if best is None or hits > best:
                best, weights = hits, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(weights)
Runner(model, optimizer).run()
"""

TAKEN = {
    "weights of a field are kept after it": f"{PROLOGUE}{SETUP}{RUNNER}",
    "a criterion of the script's own with a helper": own(HELPED),
    "a criterion that a function makes": script(
        start="model.train()",
        define="def criterion_of():\n    made = nn.CrossEntropyLoss()\n    return made\n",
        setup=SETUP.replace("nn.CrossEntropyLoss()", "criterion_of()"),
        end=TOLD,
    ),
    "an object that knows no network, before it": noted(WRITER, before="board.point('train', losses[-1])"),
    "an object that knows no network, after it": noted(
        WRITER, after="report(board, 'val', [val_loss])\nwith torch.no_grad():\n    print(model(data[:2][0]).sum())"
    ),
    "a network that gives itself back": script(
        start="model = model.train()", end=TOLD.replace("model.eval()", "model = model.eval()")
    ),
    "a part of it is saved": followed("torch.save(model.body.state_dict(), out)"),
    "a part of it is saved before it": script(
        start="model.train()",
        define=f"import io\n{PARTS}",
        setup=BUILT,
        before="out = io.BytesIO()\n",
        end=f"if epoch:\n    torch.save(model.body.state_dict(), out)\n{TOLD}",
    ),
    "a part of it runs": followed("with torch.no_grad():\n    print(model.head(model.body(data[:8][0])).sum())"),
    "a function saves it": followed("save(model, out)", "print(len(out.getvalue()) > 0)"),
    "a criterion that is moved": script(start="model.train()", before="criterion = criterion.to('cpu')\n", end=TOLD),
    "a criterion of the script's own": own(OWN),
    "a network that trains in evaluation mode": on_features("model.eval()\nhead.train()"),
    "a network that is left in evaluation mode": on_features("head.train()"),
    "its network runs once before its batches": ahead("model"),
    "a network that nothing puts back": script(
        end=TOLD, after="print(model.training, model(data[:4][0]).sum().item())"
    ),
}
LEFT = {
    "a criterion with a helper that drops out": (
        own(HELPED.replace("return p.gather", "return nn.Dropout(0.1)(p).gather")),
        "not every network is put into evaluation mode",
    ),
    "an object that was made with a network": (
        noted(HOLDS, board="board = Board('run', model)\n", before="board.point('train', losses[-1])"),
        "what runs before the evaluation may notice its mode",
    ),
    "an object that is given a network": (
        noted(HOLDS, before="board.net = model\nboard.point('train', losses[-1])"),
        "what runs before the evaluation may notice its mode",
    ),
    "a function that knows a network": (
        noted(
            f"{WRITER}def note(board, value):\n    board.point(str(model), value)\n", before="note(board, losses[-1])"
        ),
        "what runs before the evaluation may notice its mode",
    ),
    "another one is given back": (
        script(
            start="model.train()", before="other = model\n", end=TOLD.replace("model.eval()", "other = model.eval()")
        ),
        "what runs before the evaluation may notice its mode",
    ),
    "another one runs before its batches": (
        ahead("spare"),
        "what runs before the evaluation may notice its mode",
    ),
    "its network runs before it evaluates": (
        script(start="model.train()", end=f"seen = model(data[:8][0]).sum().item()\n{TOLD}\nprint(seen)"),
        "what runs before the evaluation may notice its mode",
    ),
    "another one runs": (
        followed("with torch.no_grad():\n    print(spare(model.body(data[:8][0])[:, :4]).sum())"),
        "what follows the evaluation may use another network, which trains on",
    ),
    "a criterion that drops out": (
        own(OWN.replace("nn.LogSoftmax(dim=-1)", "nn.Sequential(nn.Dropout(0.1), nn.LogSoftmax(dim=-1))")),
        "not every network is put into evaluation mode",
    ),
    "a criterion that asks for its mode": (
        own(OWN.replace("return (", "return 2 * p.mean() if self.training else (")),
        "not every network is put into evaluation mode",
    ),
    "a criterion with a network": (
        own(
            OWN.replace("eps=0.1", "eps=0.1, net=None")
            .replace("self.eps = eps", "self.eps, self.net = eps, net")
            .replace("self.log(out)", "self.log(self.net(out))")
        ),
        "not every network is put into evaluation mode",
    ),
    "one of its networks is put back": (
        on_features("", last="\nhead.train()"),
        "not every network is put back into training mode",
    ),
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_is_the_validation(text: str, style: str) -> None:
    assert "model(a)" in methods(converted(text, style=style).text)["validation_step"]


def test_a_picture_of_its_output_runs_no_other_network() -> None:
    text = followed("board.add_image('first', a[:1], epoch)")
    made = "from torch.utils.tensorboard import SummaryWriter\nboard = SummaryWriter(comment=str(model))\n"
    assert "validation_step" in methods(converted(text.replace("out = io", f"{made}out = io")).text)


@pytest.mark.parametrize("text, reason", LEFT.values(), ids=LEFT)
def test_it_stays_where_it_is(text: str, reason: str) -> None:
    done = converted(text)
    assert "validation_step" not in methods(done.text)
    assert [one.message.partition(": ")[2] for one in done.findings if one.code == "LF222"] == [reason]


@pytest.mark.slow
@in_each_mode
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_evaluates_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)


BAR = """\
from tqdm import tqdm
def evaluate(data):
    model.eval()
    total = 0.0
    bar = tqdm(data, desc="val")
    with torch.no_grad():
        for i, (a, b) in enumerate(bar):
            loss = criterion(model(a), b)
            total += loss.item()
            bar.set_postfix(loss=loss.item(), mean=total / (i + 1))
    bar.close()
    return total / len(data)
"""


def with_bar(define: str = BAR) -> str:
    end = "val_loss = evaluate(val_loader)\nprint(f'{val_loss:.3f}')"
    return script(start="model.train()", define=define, end=end)


@pytest.mark.slow
@in_each_mode
def test_a_bar_that_an_evaluation_holds_goes(
    style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    done = converted(with_bar(), style=style, runtime=runtime)
    hooks = methods(done.text)
    assert hooks["validation_step"].count("self.log(") == 1 and "bar" not in "".join(hooks.values()).replace("_bar", "")
    trains_identically(with_bar(), done.text)


HELD = """\
    bar = tqdm(data, desc="val")
    with torch.no_grad():
        for i, (a, b) in enumerate(bar):
"""
ENTERED = {
    "within": """\
    with torch.no_grad():
        with tqdm(total=len(data)) as bar:
          for i, (a, b) in enumerate(data):
            bar.update()
""",
    "around": """\
    with tqdm(data) as bar:
        with torch.no_grad():
          for i, (a, b) in enumerate(bar):
""",
}


@pytest.mark.parametrize("head", ENTERED.values(), ids=ENTERED)
def test_a_bar_that_an_evaluation_enters_goes(head: str) -> None:
    done = converted(with_bar(BAR.replace(HELD, head).replace("    bar.close()\n", "")))
    hooks = methods(done.text)
    assert hooks["validation_step"].count("self.log(") == 1 and "tqdm" not in "".join(hooks.values())
    assert {entry.fate for entry in done.ledger.entries if "as bar" in entry.text} == {Fate.REPLACED}


@pytest.mark.parametrize(
    "more",
    ["print(bar.n)", "bar.set_postfix(loss=model(a).sum().item())", "bar = tqdm(data)"],
    ids=["read", "runs", "again"],
)
def test_a_bar_that_does_more_stays(more: str) -> None:
    text = with_bar(BAR.replace("    bar.close()\n", f"    {more}\n"))
    assert "validation_step" not in methods(converted(text).text)


GIVEN = """
def evaluate(net, data):
    {first}
    right = 0
    with torch.no_grad():
        for a, b in data:
            right += ({called}(a).argmax(1) == b).sum().item()
    return right
"""
HANDED = {
    "by the caller": (GIVEN.format(first="print('test')", called="net"), "model.eval()"),
    "under another name": (GIVEN.format(first="tested = net.eval()", called="tested"), "model"),
    "moved first": (GIVEN.format(first="net = net.to('cpu')\n    net.eval()", called="net"), "model"),
    "both": (GIVEN.format(first="tested = net.eval()", called="tested"), "model.eval()"),
}


@pytest.mark.parametrize(("define", "given"), HANDED.values(), ids=HANDED)
def test_a_network_that_is_handed_over_in_its_mode_is_itself(define: str, given: str) -> None:
    end = f"right = evaluate({given}, val_loader)\nprint(right)"
    hooks = methods(converted(script(start="model.train()", define=define, end=end)).text)
    assert "self.model(a)" in hooks["validation_step"] and "eval()" not in "".join(hooks.values())


FILLED = GIVEN.format(first="if net is None:\n        net = torch.load('best.pt')\n    net.eval()", called="net")
ANEW = FILLED.replace("net.eval()", "net = copy.deepcopy(net)\n    net.eval()")


@pytest.mark.parametrize(
    ("define", "setup", "own"), [(FILLED, BUILT, True), (FILLED, SETUP, False), (ANEW, BUILT, False)]
)
def test_a_function_may_fill_in_a_network_where_it_is_given_none(define: str, setup: str, own: bool) -> None:
    end = "right = evaluate(model, val_loader)\nprint(right)"
    done = converted(script(start="model.train()", define=f"{PARTS}{define}", setup=setup, end=end))
    assert ("self.model(a)" in methods(done.text).get("validation_step", "")) is own


def test_a_function_may_give_back_the_network_that_it_trains() -> None:
    train = f"def train(model):\n    model.train()\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n    return model\n"
    define = f"{train}{GIVEN.format(first='net.eval()', called='net')}"
    run = "for epoch in range(3):\n    model = train(model)\n    print(evaluate(model, val_loader))\n"
    hooks = methods(converted(f"{PROLOGUE}{SETUP}{define}\n{run}").text)
    assert "self.model(a)" in hooks["validation_step"] and "self.model = self.model" not in "".join(hooks.values())


def test_a_tensor_that_a_function_moves_stays_as_it_is_in_its_caller() -> None:
    define = GIVEN.format(first="shift = shift.float()\n    net.eval()", called="net").replace("data)", "data, shift)")
    end = "right = evaluate(model, val_loader, shift)\nprint(right, shift.dtype)"
    more = "shift = torch.zeros(1, dtype=torch.double)\n"
    hooks = methods(converted(script(start="model.train()", define=define, before=more, end=end)).text)
    own = "evaluate_shift = shift\nevaluate_shift = evaluate_shift.float()\n"
    assert hooks["on_train_epoch_end"] == f"{own}self.print(self.right, shift.dtype)"


def test_what_an_eval_of_the_scripts_own_gives_is_not_the_network() -> None:
    own = "class Halves(nn.Module):\n    def eval(self):\n        return copy.deepcopy(self)\n"
    define, given = HANDED["by the caller"]
    end = f"right = evaluate({given}, val_loader)\nprint(right)"
    hooks = methods(converted(script(start="model.train()", define=f"{own}{define}", end=end)).text)
    assert "validation_step" not in hooks and "evaluate(self.model.eval()" in hooks["on_train_epoch_end"]
