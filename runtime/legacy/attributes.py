"""Attributes that Trainers of 1.x had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .said import instead


def old_attribute(trainer: Any, name: str) -> Any:
    """An attribute of 1.x Trainers.

    Raises:
        AttributeError: it never existed, or has no meaning any more.
    """
    found: dict[str, Callable[[], Any]] = {
        "use_amp": lambda: "mixed" in trainer.precision,
        "use_ddp": lambda: type(trainer.strategy).__name__ == "DDPStrategy",
        "use_ddp2": lambda: False,
        "use_dp": lambda: False,
        "use_tpu": lambda: False,
        "on_gpu": lambda: trainer.strategy.root_device.type == "cuda",
        "num_gpus": lambda: trainer.num_devices if trainer.strategy.root_device.type == "cuda" else 0,
        "proc_rank": lambda: trainer.global_rank,
        "running_sanity_check": lambda: trainer.sanity_checking,
        "early_stop_callback": lambda: trainer.early_stopping_callback,
    }
    if name not in found:
        raise AttributeError(f"'{type(trainer).__name__}' object has no attribute '{name}'")
    instead(f"trainer.{name}", "the attribute of `trainer.strategy`, `trainer.precision` or the trainer that says it")
    return found[name]()
