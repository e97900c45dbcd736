"""The course of one call of fit, validate, test or predict: what happens before, after, and when it goes wrong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from . import legacy
from .call import Call, take
from .callbacks.base import Callback
from .callbacks.checkpoint import Checkpoint
from .ckpt_path import next_hpc_path
from .errors import Interrupted, SIGTERMException, TunerExit, rank_zero_info
from .evaluation import evaluate
from .hooks import is_overridden
from .hparams import clean_namespace
from .module import LightningModule
from .module_checks import check_module
from .preparation import (
    attach_module_callbacks,
    bind_hooks,
    call_setup_hooks,
    call_teardown_hooks,
    configure_model,
    configure_optimizers,
    log_hyperparameters,
    make_runs,
    prepare_data,
)
from .randomness import isolate_rng
from .signals import Signals, requeue_job
from .snapshot import Restorer
from .state import RunningStage, TrainerFn, TrainerStatus

if TYPE_CHECKING:
    from .trainer import Trainer


@contextmanager
def session(trainer: Trainer, call: Call) -> Iterator[None]:
    """Everything around the loop of one call. Errors close the run in order and go on to the caller."""
    ckpt_path = take(trainer, call)
    try:
        introduce(trainer)
        with legacy.adapted(trainer, trainer.lightning_module):
            begin(trainer, ckpt_path, call.weights_only)
            detects = trainer._detect_anomaly and trainer.state.fn is TrainerFn.FITTING
            with signals_of(trainer), torch.autograd.set_detect_anomaly(detects):
                yield
            end(trainer)
    except TunerExit:
        call_teardown_hooks(trainer)
        close(trainer)
        trainer.state.status, trainer.state.stage = TrainerStatus.FINISHED, None
        raise  # a context manager cannot skip its block: the caller does
    except KeyboardInterrupt as interrupt:
        rank_zero_info("\nDetected KeyboardInterrupt, attempting graceful shutdown ...")
        with _deaf_to_ctrl_c():
            abort(trainer, interrupt)
        raise Interrupted from interrupt
    except BaseException as error:
        abort(trainer, error)
        trainer.state.stage = None
        raise


def introduce(trainer: Trainer) -> None:
    """Makes trainer, module and callbacks known to one another, and refuses what cannot run."""
    strategy, module = trainer.strategy, trainer.lightning_module
    if hasattr(module, "hparams"):
        clean_namespace(module.hparams)
    strategy.connect(module)
    module.trainer = trainer  # type: ignore[assignment]
    trainer.run.hook = None
    attach_module_callbacks(trainer)
    for callback in trainer.callbacks:
        callback.log, callback.log_dict = module.log, module.log_dict  # type: ignore[attr-defined]
    check_module(trainer)


def begin(trainer: Trainer, ckpt_path: Any, weights_only: bool | None) -> None:
    """Brings all parts into being, in Lightning's order."""
    fn, strategy, module = trainer.state.fn, trainer.strategy, trainer.lightning_module
    assert fn is not None
    strategy.setup_environment()
    profiler = trainer.profiler
    profiler.lightning_module = module  # type: ignore[attr-defined]
    profiler.setup(stage=fn, local_rank=trainer.local_rank if trainer.world_size > 1 else None, log_dir=trainer.log_dir)
    prepare_data(trainer)
    call_setup_hooks(trainer)
    configure_model(trainer)
    restorer = Restorer(trainer, ckpt_path, weights_only)
    if not strategy.restore_checkpoint_after_setup:
        restorer.module_and_callbacks(Callback)
    trainer._board.clear()
    bind_hooks(trainer)
    make_runs(trainer)
    strategy.setup(trainer)
    if fn is TrainerFn.FITTING:
        configure_optimizers(trainer)
        trainer._hooks.call("on_fit_start")
    if trainer.enable_autolog_hparams:
        log_hyperparameters(trainer)
    if strategy.restore_checkpoint_after_setup:
        restorer.module_and_callbacks(Callback)
    if fn is TrainerFn.FITTING and trainer._training is not None:
        trainer._training.bind()
    restorer.training()
    restoring = bool(restorer.checkpoint)
    restorer.finish()
    strategy.barrier("run-stage")
    if is_overridden("zero_grad", module, LightningModule):  # the module's own; torch's would drop what a loop keeps
        module.zero_grad()
    if fn is TrainerFn.FITTING:
        if not restoring:
            with isolate_rng():
                sanity_check(trainer)
        trainer.state.stage = RunningStage.TRAINING
        trainer._results = trainer._training.results if trainer._training is not None else None


def sanity_check(trainer: Trainer) -> None:
    """A few batches of validation before training, so that a mistake in it shows early."""
    training = trainer._training
    assert training is not None
    if not trainer.enable_validation or trainer.num_sanity_val_steps <= 0:
        return
    trainer.state.stage = RunningStage.SANITY_CHECKING
    trainer._results = training.validation.results
    trainer._board.clear()
    trainer._hooks.call("on_sanity_check_start")
    evaluate(training.validation)
    trainer._hooks.call("on_sanity_check_end")
    training.validation.results.reset()
    training.validation.seen = {}
    trainer._board.clear()
    trainer.state.stage = RunningStage.TRAINING


def end(trainer: Trainer) -> None:
    """Closes a run that came to its end."""
    close(trainer)
    if trainer.state.fn is TrainerFn.FITTING:
        trainer._hooks.call("on_fit_end")
    call_teardown_hooks(trainer)
    trainer.strategy.barrier("run-end")  # what the first process wrote is there for all
    trainer.state.status, trainer.state.stage = TrainerStatus.FINISHED, None
    trainer._results = None


def abort(trainer: Trainer, error: BaseException) -> None:
    """Tells everyone of an error and closes the run."""
    trainer.state.status = TrainerStatus.INTERRUPTED
    state, module = trainer.run, trainer.lightning_module
    state.hook = "on_exception"
    alone = trainer.world_size > 1 and not isinstance(error, (SIGTERMException, KeyboardInterrupt))
    for callback in trainer.callbacks:
        if alone and isinstance(callback, Checkpoint):
            continue  # saving needs the other processes, and these are somewhere else
        callback.on_exception(trainer, module, error)
    if trainer.datamodule is not None:
        trainer.datamodule.on_exception(error)
    state.hook = None
    trainer.strategy.on_exception(error)
    for logger in trainer.loggers:
        logger.finalize("failed")
    close(trainer)
    trainer.profiler.teardown(stage=trainer.state.fn)


def close(trainer: Trainer) -> None:
    """Devices as they were found, metrics on the CPU."""
    trainer.strategy.teardown()
    trainer._board.fold(None)
    trainer._board.to_cpu()


def signals_of(trainer: Trainer) -> Signals:
    """Listens for signals while a call lasts; the loop acts on them between two batches."""

    def wake() -> None:
        if trainer._training is not None:
            trainer._training.wants_out = True

    def requeue() -> None:
        trainer.save_checkpoint(next_hpc_path(trainer))
        for logger in trainer.loggers:
            logger.finalize("finished")
        requeue_job()

    environment = getattr(trainer.strategy, "cluster_environment", None)
    launcher = trainer.strategy.launcher
    shared = trainer.world_size > 1 and trainer.state.fn is TrainerFn.FITTING
    trainer._signals = Signals(wake, requeue, environment, launcher.kill if launcher is not None else None, shared)
    return trainer._signals


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Another Ctrl-C must not cut the closing short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
