"""Attributes and methods that Trainers of 1.x had."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..tuner import Tuner
from .arguments import modern_loaders
from .said import instead


def old_attribute(trainer: Any, name: str) -> Any:
    """An attribute of 1.x Trainers.

    Raises:
        AttributeError: it never existed, or has no meaning any more.
    """
    if name not in ATTRIBUTES:
        raise AttributeError(f"'{type(trainer).__name__}' object has no attribute '{name}'")
    successor, read = ATTRIBUTES[name]
    instead(f"trainer.{name}", successor)
    return read(trainer)


def _never(trainer: Any) -> bool:
    return False


def _uses_gpu(trainer: Any) -> bool:
    kind: str = trainer.strategy.root_device.type
    return kind == "cuda"


def _num_gpus(trainer: Any) -> int:
    return trainer.num_devices if _uses_gpu(trainer) else 0


def _is_mixed(trainer: Any) -> bool:
    return "mixed" in trainer.precision


def _tune(
    trainer: Any,
    model: Any,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    scale_batch_size_kwargs: dict[str, Any] | None = None,
    lr_find_kwargs: dict[str, Any] | None = None,
    **older: Any,
) -> dict[str, Any]:
    """The searches that `auto_scale_batch_size` and `auto_lr_find` ask for, in this order."""
    train, val = modern_loaders(older, train_dataloaders=train_dataloaders, val_dataloaders=val_dataloaders)
    tuner = Tuner(trainer)
    found: dict[str, Any] = {}
    data: dict[str, Any] = {"train_dataloaders": train, "val_dataloaders": val, "datamodule": datamodule}
    mode = trainer._older.get("_auto_scale_batch_size")
    if mode:
        mode = mode if isinstance(mode, str) else "power"
        found["scale_batch_size"] = tuner.scale_batch_size(model, **data, mode=mode, **(scale_batch_size_kwargs or {}))
    attribute = trainer._older.get("_auto_lr_find")
    if attribute:
        name = attribute if isinstance(attribute, str) else ""
        found["lr_find"] = tuner.lr_find(model, **data, attr_name=name, **(lr_find_kwargs or {}))
    return found


# What to write today, and the value.
ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "use_amp": ("`trainer.precision`", _is_mixed),
    "use_native_amp": ("`trainer.precision`", _is_mixed),
    "use_ddp": ("`trainer.strategy`", lambda trainer: type(trainer.strategy).__name__ == "DDPStrategy"),
    "use_ddp2": ("`trainer.strategy`", _never),
    "use_dp": ("`trainer.strategy`", _never),
    "use_horovod": ("`trainer.strategy`", _never),
    "use_tpu": ("`trainer.accelerator`", _never),
    "on_tpu": ("`trainer.accelerator`", _never),
    "use_single_gpu": ("`trainer.num_devices`", lambda trainer: _num_gpus(trainer) == 1),
    "on_gpu": ("`trainer.strategy.root_device`", _uses_gpu),
    "root_gpu": (
        "`trainer.strategy.root_device`",
        lambda trainer: trainer.strategy.root_device.index if _uses_gpu(trainer) else None,
    ),
    "num_gpus": ("`trainer.num_devices`", _num_gpus),
    "gpus": ("`trainer.num_devices`", _num_gpus),
    "num_processes": ("`trainer.num_devices`", lambda trainer: trainer.num_devices),
    "data_parallel_device_ids": (
        "`trainer.device_ids`",
        lambda trainer: trainer.device_ids if _uses_gpu(trainer) else None,
    ),
    "distributed_backend": ("`trainer.strategy`", lambda trainer: trainer.strategy.strategy_name),
    "training_type_plugin": ("`trainer.strategy`", lambda trainer: trainer.strategy),
    "get_model": ("`trainer.lightning_module`", lambda trainer: lambda: trainer.lightning_module),
    "proc_rank": ("`trainer.global_rank`", lambda trainer: trainer.global_rank),
    "running_sanity_check": ("`trainer.sanity_checking`", lambda trainer: trainer.sanity_checking),
    "early_stop_callback": ("`trainer.early_stopping_callback`", lambda trainer: trainer.early_stopping_callback),
    "progress_bar_dict": ("`trainer.progress_bar_metrics`", lambda trainer: trainer.progress_bar_metrics),
    "lr_schedulers": (
        "`trainer.lr_scheduler_configs`",
        lambda trainer: [vars(config) for config in trainer.lr_scheduler_configs],
    ),
    "tune": (
        "`Tuner(trainer)` with its `lr_find` and `scale_batch_size`",
        lambda trainer: functools.partial(_tune, trainer),
    ),
}
