"""Loggers write what their own libraries read back."""

from __future__ import annotations

import csv
import pickle
import sqlite3
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml
from lightify.runtime.errors import MisconfigurationException, rank_zero_only
from lightify.runtime.loggers import (
    CSVLogger,
    DummyExperiment,
    DummyLogger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightify.runtime.loggers.folders import next_version
from lightify.runtime.loggers.values import as_primitives, call_callables, flatten


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ([], 0),
        (["version_0", "version_1"], 2),
        (["version_0", "version_7"], 8),
        (["version_x", "other", "version_"], 0),
        (["version_3_old"], 4),
    ],
)
def test_next_version_follows_the_highest_folder(tmp_path: Path, folders: list[str], expected: int) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    (tmp_path / "version_99").touch()  # a file is no version
    assert next_version(str(tmp_path)) == expected


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("exp", None, "exp/version_0"),
        ("exp", 5, "exp/version_5"),
        ("exp", "blue", "exp/blue"),
        (None, None, "version_0"),
        ("", 2, "version_2"),
    ],
)
def test_log_dir(tmp_path: Path, kind: type, name: str | None, version: int | str | None, expected: str) -> None:
    logger = kind(tmp_path, name=name, version=version)
    assert Path(logger.log_dir) == tmp_path / expected
    assert Path(logger.root_dir) == (tmp_path / expected).parent
    assert logger.save_dir == str(tmp_path)


def test_tensorboard_log_dir_expands_variables_and_takes_a_sub_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS", "/logs")
    assert TensorBoardLogger("$LOGS", name="n", version=1, sub_dir="s").log_dir == "/logs/n/version_1/s"
    assert TensorBoardLogger("~", name="n", version=1).log_dir == str(Path.home() / "n" / "version_1")


def test_csv_rows_new_columns_and_hyperparameters(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version=0, prefix="p", flush_logs_every_n_steps=1)
    logger.log_hyperparams(Namespace(lr=0.1, depth=3))
    logger.log_metrics({"a": torch.tensor(1.5)}, step=0)
    logger.log_metrics({"a": 2, "b": 3.0}, step=1)  # a column more: the file is written anew
    logger.log_metrics({"b": 4}, step=2)
    logger.finalize("success")
    folder = Path(logger.log_dir)
    assert rows(folder / "metrics.csv") == [
        {"p-a": "1.5", "p-b": "", "step": "0"},
        {"p-a": "2", "p-b": "3.0", "step": "1"},
        {"p-a": "", "p-b": "4", "step": "2"},
    ]
    assert yaml.safe_load((folder / "hparams.yaml").read_text()) == {"lr": 0.1, "depth": 3}
    assert sorted(path.name for path in folder.iterdir()) == ["hparams.yaml", "metrics.csv"]


def test_csv_writes_only_when_a_flush_is_due(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version=0, flush_logs_every_n_steps=3)
    path = Path(logger.log_dir) / "metrics.csv"
    for step in range(2):
        logger.log_metrics({"a": step}, step)
    assert not path.exists()
    logger.log_metrics({"a": 2}, 2)
    assert len(rows(path)) == 3


def test_csv_warns_of_an_earlier_run_and_replaces_its_metrics(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path, version=0)
    first.log_metrics({"a": 1}, 0)
    first.save()
    second = CSVLogger(tmp_path, version=0)
    with pytest.warns(UserWarning, match="exists and is not empty"):
        second.log_metrics({"b": 1}, 0)
    second.save()
    assert rows(Path(second.log_dir) / "metrics.csv") == [{"b": "1", "step": "0"}]


def test_csv_on_a_remote_file_system() -> None:
    import fsspec

    logger = CSVLogger("memory://csv_logger_test", version=0)
    logger.log_hyperparams({"lr": 1})
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    files = fsspec.filesystem("memory")
    assert files.cat(f"{logger.log_dir}/metrics.csv") == b"a,step\r\n1,0\r\n"
    assert files.cat(f"{logger.log_dir}/hparams.yaml") == b"lr: 1\n"
    assert CSVLogger("memory://csv_logger_test").version == 1


def test_tensorboard_events_are_read_back_by_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, version=0)
    logger.log_hyperparams({"lr": 0.1, "net": {"depth": 3}, "act": torch.nn.ReLU}, metrics={"score": 0.5})
    for step in range(3):
        logger.log_metrics({"loss": torch.tensor(float(step)), "pair": {"x": 1.0, "y": 2.0}}, step)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert events.Scalars("score")[0].value == 0.5
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"net/depth" in plugin and b"lr" in plugin
    text = (Path(logger.log_dir) / "hparams.yaml").read_text()
    assert "lr: 0.1" in text and "depth: 3" in text


@pytest.mark.parametrize("value", ["text", [1, 2], object()])
def test_tensorboard_refuses_what_is_no_number(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"not supported\. Try a dict or a scalar"):
        TensorBoardLogger(tmp_path).log_metrics({"bad": value})


def test_wandb_offline_run_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(project="p", name="n", save_dir=tmp_path, offline=True, prefix="q")
    try:
        logger.log_hyperparams({"lr": 0.1, "layer": torch.nn.Linear, "path": Path("x")})
        logger.log_metrics({"loss": 1.0}, step=3)
        assert logger.name == "p"
        assert logger.version == logger.experiment.id
        assert dict(logger.experiment.config) == {"lr": 0.1, "layer": "Linear", "path": "x"}
        assert logger.experiment.summary["q-loss"] == 1.0
        assert logger.experiment.summary["trainer/global_step"] == 3
        logger.finalize("success")
    finally:
        logger.experiment.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_wandb_refuses_to_upload_models_offline() -> None:
    pytest.importorskip("wandb")
    with pytest.raises(MisconfigurationException, match="invalid configuration"):
        WandbLogger(offline=True, log_model=True)


@pytest.mark.slow
def test_mlflow_writes_to_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # artifacts of a database store go to the working folder
    logger = MLFlowLogger("exp", run_name="run", tracking_uri=f"sqlite:///{tmp_path}/runs.db", tags={"who": "me"})
    logger.log_hyperparams({"net": {"depth": 3}, "long": "x" * 400})
    with pytest.warns(RuntimeWarning, match="special characters"):
        logger.log_metrics({"loss": torch.tensor(0.5), "acc@1": 0.25, "text": "dropped"}, step=2)
    logger.finalize("success")
    run = logger.experiment.get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"net/depth": "3", "long": "x" * 250}
    assert run.data.metrics == {"loss": 0.5, "acc1": 0.25}
    assert run.data.tags["mlflow.runName"] == "run" and run.data.tags["who"] == "me"
    assert logger.save_dir is None
    with sqlite3.connect(tmp_path / "runs.db") as database:
        assert database.execute("select step from metrics where key = 'loss'").fetchall() == [(2,)]
    again = MLFlowLogger("exp", tracking_uri=f"sqlite:///{tmp_path}/runs.db", run_id=logger.run_id)
    assert again.experiment_id == logger.experiment_id


@pytest.mark.slow
def test_mlflow_writes_to_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    logger = MLFlowLogger("exp", save_dir=str(tmp_path / "runs"))
    logger.log_metrics({"loss": 1.0}, step=1)
    metric = tmp_path / "runs" / logger.experiment_id / logger.run_id / "metrics" / "loss"
    assert metric.read_text().split()[1:] == ["1.0", "1"]
    assert logger.save_dir == str(tmp_path / "runs")


@pytest.mark.parametrize(
    ("kind", "library"), [(WandbLogger, "wandb"), (MLFlowLogger, "mlflow"), (TensorBoardLogger, "tensorboard")]
)
def test_a_missing_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, library: str
) -> None:
    import lightify.runtime.loggers as loggers

    module = getattr(loggers, library)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {library}"):
        kind(save_dir=str(tmp_path))


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = kind(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.log_hyperparams({"b": 1})
    logger.save()
    logger.finalize("success")
    assert isinstance(logger.experiment, DummyExperiment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_logger_in_use_survives_pickling(tmp_path: Path, kind: type) -> None:
    logger = kind(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    copy = pickle.loads(pickle.dumps(logger))
    assert copy.log_dir == logger.log_dir
    copy.finalize("success")


def test_the_dummy_logger_takes_everything() -> None:
    logger = DummyLogger()
    logger.log_metrics({"a": 1}, step=0)
    logger.log_text("whatever", key=1)
    logger.experiment.add_image("x", 1)
    logger.experiment[0]["key"] = 1
    assert logger[3] is logger
    assert (logger.name, logger.version) == ("", "")


def test_values() -> None:
    nested = {"a": {"b": 1, 2: "c"}, "n": Namespace(x=1), "l": [{"d": 1}, {"d": 2}], "plain": [1, 2], "none": []}
    assert flatten(nested) == {"a/b": 1, "a/2": "c", "n/x": 1, "l/0/d": 1, "l/1/d": 2, "plain": [1, 2], "none": []}
    import numpy as np

    assert as_primitives({"f": np.float32(1.5), "b": np.bool_(True), "c": torch.nn.ReLU, "l": [1]}) == {
        "f": 1.5,
        "b": True,
        "c": "<class 'torch.nn.modules.activation.ReLU'>",
        "l": "[1]",
    }

    def broken() -> None:
        raise RuntimeError

    assert call_callables({"cls": dict, "fn": lambda: 3, "broken": broken, "value": 1}) == {
        "cls": "dict",
        "fn": 3,
        "broken": "broken",
        "value": 1,
    }
