"""The columns of rich's progress bar. Importing this file needs rich."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.progress import ProgressColumn, Task
from rich.style import Style
from rich.text import Text


class BatchesProcessedColumn(ProgressColumn):
    """``12/100``, or ``12/--`` when the total is not known."""

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        total = "--" if task.total is None else int(task.total)
        return Text(f"{int(task.completed)}/{total}", style=self.style)


class CustomTimeColumn(ProgressColumn):
    """Time passed and time left."""

    max_refresh = 0.5  # seconds: faster, the digits only flicker

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        passed = task.finished_time if task.finished else task.elapsed
        return Text(f"{_clock(passed)} • {_clock(task.time_remaining)}", style=self.style)


class ProcessingSpeedColumn(ProgressColumn):
    """Batches per second."""

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        speed = task.speed or task.completed / (task.elapsed or math.inf)  # drawn once, a bar knows no other speed
        return Text(f"{speed:>.2f}it/s", style=self.style)


class MetricsTextColumn(ProgressColumn):
    """The metrics, beside the bar of training only."""

    def __init__(self, style: str | Style, delimiter: str, metrics_format: str) -> None:
        self.task_id: int | None = None
        self._style = style
        self._delimiter = delimiter
        self._format = metrics_format
        self._metrics: Mapping[str, Any] = {}
        super().__init__()

    def update(self, task_id: int | None, metrics: Mapping[str, Any]) -> None:
        """Takes what to show next, and beside which bar."""
        self.task_id = task_id
        self._metrics = metrics

    def render(self, task: Task) -> Text:
        if task.id != self.task_id:
            return Text()
        texts = (f"{name}: {self._value(value)}" for name, value in self._metrics.items())
        return Text(self._delimiter.join(texts), justify="left", style=self._style)

    def _value(self, value: Any) -> str:
        if isinstance(value, (str, int)):
            return str(value)
        try:
            return f"{value:{self._format}}"
        except (TypeError, ValueError):
            return str(value)


def _clock(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))
