"""Prediction: the loop of an evaluation, whose step's outputs are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .errors import MisconfigurationException, rank_zero_warn
from .evaluation import EvaluationRun, run_pass
from .hooks import Hooks
from .state import RunningStage
from .strategies.launch import SpawnLauncher
from .transfer import move_data_to_device

if TYPE_CHECKING:
    from .trainer import Trainer


class PredictionRun(EvaluationRun):
    """An evaluation that keeps what the step returns.

    Attributes:
        outputs: what the step returned, for each loader.
        is_written_at_end: whether a writer needs outputs and indices when all batches are done.
        epoch_batch_indices: for it: indices of the samples of each batch of each loader, where they are known.
        current_batch_indices: those of the current batch.
    """

    def __init__(self, trainer: Trainer, hooks: Hooks, return_predictions: bool | None) -> None:
        super().__init__(trainer, hooks, RunningStage.PREDICTING)
        spawns = isinstance(trainer.strategy.launcher, SpawnLauncher)
        if return_predictions and spawns:
            raise MisconfigurationException(
                "`return_predictions` should be set to `False` when the strategy spawns its processes:"
                f" {type(trainer.strategy).__name__}. Use a `BasePredictionWriter` callback to keep predictions."
            )
        self.return_predictions = not spawns if return_predictions is None else return_predictions
        intervals = [getattr(callback, "interval", None) for callback in trainer.callbacks]
        self.is_written_at_end = any(getattr(interval, "on_epoch", False) for interval in intervals)
        self.outputs: list[list[Any]] = []
        self.epoch_batch_indices: list[list[Any]] = []
        self.current_batch_indices: list[int] = []

    @property
    def predictions(self) -> list[Any]:
        """The outputs; one list when there is one loader."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    def start_pass(self) -> None:
        assert self.loaders is not None
        self.outputs = [[] for _ in self.loaders.given]
        self.epoch_batch_indices = [[] for _ in self.outputs]

    def start_batch(self, batch: Any, batch_idx: int, index: int) -> None:
        self.current_batch_indices = self._seen_indices(index, batch_idx)
        if self.is_written_at_end:
            self.epoch_batch_indices[index].append(self.current_batch_indices)

    def end_batch(self, output: Any, index: int) -> None:
        if self.return_predictions or self.is_written_at_end:
            self.outputs[index].append(move_data_to_device(output, torch.device("cpu")))

    def end_loader(self, index: int) -> None:
        """Nothing: a prediction logs no metrics."""

    def end_epoch(self) -> None:
        """Nothing, likewise."""

    def _seen_indices(self, index: int, batch_idx: int) -> list[int]:
        assert self.loaders is not None
        sampler = getattr(self.loaders.given[index], "batch_sampler", None)
        seen = getattr(sampler, "seen_batch_indices", None)
        return seen[batch_idx] if seen is not None and batch_idx < len(seen) else []


def predict(run: PredictionRun) -> list[Any] | list[list[Any]] | None:
    """Runs `predict_step` over the loaders; returns outputs as one list, or one per loader."""
    run.setup_data()
    if run.loaders is not None and not run.loaders.is_sequential:
        raise ValueError('`trainer.predict()` only supports the `CombinedLoader(mode="sequential")` mode.')
    if sum(run.num_batches) == 0:
        return []
    run_pass(run)
    if any(output is None for outputs in run.outputs for output in outputs):
        rank_zero_warn("predict returned None if it was on purpose, ignore this warning...")
    return run.predictions if run.return_predictions else None
