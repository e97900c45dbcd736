"""From the Trainer's arguments to its loggers and callbacks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

import torch

from .callbacks import (
    Callback,
    Checkpoint,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    Timer,
    default_model_summary,
    default_progress_bar,
)
from .config import TrainerConfig
from .errors import MisconfigurationException, rank_zero_info, rank_zero_warn
from .hooks import is_overridden
from .loggers import CSVLogger, DummyLogger, Logger, TensorBoardLogger


def set_torch_flags(config: TrainerConfig) -> None:
    """What `deterministic` and `benchmark` mean to torch, for the whole process."""
    deterministic, benchmark = config.deterministic, config.benchmark
    if deterministic == "warn":
        torch.use_deterministic_algorithms(True, warn_only=True)
    elif deterministic is not None:
        torch.use_deterministic_algorithms(bool(deterministic))
    if deterministic:
        # Needed by cuBLAS for reproducible results, and read when its handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if benchmark is None:
            benchmark = False
        elif benchmark:
            rank_zero_warn(
                "You passed `deterministic=True` and `benchmark=True`. Note that PyTorch ignores"
                " torch.backends.cudnn.deterministic=True when torch.backends.cudnn.benchmark=True.",
            )
    if benchmark is not None:
        torch.backends.cudnn.benchmark = benchmark


def make_loggers(config: TrainerConfig, folder: str) -> list[Logger]:
    """The loggers that are given, or the default one; nothing is written in `fast_dev_run`."""
    logger = config.logger
    loggers: list[Logger]
    if logger is False or (logger is None and config.barebones):
        loggers = []
    elif logger is None or logger is True:
        loggers = [DummyLogger() if config.fast_dev_run else _default_logger(folder)]
    else:
        loggers = list(logger) if isinstance(logger, Iterable) else [logger]
    return [DummyLogger()] if loggers and config.fast_dev_run else loggers


def make_callbacks(config: TrainerConfig) -> list[Callback]:
    """The callbacks that are given and the default ones.

    Raises:
        MisconfigurationException: a callback contradicts an argument.
    """
    given = config.callbacks
    found: list[Callback] = [given] if isinstance(given, Callback) else list(given or [])
    enabled = not config.barebones
    if any(isinstance(callback, Checkpoint) for callback in found):
        if config.enable_checkpointing is False:
            raise MisconfigurationException(
                "Trainer was configured with `enable_checkpointing=False`"
                " but found `ModelCheckpoint` in callbacks list."
            )
    elif enabled if config.enable_checkpointing is None else config.enable_checkpointing:
        found.append(ModelCheckpoint())
    if config.max_time is not None:
        if any(isinstance(callback, Timer) for callback in found):
            rank_zero_info("Ignoring `Trainer(max_time=...)`, callbacks list already contains a Timer.")
        else:
            found.append(Timer(duration=config.max_time, interval="step"))
    bars = [callback for callback in found if isinstance(callback, ProgressBar)]
    if len(bars) > 1:
        raise MisconfigurationException(
            "You added multiple progress bar callbacks to the Trainer, but currently only one"
            " progress bar is supported."
        )
    if bars and config.enable_progress_bar is False:
        raise MisconfigurationException(
            "Trainer was configured with `enable_progress_bar=False`"
            f" but found `{type(bars[0]).__name__}` in callbacks list."
        )
    if not bars and (enabled if config.enable_progress_bar is None else config.enable_progress_bar):
        found.append(default_progress_bar())
    if enabled if config.enable_model_summary is None else config.enable_model_summary:
        summaries = [type(callback) for callback in found if isinstance(callback, ModelSummary)]
        if summaries:
            rank_zero_info(
                f"Trainer already configured with model summary callbacks: {summaries}."
                " Skipping setting a default `ModelSummary` callback."
            )
        else:
            found.append(default_model_summary())
    return in_order(found)


def in_order(callbacks: list[Callback]) -> list[Callback]:
    """Tuners first, checkpoints last, the rest as given; two callbacks may not share one key in checkpoints."""
    keys = [c.state_key for c in callbacks if is_overridden("state_dict", c, Callback)]
    for callback in callbacks:
        if keys.count(callback.state_key) > 1:
            raise RuntimeError(
                f"Found more than one stateful callback of type `{type(callback).__name__}`. In the current"
                " configuration, this callback does not support being saved alongside other instances of the same"
                f" type. Please consult the documentation of `{type(callback).__name__}` regarding valid settings"
                " for the callback state to be checkpointable."
                " HINT: The `callback.state_key` must be unique among all callbacks in the Trainer."
            )
    tuners = ("BatchSizeFinder", "LearningRateFinder")

    def place(callback: Callback) -> int:
        if any(kind.__name__ in tuners for kind in type(callback).__mro__):
            return 0
        return 2 if isinstance(callback, Checkpoint) else 1

    return sorted(callbacks, key=place)


def _default_logger(folder: str) -> Logger:
    if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
        return TensorBoardLogger(save_dir=folder)
    return CSVLogger(save_dir=folder)
