"""`Variable(x)` around data is `x`; around what has gradients, or is to have some, it stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, converted, methods, script

DEFINE = """\
import numpy as np
from torch import autograd
from torch.autograd import Variable
Tensor = torch.cuda.FloatTensor if torch.cuda.is_available() else torch.FloatTensor
"""
TRAIN = "loss = criterion(model(inputs), labels)\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()"


def of(batch: str, **parts: str) -> str:
    return script(batch, **{**parts, "define": f"{DEFINE}{parts.get('define', '')}"})


BARE = {
    "parts by their own names": (
        f"x = Variable(x)\ny = Variable(y, volatile=True)\n{TRAIN}".replace("inputs", "x").replace("labels", "y"),
        "x, y = batch\nloss = self.criterion(self.model(x), y)",
    ),
    "parts by others": (f"inputs, labels = Variable(x), Variable(y)\n{TRAIN}", "inputs, labels = batch\nloss"),
    "read later as well": (
        f"inputs = autograd.Variable(x)\nlabels = Variable(y)\n{TRAIN}\nprint(x.mean())",
        "x, labels = batch\nloss = self.criterion(self.model(x), labels)",
    ),
    "computed from them": (
        f"inputs = Variable(x.type(Tensor) * 2)\nlabels = Variable(torch.flatten(y))\n{TRAIN}",
        "x, y = batch\ninputs = x.type(Tensor) * 2\nlabels = torch.flatten(y)\nloss",
    ),
    "beside an operator": (
        f"inputs = Variable(x + 1) * 2\nlabels = y\n{TRAIN}",
        "x, y = batch\ninputs = (x + 1) * 2\n",
    ),
    "new ones": (
        f"inputs = x + Variable(Tensor(np.random.normal(0, 1, (len(x), 4))), requires_grad=False)\nlabels = y\n{TRAIN}",
        "x, y = batch\ninputs = x + Tensor(np.random.normal(0, 1, (len(x), 4)))\n",
    ),
    "around what has been cut off already": (
        f"inputs, labels = x, y\n{TRAIN}\nkept = Variable(model(x).detach())\nprint(kept)",
        "x, y = batch\ninputs, labels = (x, y)\n",
    ),
    "within a branch": (
        f"labels = y\nif epoch:\n    inputs = Variable(x)\nelse:\n    inputs = Variable(x.clone())\n{TRAIN}",
        "x, y = batch\nlabels = y\nif self.current_epoch:\n    inputs = x\nelse:\n    inputs = x.clone()\n",
    ),
}

STAYS = {
    "an output": f"inputs, labels = x, y\n{TRAIN}\nprint(criterion(Variable(model(x)), y))",
    "computed from an output": "out = model(x)\nhalf = out / 2\nloss = criterion(model(x), y) + Variable(half).sum()\n"
    "optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    "a list of outputs": f"inputs, labels = x, y\nouts = []\nouts.append(model(x))\n{TRAIN}\nprint(Variable(torch.stack(outs)))",
    "what a network may have changed": f"inputs, labels = x, y\n{TRAIN}\nprint(Variable(inputs))",
    "an item that is an output": f"inputs, labels = x, y\nnew = x * 2\nnew[0] = model(x).mean()\n{TRAIN}\nprint(Variable(new))",
    "with gradients": f"inputs, labels = Variable(x, requires_grad=True), y\n{TRAIN}",
    "gradients turned on": f"inputs, labels = Variable(x), y\ninputs.requires_grad = True\n{TRAIN}",
    "a name of a comprehension": f"inputs, labels = x, y\n{TRAIN}\nprint([Variable(x) for x in model(x)])",
}


@pytest.mark.parametrize(("batch", "begins"), BARE.values(), ids=BARE)
def test_data_is_bare(batch: str, begins: str) -> None:
    text = converted(of(batch)).text
    step = methods(text)["training_step"]
    assert step.startswith(begins) and "Variable" not in step
    assert "import Variable" not in (text or "")


@pytest.mark.parametrize("batch", STAYS.values(), ids=STAYS)
def test_what_is_cut_off_stays_so(batch: str) -> None:
    assert "Variable(" in (converted(of(batch)).text or "").partition("class Lit")[2]


FEATURES = "features = model[0](torch.randn(30, 4))\ntrain_loader = DataLoader(TensorDataset(features, torch.ones(30).long()))\n"


def test_data_that_a_network_made_may_hang_on_it() -> None:
    text = of(f"inputs, labels = Variable(x), y\n{TRAIN}".replace("model(", "model[1:]("), before=FEATURES)
    assert "inputs, labels = (Variable(x), y)" in methods(converted(text).text)["training_step"]


SHIFT = """\
class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))
    def forward(self, x):
        x += self.bias
        return x
shift = Shift()
"""


@pytest.mark.parametrize("alias", ["x.clone()", "x"])
def test_what_a_network_changes_in_place_stays_apart(
    alias: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    step = f"inputs, labels = Variable(x), y\nnew = {alias}\nshift(new)\n{TRAIN}".replace(
        "loss =", "loss = Variable(new).sum() + model(x).sum() +"
    )
    text = of(step, define=SHIFT, before="optimizer.add_param_group({'params': shift.parameters()})\n")
    assert "Variable(x)" in (converted(text).text or "") and "Variable(new)" in (converted(text).text or "")
    trains_identically(text, converted(text).text)


CHECK = """\
def check(model, loader):
    model.eval()
    total = 0.0
    for a, b in loader:
        a, b = Variable(a, volatile=True), Variable(b)
        total += criterion(model(a), b).item()
    model.train()
    return total / len(loader)

"""


def test_an_evaluation_is_bare_as_well() -> None:
    text = of(f"inputs, labels = x, y\n{TRAIN}", define=CHECK, end="print(check(model, val_loader))")
    assert methods(converted(text).text)["validation_step"].startswith("a, b = batch\nself.total += ")


def test_the_statement_is_accounted_for() -> None:
    ledger = converted(of(BARE["parts by their own names"][0])).ledger
    told = [(entry.fate.value, entry.target) for entry in ledger.entries if "Variable(" in entry.text]
    assert told == [("dropped", "torch: a Variable is a tensor")] * 2


FITS = """\
class Learner:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def fit(self):
        self.best = copy.deepcopy(self.model)
        for epoch in range(2):
            for x, y in train_loader:
                loss = criterion(self.model(Variable(x)), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

"""


def test_the_host_may_bind_fields() -> None:
    text = converted(f"{PROLOGUE}{DEFINE}{SETUP}{FITS}Learner(model).fit()\n").text
    assert "(self.model(x), y)" in methods(text)["training_step"]


STEP = f"""\
def step(x, y):
    x, y = Variable(x), Variable(y)
    {TRAIN.replace("inputs", "x").replace("labels", "y").replace(chr(10), chr(10) + "    ")}

"""
TRAINED = {
    **{name: of(batch) for name, (batch, _) in BARE.items()},
    "an output": of(STAYS["computed from an output"]),
    "an evaluation": of(f"inputs, labels = x, y\n{TRAIN}", define=CHECK, end="print(check(model, val_loader))"),
    "in a function": f"{PROLOGUE}{DEFINE}{SETUP}{STEP}for epoch in range(3):\n    for x, y in train_loader:\n"
    "        step(x, y)\n",
}


@pytest.mark.parametrize("text", TRAINED.values(), ids=TRAINED)
def test_it_trains_identically(text: str, trains_identically: Callable[[str, str | None], None]) -> None:
    trains_identically(text, converted(text).text)
