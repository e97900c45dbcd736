"""Several training runs in one script: which are found, what they are called, what they share."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from lightify.convert import convert
from lightify.settings import Settings
from lightify.sources import Source
from tests.converter.scripts import FORWARD, SETUP, STEP, converted, methods, script

LOOP = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n"
OTHER = "optimizer = torch.optim.Adam(model.parameters())\n"
NETS = """
class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 2)

    def forward(self, x):
        return self.one(x)


class Head(Coder):
    pass


"""
EPOCH = f"def train_epoch():\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n    return loss.item()\n\n"
EITHER = (
    "def run_epoch(loader, optimizer=None, weigh=None):\n    model.train(optimizer is not None)\n"
    f"    for x, y in loader:\n        {FORWARD}\n        if optimizer is not None:\n            optimizer.zero_grad()\n"
    "            loss.backward()\n            optimizer.step()\n    return loss.item()\n\n"
)
BRANCHES = f"""\
def train_epoch(optimizer, weigh=None):
    if weigh is None:
        for x, y in train_loader:
{indent(STEP, " " * 12)}
    else:
        for x, y in train_loader:
{indent(STEP.replace("y)", "y) * weigh(x)", 1), " " * 12)}


def weigh(x):
    return x.abs().mean()


"""
STEPS = f"for t in range(5):\n    x, y = data[:8]\n{indent(STEP, '    ')}\n"
PHASES = (
    "def warm_up():\n" + indent(LOOP, "    ") + "\ndef tune(n):\n" + indent(LOOP, "    ") + "\nwarm_up()\ntune(3)\n"
)
GENERATOR = (
    f"def steps():\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n        yield loss\n\nlist(steps())\n"
)
SWEEP = f"for lr in (0.1, 0.2):\n{indent(SETUP + STEPS, '    ')}\n"
FOLDS = f"for fold in range(2):\n{indent(SETUP + LOOP + OTHER + LOOP, '    ')}\n"


def whole(text: str, define: str = "") -> str:
    return script("pass", epochs="if True:", batches="if True:", define=define, after=text)


RUNS = {
    "one": (whole(LOOP), ["LitScript"], []),
    "two of one network": (whole(LOOP + OTHER + LOOP), ["LitScript", "LitScript2"], []),
    "two networks": (
        whole(f"model = Coder()\n{OTHER}{LOOP}model = Head()\n{OTHER}{LOOP}", define=NETS),
        ["LitCoder", "LitHead"],
        [],
    ),
    "two functions": (whole(PHASES), ["LitWarmUp", "LitTune"], []),
    "two functions that say that they train": (
        whole(PHASES.replace("warm_up(", "run_warm_up_training(").replace("tune(", "train_decoder(")),
        ["LitWarmUp", "LitDecoder"],
        [],
    ),
    "a function called twice is one run": (whole(PHASES + "tune(1)\n"), ["LitWarmUp", "LitTune"], []),
    "an epoch's function, called in two loops": (
        whole("for epoch in range(2):\n    train_epoch()\nfor epoch in range(3):\n    train_epoch()\n", define=EPOCH),
        ["LitScript", "LitScript2"],
        [],
    ),
    "a warm-up epoch": (whole(f"train_epoch()\n{LOOP}", define=EPOCH), ["LitTrainEpoch", "LitScript"], []),
    "a test by the epoch's function": (
        whole("for epoch in range(2):\n    run_epoch(train_loader, optimizer)\nrun_epoch(val_loader)\n", EITHER),
        ["LitScript"],
        [],
    ),
    "the branch that a default rules out": (
        whole("for epoch in range(2):\n    train_epoch(optimizer)\n", BRANCHES),
        ["LitScript"],
        [],
    ),
    "the branch that a function rules out": (
        whole("for epoch in range(2):\n    train_epoch(optimizer, weigh)\n", BRANCHES),
        ["LitScript"],
        [],
    ),
    "a loop over settings": (whole(SWEEP), ["LitScript"], []),
    "two runs in each fold": (whole(FOLDS), ["LitScript", "LitScript2"], []),
    "one that can't be converted stays": (
        whole(GENERATOR + LOOP),
        ["LitScript"],
        ["this loop trains, too, and stays as it is: the loop yields or awaits"],
    ),
    "two passes in one epoch are one run": (
        whole("for epoch in range(2):\n" + indent(LOOP.partition("\n")[2] * 2, "")),
        ["LitScript"],
        [],
    ),
}


@pytest.mark.parametrize(("text", "names", "left"), RUNS.values(), ids=RUNS)
def test_each_run_gets_its_own_module(text: str, names: list[str], left: list[str]) -> None:
    done = converted(text)
    assert done.text is not None, done.refusals
    assert re.findall(r"^class (\w+)\(L.LightningModule\)", done.text, re.MULTILINE) == names
    assert done.text.count(".fit(") == len(names)
    assert [finding.message for finding in done.findings if finding.code == "LF221"] == left


def test_a_branch_that_the_call_rules_out_is_not_trained() -> None:
    for call, absent in (("train_epoch(optimizer)", "weigh("), ("train_epoch(optimizer, weigh)", "else")):
        done = converted(whole(f"for epoch in range(2):\n    {call}\n", BRANCHES))
        assert (done.mode, done.reasons) == ("automatic", ()) and done.text is not None
        assert "max_epochs=2" in done.text and absent not in methods(done.text)["training_step"]


def test_a_mode_that_the_call_fixes_is_set_plainly() -> None:
    run = "for epoch in range(2):\n    run_epoch(train_loader, optimizer)\n    print(run_epoch(val_loader))\n"
    done = converted(whole(run, EITHER))
    hooks = methods(done.text)
    assert hooks["on_train_epoch_start"] == "self.model.train()"
    assert "on_validation_model_eval" not in hooks and "None" not in "".join(hooks.values())


def test_a_loop_over_settings_keeps_its_place() -> None:
    text = converted(whole(SWEEP)).text or ""
    assert "for lr in (0.1, 0.2):" in text and "Trainer(\n        max_epochs=1" in text


FULL = f"    for epoch in range(3):\n        x, y = data[:8]\n{indent(STEP, ' ' * 8)}\n"
MAKE = "def make(width):\n    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))\n\n\n"
ADAM = "optimizer = torch.optim.Adam(model.parameters())"
AS_NEW = {
    "by a factory": f"model = make(8)\n    {ADAM}",
    "by its own method": f"model.reset_parameters()\n    {ADAM}",
    "by a function that is applied": f"model.apply(start)\n    {ADAM}",
}


@pytest.mark.parametrize("anew", AS_NEW.values(), ids=AS_NEW)
def test_a_loop_whose_passes_start_with_a_new_network_repeats_runs(anew: str) -> None:
    start = "def start(part):\n    if isinstance(part, nn.Linear):\n        part.reset_parameters()\n\n\n"
    done = converted(whole(f"model = Coder()\nfor run in range(2):\n    {anew}\n{FULL}", define=NETS + MAKE + start))
    assert done.mode == "automatic", done.reasons
    assert done.text is not None and "\nfor run in range(2):" in done.text and "fit(module, range(3))" in done.text


def test_a_new_optimizer_alone_is_no_new_run() -> None:
    done = converted(whole(f"model = Coder()\nfor run in range(2):\n    {ADAM}\n{FULL}", define=NETS))
    assert done.text is not None and "max_epochs=2" in done.text


def test_names_that_runs_reuse_are_their_own() -> None:
    text = converted(whole(LOOP + OTHER + LOOP)).text or ""
    assert "return torch.optim.SGD(" in text and "return torch.optim.Adam(" in text


ZERO_LAST = f"{STEP.replace('optimizer.zero_grad()', '')}\noptimizer.zero_grad()"
LAST = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(ZERO_LAST, ' ' * 8)}\n"
SINGLE = "nn.functional.cross_entropy(model(data[:8][0]), data[:8][1]).backward()\n"
GRADIENTS = {
    "nobody else": (LAST, "automatic", False),
    "another pass before": (SINGLE + LAST, "manual", False),
    "another pass after": (LAST + SINGLE, "automatic", True),
    "another run that leaves none": (LAST + OTHER + LAST, "automatic", True),
    "another run that leaves some": (LOOP + OTHER + LAST, "automatic", False),
    "someone reads them": (LAST + "print(model[0].weight.grad)\n", "automatic", True),
}


@pytest.mark.parametrize(("text", "mode", "cleans"), GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_zeroed_last_meet_no_others(text: str, mode: str, cleans: bool) -> None:
    done = converted(whole(text))
    assert done.mode == mode
    assert ("def on_train_end" in (done.text or "")) is cleans


TRAINERS = """
class Slow:
    lr = 0.01

    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=self.lr)

    def train(self):
        for epoch in range(2):
            for x, y in train_loader:
                self.optimizer.zero_grad()
                loss = criterion(self.model(x), y)
                loss.backward()
                self.optimizer.step()


class Fast:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters())

    def train(self):
        for epoch in range(3):
            for x, y in train_loader:
                self.optimizer.zero_grad()
                loss = criterion(self.model(x), y) * 2
                loss.backward()
                self.optimizer.step()


def main(kind):
    if kind == "slow":
        trainer = Slow(model)
    else:
        trainer = Fast(model)
    trainer.train()


def other():
    trainer = Slow(model)
    trainer.train()


main("fast")
other()
"""


def test_every_class_that_an_object_may_be_of_trains_with_a_trainer() -> None:
    done = converted(script("pass", epochs="if True:", batches="if True:", after=TRAINERS))
    assert done.text is not None and done.text.count("trainer.fit(") == 2
    assert "class LitSlow(" in done.text and "class LitFast(" in done.text


INVERSE = """\
class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x):
        return self.inner(x)

    def backward(self, z, scale=1.0):
        return self.inner(z) * scale

"""
FLOW = SETUP.replace("nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))", "Flow()")
INVERTED = {
    "of a class of the file": script(
        f"x = model.backward(x)\n{STEP.replace('model(x)', 'x')}", define=INVERSE, setup=FLOW
    ),
    "in an expression": script(STEP.replace("model(x)", "model.backward(x, 2.0)"), define=INVERSE, setup=FLOW),
    "of a class elsewhere": script(
        f"z = flow.backward(x, 2)\n{STEP.replace('model(x)', 'z')}", before="from flows import flow\n"
    ),
}


@pytest.mark.parametrize("text", INVERTED.values(), ids=INVERTED)
def test_a_backward_that_computes_is_no_pass_for_gradients(text: str) -> None:
    done = converted(text)
    assert done.mode == "automatic" and ".backward(x" in methods(done.text)["training_step"]


def test_the_backward_of_an_engine_is_one() -> None:
    text = script("loss = engine.backward(loss)".join(STEP.split("loss.backward()")), before="from own import engine\n")
    assert converted(text).mode == "manual"


MADE = "model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))"
CLASS = (
    "class {}(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(4, 2)\n"
)
CLASS += (
    "    def forward(self, *given):\n        return F.cross_entropy(*given) if given[1:] else self.layer(given[0])\n\n"
)
CALLED = {
    "a network of the script's own": (CLASS.format("Coder"), "Coder()", "LitCoder"),
    "a network with a part of the script's own": (
        CLASS.format("Part") + CLASS.format("Coder").replace("nn.Linear(4, 2)", "Part()"),
        "Coder()",
        "LitCoder",
    ),
    "a class from elsewhere": ("from elsewhere import ViT\n\n", "ViT(4, 2).to('cpu')", "LitViT"),
    "a criterion of the script's own": (CLASS.format("SmoothCrossEntropy"), "nn.Linear(4, 2)", "LitScript"),
    "a function that makes it": ("def ResNet9():\n    return nn.Linear(4, 2)\n\n", "ResNet9()", "LitResNet9"),
    "a function with a plain name": ("def make():\n    return nn.Linear(4, 2)\n\n", "make()", "LitScript"),
}


@pytest.mark.parametrize(("define", "network", "name"), CALLED.values(), ids=CALLED)
def test_a_module_is_called_after_what_it_trains(define: str, network: str, name: str) -> None:
    setup = SETUP.replace(MADE, f"model = {network}")
    if "SmoothCrossEntropy" in define:
        setup = setup.replace("nn.CrossEntropyLoss()", "SmoothCrossEntropy()")
    assert f"class {name}(" in (converted(script(define=define, setup=setup)).text or "")


def test_folders_that_say_nothing_name_no_module() -> None:
    done = convert(Source("digits/src/train.py", script()), Settings())
    assert done.text is not None and "class LitDigits(" in done.text


def test_what_a_run_may_leave_to_the_next_is_handed_on() -> None:
    """Nothing else is: the last loss is there in each run, before it is read."""
    end = "    if epoch == 0 and lr == 0.1:\n        score = loss.item()\n    print(score, loss.item())\n"
    done = converted(whole(f"for lr in (0.1, 0.2):\n{indent(SETUP + LOOP + end, '    ')}"))
    assert done.text is not None and "\nscore = None\n\nfor lr in (0.1, 0.2):" in done.text
    assert "    score = module.score" in done.text and "loss = module.loss" not in done.text
    assert "self.score = score" in methods(done.text)["__init__"]
    assert not [finding for finding in done.findings if finding.code == "LF905"]


def test_the_values_of_epochs_that_nobody_counts_are_each_runs_own() -> None:
    epochs = (
        f"for n in range(2):\n    for name in names():\n        for x, y in train_loader:\n{indent(STEP, ' ' * 12)}\n"
    )
    done = converted(whole(epochs, "def names():\n    yield 'a'\n    yield 'b'\n\n\n"))
    assert done.text is not None and "epoch_values" in done.text
    assert "epoch_values = None" not in done.text and "epoch_values" not in methods(done.text)["__init__"]
