"""Metrics in one CSV file, hyperparameters in one YAML file."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..errors import rank_zero_only, rank_zero_warn
from ..filesystem import filesystem, is_local
from .base import rank_zero_experiment
from .folders import FolderLogger, write_hparams
from .values import add_prefix, as_dict


class ExperimentWriter:
    """Collects rows and appends them to ``metrics.csv``; a new column rewrites the file once."""

    NAME_METRICS_FILE = "metrics.csv"
    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self.metrics: list[dict[str, Any]] = []
        self.metrics_keys: list[str] = []
        self.hparams: dict[str, Any] = {}
        self.metrics_file_path = os.path.join(log_dir, self.NAME_METRICS_FILE)
        self._files = filesystem(log_dir)
        self._open = open if is_local(log_dir) else self._files.open  # fsspec takes far longer to open a local file
        self._is_written = False
        self._check_log_dir_exists()
        self._files.makedirs(log_dir, exist_ok=True)

    def log_hparams(self, params: Mapping[str, Any]) -> None:
        """Adds hyperparameters and writes all of them."""
        self.hparams.update(params)
        write_hparams(os.path.join(self.log_dir, self.NAME_HPARAMS_FILE), self.hparams)

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Adds one row; tensors of one element become numbers."""
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics_dict.items()}
        row["step"] = len(self.metrics) if step is None else step
        self.metrics.append(row)

    def save(self) -> None:
        """Writes the rows collected since the last call."""
        if not self.metrics:
            return
        exists = self._is_written
        new_names = set().union(*self.metrics) - set(self.metrics_keys)
        self.metrics_keys = sorted(new_names.union(self.metrics_keys))
        if new_names and exists:
            with self._open(self.metrics_file_path, "r", newline="") as file:
                earlier = list(csv.DictReader(file))
            self._rewrite([*earlier, *self.metrics])
        elif exists:
            self._write(self.metrics_file_path, "a", self.metrics)
        else:
            self._write(self.metrics_file_path, "w", self.metrics)
        self.metrics = []
        self._is_written = True

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        aside = self.metrics_file_path + ".new"  # a kill while writing leaves the old file as it was
        self._write(aside, "w", rows)
        self._files.mv(aside, self.metrics_file_path)

    def _write(self, path: str, mode: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with self._open(path, mode, newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)

    def _check_log_dir_exists(self) -> None:
        if self._files.isdir(self.log_dir) and self._files.ls(self.log_dir, detail=False):
            rank_zero_warn(
                f"Experiment logs directory {self.log_dir} exists and is not empty. Previous log files in this"
                " directory will be deleted when the new ones are saved! Leave `version` out, or give a new one,"
                " to keep them."
            )
            if self._files.isfile(self.metrics_file_path):
                self._files.rm_file(self.metrics_file_path)


class CSVLogger(FolderLogger):
    """Writes ``save_dir/name/version_N/metrics.csv`` and ``hparams.yaml``.

    Args:
        save_dir: Root folder, local or an fsspec URL.
        name: Folder of the experiment; None or an empty string means none.
        version: Next free number when None.
        prefix: Put before the name of each metric.
        flush_logs_every_n_steps: Rows are written when the step reaches a multiple of it, and at the end.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        self._flush_logs_every_n_steps = flush_logs_every_n_steps

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, made at first use."""
        if self._experiment is None:
            self._experiment = ExperimentWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:  # type: ignore[override]
        self.experiment.log_hparams(as_dict(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if step is None:
            step = len(self.experiment.metrics)
        self.experiment.log_metrics(add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR), step)
        if (step + 1) % self._flush_logs_every_n_steps == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        self.experiment.save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:  # nothing was logged in this process: there is nothing to write
            self.save()
