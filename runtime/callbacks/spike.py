"""Ends a run whose loss jumps, and notes which batches to leave out next time."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer


class TrainingSpikeException(RuntimeError):
    """The loss of a batch is far from the mean of those before."""

    def __init__(self, batch_idx: int) -> None:
        super().__init__(f"Training spike detected in batch {batch_idx}")


class SpikeDetection(Callback):
    """Raises `TrainingSpikeException` when the loss jumps, in all processes when it does in one.

    The batch and the one before it, which may have spoilt the weights, are written to a JSON file. A loss is a spike if
    it is worse than the last one and further from the running mean than both tolerances. Reading the loss of every
    batch waits for the device.

    Args:
        mode: Whether a lower ("min") or a higher loss ("max") is better.
        window: How many losses the running mean is taken over.
        warmup: Batches of an epoch that are not judged.
        atol: Least distance from the running mean; None: any.
        rtol: Least distance as a share of the running mean; None: any.
        exclude_batches_path: The file, or its folder; default: ``skip_batches.json`` in the Trainer's root.
        finite_only: Whether a loss that is not finite is a spike.
    """

    def __init__(
        self,
        mode: Literal["min", "max"] = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float | None = None,
        rtol: float | None = 2.0,
        exclude_batches_path: str | os.PathLike[str] | None = None,
        finite_only: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"Invalid mode. Has to be min or max, found {mode}")
        self.mode = mode
        self.warmup = warmup
        self.atol = atol
        self.rtol = rtol
        self.exclude_batches_path = exclude_batches_path
        self.finite_only = finite_only
        self.bad_batches: list[int] = []
        self.last_val = 0.0
        self._recent: deque[float] = deque(maxlen=window)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = _loss_of(outputs)
        spike = batch_idx >= self.warmup and self._is_spike(loss)
        if trainer.strategy.reduce_boolean_decision(spike, all=False):
            self._end(trainer, batch_idx)
        finite = self.finite_only or trainer.strategy.reduce_boolean_decision(math.isfinite(loss), all=True)
        if finite:
            self._recent.append(loss)
            self.last_val = loss

    def _is_spike(self, loss: float) -> bool:
        if not math.isfinite(loss) and self.finite_only:
            return True
        if loss <= self.last_val if self.mode == "min" else loss >= self.last_val:
            return False
        mean = sum(self._recent) / len(self._recent) if self._recent else math.nan
        distance = abs(loss - mean)
        return (self.atol is None or distance >= abs(self.atol)) and (
            self.rtol is None or distance >= abs(self.rtol * mean)
        )

    def _end(self, trainer: Trainer, batch_idx: int) -> None:
        self.bad_batches += [batch_idx - 1, batch_idx]
        path = os.fspath(self.exclude_batches_path or trainer.default_root_dir)
        if not path.endswith(".json"):
            path = os.path.join(path, "skip_batches.json")
        self.exclude_batches_path = path
        if trainer.is_global_zero:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w") as file:
                json.dump(self.bad_batches, file, indent=4)
        raise TrainingSpikeException(batch_idx)

    def state_dict(self) -> dict[str, Any]:
        return {
            "last_val": self.last_val,
            "mode": self.mode,
            "warmup": self.warmup,
            "atol": self.atol,
            "rtol": self.rtol,
            "bad_batches": self.bad_batches,
            "bad_batches_path": None if self.exclude_batches_path is None else os.fspath(self.exclude_batches_path),
            "recent": list(self._recent),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_val = state_dict["last_val"]
        self.mode = state_dict["mode"]
        self.warmup = state_dict["warmup"]
        self.atol = state_dict["atol"]
        self.rtol = state_dict["rtol"]
        self.bad_batches = state_dict["bad_batches"]
        self.exclude_batches_path = state_dict["bad_batches_path"]
        self._recent.extend(state_dict["recent"])


def _loss_of(outputs: Any) -> float:
    loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
    if not isinstance(loss, Tensor):
        raise TypeError(f"outputs have to be of type torch.Tensor or Mapping, got {type(outputs).__qualname__}")
    return float(loss.detach().to(torch.float64))
