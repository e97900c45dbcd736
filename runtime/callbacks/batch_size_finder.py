"""Looks for the largest batch size that the memory holds."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from ..attributes import lightning_hasattr, lightning_setattr
from ..data import request
from ..errors import MisconfigurationException, TunerExit, rank_zero_info, rank_zero_warn
from ..state import TrainerFn
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

log = logging.getLogger(__name__)

_OUT_OF_MEMORY = (
    "out of memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)


class BatchSizeFinder(Callback):
    """Runs a few steps with growing batch sizes when a run starts, and sets the largest that fits.

    The loaders must come from the module or the datamodule, which reads the batch size when asked for them.

    Args:
        mode: "power" doubles until the memory is full; "binsearch" then searches between the last two.
        steps_per_trial: Steps with each size.
        init_val: Where to begin.
        max_trials: How many sizes to try.
        batch_arg_name: Where the size lives: an attribute of the module, its hparams or the datamodule.
        margin: With "binsearch", the share to stay below what was found.
        max_val: Largest size to try.
    """

    SUPPORTED_MODES = ("power", "binsearch")

    def __init__(
        self,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        if mode.lower() not in self.SUPPORTED_MODES:
            raise ValueError(f"`mode` should be either of {self.SUPPORTED_MODES}")
        assert 0.0 <= margin < 1.0, f"`margin` should be between 0 and 1. Found {margin=}"
        self.optimal_batch_size: int | None = init_val
        self._mode = mode.lower()
        self._steps_per_trial = steps_per_trial
        self._init_val = init_val
        self._max_trials = max_trials
        self._batch_arg_name = batch_arg_name
        self._margin = margin
        self._max_val = max_val
        self._early_exit = False  # set by the Tuner: the run ends with the search

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str | None = None) -> None:
        if trainer.world_size > 1:
            raise MisconfigurationException("The Batch size finder is not supported with distributed strategies.")
        if any(loader is not None for loader in trainer._data.passed.values()):
            raise MisconfigurationException(
                "The Batch size finder cannot be used with dataloaders passed directly to `.fit()`. Please disable"
                " the feature or incorporate the dataloader into your LightningModule or LightningDataModule."
            )
        running = trainer.state.stage
        if stage != "fit" and running is not None and len(tree_leaves(request(trainer, running))) > 1:
            raise MisconfigurationException(
                f"The Batch size finder cannot be used with multiple {running.dataloader_prefix} dataloaders."
            )
        self._check_attribute(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scale_batch_size(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.scale_batch_size(trainer, pl_module)

    def scale_batch_size(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the search now; ``optimal_batch_size`` is its result."""
        if trainer.fast_dev_run:
            rank_zero_warn("Skipping batch size scaler since `fast_dev_run` is enabled.")
            self.optimal_batch_size = None
        else:
            self.optimal_batch_size = self._search(trainer, pl_module)
            log.info(
                f"Finished batch size finder, will continue with full run using batch size {self.optimal_batch_size}"
            )
        if self._early_exit:
            raise TunerExit

    def _check_attribute(self, pl_module: LightningModule) -> None:
        name = self._batch_arg_name
        if not lightning_hasattr(pl_module, name):
            raise MisconfigurationException(
                f"Field {name} not found in `model`, `datamodule`, nor their `hparams` attributes."
            )
        if hasattr(pl_module, name) and name in getattr(pl_module, "hparams", {}):
            rank_zero_warn(
                f"Field `model.{name}` and `model.hparams.{name}` are mutually"
                f" exclusive! `model.{name}` will be used as the initial batch size for scaling."
                " If this is not the intended behavior, please remove either one."
            )

    def _search(self, trainer: Trainer, module: LightningModule) -> int:
        steps = self._steps_per_trial
        limits = {
            "max_steps": steps,
            "limit_train_batches": 1.0,
            "limit_val_batches": steps,
            "limit_test_batches": steps,
            "limit_predict_batches": steps,
        }
        with trainer._trial([], reloads=True, **limits) as run:

            def fits_memory(size: int) -> bool:
                lightning_setattr(module, self._batch_arg_name, size)
                return _fits_memory(run)

            search = power_search if self._mode == "power" else binary_search
            size = search(
                fits_memory, lambda size: _fits_data(trainer, size), self._init_val, self._max_trials, self._max_val
            )
            if self._mode == "binsearch":
                size = self._with_margin(size)
            lightning_setattr(module, self._batch_arg_name, size)
        return size

    def _with_margin(self, size: int) -> int:
        reduced = max(1, int(size * (1 - self._margin)))
        if reduced != size:
            rank_zero_info(f"Applying margin of {self._margin:.1%}, reducing batch size from {size} to {reduced}")
        return reduced


def _fits_data(trainer: Trainer, size: int) -> bool:
    lengths = [length for length in map(_length, _loaders(trainer)) if length is not None]
    if not lengths or size < max(lengths):
        return True
    rank_zero_info(f"The batch size {size} is greater or equal than the length of your dataset: {max(lengths)}.")
    return False


def _loaders(trainer: Trainer) -> list[Any]:
    """The loaders of the run in progress, out of any collection."""
    given = {
        TrainerFn.FITTING: "train_dataloader",
        TrainerFn.VALIDATING: "val_dataloaders",
        TrainerFn.TESTING: "test_dataloaders",
        TrainerFn.PREDICTING: "predict_dataloaders",
    }
    assert trainer.state.fn is not None
    return tree_leaves(getattr(trainer, given[trainer.state.fn]))


def power_search(
    fits_memory: Callable[[int], bool], fits_data: Callable[[int], bool], size: int, max_trials: int, max_val: int
) -> int:
    """Doubles ``size`` until the memory, the data, ``max_val`` or the trials end it; halves it while nothing fits."""
    has_fitted = False
    for number in range(1, max_trials + 1):
        if fits_memory(size):
            has_fitted = True
            if number == max_trials or not _may_grow(size, fits_data, max_val):
                return size
            size = _next(size, min(2 * size, max_val), "succeeded")
        else:
            size = _next(size, _smaller(size, size // 2), "failed")
            if has_fitted:
                return size
    return size


def binary_search(
    fits_memory: Callable[[int], bool], fits_data: Callable[[int], bool], size: int, max_trials: int, max_val: int
) -> int:
    """Doubles ``size`` until the memory is full, then halves the interval; ``max_trials`` counts the sizes that fit."""
    low, high, fitted = 0, 0, 0  # the largest that fits, the smallest that does not (0: none yet), how many fit
    while max_trials:
        if fits_memory(size):
            fitted += 1
            low = size
            if fitted == max_trials or (high and high - low <= 1) or not _may_grow(size, fits_data, max_val):
                return size
            size = _next(size, (low + high) // 2 if high else min(2 * size, max_val), "succeeded")
        else:
            high = size
            size = _next(size, _smaller(size, (low + high) // 2), "failed")
            if low and high - low <= 1:
                return size
    return size


def _may_grow(size: int, fits_data: Callable[[int], bool], max_val: int) -> bool:
    if not fits_data(size):
        return False
    if size >= max_val:
        rank_zero_info(f"Reached the maximum batch size limit of {max_val}. Stopping search.")
        return False
    return True


def _smaller(size: int, wanted: int) -> int:
    if size <= 1:
        raise RuntimeError("The Batch size finder: not even a batch of one sample fits the memory.")
    return max(1, wanted)


def _next(size: int, new_size: int, outcome: str) -> int:
    rank_zero_info(f"Batch size {size} {outcome}, trying batch size {new_size}")
    return new_size


def _fits_memory(run: Callable[[], None]) -> bool:
    try:
        run()
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
        fits = False
    else:
        fits = True
    if not fits or torch.cuda.is_available():  # collecting takes longer than a small trial: only where it can matter
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fits


def is_oom_error(error: BaseException) -> bool:
    """Whether the device, or this machine, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def _length(loader: Any) -> int | None:
    dataset = getattr(loader, "dataset", None)
    try:
        return len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None
