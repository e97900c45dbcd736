"""Profilers: reports with the actions of a run in them."""

from __future__ import annotations

import json
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    RegisterRecordFunction,
    SimpleProfiler,
    resolve_profiler,
)
from lightify.runtime.profilers.pytorch import StepSchedule

from .leaves import Classifier, trainer


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (None, PassThroughProfiler),
        ("simple", SimpleProfiler),
        ("Advanced", AdvancedProfiler),
        ("PyTorch", PyTorchProfiler),
    ],
)
def test_names(given: str | None, kind: type[Profiler]) -> None:
    assert type(resolve_profiler(given)) is kind
    own = SimpleProfiler()
    assert resolve_profiler(own) is own


@pytest.mark.parametrize("wrong", ["fast", 3])
def test_an_unknown_name_is_refused(wrong: Any) -> None:
    with pytest.raises(MisconfigurationException, match="it can only be one of"):
        resolve_profiler(wrong)


def test_simple_durations_and_report() -> None:
    profiler = SimpleProfiler()
    for seconds in (0.02, 0.01):
        with profiler.profile("sleep"):
            time.sleep(seconds)
    with profiler.profile("nothing"):
        pass
    longer, shorter = profiler.recorded_durations["sleep"]
    assert longer >= 0.02 and shorter >= 0.01
    rows = [line.split("|") for line in profiler.summary().splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows] == ["Action", "Total", "sleep", "nothing"]
    assert [row[3].strip() for row in rows] == ["Num calls", "3", "2", "1"]
    profiler.extended = False
    rows = [line.split("|") for line in profiler.summary().splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows] == ["Action", "sleep", "nothing"]


def test_an_empty_report_has_a_title_only() -> None:
    assert SimpleProfiler().summary().split() == ["Profiler", "Report"]


def test_starting_twice_and_stopping_what_never_began_are_errors() -> None:
    simple = SimpleProfiler()
    simple.start("a")
    with pytest.raises(ValueError, match="Attempted to start a which has already started"):
        simple.start("a")
    for profiler in (SimpleProfiler(), AdvancedProfiler()):
        with pytest.raises(ValueError, match="never started"):
            profiler.stop("b")


def test_advanced_takes_nested_actions_and_goes_on_with_the_outer(tmp_path: Path) -> None:
    def before() -> None: ...
    def inner() -> None: ...
    def after() -> None: ...

    profiler = AdvancedProfiler(tmp_path, "report", dump_stats=True)
    with profiler.profile("outer"):
        before()
        with profiler.profile("in/ner"):
            inner()
        after()
    profiler.describe()
    text = (tmp_path / "report.txt").read_text()
    outer, within = text.split("Profile stats for: in/ner")
    assert "(before)" in outer and "(after)" in outer and "(inner)" not in outer
    assert "(inner)" in within
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report-in_ner.prof", "report-outer.prof", "report.txt"]
    assert not profiler.profiled_actions


@pytest.mark.parametrize("kind", [SimpleProfiler, AdvancedProfiler])
def test_a_run_is_reported_by_stage(tmp_path: Path, kind: type[Profiler]) -> None:
    profiler = kind(tmp_path, "report")
    run = trainer(tmp_path, profiler=profiler, max_epochs=1)
    run.fit(Classifier())
    run.test(Classifier(), verbose=False)
    fit, test = (tmp_path / "fit-report.txt").read_text(), (tmp_path / "test-report.txt").read_text()
    assert "FIT Profiler Report" in fit and "TEST Profiler Report" in test
    for action in (
        "run_training_epoch",
        "run_training_batch",
        "[Strategy]SingleDeviceStrategy.training_step",
        "[LightningModule]Classifier.configure_optimizers",
        "[_TrainingEpochLoop].train_dataloader_next",
        "[_EvaluationLoop].val_next",
        "[Strategy]SingleDeviceStrategy.validation_step",
    ):
        assert action in fit, action
    assert "[Strategy]SingleDeviceStrategy.test_step" in test


def test_without_a_profiler_nothing_is_wrapped(tmp_path: Path) -> None:
    class Asks(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            import traceback

            names.extend(frame.name for frame in traceback.extract_stack())
            return super().training_step(batch, batch_idx)

    names: list[str] = []
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(Asks())
    assert "profiled" not in names and "profile" not in names


def test_pytorch_traces_and_table_of_a_run(tmp_path: Path) -> None:
    profiler = PyTorchProfiler(tmp_path, "report", record_shapes=True, group_by_input_shapes=True)
    trainer(tmp_path, profiler=profiler, max_epochs=1).fit(Classifier())
    table = (tmp_path / "fit-report.txt").read_text()
    assert "aten::linear" in table
    names = {event.name for event in profiler.function_events}
    assert "[pl][profile][Strategy]SingleDeviceStrategy.validation_step" in names
    assert "[pl][module]torch.nn.modules.linear.Linear: layer" in names
    traces = sorted(tmp_path.glob("*.pt.trace.json"))
    assert any("training_step" in path.name for path in traces)
    assert json.loads(traces[0].read_text())["traceEvents"]


def test_pytorch_alone(tmp_path: Path) -> None:
    profiler = PyTorchProfiler(tmp_path, "report", schedule=None)
    layer = torch.nn.Sequential(torch.nn.Linear(1, 1))
    with profiler.profile("a"), profiler.profile("b"), RegisterRecordFunction(layer):
        layer(torch.ones(1, 1))
    layer(torch.ones(1, 1))  # the labels are gone
    profiler.describe()
    labels = [event.name for event in profiler.function_events if event.name.startswith("[pl]")]
    assert sorted(labels) == [
        "[pl][module]torch.nn.modules.linear.Linear: 0",
        "[pl][profile]a",
        "[pl][profile]b",
    ]


def test_each_kind_of_step_goes_through_the_schedule_once() -> None:
    from torch.profiler import ProfilerAction as Action

    schedule = StepSchedule(torch.profiler.schedule(wait=0, warmup=1, active=1))
    schedule.in_fit = True

    def steps(name: str, count: int) -> list[str]:
        schedule.step = name
        return [schedule(0).name for _ in range(count)]

    assert schedule(0) is Action.NONE
    assert steps("validation_step", 2) == ["WARMUP", "WARMUP"]  # the sanity check does not count
    assert steps("training_step", 3) == ["RECORD_AND_SAVE", "NONE", "NONE"]
    assert steps("validation_step", 2) == ["RECORD_AND_SAVE", "NONE"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sort_by_key": "beauty"}, MisconfigurationException, "sort_by_key: beauty"),
        ({"schedule": 3}, MisconfigurationException, "should be a callable"),
        ({"schedule": lambda step: 3}, MisconfigurationException, "should return a `torch.profiler.ProfilerAction`"),
        ({"table_kwargs": {"row_limit": 3}}, KeyError, "already a positional argument"),
        ({"table_kwargs": {"color": 3}}, KeyError, "Should be within"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        PyTorchProfiler(**options)


@pytest.mark.parametrize("kind", [SimpleProfiler, AdvancedProfiler])
def test_profilers_in_use_are_pickled(kind: type[Profiler]) -> None:
    profiler = kind(filename="x")
    with profiler.profile("a"):
        pass
    assert pickle.loads(pickle.dumps(profiler)).filename == "x"


@pytest.mark.parametrize(("limit", "number"), [(2, 2), (1.0, 8)])
def test_each_wait_for_data_is_measured_once(tmp_path: Path, limit: float, number: int) -> None:
    profiler = SimpleProfiler()
    run = trainer(tmp_path, profiler=profiler, max_epochs=1, limit_train_batches=limit, limit_test_batches=limit)
    run.fit(Classifier())
    run.test(Classifier(), verbose=False)
    waits = {name: len(times) for name, times in profiler.recorded_durations.items() if name.endswith("_next")}
    assert waits["[_TrainingEpochLoop].train_dataloader_next"] == number
    assert waits["[_EvaluationLoop].test_next"] == number
