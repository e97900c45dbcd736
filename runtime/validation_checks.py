"""When `fit` validates: after which batches, or after how much time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .errors import MisconfigurationException, PossibleUserWarning, rank_zero_warn

if TYPE_CHECKING:
    from .trainer import Trainer

INFINITE = float("inf")


def validates_in_epoch(trainer: Trainer, epoch: int) -> bool:
    """Whether `fit` validates in this epoch."""
    every = trainer.check_val_every_n_epoch
    return trainer.enable_validation and (every is None or (epoch + 1) % every == 0)


def resolve_interval(trainer: Trainer, num_batches: int | float) -> None:
    """Turns `val_check_interval` into a number of batches, now that their count is known."""
    interval = trainer.val_check_interval
    if trainer._val_check_seconds is not None:
        trainer.val_check_batch = None
    elif isinstance(interval, int):
        trainer.val_check_batch = interval
        if interval > num_batches and trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0:
            raise ValueError(
                f" `val_check_interval` ({interval}) must be less than or equal"
                f" to the number of the training batches ({num_batches})."
                " If you want to disable validation set `limit_val_batches` to 0.0 instead."
                " If you want to validate based on the total training batches, set `check_val_every_n_epoch=None`."
            )
    elif num_batches == INFINITE:
        if interval != 1.0:
            raise MisconfigurationException(
                "When using an IterableDataset for `train_dataloader`,"
                " `Trainer(val_check_interval)` must be time based, `1.0` or an int. An int k specifies"
                " checking validation every k training batches."
            )
        trainer.val_check_batch = INFINITE
    else:
        trainer.val_check_batch = max(1, int(num_batches * interval))
    if trainer.loggers and num_batches < trainer.log_every_n_steps and not trainer.fast_dev_run:
        rank_zero_warn(
            f"The number of training batches ({num_batches}) is smaller than the logging interval"
            f" Trainer(log_every_n_steps={trainer.log_every_n_steps}). Set a lower value for log_every_n_steps if"
            " you want to see logs for the training epoch.",
            category=PossibleUserWarning,
        )


class ValidationChecks:
    """The moments of validation in one epoch.

    Attributes:
        validates: whether this epoch has any.
        within_epoch: whether one may come before the epoch's last batch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.state = trainer, trainer.run
        self.last = time.monotonic()
        self.validates = self.within_epoch = False
        self.every: int | float | None = 0
        self.seconds: float | None = None
        self.shift = 1

    def bind(self, num_batches: int | float) -> None:
        """Chooses the moments of the epoch that begins, or is taken up."""
        trainer, state = self.trainer, self.state
        self.validates = validates_in_epoch(trainer, state.epoch)
        self.every, self.seconds = trainer.val_check_batch, trainer._val_check_seconds
        counts_all = trainer.check_val_every_n_epoch is None
        self.shift = state.total_batches - state.batches_done + 1 if counts_all else 1
        if self.every == INFINITE and isinstance(trainer.limit_train_batches, int):
            self.every = trainer.limit_train_batches
        if not counts_all and (num_batches == 0 or self.every == num_batches):
            self.every = INFINITE  # at the end of the pass, which may be shorter or longer than was said
        if not self.validates:
            self.every, self.seconds = 0, None
        self.within_epoch = self.validates and (self.every != INFINITE or self.seconds is not None)

    def is_due(self, batch_idx: int, stops: bool) -> bool:
        """Whether to validate after this batch; always when the run `stops` after it."""
        if not self.validates:
            return False
        if stops:
            return True
        if self.seconds is not None:
            return time.monotonic() - self.last >= self.seconds
        if self.every == INFINITE:
            return self.state.epoch_closed
        return bool(self.every) and self.every is not None and (batch_idx + self.shift) % self.every == 0
