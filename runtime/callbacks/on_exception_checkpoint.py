"""Saves a checkpoint when the run fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer


class OnExceptionCheckpoint(Checkpoint):
    """Writes ``dirpath/filename.ckpt`` when an exception ends the run, and removes it when a run ends well.

    Args:
        dirpath: The folder; it cannot be left to the run, which may fail at once.
        filename: Without ``.ckpt``.
    """

    FILE_EXTENSION = ".ckpt"

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        super().__init__()
        if not filename:
            raise ValueError("The filename cannot be empty")
        self.dirpath = dirpath
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """Where the checkpoint is written."""
        return os.path.join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        trainer.save_checkpoint(self.ckpt_path)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.strategy.remove_checkpoint(self.ckpt_path)
