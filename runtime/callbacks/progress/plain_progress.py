"""The progress bar without any library: one line of text, written over."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from .clocked_bar import ClockedBar

if TYPE_CHECKING:
    from ...module import LightningModule
    from ...trainer import Trainer


class PlainProgressBar(ClockedBar):
    """Writes ``Epoch 3: 120/500, loss=0.123`` to stdout, ten times a second at most."""

    def __init__(self) -> None:
        super().__init__()
        self._width = 0
        self._epoch = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if monotonic() >= self._clock.next:
            self._draw(trainer, pl_module, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_enabled and trainer.batch_idx >= 0:
            self._draw(trainer, pl_module, trainer.batch_idx)
            sys.stdout.write("\n")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, batch_idx: int) -> None:
        started = monotonic()
        metrics = self.get_metrics(trainer, pl_module)
        shown = [f"{name}={_short(value)}" for name, value in metrics.items()]
        place = f"Epoch {self._epoch}: {batch_idx + 1}/{self.total_train_batches}"
        line = ", ".join([place, *shown])
        sys.stdout.write("\r" + line.ljust(self._width))
        sys.stdout.flush()
        self._width = len(line)
        self._clock.drew(started)


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
