"""The course of one call of fit, validate, test or predict: what happens before, after, and when it goes wrong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from . import legacy
from .call import Call, take
from .callbacks.base import Callback
from .callbacks.checkpoint import Checkpoint
from .callbacks.early_stopping import EarlyStopping
from .ckpt_path import next_hpc_path
from .data import no_loader
from .datamodule import LightningDataModule
from .errors import (
    Interrupted,
    MisconfigurationException,
    PossibleUserWarning,
    SIGTERMException,
    TunerExit,
    rank_zero_info,
    rank_zero_warn,
)
from .evaluation import EvaluationRun, PredictionRun, evaluate
from .hooks import Hooks, is_overridden, warn_of_near_misses
from .hparams import clean_namespace
from .loggers import WandbLogger
from .module import LightningModule
from .optim import LightningOptimizer, check_schedulers, normal_form
from .parts import in_order
from .randomness import isolate_rng
from .run import TrainingRun
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
    if fn is TrainerFn.FITTING:
        if not restoring:
            with isolate_rng():
                sanity_check(trainer)
        trainer.state.stage = RunningStage.TRAINING
        trainer._results = trainer._training.results if trainer._training is not None else None


def bind_hooks(trainer: Trainer) -> None:
    """Finds out who overrides which hook; each call of one is measured if there is a profiler."""
    module, late, measured = trainer.lightning_module, (EarlyStopping, Checkpoint), trainer.profiler.measured
    trainer._hooks = Hooks(trainer, module, trainer.callbacks, trainer.run, Callback, LightningModule, late, measured)


def make_runs(trainer: Trainer) -> None:
    """The bound parts of the loop that this call runs."""
    call, fn, hooks = trainer._call, trainer.state.fn, trainer._hooks
    assert call is not None
    trainer._results = None
    if fn is TrainerFn.FITTING:
        trainer._training = TrainingRun(trainer, hooks)
        trainer._results = trainer._training.results
    elif fn is TrainerFn.PREDICTING:
        trainer.predict_loop = PredictionRun(trainer, hooks, call.return_predictions)
    else:
        stage = RunningStage.VALIDATING if fn is TrainerFn.VALIDATING else RunningStage.TESTING
        run = EvaluationRun(trainer, hooks, stage, verbose=call.verbose)
        trainer._evaluations[stage] = run
        trainer._results = run.results


def attach_module_callbacks(trainer: Trainer) -> None:
    """Adds what `configure_callbacks` returns; it replaces the trainer's callbacks of the same type."""
    module = trainer.lightning_module
    trainer.run.hook = "configure_callbacks"
    given = module.configure_callbacks()
    trainer.run.hook = None
    own = [given] if isinstance(given, Callback) else list(given or [])
    if not own:
        return
    replaced = {
        type(callback)
        for callback in trainer.callbacks
        if type(callback) is not Callback and any(issubclass(type(new), type(callback)) for new in own)
    }
    if replaced:
        rank_zero_info(
            "The following callbacks returned in `LightningModule.configure_callbacks` will override"
            f" existing callbacks passed to Trainer: {', '.join(sorted(kind.__name__ for kind in replaced))}"
        )
    trainer.callbacks = in_order([c for c in trainer.callbacks if type(c) not in replaced] + own)


def check_module(trainer: Trainer) -> None:
    """Refuses modules that this call cannot run.

    Raises:
        MisconfigurationException: says which method is missing, or which argument contradicts the module.
    """
    module, fn = trainer.lightning_module, trainer.state.fn
    has = {
        name: is_overridden(name, module, LightningModule)
        for name in ("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers")
    }
    warn_of_near_misses(module, LightningModule)
    if trainer.datamodule is not None:
        warn_of_near_misses(trainer.datamodule, LightningDataModule)
    for callback in trainer.callbacks:
        warn_of_near_misses(callback, Callback)
    if fn is TrainerFn.FITTING:
        for name in ("training_step", "configure_optimizers"):
            if not has[name]:
                raise MisconfigurationException(
                    f"No `{name}()` method defined. Lightning `Trainer` expects as minimum a"
                    " `training_step()`, `train_dataloader()` and `configure_optimizers()` to be defined."
                )
        has_loader = trainer._data.has("val")
        if has_loader and not has["validation_step"]:
            rank_zero_warn("You passed in a `val_dataloader` but have no `validation_step`. Skipping val loop.")
        if has["validation_step"] and not has_loader:
            rank_zero_warn(
                "You defined a `validation_step` but have no `val_dataloader`. Skipping val loop.",
                category=PossibleUserWarning,
            )
        _check_manual(trainer)
    elif fn is TrainerFn.PREDICTING:
        if module.predict_step is None:
            raise MisconfigurationException("`predict_step` cannot be None to run `Trainer.predict`")
        if not has["predict_step"] and not is_overridden("forward", module, LightningModule):
            raise MisconfigurationException("`Trainer.predict` requires `forward` method to run.")
    else:
        step, method = ("validation_step", "validate") if fn is TrainerFn.VALIDATING else ("test_step", "test")
        if not has[step]:
            raise MisconfigurationException(f"No `{step}()` method defined to run `Trainer.{method}`.")
    prefixes = {TrainerFn.FITTING: "train", TrainerFn.VALIDATING: "val", TrainerFn.TESTING: "test"}
    prefix = prefixes.get(fn, "predict")  # type: ignore[arg-type]
    if not trainer._data.has(prefix):
        raise no_loader(trainer, prefix)
    kind = type(module)
    if (
        kind.configure_sharded_model is not LightningModule.configure_sharded_model
        and kind.configure_model is not LightningModule.configure_model
    ):
        raise RuntimeError(
            "Both `{0}.configure_model`, and `{0}.configure_sharded_model` are overridden. The latter is deprecated and"
            " it should be replaced with the former.".format(type(module).__name__)
        )


def _check_manual(trainer: Trainer) -> None:
    if trainer.lightning_module.automatic_optimization:
        return
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val > 0:
        raise MisconfigurationException(
            "Automatic gradient clipping is not supported for manual optimization."
            f" Remove `Trainer(gradient_clip_val={trainer.gradient_clip_val})` or switch to automatic optimization."
        )
    if trainer.accumulate_grad_batches != 1:
        raise MisconfigurationException(
            "Automatic gradient accumulation is not supported for manual optimization."
            f" Remove `Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches})`"
            " or switch to automatic optimization."
        )


def prepare_data(trainer: Trainer) -> None:
    """Calls `prepare_data` on one process per node, or on one process."""
    local_zero = trainer.local_rank == 0
    global_zero = local_zero and trainer.node_rank == 0
    for owner, base in ((trainer.datamodule, LightningDataModule), (trainer.lightning_module, LightningModule)):
        if owner is None or not is_overridden("prepare_data", owner, base):
            continue
        if local_zero if owner.prepare_data_per_node else global_zero:
            trainer.run.hook = "prepare_data"
            with trainer.profiler.profile(f"[{base.__name__}]{type(owner).__name__}.prepare_data"):
                owner.prepare_data()
            trainer.run.hook = None
        trainer.strategy.barrier("prepare_data")


def _measured(trainer: Trainer, method: Any) -> Callable[..., Any]:
    return trainer.profiler.measured(
        f"[LightningDataModule]{type(trainer.datamodule).__name__}.{method.__name__}", method
    )


def call_setup_hooks(trainer: Trainer) -> None:
    fn, module = trainer.state.fn, trainer.lightning_module
    assert fn is not None
    for part in module.modules():
        if isinstance(part, LightningModule):
            part._device = trainer.strategy.root_device
    # Some make their folder or run name when first asked; wandb comes first, as it patches what TensorBoard writes.
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, WandbLogger)):
        getattr(logger, "experiment", None)
    trainer.strategy.barrier("pre_setup")
    state = trainer.run
    state.hook = "setup"
    if trainer.datamodule is not None:
        _measured(trainer, trainer.datamodule.setup)(stage=fn)
    for callback in trainer.callbacks:
        callback.setup(trainer, module, stage=fn)
    module.setup(stage=fn)
    state.hook = None
    trainer.strategy.barrier("post_setup")


def call_teardown_hooks(trainer: Trainer) -> None:
    fn, module, state = trainer.state.fn, trainer.lightning_module, trainer.run
    assert fn is not None
    state.hook = "teardown"
    if trainer.datamodule is not None:
        _measured(trainer, trainer.datamodule.teardown)(stage=fn)
    for callback in trainer.callbacks:
        callback.teardown(trainer, module, stage=fn)
    module.teardown(stage=fn)
    state.hook = None
    for logger in trainer.loggers:
        logger.finalize("success")
    trainer.profiler.describe()


def configure_model(trainer: Trainer) -> None:
    module = trainer.lightning_module
    for name in ("configure_sharded_model", "configure_model"):
        if is_overridden(name, module, LightningModule):
            trainer.run.hook = name
            with trainer.strategy.tensor_init_context(), trainer.strategy.model_sharded_context():
                getattr(module, name)()
            trainer.run.hook = None


def configure_optimizers(trainer: Trainer) -> None:
    module = trainer.lightning_module
    trainer.run.hook = "configure_optimizers"
    configured = trainer.profiler.measured(
        f"[LightningModule]{type(module).__name__}.configure_optimizers", module.configure_optimizers
    )()
    trainer.run.hook = None
    optimizers, configs = normal_form(configured, module)
    parts = [part for part in configured if isinstance(part, dict)] if isinstance(configured, (list, tuple)) else []
    trainer._optimizer_frequencies = [part["frequency"] for part in parts if "frequency" in part]
    own_steps = not module.automatic_optimization or is_overridden("lr_scheduler_step", module, LightningModule)
    check_schedulers(configs, own_steps)
    trainer.optimizers = trainer.strategy.setup_optimizers(optimizers)
    trainer.lr_scheduler_configs = configs
    trainer._lightning_optimizers = [LightningOptimizer(optimizer, trainer) for optimizer in trainer.optimizers]


def log_hyperparameters(trainer: Trainer) -> None:
    """Sends the hyperparameters of module and datamodule to the loggers, once."""
    module, datamodule = trainer.lightning_module, trainer.datamodule
    wanted = [
        owner.hparams_initial
        for owner in (datamodule, module)
        if owner is not None and owner._log_hyperparams and owner.hparams_initial
    ]
    if len(wanted) == 2:
        # `_class_path` is what a command line notes of each.
        shared = (wanted[0].keys() & wanted[1].keys()) - {"_class_path"}
        different = [key for key in shared if _differ(wanted[0][key], wanted[1][key])]
        if different:
            raise RuntimeError(
                f"Error while merging hparams: the keys {different} are present in both the LightningModule's and"
                " LightningDataModule's hparams but have different values."
            )
    merged: dict[str, Any] = {}
    for hparams in wanted:
        merged.update(hparams)
    merged.pop("_class_path", None)
    for logger in trainer.loggers:
        if merged:
            logger.log_hyperparams(merged)
        logger.log_graph(module)
        logger.save()


def _differ(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return not torch.equal(first, second)
    return type(first) is not type(second) or bool(first != second)


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
