"""Progress bars draw by the clock: a step compares two numbers, values are read only when drawn."""

from __future__ import annotations

import io
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch
from lightify.runtime import result_table
from lightify.runtime.callbacks import PlainProgressBar, RichProgressBar, RichProgressBarTheme, TQDMProgressBar
from lightify.runtime.callbacks.progress import clock as clocks
from lightify.runtime.callbacks.progress.clock import DrawClock
from lightify.runtime.callbacks.progress.tqdm_bar import Tqdm
from lightify.runtime.loggers import CSVLogger

from .leaves import Classifier, trainer

BARS = [TQDMProgressBar, RichProgressBar, PlainProgressBar]


def test_the_clock_draws_a_burst_and_then_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(clocks, "monotonic", lambda: now)
    clock, draws = DrawClock(interval_s=0.5), []
    for step in range(3000):
        now += 0.001
        if now >= clock.next:
            draws.append(step)
            clock.drew(now)
    assert draws[:25] == list(range(25))  # at once
    gaps = [later - earlier for earlier, later in pairwise(draws[24:])]
    assert gaps and all(gap >= 500 for gap in gaps)  # then at most every half second


def test_drawing_takes_at_most_two_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(clocks, "monotonic", lambda: now)
    clock = DrawClock()
    clock._free = 0
    clock.drew(-0.2)  # a draw of 200 ms
    assert clock.next == pytest.approx(10.0)


@pytest.mark.parametrize("bar", BARS)
def test_a_disabled_bar_never_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str], bar: Any) -> None:
    callback = bar()
    callback.disable()
    assert callback._clock.next == float("inf")
    trainer(tmp_path, callback, enable_progress_bar=True).fit(Classifier())
    assert "Epoch" not in capsys.readouterr().out


@pytest.mark.parametrize("bar", BARS)
def test_the_end_of_a_run_is_always_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bar: Any
) -> None:
    monkeypatch.setattr(clocks, "_BURST", 0)
    torch.manual_seed(0)
    run = trainer(tmp_path, bar(), enable_progress_bar=True, logger=CSVLogger(tmp_path))
    run.fit(Classifier())
    shown = capsys.readouterr().out.replace("\n", " ")
    last = f"{run.callback_metrics['train_loss']:{'.3g' if bar is TQDMProgressBar else '.3f'}}"
    assert "8/8" in shown and "Epoch 1" in shown and last in shown and "v_num" in shown


@pytest.mark.parametrize("bar", BARS)
def test_metrics_are_read_only_when_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bar: Any) -> None:
    monkeypatch.setattr(clocks, "_BURST", 0)
    reads = []

    class Counting(bar):  # type: ignore[misc, valid-type]
        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            reads.append(trainer.global_step)
            return super().get_metrics(trainer, pl_module)

    trainer(tmp_path, Counting(), enable_progress_bar=True, max_epochs=4).fit(Classifier())
    assert len(reads) < 16  # of 32 steps, however slow the machine is


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
def test_get_metrics_can_be_customised(tmp_path: Path, capsys: pytest.CaptureFixture[str], bar: Any) -> None:
    class Own(bar):  # type: ignore[misc, valid-type]
        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            items = super().get_metrics(trainer, pl_module)
            items.pop("v_num", None)
            return {**items, "mine": "yes"}

    trainer(tmp_path, Own(), enable_progress_bar=True, logger=CSVLogger(tmp_path)).fit(Classifier())
    shown = capsys.readouterr().out
    assert "mine" in shown and "v_num" not in shown


def test_tqdm_refreshes_at_multiples_and_at_the_last_batch(tmp_path: Path) -> None:
    seen = []

    class Bar(TQDMProgressBar):
        def _advance(self, name: str, batch_idx: int, metrics: Any = None) -> None:
            seen.append((name, batch_idx + 1))
            super()._advance(name, batch_idx, metrics)

    options = {"max_epochs": 1, "limit_train_batches": 7, "limit_val_batches": 2, "num_sanity_val_steps": 0}
    trainer(tmp_path, Bar(refresh_rate=3), enable_progress_bar=True, **options).fit(Classifier())
    assert seen == [("train", 3), ("train", 6), ("train", 7), ("val", 2)]


def test_rich_keeps_one_task_per_kind_of_bar(tmp_path: Path) -> None:
    bar = RichProgressBar(theme=RichProgressBarTheme(metrics_format=".1f"))
    run = trainer(tmp_path, bar, enable_progress_bar=True, max_epochs=3, val_check_interval=4)
    run.fit(Classifier())
    assert [(task.completed, task.total) for task in bar.progress.tasks] == [(2, 2), (8, 8), (8, 8)]
    assert bar.progress.columns[-1].render(bar.train_progress_bar).plain == f"train_loss: {_last(run):.1f} " + (
        f"val_loss: {run.callback_metrics['val_loss']:.1f}"
    )
    run.test(Classifier(), verbose=False)
    assert (bar.test_progress_bar.completed, bar.test_progress_bar.total) == (8, 8)


def _last(run: Any) -> float:
    return float(run.callback_metrics["train_loss"])


class Pickles(Classifier):
    def on_train_epoch_end(self) -> None:
        pickle.loads(pickle.dumps(self.trainer.progress_bar_callback))


@pytest.mark.parametrize("bar", BARS)
def test_bars_are_pickled_while_they_draw(tmp_path: Path, bar: Any) -> None:
    trainer(tmp_path, bar(), enable_progress_bar=True, max_epochs=1).fit(Pickles())


def test_printing_goes_around_the_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(Classifier):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                self.print("hello", "there")

    trainer(tmp_path, TQDMProgressBar(), enable_progress_bar=True, max_epochs=1).fit(Talks())
    assert "hello there\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1"), (1.0, "1.000"), (0.1, "0.100"), (1e-5, "1e-5"), ("1.0", "1.000"), ("10000", "10000"), ("abc", "abc")],
)
def test_tqdm_numbers_keep_their_width(number: Any, text: str) -> None:
    assert Tqdm.format_num(number) == text


@pytest.mark.parametrize("bar", BARS)
def test_a_step_that_draws_nothing_costs_less_than_two_microseconds(bar: Any) -> None:
    """A loose bound on the minimum of many rounds: what it guards against costs a hundred times as much."""
    callback = bar()
    callback._clock.next = float("inf")
    hook, batch = callback.on_train_batch_end, torch.zeros(1)
    best = float("inf")
    for _ in range(20):
        started = monotonic()
        for index in range(1000):
            hook(None, None, None, batch, index)
        best = min(best, (monotonic() - started) / 1000)
    assert best < 2e-6


def test_bars_write_to_the_stdout_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    trainer(tmp_path, TQDMProgressBar(), enable_progress_bar=True, max_epochs=1).fit(Classifier())
    assert "Epoch 0: 100%" in stream.getvalue()


class Tee:
    """What many scripts put in the place of the standard output: it can write, and no more."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("bar", [PlainProgressBar, TQDMProgressBar, RichProgressBar])
def test_a_stdout_that_can_only_write_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bar: Any) -> None:
    stream = Tee()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(result_table, "find_spec", lambda name: None)
    trainer(tmp_path, bar(), enable_progress_bar=True, max_epochs=1).fit(Classifier())
    result_table.print_results([{"loss": 2.0}], "test")
    assert "loss" in stream.text


def test_a_bar_that_was_drawn_once_tells_its_speed() -> None:
    from lightify.runtime.callbacks.progress.rich_columns import ProcessingSpeedColumn
    from rich.progress import Progress

    now = [0.0]
    progress = Progress(get_time=lambda: now[0], auto_refresh=False)
    progress.add_task("Epoch 0", total=9)
    (task,) = progress.tasks
    now[0] = 4.0
    progress.update(task.id, completed=8)
    assert task.speed is None and ProcessingSpeedColumn("").render(task).plain == "2.00it/s"


@pytest.mark.parametrize("has_rich", [True, False])
def test_the_table_of_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_rich: bool
) -> None:
    monkeypatch.setattr(result_table, "find_spec", lambda name: name if has_rich else None)
    result_table.print_results([{"acc/dataloader_idx_0": torch.tensor(0.5), "loss": 2.0}, {"loss": 3.0}], "test")
    title, acc, loss = (line for line in capsys.readouterr().out.splitlines() if any(map(str.isalpha, line)))
    parts = [line.replace("┃", "│").strip("│ ").replace("│", " ").split() for line in (title, acc, loss)]
    assert parts == [["Test", "metric", "DataLoader", "0", "DataLoader", "1"], ["acc", "0.5"], ["loss", "2.0", "3.0"]]
    assert ("┃" in title) is has_rich
