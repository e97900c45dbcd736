"""When the learning rate schedulers of a run are stepped: per batch or per epoch, some with a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MisconfigurationException, rank_zero_warn
from .optim import LRSchedulerConfig

if TYPE_CHECKING:
    from .trainer import Trainer


class Schedulers:
    """The schedulers that the Trainer steps; none in manual optimization.

    Attributes:
        per_step: whether one is stepped after batches without a metric.
        plateau_per_step: whether one is stepped after batches with the metric that it monitors.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.module, self.state = trainer, trainer.lightning_module, trainer.run
        self.per_step = self.plateau_per_step = False

    def bind(self) -> None:
        """Finds out what the epoch that begins has to step after its batches; a callback may have made it anew."""
        configs = self.trainer.lr_scheduler_configs if self.module.automatic_optimization else []
        self.per_step = any(c.interval == "step" and not c.reduce_on_plateau for c in configs)
        self.plateau_per_step = any(c.interval == "step" and c.reduce_on_plateau for c in configs)

    def update(self, interval: str) -> None:
        """Steps the schedulers of an interval that need no metric."""
        for config in self._due(interval, on_plateau=False):
            self._step(config, None)

    def update_plateau(self, interval: str) -> None:
        """Steps the schedulers of an interval with the metric that they monitor."""
        for config in self._due(interval, on_plateau=True):
            metrics = self.trainer.callback_metrics
            metric = metrics.get(config.monitor or "")
            if metric is not None:
                self._step(config, metric)
            elif config.strict:
                raise MisconfigurationException(
                    f"ReduceLROnPlateau conditioned on metric {config.monitor}"
                    f" which is not available. Available metrics are: {list(metrics)}."
                    " Condition can be set using `monitor` key in lr scheduler dict"
                )
            else:
                rank_zero_warn(
                    f"ReduceLROnPlateau conditioned on metric {config.monitor}"
                    " which is not available but strict is set to `False`. Skipping learning rate update.",
                    category=RuntimeWarning,
                )

    def _due(self, interval: str, on_plateau: bool) -> list[LRSchedulerConfig]:
        if not self.module.automatic_optimization:
            return []
        count = (self.state.batch_idx if interval == "step" else self.state.epoch) + 1
        return [
            config
            for config in self.trainer.lr_scheduler_configs
            if config.interval == interval and config.reduce_on_plateau == on_plateau and count % config.frequency == 0
        ]

    def _step(self, config: LRSchedulerConfig, metric: Any) -> None:
        before, self.state.hook = self.state.hook, "lr_scheduler_step"
        self.module.lr_scheduler_step(config.scheduler, metric)
        self.state.hook = before
