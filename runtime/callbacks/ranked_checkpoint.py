"""Which of a run's checkpoints are the best so far.

Annotations are evaluated: command lines are made from those of subclasses.
"""

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import MisconfigurationException, rank_zero_warn
from ..filesystem import filesystem
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..trainer import Trainer


class RankedCheckpoint(Checkpoint):
    """Ranks checkpoints by a metric and remembers them in the state of the run.

    Args:
        monitor: The logged metric to rank by; None does not rank.
        mode: "min" or "max" of ``monitor`` is best.
        save_top_k: How many are kept; -1 all, 0 none.
    """

    dirpath: str | None

    def __init__(self, monitor: str | None, mode: str, save_top_k: int) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"`mode` can be min, max but got {mode}")
        if save_top_k < -1:
            raise MisconfigurationException(f"Invalid value for save_top_k={save_top_k}. Must be >= -1")
        if monitor is None and save_top_k not in (-1, 0, 1):
            raise MisconfigurationException(
                f"ModelCheckpoint(save_top_k={save_top_k}, monitor=None) is not a valid"
                " configuration. No quantity for top_k to track."
            )
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.current_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.best_model_score: Tensor | None = None
        self.best_model_path = ""
        self.kth_best_model_path = ""
        self.kth_value = torch.tensor(torch.inf if mode == "min" else -torch.inf)
        self.last_model_path = ""

    def check_monitor_top_k(self, trainer: "Trainer", current: Tensor | None = None) -> bool:
        """Whether ``current`` is among the best so far; all ranks decide alike."""
        if current is None:
            return False
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        worst_kept = self.best_k_models[self.kth_best_model_path]
        better = torch.lt(current, worst_kept) if self.mode == "min" else torch.gt(current, worst_kept)
        return trainer.strategy.reduce_boolean_decision(bool(better))

    def _rank(self, filepath: str, current: Tensor, k: int) -> None:
        best, worst = (min, max) if self.mode == "min" else (max, min)
        self.current_score = current
        self.best_k_models[filepath] = current
        score = self.best_k_models.__getitem__
        if len(self.best_k_models) == k:
            self.kth_best_model_path = worst(self.best_k_models, key=score)
            self.kth_value = score(self.kth_best_model_path)
        self.best_model_path = best(self.best_k_models, key=score)
        self.best_model_score = score(self.best_model_path)

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Writes the paths and scores of the best models, by default to ``best_k_models.yaml`` beside them."""
        try:
            import yaml
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("ModelCheckpoint.to_yaml needs PyYAML: pip install pyyaml") from error
        path = os.path.join(self.dirpath or "", "best_k_models.yaml") if filepath is None else os.fspath(filepath)
        with filesystem(path).open(path, "w") as file:
            yaml.dump({checkpoint: score.item() for checkpoint, score in self.best_k_models.items()}, file)

    def state_dict(self) -> dict[str, Any]:
        return {
            "monitor": self.monitor,
            "best_model_score": self.best_model_score,
            "best_model_path": self.best_model_path,
            "current_score": self.current_score,
            "dirpath": self.dirpath,
            "best_k_models": dict(self.best_k_models),
            "kth_best_model_path": self.kth_best_model_path,
            "kth_value": self.kth_value,
            "last_model_path": self.last_model_path,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        dirpath = state_dict.get("dirpath", self.dirpath)
        self.best_model_path = state_dict["best_model_path"]
        if dirpath != self.dirpath:
            rank_zero_warn(
                f"The dirpath has changed from {dirpath!r} to {self.dirpath!r},"
                " therefore `best_model_score`, `kth_best_model_path`, `kth_value`, `last_model_path` and"
                " `best_k_models` won't be reloaded. Only `best_model_path` will be reloaded."
            )
            return
        self.best_model_score = state_dict["best_model_score"]
        self.kth_best_model_path = state_dict.get("kth_best_model_path", self.kth_best_model_path)
        self.kth_value = state_dict.get("kth_value", self.kth_value)
        self.best_k_models = dict(state_dict.get("best_k_models", self.best_k_models))
        self.last_model_path = state_dict.get("last_model_path", self.last_model_path)
