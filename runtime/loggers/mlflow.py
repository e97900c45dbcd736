"""MLflow: a local folder, a database or a tracking server."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ..errors import rank_zero_only, rank_zero_warn
from .base import Logger, rank_zero_experiment
from .saved_checkpoints import aliases, describe, unseen_checkpoints
from .values import add_prefix, as_dict, flatten

if TYPE_CHECKING:
    from ..callbacks.model_checkpoint import ModelCheckpoint

log = logging.getLogger(__name__)

_LOCAL = "file:"
_DEFAULT_URI = os.getenv("MLFLOW_TRACKING_URI")  # read once: a logger in use sets the variable to its own
_RUN_NAME_TAG = "mlflow.runName"  # mlflow.utils.mlflow_tags.MLFLOW_RUN_NAME
_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}
_LONGEST_VALUE = 250  # of a parameter, the limit of MLflow's oldest servers
_MOST_PARAMETERS = 100  # in one call


class MLFlowLogger(Logger):
    """Logs to one MLflow run, which is made at first use.

    Args:
        experiment_name: Found, or made when there is none.
        run_name: The run's name; wins over one given in ``tags``.
        tracking_uri: Default: ``MLFLOW_TRACKING_URI``, else the folder ``save_dir``. ``sqlite:///runs.db`` works too.
        tags: The run's tags.
        save_dir: Folder of the runs when there is no ``tracking_uri``.
        log_model: True uploads the checkpoints at the end (at once with ``save_top_k=-1``), "all" as they are saved.
        prefix: Put before the name of each metric.
        artifact_location: Where a new experiment keeps its artifacts.
        run_id: An existing run to continue.
        synchronous: Whether each call waits for the server; needs mlflow 2.8.
    """

    LOGGER_JOIN_CHAR = "-"

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = _DEFAULT_URI,
        tags: dict[str, Any] | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        if find_spec("mlflow") is None:
            raise ModuleNotFoundError("MLFlowLogger needs mlflow: pip install mlflow")
        from mlflow.tracking import MlflowClient

        self._experiment_name = experiment_name
        self._experiment_id: str | None = None
        self._tracking_uri = tracking_uri or f"{_LOCAL}{save_dir}"
        if self._tracking_uri.startswith(_LOCAL):
            # newer versions open a folder as a store only when asked
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._run_name = run_name
        self._run_id = run_id
        self.tags = tags
        self._log_model = log_model
        self._prefix = prefix
        self._artifact_location = artifact_location
        self._batch_options = {} if synchronous is None else {"synchronous": synchronous}
        self._seen: dict[str, float] = {}
        self._callback: ModelCheckpoint | None = None
        self._initialized = False
        self._client: Any = MlflowClient(self._tracking_uri)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The MLflow client, with the experiment and the run made."""
        if not self._initialized:
            import mlflow

            mlflow.set_tracking_uri(self._tracking_uri)  # so that `mlflow.log_*` in the user's code goes there, too
            if self._run_id is not None:
                self._experiment_id = self._client.get_run(self._run_id).info.experiment_id
            else:
                self._experiment_id = self._experiment_id or self._find_experiment()
                self._run_id = self._start()
            self._initialized = True
        return self._client

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment_name)
        if found is not None and found.lifecycle_stage != "deleted":
            return found.experiment_id
        log.warning(f"Experiment with name {self._experiment_name} not found. Creating it.")
        return self._client.create_experiment(name=self._experiment_name, artifact_location=self._artifact_location)

    def _start(self) -> str:
        from mlflow.tracking.context.registry import resolve_tags

        if self._run_name is not None:
            self.tags = self.tags or {}
            if _RUN_NAME_TAG in self.tags:
                log.warning(
                    f"The tag {_RUN_NAME_TAG} is found in tags. The value will be overridden by {self._run_name}."
                )
            self.tags[_RUN_NAME_TAG] = self._run_name
        return self._client.create_run(experiment_id=self._experiment_id, tags=resolve_tags(self.tags)).info.run_id

    @property
    def run_id(self) -> str | None:
        """The run's id; makes the run if there is none."""
        _ = self.experiment
        return self._run_id

    @property
    def experiment_id(self) -> str | None:
        """The experiment's id; makes the experiment if there is none."""
        _ = self.experiment
        return self._experiment_id

    @property
    def name(self) -> str | None:
        return self.experiment_id

    @property
    def version(self) -> str | None:
        return self.run_id

    @property
    def save_dir(self) -> str | None:
        return self._tracking_uri[len(_LOCAL) :] if self._tracking_uri.startswith(_LOCAL) else None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:  # type: ignore[override]
        from mlflow.entities import Param

        values = [Param(key=key, value=str(value)[:_LONGEST_VALUE]) for key, value in flatten(as_dict(params)).items()]
        for start in range(0, len(values), _MOST_PARAMETERS):
            some = values[start : start + _MOST_PARAMETERS]
            self.experiment.log_batch(run_id=self.run_id, params=some, **self._batch_options)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        values = []
        for name, value in add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR).items():
            if isinstance(value, str):
                log.warning(f"Discarding metric with string value {name}={value}.")
                continue
            value = value.item() if isinstance(value, Tensor) else value
            values.append(Metric(key=_allowed(name), value=value, timestamp=now_ms, step=step or 0))
        self.experiment.log_batch(run_id=self.run_id, metrics=values, **self._batch_options)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        if not self._initialized:
            return
        if self._callback is not None:
            self._upload(self._callback)
        if self.experiment.get_run(self.run_id):
            self.experiment.set_terminated(self.run_id, _STATUS.get(status, status))

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self._log_model == "all" or (self._log_model is True and checkpoint_callback.save_top_k == -1):
            self._upload(checkpoint_callback)
        elif self._log_model is True:
            self._callback = checkpoint_callback

    def _upload(self, callback: ModelCheckpoint) -> None:
        import yaml  # a requirement of mlflow itself

        for saved in unseen_checkpoints(callback, self._seen):
            path = Path(saved.path)
            metadata = {"score": saved.number, "original_filename": path.name, "Checkpoint": describe(callback)}
            self.experiment.log_artifact(self.run_id, saved.path, path.stem)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "metadata.yaml").write_text(yaml.dump(metadata, default_flow_style=False))
                Path(folder, "aliases.txt").write_text(str(aliases(callback, saved.path)))
                self.experiment.log_artifacts(self.run_id, folder, path.stem)
            self._seen[saved.path] = saved.modified


def _allowed(name: str) -> str:
    allowed = re.sub("[^a-zA-Z0-9_/. -]+", "", name)
    if allowed != name:
        rank_zero_warn(
            "MLFlow only allows '_', '/', '.' and ' ' special characters in metric name."
            f" Replacing {name} with {allowed}.",
            category=RuntimeWarning,
        )
    return allowed
