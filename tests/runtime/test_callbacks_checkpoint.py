"""ModelCheckpoint: when it saves, what it keeps, and how files are named."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
import yaml
from lightify.runtime.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightify.runtime.callbacks.checkpoint_names import fill_template
from lightify.runtime.errors import MisconfigurationException

from .leaves import Classifier, trainer


class Scored(Classifier):
    """Logs the next of ``scores`` as ``val_score`` at each validation."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("val_score", torch.tensor(self.scores[self.trainer.current_epoch]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("template", "metrics", "named", "expected"),
    [
        ("{epoch}-{step}", {"epoch": 3, "step": torch.tensor(40)}, True, "epoch=3-step=40"),
        ("{epoch:03d}", {"epoch": 3}, True, "epoch=003"),
        ("{val/loss:.2f}", {"val/loss": torch.tensor(0.126)}, False, "0.13"),
        ("e{epoch}_{epoch_test}", {"epoch": 1, "epoch_test": 2}, True, "eepoch=1_epoch_test=2"),
        ("{metric.x:.1f}", {"metric.x": 2.0}, True, "metric.x=2.0"),
        ("{missing:.2f}-{gone:d}", {}, True, "missing=0.00-gone=0"),
        ("plain", {"epoch": 1}, True, "plain"),
    ],
)
def test_fill_template(template: str, metrics: dict[str, Any], named: bool, expected: str) -> None:
    assert fill_template(template, metrics, named, "=") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["epoch=2-step=24.ckpt"]),
        ({"save_top_k": -1}, ["epoch=0-step=8.ckpt", "epoch=1-step=16.ckpt", "epoch=2-step=24.ckpt"]),
        ({"save_top_k": 0}, []),
        ({"every_n_epochs": 2, "save_top_k": -1}, ["epoch=1-step=16.ckpt"]),
        ({"every_n_train_steps": 10, "save_top_k": -1}, ["epoch=1-step=10.ckpt", "epoch=2-step=20.ckpt"]),
        ({"monitor": "val_score"}, ["epoch=1-step=16.ckpt"]),
        ({"monitor": "val_score", "mode": "max"}, ["epoch=0-step=8.ckpt"]),
        ({"monitor": "val_score", "save_top_k": 2}, ["epoch=1-step=16.ckpt", "epoch=2-step=24.ckpt"]),
        ({"save_last": True}, ["epoch=2-step=24.ckpt", "last.ckpt"]),
        ({"filename": "{epoch}-{val_score:.1f}"}, ["epoch=2-val_score=2.0.ckpt"]),
        ({"filename": "e{epoch}", "auto_insert_metric_name": False}, ["e2.ckpt"]),
        (
            {"filename": "same", "save_top_k": -1},
            ["same-v1.ckpt", "same-v2.ckpt", "same.ckpt"],
        ),
        ({"filename": "same", "save_top_k": -1, "enable_version_counter": False}, ["same.ckpt"]),
        ({"train_time_interval": timedelta(seconds=0)}, ["epoch=2-step=24.ckpt"]),
        ({"train_time_interval": timedelta(hours=1)}, []),
    ],
)
def test_what_is_on_disk_after_three_epochs_of_eight_steps(
    tmp_path: Path, options: dict[str, Any], expected: list[str]
) -> None:
    callback = ModelCheckpoint(tmp_path / "saved", **options)
    trainer(tmp_path, callback, max_epochs=3).fit(Scored([3.0, 1.0, 2.0]))
    assert (names(tmp_path / "saved") if (tmp_path / "saved").exists() else []) == expected


def test_best_and_kth_best_are_remembered(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, monitor="val_score", save_top_k=2)
    trainer(tmp_path, callback, max_epochs=4).fit(Scored([3.0, 1.0, float("nan"), 2.0]))
    assert Path(callback.best_model_path).name == "epoch=1-step=16.ckpt"
    assert callback.best_model_score == 1.0
    assert Path(callback.kth_best_model_path).name == "epoch=3-step=32.ckpt"
    assert callback.kth_value == 2.0
    callback.to_yaml()
    best = yaml.safe_load((tmp_path / "best_k_models.yaml").read_text())
    assert {Path(path).name: score for path, score in best.items()} == {
        "epoch=1-step=16.ckpt": 1.0,
        "epoch=3-step=32.ckpt": 2.0,
    }


def test_last_may_be_a_link(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, save_last="link")
    trainer(tmp_path, callback).fit(Classifier())
    link = tmp_path / "last.ckpt"
    assert link.is_symlink() and os.readlink(link) == "epoch=1-step=16.ckpt"


def test_a_metric_of_validation_is_awaited(tmp_path: Path) -> None:
    """Steps 4 and 8 are due, but the score comes with the validation after step 8: saved then, with its value."""
    callback = ModelCheckpoint(tmp_path, monitor="val_score", every_n_train_steps=4, filename="{step}-{val_score:.1f}")
    trainer(tmp_path, callback, max_epochs=1).fit(Scored([5.0]))
    assert names(tmp_path) == ["step=8-val_score=5.0.ckpt"]


def test_batch_hooks_are_bound_only_where_steps_or_time_ask_for_them() -> None:
    assert "on_train_batch_end" in ModelCheckpoint().idle_hooks
    assert "on_train_batch_end" not in ModelCheckpoint(every_n_train_steps=1).idle_hooks
    assert "on_train_batch_end" not in ModelCheckpoint(train_time_interval=timedelta(1)).idle_hooks


@pytest.mark.parametrize("logger", [True, False])
def test_the_folder_follows_the_logger(tmp_path: Path, logger: bool) -> None:
    run = trainer(tmp_path, logger=L.loggers.CSVLogger(tmp_path) if logger else False, enable_checkpointing=True)
    run.fit(Classifier())
    expected = "lightning_logs/version_0/checkpoints" if logger else "checkpoints"
    assert Path(run.checkpoint_callback.dirpath) == tmp_path / expected


def test_state_survives_and_another_folder_keeps_the_best_path_only(tmp_path: Path) -> None:
    first = ModelCheckpoint(tmp_path / "a", monitor="val_score", save_top_k=2)
    trainer(tmp_path, first).fit(Scored([2.0, 1.0]))
    same = ModelCheckpoint(tmp_path / "a", monitor="val_score", save_top_k=2)
    same.load_state_dict(first.state_dict())
    assert same.best_k_models == first.best_k_models and same.kth_value == first.kth_value
    other = ModelCheckpoint(tmp_path / "b", monitor="val_score")
    with pytest.warns(UserWarning, match="dirpath has changed"):
        other.load_state_dict(first.state_dict())
    assert other.best_model_path == first.best_model_path and other.best_k_models == {}


def test_the_file_resumed_from_is_kept(tmp_path: Path) -> None:
    trainer(tmp_path, ModelCheckpoint(tmp_path / "c"), max_epochs=1).fit(Classifier())
    (path,) = (tmp_path / "c").iterdir()
    again = trainer(tmp_path, ModelCheckpoint(tmp_path / "c"), max_epochs=2)
    again.fit(Classifier(), ckpt_path=path)
    assert path.exists()


class Fails(Classifier):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == 3:
            raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (lambda folder: ModelCheckpoint(folder, save_on_exception=True), ["epoch=0-step=3.ckpt"]),
        (lambda folder: ModelCheckpoint(folder), []),
        (lambda folder: OnExceptionCheckpoint(folder), ["on_exception.ckpt"]),
    ],
)
def test_saving_when_the_run_fails(tmp_path: Path, callback: Any, expected: list[str]) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, callback(folder)).fit(Fails())
    assert names(folder) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, "`mode` can be"),
        ({"save_top_k": -2}, "Invalid value for save_top_k=-2"),
        ({"save_top_k": 3}, "No quantity for top_k to track"),
        ({"every_n_epochs": -1}, "Invalid value for every_n_epochs=-1"),
        ({"every_n_train_steps": -1}, "Invalid value for every_n_train_steps=-1"),
        ({"every_n_epochs": 1, "every_n_train_steps": 1}, "mutually exclusive"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        ModelCheckpoint(**options)


def test_a_metric_that_is_never_logged_is_an_error_after_validation(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="could not find the monitored key"):
        trainer(tmp_path, ModelCheckpoint(tmp_path, monitor="nothing")).fit(Classifier())
