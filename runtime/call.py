"""One call of fit, validate, test or predict: what it was given, and how the Trainer takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callbacks.timer import Timer
from .ckpt_path import checkpoint_path
from .compiled import from_compiled, is_compiled
from .data import DataSource
from .datamodule import LightningDataModule
from .errors import MisconfigurationException, PossibleUserWarning, rank_zero_info, rank_zero_warn
from .module import LightningModule
from .state import RunningStage, TrainerFn, TrainerStatus

if TYPE_CHECKING:
    from .trainer import Trainer

STAGES = {
    TrainerFn.FITTING: RunningStage.TRAINING,
    TrainerFn.VALIDATING: RunningStage.VALIDATING,
    TrainerFn.TESTING: RunningStage.TESTING,
    TrainerFn.PREDICTING: RunningStage.PREDICTING,
}


@dataclass(frozen=True)
class Call:
    """The arguments of a call.

    Attributes:
        loaders: what was given as data, by prefix: ``train``, ``val``, ``test`` or ``predict``.
        verbose: print a table of the metrics.
        return_predictions: keep what `predict_step` returns; decided by the strategy when None.
    """

    fn: TrainerFn
    model: Any
    loaders: dict[str, Any]
    datamodule: LightningDataModule | None
    ckpt_path: str | Path | None
    weights_only: bool | None
    verbose: bool = True
    return_predictions: bool | None = None


def take(trainer: Trainer, call: Call) -> str | Path | None:
    """Notes what a call runs and on which data; returns the checkpoint that it loads.

    Raises:
        MisconfigurationException: the data are given twice.
        TypeError: there is no module, or it is none.
    """
    fn = call.fn
    model = trainer._module if call.model is None else _module_of(call.model)
    if model is None:
        raise TypeError(
            f"`Trainer.{fn.value}()` requires a `LightningModule` when it hasn't been passed in a previous run"
        )
    loaders, datamodule = dict(call.loaders), call.datamodule
    first = next(iter(loaders))
    if isinstance(loaders[first], LightningDataModule):
        datamodule, loaders[first] = loaders[first], None
    if datamodule is not None and not isinstance(datamodule, LightningDataModule):
        raise TypeError(f"`datamodule` must be a `LightningDataModule`, got `{type(datamodule).__qualname__}`")
    if datamodule is not None and any(loader is not None for loader in loaders.values()):
        raise MisconfigurationException(
            f"You cannot pass both `trainer.{fn.value}(dataloaders=..., datamodule=...)`"
            if fn is not TrainerFn.FITTING
            else "You cannot pass `train_dataloader` or `val_dataloaders` to `trainer.fit(datamodule=...)`"
        )
    trainer._call = call
    trainer._module = trainer.strategy.lightning_module = model
    trainer._data = DataSource(loaders, model, datamodule)
    if datamodule is not None:
        datamodule.trainer = trainer
    trainer.state.fn, trainer.state.status, trainer.state.stage = fn, TrainerStatus.RUNNING, STAGES[fn]
    trainer._signals = None
    if trainer.barebones:
        rank_zero_info(
            "`Trainer(barebones=True)` started running. The progress bar is disabled so you might want to"
            " manually print the progress in your model."
        )
    if fn is TrainerFn.FITTING:
        _read_epoch_limits(trainer)
        trainer.should_stop = False
    return checkpoint_path(trainer, call.ckpt_path, fn is TrainerFn.FITTING or call.model is not None)


def _read_epoch_limits(trainer: Trainer) -> None:
    if trainer.max_epochs is None:
        if trainer.max_steps == -1 and not any(isinstance(callback, Timer) for callback in trainer.callbacks):
            rank_zero_warn(
                "`max_epochs` was not set. Setting it to 1000 epochs. To train without an epoch limit,"
                " set `max_epochs=-1`.",
                category=PossibleUserWarning,
            )
            trainer.max_epochs = 1000
        else:
            trainer.max_epochs = -1
    if trainer.min_epochs is None:
        trainer.min_epochs = 1 if trainer.min_steps is not None else 0


def _module_of(model: Any) -> LightningModule:
    """What to run: a LightningModule, or the one inside what `torch.compile` returned.

    Raises:
        TypeError: it is neither.
    """
    if is_compiled(model):
        return from_compiled(model)
    if isinstance(model, LightningModule):
        return model
    raise TypeError(
        f"`model` must be a `LightningModule` or `torch._dynamo.OptimizedModule`, got `{type(model).__qualname__}`"
    )
