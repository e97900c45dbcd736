"""What a module must have for a call, and what it must not combine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .callbacks.base import Callback
from .data import TRANSFER_HOOKS, no_loader
from .datamodule import LightningDataModule
from .errors import MisconfigurationException, PossibleUserWarning, rank_zero_deprecation, rank_zero_warn
from .hooks import is_overridden, warn_of_near_misses
from .module import LightningModule
from .state import TrainerFn

if TYPE_CHECKING:
    from .trainer import Trainer


def check_module(trainer: Trainer) -> None:
    """Refuses modules that this call cannot run.

    Raises:
        MisconfigurationException: says which method is missing, or which argument contradicts the module.
    """
    module, fn = trainer.lightning_module, trainer.state.fn
    has = {
        name: is_overridden(name, module, LightningModule)
        for name in ("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers")
    }
    warn_of_near_misses(module, LightningModule)
    if trainer.datamodule is not None:
        warn_of_near_misses(trainer.datamodule, LightningDataModule)
    for callback in trainer.callbacks:
        warn_of_near_misses(callback, Callback)
    if fn is TrainerFn.FITTING:
        for name in ("training_step", "configure_optimizers"):
            if not has[name]:
                raise MisconfigurationException(
                    f"No `{name}()` method defined. Lightning `Trainer` expects as minimum a"
                    " `training_step()`, `train_dataloader()` and `configure_optimizers()` to be defined."
                )
        has_loader = trainer._data.has("val")
        if has_loader and not has["validation_step"]:
            rank_zero_warn("You passed in a `val_dataloader` but have no `validation_step`. Skipping val loop.")
        if has["validation_step"] and not has_loader:
            rank_zero_warn(
                "You defined a `validation_step` but have no `val_dataloader`. Skipping val loop.",
                category=PossibleUserWarning,
            )
        _check_manual(trainer)
    elif fn is TrainerFn.PREDICTING:
        if module.predict_step is None:
            raise MisconfigurationException("`predict_step` cannot be None to run `Trainer.predict`")
        if not has["predict_step"] and not is_overridden("forward", module, LightningModule):
            raise MisconfigurationException("`Trainer.predict` requires `forward` method to run.")
    else:
        step, method = ("validation_step", "validate") if fn is TrainerFn.VALIDATING else ("test_step", "test")
        if not has[step]:
            raise MisconfigurationException(f"No `{step}()` method defined to run `Trainer.{method}`.")
    prefixes = {TrainerFn.FITTING: "train", TrainerFn.VALIDATING: "val", TrainerFn.TESTING: "test"}
    prefix = prefixes.get(fn, "predict")  # type: ignore[arg-type]
    if not trainer._data.has(prefix):
        raise no_loader(trainer, prefix)
    _check_model_hooks(module)
    _say_whose_transfer(trainer)


def _say_whose_transfer(trainer: Trainer) -> None:
    """Warns where it is not plain who handles a batch's way to the device."""
    if trainer.datamodule is None:
        return
    for name in TRANSFER_HOOKS:
        if not is_overridden(name, trainer.lightning_module, LightningModule):
            continue
        if is_overridden(name, trainer.datamodule, LightningDataModule):
            place, used = "in both `LightningModule` and `LightningDataModule`.", "LightningDataModule"
        else:
            place, used = "in `LightningModule` but have passed in a `LightningDataModule`.", "LightningModule"
        rank_zero_warn(f"You have overridden `{name}` {place} It will use the implementation from `{used}` instance.")


def _check_model_hooks(module: LightningModule) -> None:
    name = type(module).__name__
    if type(module).configure_sharded_model is LightningModule.configure_sharded_model:
        return
    if type(module).configure_model is not LightningModule.configure_model:
        raise RuntimeError(
            f"Both `{name}.configure_model`, and `{name}.configure_sharded_model` are overridden. The latter is"
            " deprecated and it should be replaced with the former."
        )
    rank_zero_deprecation(
        f"You have overridden `{name}.configure_sharded_model` which is deprecated."
        " Please override the `configure_model` hook instead."
    )


def _check_manual(trainer: Trainer) -> None:
    if trainer.lightning_module.automatic_optimization:
        return
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val > 0:
        raise MisconfigurationException(
            "Automatic gradient clipping is not supported for manual optimization."
            f" Remove `Trainer(gradient_clip_val={trainer.gradient_clip_val})` or switch to automatic optimization."
        )
    if trainer.accumulate_grad_batches != 1:
        raise MisconfigurationException(
            "Automatic gradient accumulation is not supported for manual optimization."
            f" Remove `Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches})`"
            " or switch to automatic optimization."
        )


def warn_of_eval_mode(module: LightningModule) -> None:
    """Says that parts of the module will train as they evaluate."""
    in_eval = [part for part in module.modules() if not part.training]
    if in_eval:
        rank_zero_warn(
            f"Found {len(in_eval)} module(s) in eval mode at the start of training."
            " This may lead to unexpected behavior during training. If this is intentional,"
            " you can ignore this warning.",
            category=PossibleUserWarning,
        )
