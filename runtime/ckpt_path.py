"""Which checkpoint a call loads: a path as it is, or what "best", "last" and "hpc" stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callbacks import ModelCheckpoint, OnExceptionCheckpoint
from .errors import rank_zero_warn
from .state import TrainerFn
from .strategies.slurm import SLURMEnvironment

if TYPE_CHECKING:
    from .trainer import Trainer

Path_ = str | Path


def checkpoint_path(trainer: Trainer, given: Path_ | None, model_given: bool) -> Path_ | None:
    """The checkpoint to load: a path as it is, "best" and "last" from the checkpoint callbacks."""
    fn = trainer.state.fn.value if trainer.state.fn is not None else "fit"
    if trainer._own_ckpt_path is not None:
        if given is None:
            return trainer._own_ckpt_path
        rank_zero_warn(
            f"`trainer.ckpt_path = {trainer._own_ckpt_path!r}` was called but then you"
            f" passed `trainer.fit(ckpt_path={given!r})`. The latter will be loaded."
        )
        trainer._own_ckpt_path = None
    if given is None and fn == "fit" and SLURMEnvironment.detect() and _hpc_paths(trainer):
        given = "hpc"  # a job that was put back into the queue goes on
    on_exception = [c for c in trainer.callbacks if isinstance(c, OnExceptionCheckpoint)]
    if given is None and on_exception and trainer.state.fn is TrainerFn.FITTING:
        given = "last"
    if given is None and not model_given:
        given = "best"
        also = " There is also an on-exception checkpoint, which only `fit` takes by itself." if on_exception else ""
        rank_zero_warn(
            f"`.{fn}(ckpt_path=None)` was called without a model."
            f" The best model of the previous `fit` call will be used.{also}"
            f" You can pass `.{fn}(ckpt_path='best')` to use the best model or"
            f" `.{fn}(ckpt_path='last')` to use the last model."
            " If you pass a value, this warning will be silenced."
        )
    if given == "best":
        given = _best_path(trainer, fn)
    elif given == "last":
        given = _last_path(trainer, fn, on_exception)
    elif given == "hpc":
        paths = _hpc_paths(trainer)
        if not paths:
            raise ValueError(
                f'`.{fn}(ckpt_path="hpc")` is set but no HPC checkpoint was found.'
                f" Please pass an exact checkpoint path to `.{fn}(ckpt_path=...)`"
            )
        given = paths[max(paths)]
    elif given is not None and not str(given):  # the `best_model_path` of a callback that saved nothing
        raise ValueError(
            f"`.{fn}()` found no path for the best weights: {given!r}."
            f" Please specify a path for a checkpoint `.{fn}(ckpt_path=PATH)`, or None for the weights as they are."
        )
    trainer._ckpt_path = given
    return given


def _best_path(trainer: Trainer, fn: str) -> Path_:
    if len(trainer.checkpoint_callbacks) > 1:
        rank_zero_warn(
            f'`.{fn}(ckpt_path="best")` is called with Trainer configured with multiple `ModelCheckpoint`'
            " callbacks. It will use the best checkpoint path from first checkpoint callback."
        )
    callback: Any = trainer.checkpoint_callback
    if callback is None:
        raise ValueError(f'`.{fn}(ckpt_path="best")` is set but `ModelCheckpoint` is not configured.')
    path: Path_ = getattr(callback, "best_model_path", "")
    if not path:
        if trainer.fast_dev_run:
            raise ValueError(
                f'You cannot execute `.{fn}(ckpt_path="best")` with `fast_dev_run=True`.'
                f" Please pass an exact checkpoint path to `.{fn}(ckpt_path=...)`"
            )
        raise ValueError(
            f'`.{fn}(ckpt_path="best")` is set but `ModelCheckpoint` is not configured to save the best model.'
        )
    return path


def _last_path(trainer: Trainer, fn: str, on_exception: list[Any]) -> Path_ | None:
    candidates: set[Any] = {getattr(callback, "ckpt_path", None) for callback in on_exception}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            candidates |= callback._find_last_checkpoints(trainer)
    times = {path: os.path.getmtime(path) for path in candidates if path and os.path.exists(path)}
    if not times:
        rank_zero_warn(
            f'.{fn}(ckpt_path="last") is set, but there is no last checkpoint available.'
            " No checkpoint will be loaded. HINT: Set `ModelCheckpoint(..., save_last=True)`."
        )
        return None
    return max(times, key=lambda path: times[path])


def _hpc_paths(trainer: Trainer) -> dict[int, Path]:
    saved = Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")
    return {int(path.stem.rsplit("_", 1)[1]): path for path in saved if path.stem.rsplit("_", 1)[1].isdigit()}


def next_hpc_path(trainer: Trainer) -> Path:
    """Where a job that is put back into the queue leaves its state."""
    version = max(_hpc_paths(trainer), default=0) + 1
    return Path(trainer.default_root_dir) / f"hpc_ckpt_{version}.ckpt"
