"""What the operators cost, by torch.profiler."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.autograd.profiler import EventList, emit_nvtx, record_function
from torch.profiler import ProfilerAction, ProfilerActivity, tensorboard_trace_handler

from ..errors import MisconfigurationException, rank_zero_warn
from .base import Profiler
from .record import RegisterRecordFunction

_WAIT, _WARMUP, _ACTIVE = 1, 1, 3
_FEWEST_STEPS = _WAIT + _WARMUP + _ACTIVE
_OWN_OPTIONS = ("export_to_flame_graph", "metric")
_BATCHES = {
    "validation_step": "num_val_batches",
    "test_step": "num_test_batches",
    "predict_step": "num_predict_batches",
}

Schedule = Callable[[int], ProfilerAction]


class StepSchedule:
    """Asks a schedule with a count of its own for each kind of step, and once through for each kind.

    The steps of the sanity validation do not count: they come before training and would use the schedule up.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.counts: Counter[str] = Counter()
        self.step: str | None = None
        self._finished: set[str] = set()
        self._previous: ProfilerAction | None = None
        self.in_fit = False

    def reset(self) -> None:
        """Forgets all steps."""
        self.counts.clear()
        self._finished.clear()
        self.step = self._previous = None

    def __call__(self, _: int) -> ProfilerAction:
        if self.step is None or self.step in self._finished:
            return ProfilerAction.NONE
        if not (self.in_fit and self.step == "validation_step" and not self.counts["training_step"]):
            self.counts[self.step] += 1
        action = self.schedule(self.counts[self.step])
        if self._previous is ProfilerAction.RECORD and action is ProfilerAction.WARMUP:
            action = ProfilerAction.RECORD  # another kind of step is being recorded; torch refuses to go back
        if action is ProfilerAction.RECORD_AND_SAVE:
            self._finished.add(self.step)
        self._previous = action
        return action


class PyTorchProfiler(Profiler):
    """Runs torch's profiler over the steps and reports the operators.

    Args:
        dirpath: Folder of the report and of the traces; default: the Trainer's ``log_dir``.
        filename: The report's name. Without it the report goes to the log.
        group_by_input_shapes: Separates calls by the shapes of their inputs; needs ``record_shapes=True``.
        emit_nvtx: Emits NVTX ranges for an outside profiler instead of recording.
        export_to_chrome: Writes a trace file for each kind of step.
        row_limit: Rows in the report; -1 for all.
        sort_by_key: Column to sort by; default: total time on the GPU, or on the CPU without one.
        record_module_names: Labels the forward of every submodule.
        table_kwargs: For the report's table, ``max_name_column_width`` for one.
        **profiler_kwargs: For ``torch.profiler.profile``. The default schedule waits one step, warms up for one
            and records three; ``schedule=None`` records all.
    """

    STEP_FUNCTIONS: ClassVar[set[str]] = {"training_step", "validation_step", "test_step", "predict_step"}
    AVAILABLE_SORT_KEYS: ClassVar[set[str]] = {
        "cpu_time",
        "cuda_time",
        "cpu_time_total",
        "cuda_time_total",
        "cpu_memory_usage",
        "cuda_memory_usage",
        "self_cpu_memory_usage",
        "self_cuda_memory_usage",
        "count",
    }

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: dict[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self._group_by_input_shapes = group_by_input_shapes and profiler_kwargs.get("record_shapes", False)
        self._emit_nvtx = emit_nvtx
        self._export_to_chrome = export_to_chrome
        self._row_limit = row_limit
        self._record_module_names = record_module_names
        self._table_kwargs = _checked_table_kwargs(table_kwargs or {})
        self._flame_graph_metric = profiler_kwargs.get("metric", "self_cpu_time_total")
        self._flame_graph = bool(profiler_kwargs.get("export_to_flame_graph", False))
        self._default_schedule = torch.profiler.schedule(wait=_WAIT, warmup=_WARMUP, active=_ACTIVE)
        schedule = _checked_schedule(profiler_kwargs.pop("schedule", self._default_schedule))
        self._given_schedule = schedule
        self._schedule: StepSchedule | None = None
        activities = profiler_kwargs.get("activities") or _default_activities()
        self._sort_by_key = sort_by_key or (
            "cuda_time_total" if ProfilerActivity.CUDA in activities else "cpu_time_total"
        )
        if self._sort_by_key not in self.AVAILABLE_SORT_KEYS:
            raise MisconfigurationException(
                f"Found sort_by_key: {self._sort_by_key}. Should be within {self.AVAILABLE_SORT_KEYS}. "
            )
        self._profiler_kwargs = {
            **{name: value for name, value in profiler_kwargs.items() if name not in _OWN_OPTIONS},
            "activities": activities,
            "with_stack": profiler_kwargs.get("with_stack", False) or self._flame_graph,
        }
        self.profiler: Any = None
        self.function_events: EventList | None = None
        self._parent: AbstractContextManager[Any] | None = None
        self._labels: RegisterRecordFunction | None = None
        self._open: dict[str, record_function] = {}

    def start(self, action_name: str) -> None:
        if self.profiler is None:
            self._begin()
        if self._labels is None and self._record_module_names and self.lightning_module is not None:
            self._labels = RegisterRecordFunction(self.lightning_module)
            self._labels.__enter__()
        if action_name not in self._open:
            self._open[action_name] = record_function(f"[pl][profile]{action_name}")
            self._open[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        record = self._open.pop(action_name, None)
        if record is not None:
            record.__exit__(None, None, None)
        step = action_name.rpartition(".")[2]
        if self.profiler is not None and not self._emit_nvtx and step in self.STEP_FUNCTIONS:
            self._advance(action_name, step)

    def _begin(self) -> None:
        if torch._C._autograd._profiler_enabled():  # an earlier profiler was never described
            torch._C._autograd._disable_profiler()
        if self._emit_nvtx:
            self._parent = torch.cuda.profiler.profile()
            self.profiler = emit_nvtx(**_accepted(emit_nvtx, self._profiler_kwargs))
            self.profiler.__enter__()
            self._parent.__enter__()
            return
        if self._given_schedule is not None:
            self._schedule = StepSchedule(self._given_schedule)
            self._schedule.in_fit = self._stage == "fit"
        options = _accepted(torch.profiler.profile, self._profiler_kwargs)
        self.profiler = torch.profiler.profile(schedule=self._schedule, **options)
        self.profiler.__enter__()

    def _advance(self, action_name: str, step: str) -> None:
        if self._schedule is not None:
            self._schedule.step = step
            if self._given_schedule is self._default_schedule and self._number_of_steps(step) < _FEWEST_STEPS:
                rank_zero_warn(
                    "The PyTorch Profiler default schedule will be overridden as there is not enough "
                    "steps to properly record traces."
                )
                self._schedule = None
                self.profiler.schedule = lambda _: ProfilerAction.RECORD
        if "on_trace_ready" not in self._profiler_kwargs:
            self.profiler.on_trace_ready = lambda profiler: self._export(profiler, action_name)
        if self._schedule is not None:
            self.profiler.step_num = self._schedule.counts[step]
        self.profiler.step()

    def _number_of_steps(self, step: str) -> float:
        if self.lightning_module is None:
            return float("inf")
        trainer = self.lightning_module.trainer
        if step == "training_step":
            return trainer.num_training_batches
        total = _total(getattr(trainer, _BATCHES[step]))
        return total + _total(trainer.num_sanity_val_batches) if step == "validation_step" else total

    def _export(self, profiler: Any, action_name: str) -> None:
        if self.dirpath is None:
            rank_zero_warn("The PyTorchProfiler failed to export trace as `dirpath` is None")
            return
        if self._export_to_chrome:
            tensorboard_trace_handler(str(self.dirpath), self._prepare_filename(action_name, ""))(profiler)
        if self._flame_graph:
            path = os.path.join(self.dirpath, self._prepare_filename(action_name, ".stack"))
            profiler.export_stacks(path, metric=self._flame_graph_metric)

    def summary(self) -> str:
        if self._emit_nvtx or not self._profiler_kwargs.get("enabled", True):
            return ""
        self._end()
        if not self.function_events:
            return ""
        averages = self.function_events.key_averages(group_by_input_shapes=self._group_by_input_shapes)
        table = averages.table(sort_by=self._sort_by_key, row_limit=self._row_limit, **self._table_kwargs)
        return self._stats_to_str({"records": table})

    def _end(self) -> None:
        for record in self._open.values():
            record.__exit__(None, None, None)
        self._open.clear()
        if self.profiler is not None:
            self.profiler.__exit__(None, None, None)
            if not self._emit_nvtx:
                self.function_events = self.profiler.events()
            self.profiler = None
        if self._parent is not None:
            self._parent.__exit__(None, None, None)
            self._parent = None
        if self._labels is not None:
            self._labels.__exit__()
            self._labels = None
        self._schedule = None

    def teardown(self, stage: str | None) -> None:
        self._end()
        super().teardown(stage)


def _default_activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]


def _accepted(profiler: type, options: dict[str, Any]) -> dict[str, Any]:
    names = inspect.signature(profiler).parameters
    return {name: value for name, value in options.items() if name in names}


def _total(batches: float | list[float]) -> float:
    return sum(batches) if isinstance(batches, list) else batches


def _checked_schedule(schedule: Any) -> Schedule | None:
    if schedule is None:
        return None
    if not callable(schedule):
        raise MisconfigurationException(f"Schedule should be a callable. Found: {schedule}")
    action = schedule(0)
    if not isinstance(action, ProfilerAction):
        raise MisconfigurationException(f"Schedule should return a `torch.profiler.ProfilerAction`. Found: {action}")
    return schedule


def _checked_table_kwargs(options: dict[str, Any]) -> dict[str, Any]:
    taken = {"sort_by", "row_limit"}
    known = set(inspect.signature(EventList.table).parameters) - {"self", *taken}
    for name in options:
        if name in taken:
            raise KeyError(
                f"Found invalid table_kwargs key: {name}. This is already a positional argument of the Profiler."
            )
        if name not in known:
            raise KeyError(f"Found invalid table_kwargs key: {name}. Should be within {known}.")
    return options
