"""The progress bar by rich."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...randomness import isolate_rng
from .clock import DrawClock
from .clocked_bar import ClockedBar

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.style import Style

    from ...module import LightningModule
    from ...trainer import Trainer
    from .rich_columns import MetricsTextColumn


@dataclass
class RichProgressBarTheme:
    """Styles of the parts of the bar, as rich names them.

    Attributes:
        description: "Epoch 3/9", "Testing", ...
        progress_bar: The bar while it grows.
        progress_bar_finished: The bar when it is full.
        progress_bar_pulse: The bar when its length is not known.
        batch_progress: "12/100".
        time: Time passed and left.
        processing_speed: Batches per second.
        metrics: Names and values.
        metrics_text_delimiter: What stands between two metrics.
        metrics_format: Format of the values.
    """

    description: str | Style = ""
    progress_bar: str | Style = "#6206E0"
    progress_bar_finished: str | Style = "#6206E0"
    progress_bar_pulse: str | Style = "#6206E0"
    batch_progress: str | Style = ""
    time: str | Style = "dim"
    processing_speed: str | Style = "dim underline"
    metrics: str | Style = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"


class RichProgressBar(ClockedBar):
    """Shows a bar for each of sanity check, training, validation, testing and prediction.

    Args:
        refresh_rate: Draws per second, at most; more than ten are never made. 0 draws nothing.
        leave: Leaves each epoch's bar in the terminal.
        theme: The styles.
        console_kwargs: For rich's ``Console``.
    """

    def __init__(
        self,
        refresh_rate: float = 100,
        leave: bool = False,
        theme: RichProgressBarTheme | None = None,
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if find_spec("rich") is None:
            raise ModuleNotFoundError("`RichProgressBar` requires `rich` >= 10.2.2. Install it: pip install -U rich")
        super().__init__()
        self._refresh_rate = refresh_rate
        self._leave = leave
        self._console_kwargs = console_kwargs or {}
        self.theme = theme or RichProgressBarTheme()
        self.progress: Progress | None = None
        self._progress_stopped = False
        self._metric_component: MetricsTextColumn | None = None
        self._epoch_end_is_shown = True
        self._reset_progress_bar_ids()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "progress": None, "_metric_component": None}  # they hold locks

    def _reset_progress_bar_ids(self) -> None:
        self.train_progress_bar_id: TaskID | None = None
        self.val_sanity_progress_bar_id: TaskID | None = None
        self.val_progress_bar_id: TaskID | None = None
        self.test_progress_bar_id: TaskID | None = None
        self.predict_progress_bar_id: TaskID | None = None

    @property
    def refresh_rate(self) -> float:
        """Draws per second, at most."""
        return self._refresh_rate

    def _task(self, task_id: TaskID | None) -> Task:
        assert self.progress is not None and task_id is not None
        return self.progress.tasks[task_id]

    @property
    def train_progress_bar(self) -> Task:
        """The bar of training."""
        return self._task(self.train_progress_bar_id)

    @property
    def val_sanity_check_bar(self) -> Task:
        """The bar of the sanity check."""
        return self._task(self.val_sanity_progress_bar_id)

    @property
    def val_progress_bar(self) -> Task:
        """The bar of validation."""
        return self._task(self.val_progress_bar_id)

    @property
    def test_progress_bar(self) -> Task:
        """The bar of testing."""
        return self._task(self.test_progress_bar_id)

    def _make_clock(self) -> DrawClock:
        return DrawClock(self.is_enabled, 1 / self.refresh_rate if self.is_enabled else 0.0)

    # -- the display ----------------------------------------------------------------------------------------------

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Returns the columns before the metrics; override it to change them."""
        from rich.progress import BarColumn, TextColumn

        from .rich_columns import BatchesProcessedColumn, CustomTimeColumn, ProcessingSpeedColumn

        theme = self.theme
        bar = BarColumn(
            complete_style=theme.progress_bar,
            finished_style=theme.progress_bar_finished,
            pulse_style=theme.progress_bar_pulse,
        )
        return [
            TextColumn("[progress.description]{task.description}"),
            bar,
            BatchesProcessedColumn(style=theme.batch_progress),
            CustomTimeColumn(style=theme.time),
            ProcessingSpeedColumn(style=theme.processing_speed),
        ]

    def _init_progress(self, trainer: Trainer) -> None:
        if self.is_disabled or (self.progress is not None and not self._progress_stopped):
            return
        with isolate_rng(include_cuda=False):  # rich draws from Python's random stream when it is imported
            from rich import get_console, reconfigure
            from rich.progress import Progress

            from .rich_columns import MetricsTextColumn

        self._reset_progress_bar_ids()
        if self._console_kwargs:
            reconfigure(**self._console_kwargs)
        theme = self.theme
        self._metric_component = MetricsTextColumn(theme.metrics, theme.metrics_text_delimiter, theme.metrics_format)
        columns = [*self.configure_columns(trainer), self._metric_component]
        self.progress = Progress(*columns, auto_refresh=False, console=get_console())
        self.progress.start()
        self._progress_stopped = False

    def _stop_progress(self) -> None:
        if self.progress is not None and not self._progress_stopped:
            self.progress.stop()
            self._progress_stopped = True

    def _add_task(self, total: float, description: str, visible: bool = True) -> TaskID:
        assert self.progress is not None
        style = self.theme.description
        text = f"[{style}]{description}" if style else description
        return self.progress.add_task(text, total=_finite(total), visible=visible)

    def _update(self, task_id: TaskID | None, current: int, started: float | None = None) -> None:
        if self.progress is None or task_id is None:
            return
        started = monotonic() if started is None else started
        self.progress.update(task_id, completed=current, visible=True)
        self._draw(started)

    def _draw(self, started: float) -> None:
        assert self.progress is not None
        console = self.progress.console
        if console.is_terminal or console.is_jupyter:  # a file gets the end only, when the display stops
            self.progress.refresh()
        self._clock.drew(started)

    def _hide(self, task_id: TaskID | None) -> None:
        if self.progress is not None and task_id is not None and self.progress.tasks[task_id].visible:
            self.progress.update(task_id, visible=False)

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._metric_component is not None and self.is_enabled:
            self._metric_component.update(self.train_progress_bar_id, self.get_metrics(trainer, pl_module))

    def refresh(self, hard: bool = False) -> None:
        """Draws, if it is time or ``hard`` says so."""
        if self.progress is not None and (hard or self._clock.is_due):
            self._draw(monotonic())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop_progress()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_progress()

    # -- training -------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._init_progress(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_disabled:
            return
        if self._leave and self.train_progress_bar_id is not None:
            self._stop_progress()
            self._init_progress(trainer)
        self._start_epoch(trainer)
        self.refresh()

    def _start_epoch(self, trainer: Trainer) -> None:
        description = self._get_train_description(trainer.current_epoch)
        if self.train_progress_bar_id is None:
            self.train_progress_bar_id = self._add_task(self.total_train_batches, description)
        elif self.progress is not None:
            total = _finite(self.total_train_batches)
            self.progress.reset(self.train_progress_bar_id, total=total, description=description, visible=True)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        text = f"Epoch {current_epoch}" if last is None or last < 0 else f"Epoch {current_epoch}/{last - 1}"
        return text.ljust(len(self.validation_description))  # the bars below one another begin at the same place

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if monotonic() < self._clock.next:
            return
        if self.train_progress_bar_id is None:  # resumed within an epoch
            self._start_epoch(trainer)
        started = monotonic()
        self._update_metrics(trainer, pl_module)
        self._update(self.train_progress_bar_id, batch_idx + 1, started)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_end_is_shown = self.is_disabled or self._leave or self._clock.is_due
        if self.is_enabled and self._epoch_end_is_shown:
            self._show_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._epoch_end_is_shown:
            self._show_epoch_end(trainer, pl_module)

    def _show_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._update_metrics(trainer, pl_module)
        self._update(self.train_progress_bar_id, trainer.batch_idx + 1)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._init_progress(trainer)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hide(self.val_sanity_progress_bar_id)
        self.refresh()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._init_progress(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self.has_dataloader_changed(dataloader_idx) or self.is_disabled:
            return
        total = self.total_val_batches_current_dataloader
        if trainer.sanity_checking:
            description = self.sanity_check_description
            self.val_sanity_progress_bar_id = self._start_loader(self.val_sanity_progress_bar_id, total, description)
        else:
            description = self.validation_description
            self.val_progress_bar_id = self._start_loader(self.val_progress_bar_id, total, description)

    def _start_loader(self, task_id: TaskID | None, total: float, description: str) -> TaskID:
        # hidden until it is drawn with a batch done: a validation shorter than the clock's interval never shows
        if task_id is None:
            return self._add_task(total, description, visible=False)
        assert self.progress is not None
        self.progress.reset(task_id, total=_finite(total), visible=False)
        return task_id

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next:
            sanity = trainer.sanity_checking
            self._update(self.val_sanity_progress_bar_id if sanity else self.val_progress_bar_id, batch_idx + 1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._finish(self.val_progress_bar_id, visible=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn != "fit":
            self._finish(self.val_progress_bar_id)
        elif self._clock.is_due:
            self._update_metrics(trainer, pl_module)
            self.refresh()

    def _finish(self, task_id: TaskID | None, visible: bool = True) -> None:
        if self.progress is not None and task_id is not None:
            total = self.progress.tasks[task_id].total
            self.progress.update(task_id, completed=total, visible=visible)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._init_progress(trainer)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.has_dataloader_changed(dataloader_idx) and self.is_enabled:
            total = self.total_test_batches_current_dataloader
            self.test_progress_bar_id = self._start_loader(self.test_progress_bar_id, total, self.test_description)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next:
            self._update(self.test_progress_bar_id, batch_idx + 1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        self._finish(self.test_progress_bar_id)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._init_progress(trainer)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.has_dataloader_changed(dataloader_idx) and self.is_enabled:
            total = self.total_predict_batches_current_dataloader
            task_id, description = self.predict_progress_bar_id, self.predict_description
            self.predict_progress_bar_id = self._start_loader(task_id, total, description)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next:
            self._update(self.predict_progress_bar_id, batch_idx + 1)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        self._finish(self.predict_progress_bar_id)


def _finite(total: float) -> float | None:
    return total if math.isfinite(total) else None
