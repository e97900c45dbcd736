"""EarlyStopping and Timer: when they end a run, and what they remember."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightify.runtime.callbacks import EarlyStopping, EarlyStoppingReason, Timer
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.state import RunningStage

from .leaves import Classifier, trainer


class Scored(Classifier):
    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores

    def on_train_epoch_end(self) -> None:
        self.log("score", torch.tensor(self.scores[self.current_epoch]))


@pytest.mark.parametrize(
    ("options", "scores", "epochs", "reason"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.4, 1], 4, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ({"patience": 1, "mode": "max"}, [1, 2, 2], 3, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 0], 2, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ({"stopping_threshold": 1.0}, [3, 0.5, 0], 2, EarlyStoppingReason.STOPPING_THRESHOLD),
        ({"divergence_threshold": 5.0}, [3, 6, 0], 2, EarlyStoppingReason.DIVERGENCE_THRESHOLD),
        ({}, [3, float("nan"), 0], 2, EarlyStoppingReason.NON_FINITE_METRIC),
        ({"check_finite": False, "patience": 9}, [3, float("nan"), 0], 3, EarlyStoppingReason.NOT_STOPPED),
    ],
)
def test_when_it_stops(
    tmp_path: Path, options: dict[str, Any], scores: list[float], epochs: int, reason: EarlyStoppingReason
) -> None:
    callback = EarlyStopping("score", **options)
    run = trainer(tmp_path, callback, max_epochs=len(scores))
    run.fit(Scored(scores))
    assert (run.current_epoch, callback.stopping_reason) == (epochs, reason)
    stopped = reason is not EarlyStoppingReason.NOT_STOPPED
    assert callback.stopped_epoch == (epochs - 1 if stopped else 0)
    assert (callback.stopping_reason_message is not None) == stopped


def test_a_missing_metric_is_an_error_unless_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"`nothing` which is not available.*`train_loss`"):
        trainer(tmp_path, EarlyStopping("nothing")).fit(Classifier())
    run = trainer(tmp_path, EarlyStopping("nothing", strict=False))
    run.fit(Classifier())
    assert run.current_epoch == 2


def test_state_survives() -> None:
    first = EarlyStopping("score", patience=3)
    first._evaluate_stopping_criteria(torch.tensor(2.0))
    first._evaluate_stopping_criteria(torch.tensor(3.0))
    second = EarlyStopping("score")
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert (second.wait_count, second.best_score, second.patience) == (1, 2.0, 3)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="`mode` can be min, max, got best"):
        EarlyStopping("score", mode="best")


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("01:02:03:04", 93784),
        (timedelta(minutes=2), 120),
        ({"hours": 1, "seconds": 1}, 3601),
    ],
)
def test_durations(duration: Any, seconds: float) -> None:
    assert Timer(duration).time_remaining() == seconds
    assert Timer().time_remaining() is None


@pytest.mark.parametrize("wrong", ["1:00:00:00:00", "00:00", "soon"])
def test_wrong_durations_are_refused(wrong: str) -> None:
    with pytest.raises(MisconfigurationException, match="DD:HH:MM:SS"):
        Timer(wrong)


@pytest.mark.parametrize(("interval", "steps"), [("step", 1), ("epoch", 8)])
def test_time_that_is_up_ends_training(tmp_path: Path, interval: str, steps: int) -> None:
    timer = Timer(timedelta(milliseconds=1), interval=interval)
    run = trainer(tmp_path, timer, max_epochs=50)
    run.fit(SlowStart())
    assert run.global_step == steps
    assert timer.time_elapsed() >= 0.001


class SlowStart(Classifier):
    def on_train_start(self) -> None:
        import time

        time.sleep(0.002)


def test_stages_are_measured_and_time_goes_on_after_a_resume(tmp_path: Path) -> None:
    timer = Timer()
    run = trainer(tmp_path, timer, max_epochs=1)
    assert timer.start_time() is None and timer.time_elapsed() == 0
    run.fit(Classifier())
    run.test(Classifier(), verbose=False)
    for stage in (RunningStage.TRAINING, RunningStage.VALIDATING, RunningStage.TESTING):
        assert timer.start_time(stage) < timer.end_time(stage)
    resumed = Timer(timedelta(hours=1))
    resumed.load_state_dict(timer.state_dict())
    assert resumed.time_elapsed() == timer.time_elapsed()


def test_a_timer_without_a_duration_costs_no_step() -> None:
    assert Timer().idle_hooks >= {"on_train_batch_end", "on_train_epoch_end"}
    assert Timer(timedelta(1)).idle_hooks == {"on_train_epoch_end"}
    assert Timer(timedelta(1), interval="epoch").idle_hooks == {"on_train_batch_end"}
