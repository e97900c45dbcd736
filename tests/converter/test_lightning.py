"""`--runtime lightning`: what the package does otherwise than a loop, and what the result has against it."""

from __future__ import annotations

import pytest

from tests.converter.scripts import converted, methods

HEAD = """\
import argparse
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, TensorDataset

data = TensorDataset(torch.randn(40, 4), torch.randint(0, 2, (40,)))
validation = DataLoader(data, batch_size=20)
model = nn.Linear(4, 2)
criterion = nn.CrossEntropyLoss()
"""
BODY = """\
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
LOADER = "loader = DataLoader(data, batch_size=8, shuffle=True)\n"
SGD = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
PLAIN = f"{LOADER}{SGD}for epoch in range(2):\n{BODY}print(loss)\n"
AGAIN = "Passes(lambda: loader, 10**9)"
LATER = "Passes(lambda: loader, len(loader))"

SOURCES = {
    "a loader": (PLAIN, "fit(module, loader)"),
    "a generator of its own": (PLAIN.replace("shuffle=True", "shuffle=True, generator=torch.Generator()"), AGAIN),
    "no generator": (PLAIN.replace("shuffle=True", "shuffle=True, generator=None"), "fit(module, loader)"),
    "an order of its own": (f"class Order(Sampler):\n    def __iter__(self):\n        yield 0\n{PLAIN}", AGAIN),
    "a stream": (f"class Stream(IterableDataset):\n    def __iter__(self):\n        yield 0\n{PLAIN}", AGAIN),
    "a loader class": (f"class Batches:\n    def __iter__(self):\n        yield 0\n{PLAIN}", AGAIN),
    "data that grow": (PLAIN.replace("print(loss)", "    data.tensors = data.tensors[:1]"), AGAIN),
    "data that a method changes": (PLAIN.replace("print(loss)", "    data.refresh()"), AGAIN),
    "an epoch told to the sampler": (
        PLAIN.replace("2):\n", "2):\n    loader.sampler.set_epoch(epoch)\n"),
        LATER,
    ),
    "workers that live on": (
        PLAIN.replace("shuffle=True", "num_workers=1, persistent_workers=True").replace("print(loss)", "next(loader)"),
        AGAIN,
    ),
    "random numbers at an epoch's start": (PLAIN.replace("2):\n", "2):\n    torch.randn(1)\n"), LATER),
    "random numbers after what may be no epoch": (
        PLAIN.replace("range(2)", "range(epochs)").replace("print(loss)", "torch.randn(1)"),
        LATER,
    ),
}


@pytest.mark.parametrize(("script", "source"), SOURCES.values(), ids=SOURCES)
def test_a_pass_begins_and_ends_as_in_the_loop(script: str, source: str) -> None:
    done = converted(HEAD + script, runtime="lightning")
    assert source in (done.text or ""), done.refusals
    assert "Passes" not in (converted(HEAD + PLAIN).text or "Passes")


OWN = """\
class Own(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {{}})

    def step(self{argument}):
{step}


"""
FIRST = '        """Steps."""\n        loss = None\n        if closure is not None:\n            loss = closure()'
OPTIMIZERS = {
    "no closure": (OWN.format(argument="", step="        pass"), "self.optimizers(use_pl_optimizer=False)"),
    "a closure that is ignored": (OWN.format(argument=", closure=None", step="        pass"), "use_pl_optimizer=False"),
    "a closure first": (OWN.format(argument=", closure=None", step=FIRST), "return self.loss"),
}


@pytest.mark.parametrize(("definition", "said"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_of_its_own_gets_no_closure_unless_it_asks(definition: str, said: str) -> None:
    script = HEAD + definition + PLAIN.replace("torch.optim.SGD(model.parameters(), lr=0.1)", "Own(model.parameters())")
    done = converted(script, runtime="lightning")
    assert said in methods(done.text)["training_step"]
    assert converted(script).mode == "automatic"


def test_what_runs_before_a_step_sees_its_gradients() -> None:
    done = converted(
        HEAD + PLAIN.replace("for epoch", "optimizer.register_step_pre_hook(print)\nfor epoch"), runtime="lightning"
    )
    assert done.mode == "manual" and "hook runs before each optimizer step" in done.reasons[0]


def test_gradients_from_before_the_run_are_left_alone() -> None:
    zero = "        optimizer.zero_grad()\n"
    after = BODY.replace(zero, "") + zero
    script = f"{LOADER}{SGD}model(data.tensors[0]).sum().backward()\nfor epoch in range(2):\n{after}"
    kept = {runtime: converted(HEAD + script, runtime=runtime).text or "" for runtime in ("bundled", "lightning")}
    assert "def zero_grad(self" in kept["lightning"] and "def zero_grad(self" not in kept["bundled"]


def test_gradients_that_an_epoch_ends_with_outlive_its_validation() -> None:
    evaluate = "    model.eval()\n    with torch.no_grad():\n        for x, y in validation:\n            print(criterion(model(x), y))\n"
    script = (
        HEAD
        + LOADER
        + SGD
        + f"for epoch in range(2):\n    model.train()\n{BODY}{evaluate}    print(model.weight.grad)\n"
    )
    text = converted(script, runtime="lightning").text or ""
    assert "def validation_step" in text and "def on_validation_model_zero_grad" in text


def test_an_interrupt_is_no_exit() -> None:
    script = HEAD + LOADER + SGD + "def train():\n    for epoch in range(2):\n"
    script += "".join(f"    {line}\n" for line in BODY.splitlines())
    script += "try:\n    train()\nexcept KeyboardInterrupt:\n    print('stopped')\n"
    text = converted(script, runtime="lightning").text or ""
    assert "except SystemExit as ended:" in text and "except KeyboardInterrupt:" in text
    assert "SystemExit" not in (converted(script).text or "SystemExit")


def test_the_end_of_an_iterator_that_leaves_the_loops_is_refused() -> None:
    lines = "".join(f"    {line}\n" for line in ("for epoch in range(2):", *BODY.splitlines()))
    script = HEAD + LOADER + SGD + f"try:\n{lines}except StopIteration:\n    pass\n"
    done = converted(script, runtime="lightning")
    assert done.text is None and "StopIteration leaves the loops" in done.refusals[0].message
    assert converted(script).text is not None


def test_a_rate_read_after_the_step_is_the_epochs_own() -> None:
    step = "        optimizer.step()\n"
    loop = BODY.replace(step, step + "        rates.append(optimizer.param_groups[0]['lr'])\n")
    schedule = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\nrates = []\n"
    script = f"{LOADER}{SGD}{schedule}for epoch in range(2):\n{loop}    scheduler.step()\nprint(rates)\n"
    assert "scheduler.step()" in methods(converted(HEAD + script, runtime="lightning").text)["on_train_epoch_end"]


def test_batches_of_its_own_making_stay_the_objects_that_they_are() -> None:
    script = HEAD + PLAIN.replace("shuffle=True", "collate_fn=tuple")
    for style in ("faithful", "idiomatic"):
        text = converted(script, runtime="lightning", style=style).text
        assert "return batch  # a batch of the script's own making" in (text or "")


COUNTS = {
    "both numbers": ("range(1, 4)", "max_epochs=3,"),
    "from one on": ("range(1, args.epochs + 1)", "max_epochs=args.epochs,"),
    "from anywhere": ("range(args.first, args.epochs)", "max_epochs=max(args.epochs - args.first, 0),"),
}


@pytest.mark.parametrize(("epochs", "option"), COUNTS.values(), ids=COUNTS)
def test_fewer_than_no_epochs_are_none(epochs: str, option: str) -> None:
    args = "args = argparse.Namespace(first=3, epochs=2)\n"
    assert option in (converted(HEAD + args + PLAIN.replace("range(2)", epochs)).text or "")


def test_anomalies_are_still_detected() -> None:
    script = HEAD + "torch.autograd.set_detect_anomaly({})\n" + PLAIN
    assert "detect_anomaly=torch.is_anomaly_enabled()" in (converted(script.format("True")).text or "")
    assert "is_anomaly_enabled" not in (converted(script.format("False")).text or "is_anomaly_enabled")


@pytest.mark.parametrize("runtime", ["bundled", "lightning"])
def test_a_handler_for_sigterm_of_the_scripts_own_is_set_again(runtime: str) -> None:
    handled = "signal.signal(signal.SIGTERM, print)\n"
    hook = methods(converted(f"import signal\n{HEAD}{handled}{PLAIN}", runtime=runtime).text)["on_train_start"]
    assert "signal.signal(signal.SIGTERM, self.own_sigterm)" in hook
    done = converted(f"from signal import SIGTERM, signal\n{HEAD}signal(SIGTERM, print)\n{PLAIN}", runtime=runtime)
    assert done.text is None and "handles SIGTERM" in done.refusals[0].message
