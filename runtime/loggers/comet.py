"""Comet, through its public interface. Tested against a stand-in for the library only."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

from torch import Tensor
from torch.nn import Module

from ..errors import rank_zero_only, rank_zero_warn
from .base import Logger, rank_zero_experiment
from .values import as_dict

RENAMED = {"project_name": "project", "experiment_name": "name", "save_dir": "offline_directory"}


class CometLogger(Logger):
    """Logs to one Comet experiment, which is made with the logger.

    Args:
        api_key: Default: the one of ``comet login``.
        workspace: Default: the account's.
        project: Default: ``Uncategorized``.
        experiment_key: An experiment to continue, or the key of the new one.
        mode: "get_or_create", "get" or "create".
        online: False keeps everything on disk.
        prefix: Put before the name of each metric.
        **kwargs: For ``comet_ml.ExperimentConfig``: ``name``, ``tags``, ``offline_directory``, ...; and the names that
            arguments had before: ``project_name``, ``experiment_name``, ``save_dir``.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        if find_spec("comet_ml") is None:
            raise ModuleNotFoundError("CometLogger needs comet_ml: pip install comet_ml")
        os.environ["COMET_DISABLE_AUTO_LOGGING"] = "1"  # read by comet_ml as it is imported, after torch
        import comet_ml  # type: ignore[import-not-found]

        options = _by_todays_names({"project": project, **kwargs})
        self._project_name = options.pop("project")
        if online is False:
            options["disabled"] = True
        self._prefix = prefix
        self._online = online
        self._experiment_key = experiment_key
        self._start_options = {"api_key": api_key, "workspace": workspace, "mode": mode}
        self._comet_config = comet_ml.ExperimentConfig(**options)
        self._experiment: Any = None
        _ = self.experiment

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The Comet experiment."""
        if self._experiment is None:
            import comet_ml  # type: ignore[import-not-found]

            self._experiment = comet_ml.start(
                project=self._project_name,
                experiment_key=self._experiment_key,
                online=self._online,
                experiment_config=self._comet_config,
                **self._start_options,
            )
            self._experiment_key = self._experiment.get_key()
            self._project_name = self._experiment.project_name
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:  # type: ignore[override]
        self.experiment.log_parameters(as_dict(params), nested_support=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        values = {name: _plain(value) if isinstance(value, Tensor) else value for name, value in metrics.items()}
        epoch = values.pop("epoch", None)
        self.experiment.log_metrics(values, prefix=self._prefix, step=step, epoch=epoch)

    @rank_zero_only
    def log_graph(self, model: Module, input_array: Tensor | None = None) -> None:
        self.experiment.set_model_graph(str(model))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:  # not ended: a script may go on logging after a run
            self._experiment.flush()

    @property
    def save_dir(self) -> str | None:
        return self._comet_config.offline_directory

    @property
    def name(self) -> str | None:
        """The project's name."""
        return self._project_name

    @property
    def version(self) -> str | None:
        """The experiment's key."""
        return self._experiment_key

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}  # taken up again by its key


def _by_todays_names(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with those under an older name moved to the name of today, which wins where both are given."""
    current = dict(arguments)
    for old, new in RENAMED.items():
        if old in current:
            value = current.pop(old)
            if current.get(new) is None:
                current[new] = value
            rank_zero_warn(f"`CometLogger({old}=...)` is called `{new}` today.")
    return current


def _plain(value: Tensor) -> Any:
    """A number, or the values of several, without their graph."""
    return value.item() if value.numel() == 1 else value.detach().cpu()
