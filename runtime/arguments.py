"""What kind of value each argument of the Trainer takes: a table, and the words for a value that is of no such kind."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .errors import MisconfigurationException

if TYPE_CHECKING:
    from .config import TrainerConfig

# Whole numbers, with what to write for "no limit".
COUNTS = {
    "max_epochs": "-1 for no limit",
    "min_epochs": "None for no limit",
    "max_steps": "-1 for no limit",
    "min_steps": "None for no limit",
    "log_every_n_steps": "0 for never",
    "num_sanity_val_steps": "0 for none, -1 for all batches",
}
NOT_NEGATIVE = ("log_every_n_steps",)
SHARES = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
)
SWITCHES = (
    "barebones",
    "benchmark",
    "detect_anomaly",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "inference_mode",
    "sync_batchnorm",
    "use_distributed_sampler",
)


def check_kinds(config: TrainerConfig) -> None:
    """Refuses values that would fail later and elsewhere, or be taken for something else.

    Raises:
        MisconfigurationException: an argument is of no kind that it can be.
    """
    for name, hint in COUNTS.items():
        value = getattr(config, name)
        if value is None and name != "max_steps":
            continue
        every = name == "num_sanity_val_steps" and value == float("inf")
        if not (every or _is_whole(value)) or (name in NOT_NEGATIVE and value < 0):
            raise _wrong(name, value, f"an int ({hint})")
    if config.num_sanity_val_steps is not None and config.num_sanity_val_steps < -1:
        raise _wrong("num_sanity_val_steps", config.num_sanity_val_steps, f"an int ({COUNTS['num_sanity_val_steps']})")
    if not isinstance(config.fast_dev_run, numbers.Integral):
        raise _wrong("fast_dev_run", config.fast_dev_run, "True, False, or a number of batches")
    for name in SHARES:
        value = getattr(config, name)
        if value is not None and not isinstance(value, numbers.Real):
            raise _wrong(name, value, "a share of the batches as a float, or their number as an int")
    for name in SWITCHES:
        value = getattr(config, name)
        if value is not None and value not in (True, False):
            raise _wrong(name, value, "True or False")
    _check_objects(config)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Real) and float(value).is_integer()  # 1e6 is a number of steps, too


def _check_objects(config: TrainerConfig) -> None:
    logger, callbacks = config.logger, config.callbacks
    for one in logger if isinstance(logger, (list, tuple)) else (logger,):
        # An iterator is not read here: what it yields comes once.
        if one is not None and not isinstance(one, (bool, Iterator)) and not hasattr(one, "log_metrics"):
            raise _wrong("logger", one, "True, False, a `Logger`, or a list of such")
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else (callbacks,):
        if callback is not None and not hasattr(callback, "state_key"):
            raise _wrong("callbacks", callback, "a `Callback`, or a list of such; derive yours from `Callback`")
    if isinstance(config.gradient_clip_val, (int, float)) and config.gradient_clip_val < 0:
        raise _wrong("gradient_clip_val", config.gradient_clip_val, "the largest norm or value, None for no clipping")
    if config.gradient_clip_algorithm is not None and not isinstance(config.gradient_clip_algorithm, str):
        raise _wrong("gradient_clip_algorithm", config.gradient_clip_algorithm, '"norm" or "value"')
    if config.default_root_dir is not None and not isinstance(config.default_root_dir, (str, os.PathLike)):
        raise _wrong("default_root_dir", config.default_root_dir, "a path")
    for name, interval in (("max_time", config.max_time), ("val_check_interval", config.val_check_interval)):
        plain = interval is None or isinstance(interval, (str, timedelta))
        if not plain and not (name == "val_check_interval" and isinstance(interval, numbers.Real)):
            _check_duration(name, interval)


def _check_duration(name: str, interval: Any) -> None:
    wanted = 'a text "DD:HH:MM:SS", a timedelta, or its arguments as a dict'
    if name == "val_check_interval":
        wanted = f"a share of an epoch as a float, a number of batches as an int, {wanted}"
    try:
        timedelta(**interval)
    except TypeError:
        raise _wrong(name, interval, wanted) from None


def _wrong(name: str, value: object, wanted: str) -> MisconfigurationException:
    return MisconfigurationException(f"`Trainer({name}={value!r})` is not possible. Write {wanted}.")
