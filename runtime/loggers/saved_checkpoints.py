"""Which checkpoints a logger that uploads them has not seen yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from ..callbacks.model_checkpoint import ModelCheckpoint

_DESCRIBING = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint file: when it was written, where it lies, its score and its role."""

    modified: float
    path: str
    score: Any
    tag: str

    @property
    def number(self) -> Any:
        """The score as a Python number."""
        return self.score.item() if isinstance(self.score, Tensor) else self.score


def unseen_checkpoints(callback: ModelCheckpoint, seen: dict[str, float]) -> list[SavedCheckpoint]:
    """Returns the files, oldest first, that are new or rewritten since ``seen`` (path to time) was noted.

    The roles are "latest", "best" and "best_k"; a file with several has the last of them.
    """
    roles: dict[str, tuple[Any, str]] = {}
    if hasattr(callback, "last_model_path") and hasattr(callback, "current_score"):
        roles[callback.last_model_path] = (callback.current_score, "latest")
    if hasattr(callback, "best_model_path") and hasattr(callback, "best_model_score"):
        roles[callback.best_model_path] = (callback.best_model_score, "best")
    for path, score in getattr(callback, "best_k_models", {}).items():
        roles[path] = (score, "best_k")
    found = [
        SavedCheckpoint(Path(path).stat().st_mtime, path, score, tag)
        for path, (score, tag) in roles.items()
        if Path(path).is_file()
    ]
    found.sort(key=lambda saved: (saved.modified, saved.path))
    return [saved for saved in found if seen.get(saved.path, float("-inf")) < saved.modified]


def describe(callback: ModelCheckpoint) -> dict[str, Any]:
    """Returns the options of the callback that an uploaded checkpoint carries with it."""
    return {name: getattr(callback, name) for name in _DESCRIBING if hasattr(callback, name)}


def aliases(callback: ModelCheckpoint, path: str) -> list[str]:
    """Returns the names by which the newest upload can be asked for."""
    return ["latest", "best"] if path == callback.best_model_path else ["latest"]
