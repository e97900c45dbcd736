"""The contract of a logger, and the logger that does nothing."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import rank_zero_only

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ..callbacks.model_checkpoint import ModelCheckpoint


class DummyExperiment:
    """Stands for the experiment on every rank but zero: accepts every call, item and assignment, keeps nothing."""

    def nop(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return self.nop

    def __getitem__(self, _: Any) -> DummyExperiment:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def rank_zero_experiment(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates an ``experiment`` property: the real one on rank zero, a `DummyExperiment` elsewhere."""

    @functools.wraps(fn)
    def experiment(self: Logger) -> Any:
        return DummyExperiment() if rank_zero_only.rank > 0 else fn(self)

    return experiment


class Logger(ABC):
    """Receives metrics, hyperparameters, the model's graph and news of checkpoints."""

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The experiment's name."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """The run's version within the experiment."""

    @property
    def root_dir(self) -> str | None:
        """The folder of all versions of the experiment; None when nothing is kept locally."""
        return None

    @property
    def log_dir(self) -> str | None:
        """The folder of this version; None when nothing is kept locally."""
        return None

    @property
    def save_dir(self) -> str | None:
        """The folder of all experiments; None when nothing is kept locally."""
        return None

    @property
    def group_separator(self) -> str:
        """What separates a group from a name in the name of a metric."""
        return "/"

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Records values under their names."""

    @abstractmethod
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Records hyperparameters."""

    def log_graph(self, model: Module, input_array: Tensor | None = None) -> None:
        """Records the model's graph, where the logger can."""

    def save(self) -> None:
        """Writes what is still in memory."""

    def finalize(self, status: str) -> None:
        """Ends the experiment; ``status`` is ``"success"``, ``"failed"`` or ``"aborted"``."""
        self.save()

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Called after the checkpoint callback has saved a new checkpoint."""


class DummyLogger(Logger):
    """Takes a user's logger's place in a ``fast_dev_run``: every call and attribute works, nothing is kept."""

    def __init__(self) -> None:
        self._experiment = DummyExperiment()

    @property
    def experiment(self) -> DummyExperiment:
        """An experiment that keeps nothing."""
        return self._experiment

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getitem__(self, _: int) -> DummyLogger:
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):  # copy and pickle ask for protocols that a no-op would only pretend to have
            raise AttributeError(name)
        return self._experiment.nop
