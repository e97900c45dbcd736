"""Logs learning rates, and momentum and weight decay if asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.optim import Optimizer

from ..errors import MisconfigurationException, rank_zero_warn
from ..logged import is_due
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimizer, the name of each of its parameter groups, and when its scheduler steps (None without one)."""

    optimizer: Optimizer
    names: tuple[str, ...]
    interval: str | None


class LearningRateMonitor(Callback):
    """Logs each parameter group's learning rate as ``lr-<optimizer>[-<count>][/<group>]``.

    A scheduler's ``name`` and a group's ``name`` replace the generated ones.

    Args:
        logging_interval: "step", "epoch", or None: as each scheduler steps.
        log_momentum: Logs ``<name>-momentum`` too: momentum, or the first beta.
        log_weight_decay: Logs ``<name>-weight_decay`` too.
    """

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise MisconfigurationException("logging_interval should be `step` or `epoch` or `None`.")
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self.last_momentum_values: dict[str, Any] = {}
        self.last_weight_decay_values: dict[str, Any] = {}
        unused = {"epoch": "on_train_batch_start", "step": "on_train_epoch_start"}
        if logging_interval is not None:
            self.idle_hooks = frozenset({unused[logging_interval]})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.loggers:
            raise MisconfigurationException(
                "Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger."
            )
        optimizers = named_optimizers(trainer.lr_scheduler_configs, trainer.optimizers)
        if self.log_momentum and any(not {"momentum", "betas"} & set(o.optimizer.defaults) for o in optimizers):
            rank_zero_warn(
                "You have set log_momentum=True, but some optimizers do not"
                " have momentum. This will log a value 0 for the momentum.",
                category=RuntimeWarning,
            )
        names = [name for optimizer in optimizers for name in optimizer.names]
        self.lrs = {name: [] for name in names}
        self.last_momentum_values = {f"{name}-momentum": None for name in names}
        self.last_weight_decay_values = {f"{name}-weight_decay": None for name in names}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if is_due(trainer, batch_idx):
            self._log(trainer, "step")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, "epoch")

    def _log(self, trainer: Trainer, interval: str) -> None:
        if self.logging_interval not in (None, interval):
            return
        stats: dict[str, float] = {}
        for optimizer in named_optimizers(trainer.lr_scheduler_configs, trainer.optimizers):
            self._rename_first_group(optimizer.names)
            if self.logging_interval is not None or optimizer.interval in (None, interval):
                stats.update(self._read(optimizer))
        if not stats:
            return
        device = trainer.strategy.root_device
        trainer.callback_metrics.update({name: torch.tensor(value, device=device) for name, value in stats.items()})
        for logger in trainer.loggers:
            logger.log_metrics(stats, step=trainer.run.logged_steps)

    def _rename_first_group(self, names: Sequence[str]) -> None:
        # an optimizer that got a second group: the first one's values go on under its new name
        for name in names:
            if name not in self.lrs:
                self.lrs[name] = self.lrs.pop(name.removesuffix("/pg1"), []) if name.endswith("/pg1") else []

    def _read(self, named: NamedOptimizer) -> dict[str, float]:
        stats: dict[str, float] = {}
        for group, name in zip(named.optimizer.param_groups, named.names):
            stats[name] = group["lr"]
            self.lrs[name].append(group["lr"])
            if self.log_momentum:
                value = group["betas"][0] if "betas" in named.optimizer.defaults else group.get("momentum", 0)
                stats[f"{name}-momentum"] = self.last_momentum_values[f"{name}-momentum"] = value
            if self.log_weight_decay:
                value = group["weight_decay"]
                stats[f"{name}-weight_decay"] = self.last_weight_decay_values[f"{name}-weight_decay"] = value
        return stats


def named_optimizers(configs: Sequence[Any], optimizers: Sequence[Any]) -> list[NamedOptimizer]:
    """Names the groups of all optimizers: those with a scheduler first, by scheduler, then the others.

    Raises:
        MisconfigurationException: Two groups of one optimizer have the same name.
    """
    same_class: Counter[type] = Counter()
    result: list[NamedOptimizer] = []
    for config in configs:
        optimizer = config.scheduler.optimizer
        same_class[type(optimizer)] += config.name is None
        names = _group_names(optimizer, config.name, same_class)
        result.append(NamedOptimizer(optimizer, names, config.interval))
    scheduled = {id(named.optimizer) for named in result}
    for wrapped in optimizers:
        optimizer = getattr(wrapped, "optimizer", wrapped)
        if id(optimizer) not in scheduled:
            same_class[type(optimizer)] += 1
            result.append(NamedOptimizer(optimizer, _group_names(optimizer, None, same_class), None))
    return result


def _group_names(optimizer: Optimizer, given: str | None, same_class: Counter[type]) -> tuple[str, ...]:
    base = given or f"lr-{type(optimizer).__name__}"
    groups = optimizer.param_groups
    own = [group.get("name", f"pg{number}") for number, group in enumerate(groups, start=1)]
    duplicates = {name for name, count in Counter(own).items() if count > 1}
    if duplicates:
        raise MisconfigurationException(
            "A single `Optimizer` cannot have multiple parameter groups with identical "
            f"`name` values. {base} has duplicated parameter group names {duplicates}"
        )
    if same_class[type(optimizer)] > 1:
        base = f"{base}-{same_class[type(optimizer)] - 1}"
    if len(groups) == 1 and "name" not in groups[0]:
        return (base,)
    return tuple(f"{base}/{name}" for name in own)
