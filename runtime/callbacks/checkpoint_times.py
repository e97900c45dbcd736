"""When a checkpoint of an epoch can be saved: with the training epoch, or after the validation that follows it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..trainer import Trainer


def saves_with_epoch(trainer: Trainer) -> bool:
    """Whether nothing is validated, or just once at the end of each epoch, whose metrics are there by then."""
    if isinstance(trainer.val_check_interval, (str, dict, timedelta)) or trainer.check_val_every_n_epoch != 1:
        return False
    return _total(trainer.num_val_batches) == 0 or trainer.val_check_interval == 1.0


def validates_after_batch(trainer: Trainer) -> bool:
    """Whether the batch that has just ended is an epoch's last and a validation follows."""
    if not trainer.is_last_batch or not trainer.enable_validation:
        return False
    every = trainer.check_val_every_n_epoch
    return _total(trainer.num_val_batches) > 0 and (every is None or (trainer.current_epoch + 1) % every == 0)


def _total(batches: float | list[float]) -> float:
    return sum(batches) if isinstance(batches, list) else batches
