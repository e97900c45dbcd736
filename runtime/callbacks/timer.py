"""Measures the stages of a run and ends training when its time is up."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..errors import MisconfigurationException, rank_zero_info
from ..state import RunningStage
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer


class Interval(str, Enum):
    """When the time is looked at."""

    step = "step"
    epoch = "epoch"

    def __str__(self) -> str:
        return self.value


class Timer(Callback):
    """Ends training after ``duration``; a resumed run goes on counting where it stopped.

    Args:
        duration: ``"DD:HH:MM:SS"``, a timedelta, or its keywords as a dictionary; None only measures.
        interval: Looks at the clock after each "step" or each "epoch".
        verbose: Says that the time is up.
    """

    def __init__(
        self,
        duration: str | timedelta | dict[str, int] | None = None,
        interval: str = Interval.step,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        if interval not in [choice.value for choice in Interval]:
            raise MisconfigurationException(
                f"Unsupported parameter value `Timer(interval={interval})`. Possible choices are:"
                f" {', '.join(choice.value for choice in Interval)}"
            )
        self._duration = _seconds(duration)
        self._interval = Interval(interval)
        self._verbose = verbose
        self._start_time: dict[RunningStage, float] = {}
        self._end_time: dict[RunningStage, float] = {}
        self._offset = 0.0
        if self._duration is None:
            self.idle_hooks = frozenset({"on_fit_start", "on_train_batch_end", "on_train_epoch_end"})
        else:
            by_step = self._interval is Interval.step
            self.idle_hooks = frozenset({"on_train_epoch_end" if by_step else "on_train_batch_end"})

    def start_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """Returns the monotonic clock, in seconds, at the beginning of the stage."""
        return self._start_time.get(RunningStage(stage))

    def end_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """Returns the monotonic clock, in seconds, at the end of the stage."""
        return self._end_time.get(RunningStage(stage))

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """Returns the seconds spent in the stage; for training, with those before a resume."""
        start, end = self.start_time(stage), self.end_time(stage)
        earlier = self._offset if RunningStage(stage) is RunningStage.TRAINING else 0.0
        if start is None:
            return earlier
        return (time.monotonic() if end is None else end) - start + earlier

    def time_remaining(self, stage: str = RunningStage.TRAINING) -> float | None:
        """Returns the seconds left, None without a duration."""
        return None if self._duration is None else self._duration - self.time_elapsed(stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(RunningStage.TRAINING)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_time[RunningStage.TRAINING] = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(RunningStage.VALIDATING)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_time[RunningStage.VALIDATING] = time.monotonic()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(RunningStage.TESTING)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_time[RunningStage.TESTING] = time.monotonic()

    def _start(self, stage: RunningStage) -> None:
        self._start_time[stage] = time.monotonic()
        self._end_time.pop(stage, None)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_time_remaining(trainer)  # the state loaded may have no time left

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._interval is Interval.step:
            self._check_time_remaining(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._interval is Interval.epoch:
            self._check_time_remaining(trainer)

    def _check_time_remaining(self, trainer: Trainer) -> None:
        if self._duration is None:
            return
        is_over = trainer.strategy.broadcast(self.time_elapsed() >= self._duration)
        trainer.should_stop = trainer.should_stop or is_over
        if is_over and self._verbose:
            elapsed = timedelta(seconds=int(self.time_elapsed()))
            rank_zero_info(f"Time limit reached. Elapsed time is {elapsed}. Signaling Trainer to stop.")

    def state_dict(self) -> dict[str, Any]:
        return {"time_elapsed": {stage.value: self.time_elapsed(stage) for stage in RunningStage}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._offset = state_dict.get("time_elapsed", {}).get(RunningStage.TRAINING.value, 0.0)


def _seconds(duration: str | timedelta | dict[str, int] | None) -> float | None:
    if duration is None:
        return None
    if isinstance(duration, str):
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", duration.strip())
        if match is None:
            raise MisconfigurationException(
                f"`Timer(duration={duration!r})` is not a valid duration. Expected a string in the format DD:HH:MM:SS."
            )
        days, hours, minutes, seconds = map(int, match.groups())
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(duration, dict):
        duration = timedelta(**duration)
    return duration.total_seconds()
