"""The callback that keeps what the command line said beside a run's logs."""

from __future__ import annotations

import os

from jsonargparse import Namespace

from ..callbacks import Callback
from ..filesystem import filesystem
from ..hooks import is_overridden
from ..module import LightningModule
from ..trainer import Trainer
from .parser import LightningArgumentParser


class SaveConfigCallback(Callback):
    """Writes the parsed configuration to the log folder when a run starts.

    Args:
        parser: What parsed it.
        config: The configuration.
        config_filename: Its name in the log folder.
        overwrite: Replaces a file that is there, instead of refusing to.
        multifile: Keeps a configuration of several files in several files.
        save_to_log_dir: False leaves it to `save_config`.
    """

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Namespace,
        config_filename: str = "config.yaml",
        overwrite: bool = False,
        multifile: bool = False,
        save_to_log_dir: bool = True,
    ) -> None:
        if not save_to_log_dir and not is_overridden("save_config", self, SaveConfigCallback):
            raise ValueError(
                "`save_to_log_dir=False` only makes sense when subclassing SaveConfigCallback to implement "
                "`save_config` and it is desired to disable the standard behavior of saving to log_dir."
            )
        self.parser = parser
        self.config = config
        self.config_filename = config_filename
        self.overwrite = overwrite
        self.multifile = multifile
        self.save_to_log_dir = save_to_log_dir
        self.already_saved = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.already_saved:
            return
        if self.save_to_log_dir:
            self._write(trainer)
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, stage)
        self.already_saved = True

    def _write(self, trainer: Trainer) -> None:
        log_dir = trainer.log_dir
        assert log_dir is not None
        path = os.path.join(log_dir, self.config_filename)
        files = filesystem(log_dir)
        exists = trainer.is_global_zero and not self.overwrite and files.isfile(path)
        if trainer.strategy.broadcast(exists):
            raise RuntimeError(
                f"{type(self).__name__} expected {path} to NOT exist. Aborting to avoid overwriting"
                " results of a previous run. You can delete the previous config file,"
                " set `LightningCLI(save_config_callback=None)` to disable config saving,"
                ' or set `LightningCLI(save_config_kwargs={"overwrite": True})` to overwrite the config file.'
            )
        if trainer.is_global_zero:
            files.makedirs(log_dir, exist_ok=True)
            self.parser.save(self.config, path, skip_none=False, overwrite=self.overwrite, multifile=self.multifile)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Override it to save the configuration somewhere else too; called on rank zero only."""
