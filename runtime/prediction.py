"""Prediction: the loop of an evaluation, whose step's outputs are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .data import device_mover
from .errors import MisconfigurationException
from .evaluation import EvaluationRun
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
        epoch_batch_indices: indices of the samples of each batch of each loader, where they are known.
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
        # A writer that writes at the end needs them, too.
        intervals = [getattr(callback, "interval", None) for callback in trainer.callbacks]
        self.keeps_outputs = self.return_predictions or any(getattr(i, "on_epoch", False) for i in intervals)
        self.outputs: list[list[Any]] = []
        self.epoch_batch_indices: list[list[Any]] = []
        self.current_batch_indices: list[int] = []

    @property
    def predictions(self) -> list[Any]:
        """The outputs; one list when there is one loader."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    def _seen_indices(self, index: int, batch_idx: int) -> list[int]:
        assert self.loaders is not None
        sampler = getattr(self.loaders.given[index], "batch_sampler", None)
        seen = getattr(sampler, "seen_batch_indices", None)
        return seen[batch_idx] if seen is not None and batch_idx < len(seen) else []


def predict(run: PredictionRun) -> list[Any] | list[list[Any]] | None:
    """Runs `predict_step` over the loaders; returns outputs as one list, or one per loader."""
    run.setup_data()
    if sum(run.num_batches) == 0:
        return []
    with run.gradients():
        _predict(run)
    return run.predictions if run.return_predictions else None


def _predict(run: PredictionRun) -> None:
    trainer, hooks, loaders, state = run.trainer, run.hooks, run.loaders, run.trainer.run
    assert loaders is not None
    several = loaders.is_sequential and len(loaders.given) > 1
    run.check_dataloader_idx(several)
    modes = [(part, part.training) for part in (trainer.model or run.module).modules()]
    state.hook = "on_predict_model_eval"
    run.module.on_predict_model_eval()
    state.hook = None
    hooks.call("on_predict_start")
    hooks.call("on_predict_epoch_start")
    step = run.bind_step()
    run.outputs = [[] for _ in loaders.given] if loaders.is_sequential else [[]]
    run.epoch_batch_indices = [[] for _ in run.outputs]
    for index, batches in run.passes():
        to_device = device_mover(trainer, index)
        for batch_idx, batch in run.batches(batches, index, to_device):
            place = (run.dataloader_idx(index),) if several else ()
            run.current_batch_indices = run._seen_indices(index, batch_idx)
            hooks.call("on_predict_batch_start", batch, batch_idx, *place)
            state.hook = "predict_step"
            if run.iterator is None:
                output = step(batch, batch_idx, *place)
            else:
                try:
                    output = step(run.iterator)
                except StopIteration:
                    break
                batch_idx, batch = run.iterator.batch_idx, run.iterator.batch
                place = (index,) if several else ()
            state.hook = None
            run.epoch_batch_indices[index].append(run.current_batch_indices)
            hooks.call("on_predict_batch_end", output, batch, batch_idx, *place)
            if run.keeps_outputs:
                run.outputs[index].append(move_data_to_device(output, torch.device("cpu")))
            if trainer._signals is not None:
                trainer._signals.act()
    hooks.call("on_predict_epoch_end")
    hooks.call("on_predict_end")
    for part, training in modes:
        part.training = training
