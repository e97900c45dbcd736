"""Saves checkpoints by epoch, step or time, and keeps the best of them.

Its annotations are evaluated: command lines are made from them.
"""

import logging
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import MisconfigurationException, WarningCache, rank_zero_info, rank_zero_warn
from ..filesystem import filesystem, is_local
from ..state import TrainerFn
from .checkpoint_files import absolute_folder, checkpoint_folder, find_checkpoints, is_own, link_checkpoint
from .checkpoint_names import fill_template
from .checkpoint_times import saves_with_epoch, validates_after_batch
from .ranked_checkpoint import RankedCheckpoint

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

log = logging.getLogger(__name__)
warning_cache = WarningCache()


class ModelCheckpoint(RankedCheckpoint):
    """Saves the newest, or the best, checkpoints.

    With none of ``every_n_train_steps``, ``every_n_epochs`` and ``train_time_interval`` it saves after every epoch;
    at most one of the three may be given.

    Args:
        dirpath: Default: ``checkpoints`` in the first logger's folder, or in ``default_root_dir``.
        filename: Template, ``{epoch}-{step}`` by default; ``{val_loss:.2f}`` is a logged metric.
        monitor: The logged metric to rank by; None keeps the newest.
        verbose: Says what is saved and why not.
        save_last: True also writes ``last.ckpt`` at each save, "link" makes it a link.
        save_top_k: How many to keep; -1 all, 0 none.
        save_on_exception: Saves when the run fails.
        save_weights_only: Leaves out optimizers, schedulers and loops.
        mode: "min" or "max" of ``monitor`` is best.
        auto_insert_metric_name: ``{epoch}`` becomes ``epoch=3`` instead of ``3``.
        every_n_train_steps: Optimizer steps between saves.
        train_time_interval: Time between saves.
        every_n_epochs: Epochs between saves; 0 never.
        save_on_train_epoch_end: False saves after validation; by default that depends on when validation runs.
        enable_version_counter: A name that is taken gets ``-v1``, ``-v2``, ...; otherwise it is overwritten.
    """

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        super().__init__(monitor, mode, save_top_k)
        if every_n_train_steps is None and every_n_epochs is None and train_time_interval is None:
            every_n_epochs = 1
        self.verbose = verbose
        self.save_last = save_last
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self.filename = filename
        self.dirpath: str | None = absolute_folder(dirpath)
        self._every_n_train_steps = every_n_train_steps or 0
        self._every_n_epochs = every_n_epochs or 0
        self._train_time_interval = train_time_interval
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._enable_version_counter = enable_version_counter
        self._check_triggers()

        self._last_global_step_saved = 0  # nothing to save before the first step
        self._last_checkpoint_saved = ""
        self._last_time_checked: float | None = None
        self._waits_for_validation = False  # a save was due before the metric of its validation was there
        self._validation_has_run = False
        if not self._every_n_train_steps and train_time_interval is None:
            self.idle_hooks = frozenset({"on_train_batch_end"})

    def _check_triggers(self) -> None:
        for name, value in (
            ("every_n_train_steps", self._every_n_train_steps),
            ("every_n_epochs", self._every_n_epochs),
        ):
            if value < 0:
                raise MisconfigurationException(f"Invalid value for {name}={value}. Must be >= 0")
        triggers = (self._every_n_train_steps, self._every_n_epochs, self._train_time_interval is not None)
        if sum(map(bool, triggers)) > 1:
            raise MisconfigurationException(
                f"Combination of parameters every_n_train_steps={self._every_n_train_steps},"
                f" every_n_epochs={self._every_n_epochs} and train_time_interval={self._train_time_interval}"
                " should be mutually exclusive."
            )

    @property
    def state_key(self) -> str:
        return self._generate_state_key(
            monitor=self.monitor,
            mode=self.mode,
            every_n_train_steps=self._every_n_train_steps,
            every_n_epochs=self._every_n_epochs,
            train_time_interval=self._train_time_interval,
        )

    @property
    def every_n_epochs(self) -> int | None:
        """Epochs between saves."""
        return self._every_n_epochs

    # -- when -----------------------------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        self.dirpath = dirpath = trainer.strategy.broadcast(self._resolve_dirpath(trainer))
        if self.save_last == "link" and not is_local(dirpath):
            raise ValueError(
                f"`ModelCheckpoint(save_last='link')` is only supported for local file paths, got `dirpath={dirpath}`."
            )
        if stage == "fit":
            self._validation_has_run = False
            if trainer.is_global_zero and self.save_top_k != 0:
                files = filesystem(dirpath)
                if files.isdir(dirpath) and files.ls(dirpath, detail=False):
                    rank_zero_warn(f"Checkpoint directory {dirpath} exists and is not empty.")

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._last_time_checked = time.monotonic()

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when steps or time say so; the loop leaves the hook out when neither was asked for."""
        if not (self._step_is_due(trainer) or self._time_is_due(trainer)):
            return
        candidates = self._monitor_candidates(trainer)
        if self.monitor is not None and (self.monitor not in candidates or self._waits(trainer)):
            self._waits_for_validation = True  # what is there now, if anything, is of an earlier validation
        elif not self._skips_saving(trainer):
            self._save_top_k(trainer, candidates)
            self._save_last(trainer, candidates)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not self._skips_saving(trainer) and self._saves_on_train_epoch_end(trainer):
            self._save_for_epoch(trainer)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not trainer.sanity_checking:
            self._validation_has_run = True
        if self._skips_saving(trainer):
            return
        if self._waits_for_validation:
            self._waits_for_validation = False
            candidates = self._monitor_candidates(trainer)
            self._save_top_k(trainer, candidates)
            self._save_last(trainer, candidates)
        elif not self._saves_on_train_epoch_end(trainer):
            self._save_for_epoch(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self.save_last and not self._last_checkpoint_saved and not trainer.fast_dev_run:
            self._save_last(trainer, self._monitor_candidates(trainer))

    def on_exception(self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException) -> None:
        if (
            not self.save_on_exception
            or trainer.fast_dev_run
            or trainer.sanity_checking
            or self._last_global_step_saved == trainer.global_step
        ):
            return
        candidates = self._monitor_candidates(trainer)
        filepath = self.format_checkpoint_name(candidates)
        self._save_checkpoint(trainer, filepath)
        self._save_last(trainer, candidates)
        rank_zero_info(f"{type(exception).__name__}: {exception}. Saved checkpoint to {filepath}")

    def _save_for_epoch(self, trainer: "Trainer") -> None:
        candidates = self._monitor_candidates(trainer)
        if self._every_n_epochs and (trainer.current_epoch + 1) % self._every_n_epochs == 0:
            self._save_top_k(trainer, candidates)
        if self._last_global_step_saved == trainer.global_step or (
            self.save_last == "link" and self._last_checkpoint_saved
        ):
            self._save_last(trainer, candidates)

    def _step_is_due(self, trainer: "Trainer") -> bool:
        return bool(self._every_n_train_steps) and trainer.global_step % self._every_n_train_steps == 0

    def _time_is_due(self, trainer: "Trainer") -> bool:
        if self._train_time_interval is None or self._last_time_checked is None:
            return False
        now = time.monotonic()
        due = now - self._last_time_checked >= self._train_time_interval.total_seconds()
        due = trainer.strategy.broadcast(due)  # clocks differ between ranks: rank zero's counts
        if due:
            self._last_time_checked = now
        return due

    def _skips_saving(self, trainer: "Trainer") -> bool:
        return (
            bool(trainer.fast_dev_run)
            or trainer.state.fn != TrainerFn.FITTING
            or trainer.sanity_checking
            or self._last_global_step_saved == trainer.global_step
        )

    def _waits(self, trainer: "Trainer") -> bool:
        """Whether the metric of a validation that comes next decides, and not what is there now."""
        return not self._saves_on_train_epoch_end(trainer) and validates_after_batch(trainer)

    def _saves_on_train_epoch_end(self, trainer: "Trainer") -> bool:
        return saves_with_epoch(trainer) if self._save_on_train_epoch_end is None else self._save_on_train_epoch_end

    # -- what -----------------------------------------------------------------------------------------------------

    def _monitor_candidates(self, trainer: "Trainer") -> dict[str, Tensor]:
        candidates = {name: torch.as_tensor(value).clone() for name, value in trainer.callback_metrics.items()}
        # a user's own "epoch" or "step" wins, and is a count again after `log` made it a float
        for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
            candidates[name] = candidates[name].int() if name in candidates else torch.tensor(count)
        return candidates

    def _save_top_k(self, trainer: "Trainer", candidates: dict[str, Tensor]) -> None:
        if self.save_top_k == 0:
            return
        if self.monitor is None:
            self._save_newest(trainer, candidates)
            return
        if self.monitor not in candidates:
            message = (
                f"`ModelCheckpoint(monitor={self.monitor!r})` could not find the monitored key in the returned"
                f" metrics: {list(candidates)}."
                f" HINT: Did you call `log({self.monitor!r}, value)` in the `LightningModule`?"
            )
            if self._validation_has_run:
                raise MisconfigurationException(message)
            warning_cache.warn(message)
        current = candidates.get(self.monitor)
        if self.check_monitor_top_k(trainer, current):
            assert current is not None
            self._save_best(current, trainer, candidates)
        elif self.verbose:
            rank_zero_info(f"{_when(candidates)}: {self.monitor!r} was not in top {self.save_top_k}")

    def _save_newest(self, trainer: "Trainer", candidates: dict[str, Tensor]) -> None:
        replaces = self.best_model_path if self.save_top_k == 1 else ""  # -1 keeps all, also under one name
        filepath = self._free_path(trainer, candidates, replaces)
        previous, self.best_model_path = self.best_model_path, filepath  # before saving: it is part of the state saved
        self._save_checkpoint(trainer, filepath)
        if self.save_top_k == 1:
            self._remove_replaced(trainer, previous, filepath)

    def _save_best(self, current: Tensor, trainer: "Trainer", candidates: dict[str, Tensor]) -> None:
        k = len(self.best_k_models) + 1 if self.save_top_k == -1 else self.save_top_k
        replaced = ""
        if len(self.best_k_models) == k and k > 0:
            replaced = self.kth_best_model_path
            del self.best_k_models[replaced]
        if torch.isnan(current):
            current = torch.full_like(current, torch.inf if self.mode == "min" else -torch.inf)
        filepath = self._free_path(trainer, candidates, replaced)
        self._rank(filepath, current, k)
        if self.verbose:
            rank_zero_info(
                f"{_when(candidates)}: {self.monitor!r} reached {current:0.5f}"
                f" (best {self.best_model_score:0.5f}), saving model to {filepath!r} as top {k}"
            )
        self._save_checkpoint(trainer, filepath)
        self._remove_replaced(trainer, replaced, filepath)

    def _save_last(self, trainer: "Trainer", candidates: dict[str, Tensor]) -> None:
        if not self.save_last:
            return
        filepath = self._free_path(trainer, candidates, self.last_model_path, self.CHECKPOINT_NAME_LAST)
        previous, self.last_model_path = self.last_model_path, filepath  # before saving: it is part of the state saved
        if self.save_last == "link" and self._last_checkpoint_saved and self.save_top_k != 0:
            if trainer.is_global_zero:
                link_checkpoint(self._last_checkpoint_saved, filepath)
            trainer.strategy.barrier()
        else:
            self._save_checkpoint(trainer, filepath)
        self._remove_replaced(trainer, previous, filepath)

    # -- files ----------------------------------------------------------------------------------------------------

    def _resolve_dirpath(self, trainer: "Trainer") -> str:
        return checkpoint_folder(trainer) if self.dirpath is None else self.dirpath

    def format_checkpoint_name(
        self,
        metrics: dict[str, Any],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """Returns the path for these metrics: ``dirpath``, the filled template, ``-v<ver>`` and the extension."""
        join = self.CHECKPOINT_JOIN_CHAR
        template = filename or self.filename or f"{{epoch}}{join}{{step}}"
        name = fill_template(template, metrics, self.auto_insert_metric_name, self.CHECKPOINT_EQUALS_CHAR)
        name = name if prefix is None else f"{prefix}{join}{name}"
        name = name if ver is None else f"{name}{join}v{ver}"
        return os.path.join(self.dirpath or "", f"{name}{self.FILE_EXTENSION}")

    def _free_path(
        self, trainer: "Trainer", candidates: dict[str, Tensor], replaces: str, template: str | None = None
    ) -> str:
        path = self.format_checkpoint_name(candidates, template)
        version = self.STARTING_VERSION
        while self._enable_version_counter and path != replaces and self.file_exists(path, trainer):
            path = self.format_checkpoint_name(candidates, template, ver=version)
            version += 1
        return path

    def file_exists(self, filepath: str | os.PathLike[str], trainer: "Trainer") -> bool:
        """Whether the file exists for rank zero; all ranks get its answer."""
        exists = trainer.is_global_zero and filesystem(filepath).exists(filepath)
        return trainer.strategy.reduce_boolean_decision(exists, all=False)

    def _save_checkpoint(self, trainer: "Trainer", filepath: str) -> None:
        trainer.save_checkpoint(filepath, self.save_weights_only)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    def _remove_replaced(self, trainer: "Trainer", previous: str, current: str) -> None:
        assert self.dirpath is not None
        if previous and previous != current and is_own(previous, self.dirpath, trainer.ckpt_path):
            trainer.strategy.remove_checkpoint(previous)

    def _find_last_checkpoints(self, trainer: "Trainer") -> set[str]:
        return find_checkpoints(self._resolve_dirpath(trainer), self.CHECKPOINT_NAME_LAST, self.FILE_EXTENSION)


def _when(candidates: dict[str, Tensor]) -> str:
    return f"Epoch {candidates['epoch']:d}, global step {candidates['step']:d}"
