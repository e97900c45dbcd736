"""The Trainer's arguments, checked when made. Reads no environment and builds nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .arguments import check_kinds
from .errors import MisconfigurationException, rank_zero_info
from .optim import GradClipAlgorithmType

if TYPE_CHECKING:
    from .accelerators import Accelerator
    from .callbacks.base import Callback
    from .loggers import Logger
    from .profilers import Profiler
    from .strategies import Plugin, Strategy

Limit = int | float
Interval = str | timedelta | dict[str, int]

# What `barebones=True` turns off, and why it contradicts a value given for it.
_BAREBONES = {
    "enable_checkpointing": (None, False), "logger": (None, False), "enable_progress_bar": (None, False),
    "log_every_n_steps": (None, 0), "enable_model_summary": (None, False), "num_sanity_val_steps": (None, 0),
    "fast_dev_run": (False, 0), "detect_anomaly": (False,), "profiler": (None,),
}  # fmt: skip


@dataclass(frozen=True)
class TrainerConfig:
    """Every argument of `Trainer`, as given; None where a default depends on others."""

    accelerator: str | Accelerator = "auto"
    strategy: str | Strategy = "auto"
    devices: list[int] | str | int = "auto"
    num_nodes: int = 1
    precision: str | int | None = None
    logger: Logger | Iterable[Logger] | bool | None = None
    callbacks: list[Callback] | Callback | None = None
    fast_dev_run: int | bool = False
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Interval | None = None
    limit_train_batches: Limit | None = None
    limit_val_batches: Limit | None = None
    limit_test_batches: Limit | None = None
    limit_predict_batches: Limit | None = None
    overfit_batches: Limit = 0.0
    val_check_interval: Limit | Interval | None = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | None = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: Limit | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: Profiler | str | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    plugins: Plugin | list[Plugin] | None = None
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    default_root_dir: str | Path | None = None
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.barebones:
            self._check_barebones()
        if isinstance(self.fast_dev_run, int) and self.fast_dev_run < 0:
            raise MisconfigurationException(
                f"fast_dev_run={self.fast_dev_run!r} is not a valid configuration. It should be >= 0."
            )
        if isinstance(self.max_epochs, int) and self.max_epochs < -1:
            raise MisconfigurationException(
                f"`max_epochs` must be a non-negative integer or -1. You passed in {self.max_epochs}."
            )
        if self.max_steps < -1:
            raise MisconfigurationException(
                f"`max_steps` must be a non-negative integer or -1 (infinite steps). You passed in {self.max_steps}."
            )
        if not isinstance(self.accumulate_grad_batches, int) or self.accumulate_grad_batches < 1:
            raise MisconfigurationException(
                "`accumulate_grad_batches` must be an int of at least 1, the number of batches per optimizer step."
                f" You passed in {self.accumulate_grad_batches!r}. For a value per epoch use the"
                " `GradientAccumulationScheduler` callback."
            )
        self._check_clipping()
        self._check_validation()
        self._check_devices()

    def _check_barebones(self) -> None:
        for name, allowed in _BAREBONES.items():
            value = getattr(self, name)
            if not any(value is option or value == option for option in allowed):
                raise ValueError(
                    f"`Trainer(barebones=True, {name}={value!r})` was passed."
                    f" `{name}` can impact raw speed so it is disabled in barebones mode."
                )

    def _check_clipping(self) -> None:
        if self.gradient_clip_val is not None and not isinstance(self.gradient_clip_val, (int, float)):
            raise TypeError(f"`gradient_clip_val` should be an int or a float. Got {self.gradient_clip_val}.")
        algorithm = self.gradient_clip_algorithm
        if algorithm is not None and not GradClipAlgorithmType.supported_type(algorithm.lower()):
            raise MisconfigurationException(
                f"`gradient_clip_algorithm` {algorithm} is invalid."
                f" Allowed algorithms: {GradClipAlgorithmType.supported_types()}."
            )

    def _check_validation(self) -> None:
        every = self.check_val_every_n_epoch
        if every is not None and (not isinstance(every, int) or every < 1):
            raise MisconfigurationException(
                f"`check_val_every_n_epoch` should be an integer of at least 1, found {every!r}."
                " For no validation write `limit_val_batches=0`."
            )
        interval = self.val_check_interval
        if every is None and isinstance(interval, float):
            raise MisconfigurationException(
                "`val_check_interval` should be an integer or a time-based duration (str 'DD:HH:MM:SS', "
                "datetime.timedelta, or dict kwargs for timedelta) when `check_val_every_n_epoch=None`."
            )
        reload = self.reload_dataloaders_every_n_epochs
        if not isinstance(reload, int) or reload < 0:
            raise MisconfigurationException(f"`reload_dataloaders_every_n_epochs` should be an int >= 0, got {reload}.")

    def _check_devices(self) -> None:
        deterministic = self.deterministic
        if deterministic is not None and not isinstance(deterministic, bool) and deterministic != "warn":
            raise MisconfigurationException(
                f'`deterministic` must be True, False or "warn". You passed in {deterministic!r}.'
            )

    def limit(self, name: str) -> Limit:
        """A `limit_*_batches`, with `fast_dev_run` and `overfit_batches` applied.

        Raises:
            MisconfigurationException: it is neither a share nor a count.
        """
        fast, overfit = int(self.fast_dev_run), self.overfit_batches
        if overfit > 0 and name in ("limit_train_batches", "limit_val_batches"):
            return batch_limit(overfit, "overfit_batches", quiet=True)
        return fast or batch_limit(getattr(self, name), name)


def batch_limit(value: Limit | None, name: str, quiet: bool = False) -> Limit:
    """A share of the batches as a float in [0, 1], or their number as an int."""
    if value is None:
        return 1.0
    if value == 1 and not quiet and not isinstance(value, bool):
        what = {
            ("limit_train_batches", int): "1 batch per epoch will be used.",
            ("val_check_interval", int): "validation will run after every batch.",
            ("limit_train_batches", float): "100% of the batches per epoch will be used..",
            ("val_check_interval", float): "validation will run at the end of the training epoch..",
        }.get(
            (name, type(value)),
            "1 batch will be used." if isinstance(value, int) else "100% of the batches will be used..",
        )
        rank_zero_info(f"`Trainer({name}={value})` was configured so {what}")
    if 0 <= value <= 1:
        return value
    if value > 1 and value % 1.0 == 0:
        return int(value)
    raise MisconfigurationException(
        f"You have passed invalid value {value} for {name}, it has to be in [0.0, 1.0] or an int."
    )


def seconds_of(interval: Interval, name: str = "val_check_interval") -> float:
    """A duration in seconds, of a timedelta, its arguments as a dict, or a text DD:HH:MM:SS."""
    if isinstance(interval, timedelta):
        return interval.total_seconds()
    if isinstance(interval, dict):
        return timedelta(**interval).total_seconds()
    parts = interval.split(":")
    if len(parts) != 4:
        raise MisconfigurationException(f"Invalid time format for `{name}`: {interval!r}. Expected 'DD:HH:MM:SS'.")
    try:
        days, hours, minutes, seconds = map(int, parts)
    except ValueError:
        raise MisconfigurationException(
            f"Non-integer component in `{name}` string: {interval!r}. Use 'DD:HH:MM:SS'."
        ) from None
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
