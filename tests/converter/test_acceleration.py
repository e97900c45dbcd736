"""Scripts that accelerate drives: the Accelerator stays the owner of devices, gradients and steps."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import pytest
import torch

from tests.converter.processes import in_two_processes
from tests.converter.scripts import PROLOGUE, converted, methods, script
from tests.regenerate_goldens import FIXTURES, conversion

MAKE = "from accelerate import Accelerator\naccelerator = Accelerator(gradient_accumulation_steps=2)\n"
PREPARE = "model, optimizer, train_loader = accelerator.prepare(model, optimizer, train_loader)\n"
FORWARD = "loss = criterion(model(x), y)"
STEP = f"{FORWARD}\naccelerator.backward(loss)\noptimizer.step()\noptimizer.zero_grad()"
ACCUMULATED = f"with accelerator.accumulate(model):\n{indent(STEP, '    ')}"


def accelerated(batch: str = STEP, before: str = MAKE + PREPARE, **parts: str) -> str:
    return script(batch, before=before, **parts)


IN_A_CLASS = f"""{PROLOGUE}from accelerate import Accelerator
class Engine:
    def __init__(self):
        self.accelerator = Accelerator()
        self.model = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
    def run(self, loader):
        self.model, self.optimizer, loader = self.accelerator.prepare(self.model, self.optimizer, loader)
        for epoch in range(3):
            for x, y in loader:
                loss = F.cross_entropy(self.model(x), y)
                self.accelerator.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
Engine().run(train_loader)
"""

#: script to what its training step does
STEPS = {
    "plain": (accelerated(), "accelerator.backward(loss)"),
    "within a window": (accelerated(ACCUMULATED), "with accelerator.accumulate(self.model):"),
    "keyword arguments": (accelerated("loss = criterion(model(x), y)\naccelerator.backward(loss=loss)"), "(loss=loss)"),
    "a graph that is kept": (
        accelerated(STEP.replace("backward(loss)", "backward(loss, retain_graph=True)")),
        "accelerator.backward(loss, retain_graph=True)",
    ),
    "the loss itself": (
        accelerated(STEP.replace("accelerator.backward(loss)", "loss.backward()")),
        "manual_backward(loss)",
    ),
    "in a function": (
        accelerated(
            "update(accelerator, model, optimizer, x, y)",
            define="def update(acc, model, optimizer, x, y):\n"
            + indent(STEP.replace("accelerator", "acc").replace("criterion", "F.cross_entropy"), "    "),
        ),
        "accelerator.backward(loss)",
    ),
    "of an object": (IN_A_CLASS, "self.accelerator.backward(loss)"),
    "of something else that is handed the loss": (
        script(
            STEP.replace("accelerator", "engine"),
            before="engine = make_engine(model)\n",
            define="from e import make_engine",
        ),
        "engine.backward(loss)",
    ),
    "moves stay": (accelerated(f"x = x.to(accelerator.device)\n{STEP}"), "x = x.to(accelerator.device)"),
}


@pytest.mark.parametrize(("text", "line"), STEPS.values(), ids=STEPS)
def test_the_step_stays_as_it_is(text: str, line: str) -> None:
    done = converted(text)
    assert done.text is not None and done.mode == "manual"
    assert line in methods(done.text)["training_step"]


@pytest.mark.parametrize("text", [accelerated(ACCUMULATED), IN_A_CLASS], ids=["script", "class"])
def test_the_trainer_takes_neither_optimizers_nor_batches(text: str) -> None:
    done = converted(text)
    hooks = methods(done.text)
    assert hooks["configure_optimizers"] == "return None"
    assert hooks["transfer_batch_to_device"] == "return batch"
    assert any("accelerate" in reason for reason in done.reasons)
    assert "accelerator.device.type" in (done.text or "")


def test_the_trainer_is_told_the_device_of_its_process() -> None:
    done = converted(accelerated(after="torch.save(model.state_dict(), 'model.pt')"))
    assert done.text is not None
    assert "devices=[accelerator.device.index] if accelerator.device.index else 1" in done.text
    assert "fit(module, train_loader)\nmodel.to(accelerator.device)\n" in done.text


def test_lightning_ends_the_pass_of_a_prepared_loader() -> None:
    """DataLoaderShard counts its epochs after the last batch, which Lightning never asks it for."""
    assert "Passes" not in (converted(accelerated()).text or "Passes")
    assert "Passes(lambda: train_loader, 10**9)" in (converted(accelerated(), runtime="lightning").text or "")


@pytest.mark.parametrize("argument", ["fsdp_plugin=plugin", "deepspeed_plugin=plugin", "parallelism_config=plugin"])
def test_other_engines_are_refused(argument: str) -> None:
    text = accelerated(before=f"{MAKE.replace('gradient_accumulation_steps=2', argument)}{PREPARE}")
    (refusal,) = converted(text).refusals
    assert refusal.code == "LF210" and argument.partition("=")[0] in refusal.message and refusal.span is not None


def test_an_engine_that_is_not_asked_for_is_no_reason() -> None:
    made = MAKE.replace("gradient_accumulation_steps=2", "fsdp_plugin=None")
    assert converted(accelerated(before=made + PREPARE)).text is not None


def test_each_process_prints_for_itself() -> None:
    assert "        print(epoch" not in (converted(accelerated(end="print(epoch)")).text or "")
    assert "        print(self.current_epoch)" in (converted(accelerated(end="print(epoch)")).text or "")


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_each_process_has_one_logger_and_one_set_of_files(style: str) -> None:
    done = converted(accelerated(), style=style)
    assert "logger=False" in (done.text or "") and done.departures == ()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_train_as_before(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    case = "accelerate_metrics"
    texts = {"source": (FIXTURES / case / "input.py").read_text(encoding="utf-8")}
    texts |= {runtime: conversion(case, runtime=runtime).text or "" for runtime in ("bundled", "lightning")}
    scripts = {f"{name}_run.py": text.replace('"model.pt"', f'"{name}.pt"') for name, text in texts.items()}
    printed = re.findall(r"^epoch \d: .*$", in_two_processes(scripts, tmp_path), re.MULTILINE)
    assert len(printed) == 9 and len(set(printed)) == 3, (
        printed
    )  # the accuracy of both processes, the same in all forms
    source, *others = (torch.load(tmp_path / f"{name}.pt") for name in texts)
    for weights in others:
        assert all(torch.equal(weights[name], value) for name, value in source.items())
