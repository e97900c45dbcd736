"""A progress bar that the run itself draws, by the clock; when it is off, a batch does not come by it at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import DrawClock
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ...module import LightningModule
    from ...trainer import Trainer

_BATCH_HOOKS = frozenset(f"on_{stage}_batch_end" for stage in ("train", "validation", "test", "predict"))


class ClockedBar(ProgressBar):
    """Base class of our bars: no thread gets in the way of a run, and a step costs almost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._clock = DrawClock()

    @property
    def refresh_rate(self) -> float:
        """How often it is drawn; 0 draws nothing."""
        return 1

    @property
    def is_enabled(self) -> bool:
        """Whether anything is drawn."""
        return self._enabled and self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is drawn."""
        return not self.is_enabled

    def enable(self) -> None:
        self._enabled = True
        self._clock = self._make_clock()

    def disable(self) -> None:
        self._enabled = False
        self._clock = self._make_clock()

    def _make_clock(self) -> DrawClock:
        return DrawClock(self.is_enabled)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._clock = self._make_clock()
        self.idle_hooks = frozenset() if self.is_enabled else _BATCH_HOOKS
