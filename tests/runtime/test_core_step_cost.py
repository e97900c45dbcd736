"""What a step does beside the raw loop's work, in numbers that a busy machine does not change."""

from __future__ import annotations

import gc
import inspect
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.callbacks import TQDMProgressBar
from lightify.runtime.callbacks.progress import clock
from lightify.runtime.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

RUNTIME = str(Path(inspect.getfile(L)).parent)
BARE: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
PER_STEP_AND_EPOCH: dict[str, Any] = {"on_step": True, "on_epoch": True, "prog_bar": True}


class Batches:
    """Batches of two samples; calls `at` before each."""

    def __init__(self, count: int, at: Callable[[int], Any] = lambda batch_idx: None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.count, self.at = count, at
        self.batches = [(torch.randn(2, 4, generator=generator), torch.tensor([0, 1])) for _ in range(8)]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for batch_idx in range(self.count):
            self.at(batch_idx)
            yield self.batches[batch_idx % 8]


class Module(L.LightningModule):
    def __init__(self, log: dict[str, Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.options = nn.Linear(4, 2), log

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        if self.options is not None:
            self.log("loss", loss, **self.options)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def fit(batches: Batches, log: dict[str, Any] | None = None, **arguments: Any) -> Module:
    module = Module(log)
    L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **{**BARE, **arguments}).fit(module, batches)
    return module


def calls_of_ours(count: int, log: dict[str, Any] | None, **arguments: Any) -> int:
    calls = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(RUNTIME)

    sys.setprofile(note)
    try:
        fit(Batches(count), log, **arguments)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("log", "everything", "most"),
    [
        (None, False, 2),  # automatic_step, drop_gradients
        ({}, False, 5),  # log, the entry's add, its number
        (PER_STEP_AND_EPOCH, False, 8),  # and the size of the batch
        ({}, True, 7),  # the bar asks for the time, with the output that hooks get
    ],
    ids=["bare", "log", "log per step and epoch", "bar, CSV and checkpoint"],
)
def test_python_calls_of_ours_in_a_step(
    log: dict[str, Any] | None, everything: bool, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_BURST", 0)
    monkeypatch.setattr(clock, "_INTERVAL_IN_FILES_S", 1e6)  # draws after the first batch, and then not before the end

    def calls(count: int) -> int:
        folder = tmp_path / str(count)
        parts = {"default_root_dir": folder, "log_every_n_steps": 0, "enable_checkpointing": True}
        parts |= {"logger": CSVLogger(folder), "callbacks": [TQDMProgressBar()], "enable_progress_bar": True}
        return calls_of_ours(count, log, **(parts if everything else {}))

    fit(Batches(1))  # imports what torch imports when it is first used
    few, many = calls(10), calls(60)
    assert round((many - few) / 50) <= most


class Operators(TorchDispatchMode):
    """Notes each operator that torch runs, but for the labels that it writes for profilers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace != "profiler":
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def raw_loop(batches: Batches) -> Module:
    module = Module()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(module.net(x), y).backward()
        optimizer.step()
    return module


def operators_of_a_step(train: Callable[[Batches], Module]) -> list[str]:
    """Those between the second and the third batch, and all parameters, which must be the raw loop's."""
    operators, begun = Operators(), list[int]()
    with operators:
        trained = train(Batches(4, at=lambda _: begun.append(len(operators.names))))
    for ours, raw in zip(trained.parameters(), raw_loop(Batches(4)).parameters()):
        assert torch.equal(ours, raw)
    return operators.names[begun[1] : begun[2]]


def test_a_step_runs_the_operators_of_the_raw_loop_and_no_other() -> None:
    raw = operators_of_a_step(raw_loop)
    assert "aten.addmm.default" in raw
    assert operators_of_a_step(fit) == raw
    read = "aten._local_scalar_dense.default"
    logged = operators_of_a_step(lambda batches: fit(batches, {}))
    assert logged.count(read) == raw.count(read) + 1
    assert [name for name in logged if name != read] == [name for name in raw if name != read]


@pytest.mark.parametrize("shows", [False, True], ids=["no bar", "bar"])
def test_memory_does_not_grow_with_the_steps(shows: bool) -> None:
    taken: dict[int, int] = {}

    def measure(batch_idx: int) -> None:
        if batch_idx in (100, 700):
            gc.collect()
            taken[batch_idx] = tracemalloc.get_traced_memory()[0]

    bar: dict[str, Any] = {"enable_progress_bar": True, "callbacks": [TQDMProgressBar()]} if shows else {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fit(Batches(2))  # imports what torch imports when it is first used
    tracemalloc.start()
    try:
        fit(Batches(701, at=measure), PER_STEP_AND_EPOCH, **bar)
    finally:
        tracemalloc.stop()
        torch.set_num_threads(threads)
    assert (taken[700] - taken[100]) / 600 < 16, "bytes per step: less than one number"
