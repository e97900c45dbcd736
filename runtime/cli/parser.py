"""jsonargparse's parser, taught the classes of a run, and the types that its arguments have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace, class_from_function  # type: ignore[attr-defined]
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..callbacks import Callback
from ..datamodule import LightningDataModule
from ..errors import MisconfigurationException
from ..module import LightningModule
from ..trainer import Trainer


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """torch's scheduler with the name of the metric it watches."""

    def __init__(self, optimizer: Optimizer, monitor: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, *args, **kwargs)
        self.monitor = monitor


ArgsType = list[str] | dict[str, Any] | Namespace | None
OptimizerCallable = Callable[[Iterable], Optimizer]
LRSchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau

_OWN_CLASSES = (Trainer, LightningModule, LightningDataModule, Callback)
AUTOMATIC = "AUTOMATIC"

Classes = type | tuple[type, ...]


class LightningArgumentParser(ArgumentParser):
    """jsonargparse's parser, which knows modules, data modules, callbacks, optimizers and schedulers."""

    def __init__(
        self,
        *args: Any,
        description: str = "Lightning Trainer command line tool",
        env_prefix: str = "PL",
        default_env: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, description=description, env_prefix=env_prefix, default_env=default_env, **kwargs)
        self.callback_keys: list[str] = []
        self._optimizers: dict[str, tuple[Classes, str]] = {}
        self._lr_schedulers: dict[str, tuple[Classes, str]] = {}

    def add_lightning_class_args(
        self,
        lightning_class: Callable[..., Any],
        nested_key: str,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Adds a class's arguments under a key and returns their names.

        Args:
            lightning_class: A Trainer, module, data module or callback class, or a function returning one of these.
            nested_key: The key.
            subclass_mode: Lets the user choose a subclass by its name.
            required: Whether the class must be given.
        """
        cls = lightning_class if isinstance(lightning_class, type) else class_from_function(lightning_class)
        if not issubclass(cls, _OWN_CLASSES):
            raise MisconfigurationException(
                f"Cannot add arguments from: {lightning_class}. You should provide either a callable or a subclass of: "
                "Trainer, LightningModule, LightningDataModule, or Callback."
            )
        if issubclass(cls, Callback):
            self.callback_keys.append(nested_key)
        if subclass_mode:
            return self.add_subclass_arguments(cls, nested_key, fail_untyped=False, required=required)
        made_by_parser = not issubclass(cls, Trainer)
        return self.add_class_arguments(
            cls, nested_key, fail_untyped=False, instantiate=made_by_parser, sub_configs=True
        )

    def add_optimizer_args(
        self, optimizer_class: Classes = (Optimizer,), nested_key: str = "optimizer", link_to: str = AUTOMATIC
    ) -> None:
        """Adds an optimizer's arguments, but for ``params``.

        Args:
            optimizer_class: The class; a tuple lets the user choose a subclass.
            nested_key: The key.
            link_to: The argument that gets it; by default it becomes ``configure_optimizers``.
        """
        self._add_deferred(optimizer_class, nested_key, "params")
        self._optimizers[nested_key] = (optimizer_class, link_to)

    def add_lr_scheduler_args(
        self,
        lr_scheduler_class: Classes = LRSchedulerTypeTuple,
        nested_key: str = "lr_scheduler",
        link_to: str = AUTOMATIC,
    ) -> None:
        """Adds a scheduler's arguments, but for ``optimizer``; see `add_optimizer_args`."""
        self._add_deferred(lr_scheduler_class, nested_key, "optimizer")
        self._lr_schedulers[nested_key] = (lr_scheduler_class, link_to)

    def _add_deferred(self, cls: Classes, nested_key: str, skip: str) -> None:
        if isinstance(cls, tuple):
            self.add_subclass_arguments(
                cls, nested_key, instantiate=False, fail_untyped=False, skip={skip}, required=False
            )
        else:
            self.add_class_arguments(
                cls, nested_key, instantiate=False, fail_untyped=False, skip={skip}, sub_configs=True
            )
