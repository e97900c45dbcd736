"""Weights & Biases, online or offline."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from ..errors import MisconfigurationException, rank_zero_only, rank_zero_warn
from .base import Logger, rank_zero_experiment
from .saved_checkpoints import aliases, describe, unseen_checkpoints
from .values import add_prefix, as_dict, as_json, call_callables

if TYPE_CHECKING:
    from ..callbacks.model_checkpoint import ModelCheckpoint


class WandbLogger(Logger):
    """Logs to one wandb run, which is made at first use (or taken over if one is open).

    Args:
        name: The run's display name.
        save_dir: Where wandb keeps its files (``dir`` is another name of it).
        version: The run's id, to resume it (``id`` is another name of it).
        offline: Keeps everything on disk; ``wandb sync`` uploads it later.
        project: Default: ``WANDB_PROJECT``, else ``lightning_logs``.
        log_model: True uploads the checkpoints at the end (at once with ``save_top_k=-1``), "all" as they are saved.
        experiment: An open run to use.
        prefix: Put before the name of each metric.
        checkpoint_name: The uploaded artifact's name; default ``model-<id>``.
        add_file_policy: "mutable" uploads a copy, so that the file may change meanwhile.
        **kwargs: For ``wandb.init``: ``entity``, ``group``, ``tags``, ...
    """

    LOGGER_JOIN_CHAR = "-"

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | os.PathLike[str] = ".",
        version: str | None = None,
        offline: bool = False,
        dir: str | os.PathLike[str] | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        **kwargs: Any,
    ) -> None:
        if find_spec("wandb") is None:
            raise ModuleNotFoundError("WandbLogger needs wandb: pip install wandb")
        if offline and log_model:
            raise MisconfigurationException(
                f"Providing log_model={log_model} and offline={offline} is an invalid configuration since"
                " model checkpoints cannot be uploaded in offline mode.\n"
                "  hint: Set `offline=False` to log your model, or `log_model=False`."
            )
        folder = save_dir if save_dir is not None else dir
        self._wandb_init: dict[str, Any] = {
            "name": name,
            "project": project or os.environ.get("WANDB_PROJECT", "lightning_logs"),
            "dir": None if folder is None else os.fspath(folder),
            "id": version or id,
            "resume": "allow",
            "anonymous": "allow" if anonymous else None,
            **kwargs,
        }
        self._offline = offline
        self._log_model = log_model
        self._experiment = experiment
        self._prefix = prefix
        self._checkpoint_name = checkpoint_name
        self.add_file_policy = add_file_policy
        self._attach_id: str | None = None
        self._seen: dict[str, float] = {}
        self._callbacks: dict[int, ModelCheckpoint] = {}

    def __getstate__(self) -> dict[str, Any]:
        # The run is opened here, before it is pickled for another process, so that the process joins the same run.
        run = self.experiment
        init = {**self._wandb_init, "id": getattr(run, "id", None), "name": getattr(run, "name", None)}
        return {
            **self.__dict__,
            "_experiment": None,
            "_wandb_init": init,
            "_attach_id": getattr(run, "_attach_id", None),
        }

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb run."""
        if self._experiment is not None:
            return self._experiment
        import wandb

        if self._offline:
            os.environ["WANDB_MODE"] = "dryrun"
        if wandb.run is not None:
            rank_zero_warn(
                "There is a wandb run already in progress and newly created instances of `WandbLogger` will reuse"
                " this run. If this is not desired, call `wandb.finish()` before instantiating `WandbLogger`."
            )
            self._experiment = wandb.run
        elif self._attach_id is not None and hasattr(wandb, "_attach"):
            self._experiment = wandb._attach(self._attach_id)
        else:
            self._experiment = self._start()
        return self._experiment

    def _start(self) -> Any:
        import wandb

        run = wandb.init(**self._wandb_init)
        if getattr(run, "define_metric", None):
            if self._wandb_init.get("sync_tensorboard"):
                run.define_metric("*", step_metric="global_step")
            else:
                run.define_metric("trainer/global_step")
                run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run

    def watch(
        self, model: nn.Module, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True
    ) -> None:
        """Lets wandb record gradients or parameters of ``model``."""
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:  # type: ignore[override]
        self.experiment.config.update(as_json(call_callables(as_dict(params))), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        metrics = add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR)
        if step is not None and not self._wandb_init.get("sync_tensorboard"):
            metrics = {**metrics, "trainer/global_step": step}
        self.experiment.log(metrics)

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[Any] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Logs a table, given as columns and rows or as a data frame."""
        import wandb

        self.log_metrics({key: wandb.Table(columns=columns, data=data, dataframe=dataframe)}, step)

    @rank_zero_only
    def log_text(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[str]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Logs text as a table."""
        self.log_table(key, columns, data, dataframe, step)

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs images (tensors, arrays, PIL images or paths); each keyword is a list with one item per image."""
        self._log_media("Image", "images", key, images, step, kwargs)

    @rank_zero_only
    def log_audio(self, key: str, audios: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs sounds (arrays or paths); each keyword is a list with one item per sound."""
        self._log_media("Audio", "audios", key, audios, step, kwargs)

    @rank_zero_only
    def log_video(self, key: str, videos: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs videos (arrays or paths); each keyword is a list with one item per video."""
        self._log_media("Video", "videos", key, videos, step, kwargs)

    def _log_media(
        self, kind: str, argument: str, key: str, items: list[Any], step: int | None, options: dict[str, list[Any]]
    ) -> None:
        if not isinstance(items, list):
            raise TypeError(f'Expected a list as "{argument}", found {type(items)}')
        for name, values in options.items():
            if len(values) != len(items):
                raise ValueError(f"Expected {len(items)} items but only found {len(values)} for {name}")
        import wandb

        wrap = getattr(wandb, kind)
        each = [{name: values[i] for name, values in options.items()} for i in range(len(items))]
        self.log_metrics({key: [wrap(item, **own) for item, own in zip(items, each)]}, step)

    @property
    def save_dir(self) -> str | None:
        return self._wandb_init["dir"]

    @property
    def name(self) -> str | None:
        """The project's name; the run's own is ``experiment.name``."""
        return self._wandb_init["project"]

    @property
    def version(self) -> str | None:
        """The run's id; the one given at construction while no run is open."""
        return self._experiment.id if self._experiment else self._wandb_init["id"]

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self._log_model == "all" or (self._log_model is True and checkpoint_callback.save_top_k == -1):
            self._upload(checkpoint_callback)
        elif self._log_model is True:
            self._callbacks[id(checkpoint_callback)] = checkpoint_callback

    @staticmethod
    @rank_zero_only
    def download_artifact(
        artifact: str,
        save_dir: str | os.PathLike[str] | None = None,
        artifact_type: str | None = None,
        use_artifact: bool | None = True,
    ) -> str:
        """Downloads an artifact and returns its path; ``use_artifact`` notes the open run as its user."""
        import wandb

        if wandb.run is not None and use_artifact:
            found = wandb.run.use_artifact(artifact)
        else:
            found = wandb.Api().artifact(artifact, type=artifact_type)
        return found.download(root=None if save_dir is None else os.fspath(save_dir))

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Notes the run as a user of ``artifact`` and returns it."""
        return self.experiment.use_artifact(artifact, type=artifact_type)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if status == "success" and self._experiment is not None:  # a failed run uploads no checkpoint
            for callback in self._callbacks.values():
                self._upload(callback)

    def _upload(self, callback: ModelCheckpoint) -> None:
        import wandb

        for saved in unseen_checkpoints(callback, self._seen):
            metadata = {
                "score": saved.number,
                "original_filename": os.path.basename(saved.path),
                type(callback).__name__: describe(callback),
            }
            self._checkpoint_name = self._checkpoint_name or f"model-{self.experiment.id}"
            artifact = wandb.Artifact(name=self._checkpoint_name, type="model", metadata=metadata)
            artifact.add_file(saved.path, name="model.ckpt", policy=self.add_file_policy)
            self.experiment.log_artifact(artifact, aliases=aliases(callback, saved.path))
            self._seen[saved.path] = saved.modified
