"""Searches for hyperparameters by the Trainer's own runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .callbacks.batch_size_finder import BatchSizeFinder
from .callbacks.lr_finder import LearningRateFinder, LRFinderResult
from .errors import MisconfigurationException

if TYPE_CHECKING:
    from .callbacks import Callback
    from .datamodule import LightningDataModule
    from .module import LightningModule
    from .trainer import Trainer

Method = Literal["fit", "validate", "test", "predict"]

_METHODS = ("fit", "validate", "test", "predict")


class Tuner:
    """Finds a learning rate or a batch size with the given Trainer, and leaves the Trainer as it was."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def scale_batch_size(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        method: Method = "fit",
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> int | None:
        """Finds the largest batch size that fits the memory, and sets it.

        Args:
            model: What to run.
            train_dataloaders: For ``method="fit"``; a datamodule, too.
            val_dataloaders: For ``method="fit"``.
            dataloaders: For the other methods.
            datamodule: Gives the loaders.
            method: The Trainer's method to run.
            mode: See `BatchSizeFinder`, also for what follows.
            steps_per_trial: Steps with each size.
            init_val: Where to begin.
            max_trials: How many sizes to try.
            batch_arg_name: Where the size lives.
            margin: With "binsearch", the share to stay below what was found.
            max_val: Largest size to try.

        Returns:
            The size; None with ``fast_dev_run``.
        """
        _check_loaders(train_dataloaders, val_dataloaders, dataloaders, method)
        if self._trainer.world_size > 1:
            raise ValueError("Tuning the batch size is currently not supported with distributed strategies.")
        finder = BatchSizeFinder(
            mode, steps_per_trial, init_val, max_trials, batch_arg_name, margin=margin, max_val=max_val
        )
        self._run(finder, method, model, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        return finder.optimal_batch_size

    def lr_find(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        method: Method = "fit",
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> LRFinderResult | None:
        """Finds a good first learning rate, and sets it.

        Args:
            model: What to run.
            train_dataloaders: Loaders, or a datamodule.
            val_dataloaders: Loaders.
            dataloaders: Must be None.
            datamodule: Gives the loaders.
            method: Must be "fit".
            min_lr: See `LearningRateFinder`, also for what follows.
            max_lr: Where to end.
            num_training: In how many steps.
            mode: "exponential" or "linear".
            early_stop_threshold: Ends the search when the loss is this many times the best.
            update_attr: Sets the learning rate.
            attr_name: Its name.

        Returns:
            The values, with ``suggestion()`` and ``plot()``; None with ``fast_dev_run``.
        """
        if method != "fit":
            raise MisconfigurationException("method='fit' is the only valid configuration to run lr finder.")
        _check_loaders(train_dataloaders, val_dataloaders, dataloaders, method)
        finder = LearningRateFinder(min_lr, max_lr, num_training, mode, early_stop_threshold, update_attr, attr_name)
        self._run(finder, method, model, train_dataloaders, val_dataloaders, dataloaders, datamodule)
        return finder.optimal_lr

    def _run(
        self,
        finder: LearningRateFinder | BatchSizeFinder,
        method: Method,
        model: LightningModule,
        train_dataloaders: Any,
        val_dataloaders: Any,
        dataloaders: Any,
        datamodule: LightningDataModule | None,
    ) -> None:
        trainer, kind = self._trainer, type(finder)
        if any(isinstance(callback, kind) for callback in trainer.callbacks):
            raise ValueError(
                f"Trainer is already configured with a `{kind.__name__}` callback."
                "Please remove it if you want to use the Tuner."
            )
        finder._early_exit = True
        callbacks: list[Callback] = trainer.callbacks
        trainer.callbacks = [finder, *callbacks]
        try:
            if method == "fit":
                trainer.fit(model, train_dataloaders, val_dataloaders, datamodule)
            else:
                getattr(trainer, method)(model, dataloaders, datamodule=datamodule)
        finally:
            trainer.callbacks = [callback for callback in trainer.callbacks if callback is not finder]


def _check_loaders(train_dataloaders: Any, val_dataloaders: Any, dataloaders: Any, method: str) -> None:
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is invalid. Should be one of {_METHODS}.")
    if method == "fit" and dataloaders is not None:
        raise MisconfigurationException(
            f"In tuner with method={method!r}, `dataloaders` argument should be None,"
            " please consider setting `train_dataloaders` and `val_dataloaders` instead."
        )
    if method != "fit" and (train_dataloaders is not None or val_dataloaders is not None):
        raise MisconfigurationException(
            f"In tuner with `method`={method!r}, `train_dataloaders` and `val_dataloaders`"
            " arguments should be None, please consider setting `dataloaders` instead."
        )
