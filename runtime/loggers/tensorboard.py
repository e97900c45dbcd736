"""TensorBoard event files, through tensorboard or tensorboardX."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import rank_zero_only, rank_zero_warn
from ..export import on_device, scripting
from ..filesystem import filesystem
from .base import rank_zero_experiment
from .folders import FolderLogger, write_hparams
from .values import add_prefix, as_dict, as_primitives, flatten

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def writer_package() -> str | None:
    """Returns the package that holds ``SummaryWriter`` here: torch's (needs tensorboard), tensorboardX, or None."""
    if find_spec("tensorboard") is not None:
        return "torch.utils.tensorboard"
    return "tensorboardX" if find_spec("tensorboardX") is not None else None


class TensorBoardLogger(FolderLogger):
    """Writes event files and ``hparams.yaml`` to ``save_dir/name/version_N[/sub_dir]``.

    Args:
        save_dir: Root folder; ``~`` and environment variables are expanded in ``log_dir``.
        name: Folder of the experiment; None or an empty string means none.
        version: Next free number when None; a string is the folder's name as it is.
        log_graph: Adds the model's graph; needs ``example_input_array`` on the module.
        default_hp_metric: Writes ``hp_metric`` = -1 beside hyperparameters that come without metrics.
        prefix: Put before the name of each metric.
        sub_dir: A folder inside the version's.
        **kwargs: For ``SummaryWriter``: ``max_queue``, ``flush_secs``, ...
    """

    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if writer_package() is None:
            raise ModuleNotFoundError("TensorBoardLogger needs tensorboard or tensorboardX: pip install tensorboard")
        super().__init__(save_dir, name, version, prefix)
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._kwargs = kwargs
        self.hparams: Any = {}

    @property
    def sub_dir(self) -> str | None:
        """The folder inside the version's, if any."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        path = super().log_dir
        if self.sub_dir is not None:
            path = os.path.join(path, self.sub_dir)
        return os.path.expanduser(os.path.expandvars(path))

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The ``SummaryWriter``, made at first use."""
        if self._experiment is None:
            if writer_package() == "tensorboardX":
                from tensorboardX import SummaryWriter
            else:
                from torch.utils.tensorboard import SummaryWriter
            if self.root_dir:
                filesystem(self.root_dir).makedirs(self.root_dir, exist_ok=True)
            self._experiment = SummaryWriter(log_dir=self.log_dir, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        writer = self.experiment
        for name, value in add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR).items():
            if isinstance(value, dict):
                writer.add_scalars(name, value, step)
                continue
            value = value.item() if isinstance(value, Tensor) else value
            try:
                writer.add_scalar(name, value, step)
            except Exception as error:  # the writer's own checks raise AssertionError, NotImplementedError and others
                raise ValueError(
                    f"\n you tried to log {value} which is currently not supported. Try a dict or a scalar/tensor."
                ) from error

    @rank_zero_only
    def log_hyperparams(  # type: ignore[override]
        self, params: dict[str, Any] | Namespace, metrics: Any = None, step: int | None = None
    ) -> None:
        """Records hyperparameters for the HParams tab and for ``hparams.yaml``.

        Args:
            params: The hyperparameters; nested ones are joined with "/".
            metrics: A dictionary of the values to compare runs by, or one value, shown as ``hp_metric``.
            step: Where the metrics are recorded.
        """
        values: Any = as_dict(params)
        self._remember(values)
        if metrics is None:
            metrics = {"hp_metric": -1} if self._default_hp_metric else {}
        elif not isinstance(metrics, dict):
            metrics = {"hp_metric": metrics}
        if not metrics:
            return
        self.log_metrics(metrics, step)
        if writer_package() == "tensorboardX":
            from tensorboardX.summary import hparams
        else:
            from torch.utils.tensorboard.summary import hparams
        file_writer = self.experiment._get_file_writer()
        for summary in hparams(self._sanitize_params(flatten(values)), metrics):
            file_writer.add_summary(summary, step)

    def _remember(self, params: Any) -> None:
        if type(params).__module__.startswith("omegaconf"):
            from omegaconf import OmegaConf

            self.hparams = OmegaConf.merge(self.hparams, params)
        else:
            self.hparams.update(params)

    @staticmethod
    def _sanitize_params(params: Mapping[str, Any]) -> dict[str, Any]:
        # the HParams tab shows numbers and text only: arrays and tensors become text
        values = as_primitives(params)
        return {name: str(value) if getattr(value, "ndim", 0) > 1 else value for name, value in values.items()}

    @rank_zero_only
    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if not self._log_graph:
            return
        inputs = getattr(model, "example_input_array", None) if input_array is None else input_array
        problem = "Could not log computational graph to TensorBoard: The "
        if inputs is None:
            rank_zero_warn(problem + "`model.example_input_array` attribute is not set or `input_array` was not given.")
        elif not isinstance(inputs, (Tensor, tuple)):
            rank_zero_warn(
                f"{problem}`input_array` or `model.example_input_array` has type {type(inputs)} which can't be traced"
                " by TensorBoard. Give a tuple of the positional arguments of `forward()`."
            )
        else:
            with scripting(model):
                self.experiment.add_graph(model, on_device(model, inputs) if hasattr(model, "device") else inputs)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()
        path = os.path.join(self.log_dir, self.NAME_HPARAMS_FILE)
        files = filesystem(path)
        if files.isdir(self.log_dir) and not files.isfile(path):
            write_hparams(path, self.hparams)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self.experiment.flush()
            self.experiment.close()
        if status == "success":
            self.save()
