"""Where a run stands: which method, which stage, and one counter per thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class LightningEnum(str, Enum):
    """A string enum that compares without regard to case, as its values are written by hand in scripts."""

    def __str__(self) -> str:
        return str(self.value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Enum):
            return self is other
        return isinstance(other, str) and self.value.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.value.lower())


class TrainerStatus(LightningEnum):
    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


class TrainerFn(LightningEnum):
    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(LightningEnum):
    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        return self in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str | None:
        if self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING):
            return "val"
        return self.value


@dataclass
class TrainerState:
    """What the Trainer is doing: ``fn`` is the public method, ``stage`` the loop inside it."""

    status: TrainerStatus = TrainerStatus.INITIALIZING
    fn: TrainerFn | None = None
    stage: RunningStage | None = None

    @property
    def finished(self) -> bool:
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        return self.status.stopped


_SAVED = (
    "epoch", "global_step", "batches_done", "total_batches", "logged_steps", "checked", "validated", "epoch_closed",
    "ended", "was_last",
)  # fmt: skip


@dataclass(slots=True)
class RunState:
    """The counters of training. Each is changed in one place of `loops.py` and nowhere else.

    Attributes:
        epoch: passes over the training data that are complete, the hooks at their end included.
        global_step: optimizer steps taken.
        batch_idx: index of the current or last batch in its epoch; -1 before the first.
        batches_done: batches of this epoch whose ``on_train_batch_end`` was called.
        total_batches: batches trained since the beginning, over all epochs.
        logged_steps: batches that closed an accumulation window; the x axis of loggers.
        checked: batches of this epoch after which what was due (validation, plateau schedulers) is done.
        validated: the validation due after the current batch has run.
        epoch_closed: the batches of this epoch are over and its schedulers stepped; its end hooks remain.
        ended: the hooks at the end of this epoch have been called, or are being called.
        was_last: no batch came after `batch_idx` in its epoch, or the module gave up the rest.
        should_stop: someone asked to stop.
        hook: the method of the user that runs now; `log` takes its defaults from it.
    """

    epoch: int = 0
    global_step: int = 0
    batch_idx: int = -1
    batches_done: int = 0
    total_batches: int = 0
    logged_steps: int = 0
    checked: int = 0
    validated: bool = False
    epoch_closed: bool = False
    ended: bool = False
    was_last: bool = False
    should_stop: bool = False
    hook: str | None = None

    def start_epoch(self) -> None:
        """Sets the counters of one epoch back."""
        self.batch_idx, self.batches_done, self.checked = -1, 0, 0
        self.validated = self.epoch_closed = self.ended = self.was_last = False

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAVED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.batch_idx = self.batches_done - 1
