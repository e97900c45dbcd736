"""Trainer: arguments become parts; the public methods. The loops are in `loops.py` and `evaluation.py`."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
import os
import sys
import time
from ast import literal_eval
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import legacy, loops, snapshot
from .callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    ModelCheckpoint,
    ModelSummary,
    OnExceptionCheckpoint,
    ProgressBar,
    Timer,
    default_model_summary,
    default_progress_bar,
)
from .config import Interval, Limit, TrainerConfig, batch_limit, seconds_of
from .data import DataSource
from .datahooks import DataHooks
from .datamodule import LightningDataModule
from .errors import MisconfigurationException, PossibleUserWarning, TunerExit, rank_zero_info, rank_zero_warn
from .evaluation import EvaluationRun, PredictionRun, evaluate, predict
from .hooks import Hooks, is_overridden
from .loggers import CSVLogger, DummyLogger, Logger, TensorBoardLogger
from .module import LightningModule
from .optim import GradClipAlgorithmType, LightningOptimizer, LRSchedulerConfig
from .precision import Precision
from .profilers import PassThroughProfiler, Profiler, resolve_profiler
from .results import REDUCTIONS, Board, Results
from .run import INFINITE, TrainingRun
from .session import STAGES, session
from .signals import Signals
from .state import RunningStage, RunState, TrainerFn, TrainerState, TrainerStatus
from .strategies import Strategy, environment, resolve_strategy
from .trial import trial

Path_ = str | Path
SECONDS_BETWEEN_SAVES = 2.0  # of what loggers hold in memory


def _with_defaults_of_environment(init: Callable[..., None]) -> Callable[..., None]:
    """Takes arguments that are not given from ``PL_TRAINER_<ARGUMENT>``."""
    names = [name for name in inspect.signature(init).parameters if name != "self"]

    @functools.wraps(init)
    def init_with_defaults(self: Trainer, **given: Any) -> None:
        for name in names:
            text = environment.read(f"PL_TRAINER_{name.upper()}") if name not in given else None
            if text is not None:
                try:
                    given[name] = literal_eval(text)
                except (ValueError, SyntaxError):
                    given[name] = text
        if not given.keys() <= set(names):
            given = legacy.modern_arguments(given, names)
        resume_from = given.pop("_resume_from", None)
        init(self, **given)
        self._resume_from = resume_from

    return init_with_defaults


class Trainer:
    """Trains, evaluates and runs a `LightningModule`.

    Attributes:
        config: the arguments as given.
        run: the counters of training.
        state: which method runs, and which stage of it.
        callbacks: in the order in which they are called.
    """

    @_with_defaults_of_environment
    def __init__(
        self,
        *,
        accelerator: Any = "auto",
        strategy: Any = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: Any = None,
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: list[Callback] | Callback | None = None,
        fast_dev_run: int | bool = False,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: Interval | None = None,
        limit_train_batches: Limit | None = None,
        limit_val_batches: Limit | None = None,
        limit_test_batches: Limit | None = None,
        limit_predict_batches: Limit | None = None,
        overfit_batches: Limit = 0.0,
        val_check_interval: Limit | Interval | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: Limit | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | Literal["warn"] | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: Profiler | str | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: Path_ | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
    ) -> None:
        """Every argument is Lightning's; `docs/runtime-arguments.md` has them in one table.

        Raises:
            MisconfigurationException: an argument is wrong, or contradicts another; says what to write instead.
        """
        given = locals()
        self.config = TrainerConfig(**{name: given[name] for name in TrainerConfig.__dataclass_fields__})
        self.state = TrainerState()
        self.run = RunState()
        self.barebones = barebones
        self._set_torch_flags()
        self.strategy: Strategy = resolve_strategy(
            accelerator, strategy, devices, num_nodes, sync_batchnorm, precision, plugins, use_distributed_sampler
        )
        self.profiler: Profiler = resolve_profiler(profiler)
        self._set_limits()
        self._default_root_dir = os.fspath(default_root_dir) if default_root_dir is not None else os.getcwd()
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = (
            GradClipAlgorithmType(gradient_clip_algorithm.lower()) if gradient_clip_algorithm is not None else None
        )
        self.reload_dataloaders_every_n_epochs = reload_dataloaders_every_n_epochs
        self.inference_mode = inference_mode
        self.enable_autolog_hparams = enable_autolog_hparams
        self._detect_anomaly = detect_anomaly
        self._loggers: list[Logger] = self._make_loggers()
        self.callbacks: list[Callback] = self._make_callbacks()
        self._clear_parts()
        if barebones:
            rank_zero_info(
                "You are running in `Trainer(barebones=True)` mode: checkpoints, loggers, the progress bar, the model"
                " summary, `self.log`, sanity checking, fast_dev_run, anomaly detection and profilers are off."
            )
        if self.fast_dev_run:
            rank_zero_info(
                f"Running in `fast_dev_run` mode: will run the requested loop using {int(self.fast_dev_run)} batch(es)."
                " Logging and checkpointing is suppressed."
            )

    # ---------------------------------------------------------------- from arguments to parts

    def _set_torch_flags(self) -> None:
        deterministic, benchmark = self.config.deterministic, self.config.benchmark
        if deterministic == "warn":
            torch.use_deterministic_algorithms(True, warn_only=True)
        elif deterministic is not None:
            torch.use_deterministic_algorithms(bool(deterministic))
        if deterministic:
            # Needed by cuBLAS for reproducible results, and read when its handle is made.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            if benchmark is None:
                benchmark = False
            elif benchmark:
                rank_zero_warn(
                    "You passed `deterministic=True` and `benchmark=True`. Note that PyTorch ignores"
                    " torch.backends.cudnn.deterministic=True when torch.backends.cudnn.benchmark=True.",
                )
        if benchmark is not None:
            torch.backends.cudnn.benchmark = benchmark

    def _set_limits(self) -> None:
        config, fast = self.config, int(self.config.fast_dev_run)
        self.fast_dev_run: int | bool = True if config.fast_dev_run == 1 else config.fast_dev_run
        self.overfit_batches = batch_limit(config.overfit_batches, "overfit_batches")
        self.limit_train_batches = config.limit("limit_train_batches")
        self.limit_val_batches = config.limit("limit_val_batches")
        self.limit_test_batches = config.limit("limit_test_batches")
        self.limit_predict_batches = config.limit("limit_predict_batches")
        self.max_epochs = 1 if fast else config.max_epochs
        self.min_epochs = config.min_epochs
        self.max_steps = fast or config.max_steps
        self.min_steps = config.min_steps
        sanity = 2 if config.num_sanity_val_steps is None else config.num_sanity_val_steps
        self.num_sanity_val_steps: Limit = 0 if fast or self.barebones else INFINITE if sanity == -1 else sanity
        self.check_val_every_n_epoch = 1 if fast else config.check_val_every_n_epoch
        self.val_check_batch: Limit | None = None
        self._val_check_seconds: float | None = None
        self.val_check_interval: Any = 1.0
        interval = config.val_check_interval
        if isinstance(interval, (str, dict, timedelta)):
            self._val_check_seconds = None if fast else seconds_of(interval)
        elif not fast:
            self.val_check_interval = batch_limit(interval, "val_check_interval")
        every = config.log_every_n_steps
        self.log_every_n_steps = 0 if self.barebones else 50 if every is None else every

    def _make_loggers(self) -> list[Logger]:
        logger = self.config.logger
        loggers: list[Logger]
        if logger is False or (logger is None and self.barebones):
            loggers = []
        elif logger is None or logger is True:
            loggers = [DummyLogger() if self.config.fast_dev_run else _default_logger(self.default_root_dir)]
        else:
            loggers = list(logger) if isinstance(logger, Iterable) else [logger]
        return [DummyLogger()] if loggers and self.config.fast_dev_run else loggers

    def _make_callbacks(self) -> list[Callback]:
        config, given = self.config, self.config.callbacks
        found: list[Callback] = [given] if isinstance(given, Callback) else list(given or [])
        enabled = not config.barebones
        if any(isinstance(callback, Checkpoint) for callback in found):
            if config.enable_checkpointing is False:
                raise MisconfigurationException(
                    "Trainer was configured with `enable_checkpointing=False`"
                    " but found `ModelCheckpoint` in callbacks list."
                )
        elif enabled if config.enable_checkpointing is None else config.enable_checkpointing:
            found.append(ModelCheckpoint())
        if config.max_time is not None:
            if any(isinstance(callback, Timer) for callback in found):
                rank_zero_info("Ignoring `Trainer(max_time=...)`, callbacks list already contains a Timer.")
            else:
                found.append(Timer(duration=config.max_time, interval="step"))
        bars = [callback for callback in found if isinstance(callback, ProgressBar)]
        if len(bars) > 1:
            raise MisconfigurationException(
                "You added multiple progress bar callbacks to the Trainer, but currently only one"
                " progress bar is supported."
            )
        if bars and config.enable_progress_bar is False:
            raise MisconfigurationException(
                "Trainer was configured with `enable_progress_bar=False`"
                f" but found `{type(bars[0]).__name__}` in callbacks list."
            )
        if not bars and (enabled if config.enable_progress_bar is None else config.enable_progress_bar):
            found.append(default_progress_bar())
        if enabled if config.enable_model_summary is None else config.enable_model_summary:
            summaries = [type(callback) for callback in found if isinstance(callback, ModelSummary)]
            if summaries:
                rank_zero_info(
                    f"Trainer already configured with model summary callbacks: {summaries}."
                    " Skipping setting a default `ModelSummary` callback."
                )
            else:
                found.append(default_model_summary(found))
        return self._ordered(found)

    @staticmethod
    def _ordered(callbacks: list[Callback]) -> list[Callback]:
        """Tuners first, checkpoints last, the rest as given; two callbacks may not share one key in checkpoints."""
        keys = [c.state_key for c in callbacks if is_overridden("state_dict", c, Callback)]
        for callback in callbacks:
            if keys.count(callback.state_key) > 1:
                raise RuntimeError(
                    f"Found more than one stateful callback of type `{type(callback).__name__}`. In the current"
                    " configuration, this callback does not support being saved alongside other instances of the same"
                    f" type. Please consult the documentation of `{type(callback).__name__}` regarding valid settings"
                    " for the callback state to be checkpointable."
                    " HINT: The `callback.state_key` must be unique among all callbacks in the Trainer."
                )
        tuners = ("BatchSizeFinder", "LearningRateFinder")

        def place(callback: Callback) -> int:
            if any(kind.__name__ in tuners for kind in type(callback).__mro__):
                return 0
            return 2 if isinstance(callback, Checkpoint) else 1

        return sorted(callbacks, key=place)

    def _clear_parts(self) -> None:
        self.optimizers: list[Optimizer] = []
        self.lr_scheduler_configs: list[LRSchedulerConfig] = []
        self._lightning_optimizers: list[LightningOptimizer] = []
        self._data = DataSource()
        self._board = Board()
        self._results: Results | None = None
        self._training: TrainingRun | None = None
        self._evaluations: dict[RunningStage, EvaluationRun] = {}
        self.predict_loop: PredictionRun | None = None
        self._hooks: Hooks = Hooks(self, None, self.callbacks, self.run, Callback, LightningModule)
        self._module: LightningModule | None = None
        self._ckpt_path: Path_ | None = None
        self._own_ckpt_path: Path_ | None = None
        self._signals: Signals | None = None
        self._next_save = 0.0
        self._is_launched = False
        self._verbose = True
        self._return_predictions: bool | None = None
        self._profile: Any = None
        self._resume_from: Path_ | None = None
        self._optimizer_frequencies: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        # Bound parts are made anew by the next call; a signal handler belongs to its process.
        bound: dict[str, Any] = dict.fromkeys(("_signals", "_training", "predict_loop", "_profile"))
        hooks = Hooks(self, None, (), self.run, Callback, LightningModule)
        return {**self.__dict__, **bound, "_evaluations": {}, "_hooks": hooks}

    # ---------------------------------------------------------------- the public methods

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: Path_ | None = None,
        weights_only: bool | None = None,
        **older: Any,
    ) -> None:
        """Trains a module.

        Args:
            model: what to train.
            train_dataloaders: any iterable of batches, a collection of them, or a datamodule.
            val_dataloaders: one iterable or several.
            datamodule: gives the loaders instead.
            ckpt_path: where to continue from: a path, "best", "last" or "hpc".
            weights_only: False lets the checkpoint hold pickled objects.
            **older: loaders under their names of Lightning 1.x.
        """
        if older:
            train_dataloaders, val_dataloaders = legacy.modern_loaders(
                older, train_dataloaders=train_dataloaders, val_dataloaders=val_dataloaders
            )
        ckpt_path = self._resume_from if ckpt_path is None else ckpt_path
        if self._launches():
            arguments = (model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
            self._launch(self.fit, *arguments)
            return
        self._start(TrainerFn.FITTING, model, datamodule, train=train_dataloaders, val=val_dataloaders)
        self._read_epoch_limits()
        self.should_stop = False
        path = self._checkpoint_path(ckpt_path, model_given=True)
        with suppress(TunerExit), session(self, path, weights_only):
            assert self._training is not None
            loops.fit(self._training)

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Path_ | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **older: Any,
    ) -> list[dict[str, float]]:
        """One pass over the validation data; returns each loader's metrics. Arguments as for `fit`."""
        if older:
            (dataloaders,) = legacy.modern_loaders(older, dataloaders=dataloaders)
        return self._evaluate(
            TrainerFn.VALIDATING, "val", model, dataloaders, ckpt_path, verbose, datamodule, weights_only
        )

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Path_ | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **older: Any,
    ) -> list[dict[str, float]]:
        """One pass over the test data; never called by `fit`. Arguments as for `fit`."""
        if older:
            (dataloaders,) = legacy.modern_loaders(older, dataloaders=dataloaders)
        return self._evaluate(
            TrainerFn.TESTING, "test", model, dataloaders, ckpt_path, verbose, datamodule, weights_only
        )

    def _evaluate(
        self,
        fn: TrainerFn,
        prefix: str,
        model: LightningModule | None,
        dataloaders: Any,
        ckpt_path: Path_ | None,
        verbose: bool,
        datamodule: LightningDataModule | None,
        weights_only: bool | None,
    ) -> list[dict[str, float]]:
        if self._launches():
            arguments = (fn, prefix, model, dataloaders, ckpt_path, verbose, datamodule, weights_only)
            launched: list[dict[str, float]] = self._launch(self._evaluate, *arguments)
            return launched
        self._start(fn, model, datamodule, **{prefix: dataloaders})
        self._verbose = verbose
        path = self._checkpoint_path(ckpt_path, model_given=model is not None)
        results: list[dict[str, float]] = []
        with suppress(TunerExit), session(self, path, weights_only):
            found = evaluate(self._evaluations[STAGES[fn]])
            results = [{name: value.item() for name, value in metrics.items()} for metrics in found]
        return results

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: Path_ | None = None,
        weights_only: bool | None = None,
    ) -> list[Any] | list[list[Any]] | None:
        """Runs `predict_step` over the data; returns its outputs, a list for each loader if there are several."""
        if self._launches():
            arguments = (model, dataloaders, datamodule, return_predictions, ckpt_path, weights_only)
            predictions: list[Any] | None = self._launch(self.predict, *arguments)
            return predictions
        self._start(TrainerFn.PREDICTING, model, datamodule, predict=dataloaders)
        self._return_predictions = return_predictions
        path = self._checkpoint_path(ckpt_path, model_given=model is not None)
        results: list[Any] | list[list[Any]] | None = None
        with suppress(TunerExit), session(self, path, weights_only):
            assert self.predict_loop is not None
            results = predict(self.predict_loop)
        return results

    def _launches(self) -> bool:
        return self.strategy.launcher is not None and not self._is_launched

    def _launch(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Hands a call to the launcher, which makes it in every process."""
        assert self.strategy.launcher is not None
        self._is_launched = True
        self.state.status = TrainerStatus.RUNNING
        try:
            return self.strategy.launcher.launch(method, *arguments, trainer=self)
        except BaseException as error:
            if not self.interrupted:  # it happened in other processes, this one has not heard of it
                self.state.status = TrainerStatus.INTERRUPTED
                for callback in self.callbacks:
                    callback.on_exception(self, self.lightning_module, error)
            raise
        finally:
            self._is_launched = False

    def _start(
        self, fn: TrainerFn, model: LightningModule | None, datamodule: LightningDataModule | None, **loaders: Any
    ) -> None:
        """Notes what this call runs and on which data."""
        if model is None:
            if self._module is None:
                raise TypeError(
                    f"`Trainer.{fn.value}()` requires a `LightningModule` when it hasn't been passed in a previous run"
                )
            model = self._module
        model = _uncompiled(model)
        given = "train_dataloaders" if fn is TrainerFn.FITTING else "dataloaders"
        first = next(iter(loaders))
        if isinstance(loaders[first], LightningDataModule):
            datamodule, loaders[first] = loaders[first], None
        if datamodule is not None and any(loader is not None for loader in loaders.values()):
            raise MisconfigurationException(
                f"You cannot pass both `trainer.{fn.value}({given}=..., datamodule=...)`"
                if fn is not TrainerFn.FITTING
                else "You cannot pass `train_dataloader` or `val_dataloaders` to `trainer.fit(datamodule=...)`"
            )
        self._module = model
        self.strategy.lightning_module = model
        self._data = DataSource()
        self._data.passed = loaders
        self._data.module, self._data.datamodule = model, datamodule
        if datamodule is not None:
            datamodule.trainer = self
        self.state.fn, self.state.status = fn, TrainerStatus.RUNNING
        self.state.stage = STAGES[fn]
        self._signals = None
        if self.barebones:
            rank_zero_info(
                "`Trainer(barebones=True)` started running. The progress bar is disabled so you might want to"
                " manually print the progress in your model."
            )

    def _read_epoch_limits(self) -> None:
        if self.max_epochs is None:
            if self.max_steps == -1 and not any(isinstance(callback, Timer) for callback in self.callbacks):
                rank_zero_warn(
                    "`max_epochs` was not set. Setting it to 1000 epochs. To train without an epoch limit,"
                    " set `max_epochs=-1`.",
                    category=PossibleUserWarning,
                )
                self.max_epochs = 1000
            else:
                self.max_epochs = -1
        if self.min_epochs is None:
            self.min_epochs = 1 if self.min_steps is not None else 0

    def save_checkpoint(
        self, filepath: Path_, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint of this moment; call it in every process.

        Args:
            filepath: where to.
            weights_only: leave out optimizers, loops and all else that only training needs.
            storage_options: for the `CheckpointIO` plugin.
        """
        if self.model is None:
            raise AttributeError(
                "Saving a checkpoint is only possible if a model is attached to the Trainer. Did you call"
                " `Trainer.save_checkpoint()` before calling `Trainer.{fit,validate,test,predict}`?"
            )
        with self.profiler.profile("save_checkpoint"):
            checkpoint = snapshot.dump(self, weights_only, Callback)
            self.strategy.save_checkpoint(checkpoint, filepath, storage_options=storage_options)
            self.strategy.barrier("Trainer.save_checkpoint")

    @contextmanager
    def init_module(self, empty_init: bool | None = None) -> Generator[None, None, None]:
        """Layers made inside are on the device and of the type that this trainer uses."""
        with self.strategy.tensor_init_context(empty_init=empty_init):
            yield

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints in one process of each machine."""
        if self.local_rank == 0:
            print(*args, **kwargs)

    # ---------------------------------------------------------------- for the loops

    def _trial(
        self, callbacks: list[Callback], reloads: bool = False, **settings: Any
    ) -> AbstractContextManager[Callable[..., None]]:
        """Short runs inside the run in progress; see `trial.py`. For callbacks, which may not import it."""
        return trial(self, callbacks, reloads, **settings)

    def _bind_hooks(self) -> None:
        self._profile = None if isinstance(self.profiler, PassThroughProfiler) else self._in_profile
        late = (EarlyStopping, Checkpoint)
        module = self.lightning_module
        self._hooks = Hooks(self, module, self.callbacks, self.run, Callback, LightningModule, late, self._profile)

    def _in_profile(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        profile = self.profiler.profile

        @functools.wraps(function, assigned=("__name__",), updated=())
        def profiled(*args: Any, **kwargs: Any) -> Any:
            with profile(name):
                return function(*args, **kwargs)

        return profiled

    def _profiled(self, kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._profile is None:
            return function
        owner = self.strategy if kind == "[Strategy]" else self.lightning_module
        wrapped: Callable[..., Any] = self._profile(f"{kind}{type(owner).__name__}.{name}", function)
        return wrapped

    def _backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        assert self._training is not None
        if self._training.backward is None:
            loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]
        else:
            self._training.backward(loss, *args, **kwargs)

    def _step_optimizer(self, optimizer: Any, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        assert self._training is not None
        return self._training.step_optimizer(optimizer, closure, **kwargs)

    def _act_on_signals(self) -> None:
        if self._signals is not None:
            self._signals.act()

    def _log_returned(self, output: Any) -> None:
        legacy.log_returned(self.lightning_module, {k: output[k] for k in ("log", "progress_bar") if k in output})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return legacy.old_attribute(self, name)

    def _sync_of(self, reduce_fx: Any, group: Any) -> Callable[[Tensor], Tensor] | None:
        if self.world_size == 1:
            return None
        return functools.partial(self.strategy.reduce, group=group, reduce_op=REDUCTIONS[reduce_fx])

    def _store_pending(self, results: Results) -> None:
        pending, results.pending = results.pending, []
        for name, value, options, batch_size in pending:
            prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, add_idx, rank_zero = options
            self.lightning_module.log(
                name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, add_idx,
                batch_size,  # type: ignore[arg-type]
                rank_zero_only=rank_zero,
            )  # fmt: skip

    def _write_metrics(self, metrics: dict[str, Tensor], step: int | None = None) -> None:
        """Sends metrics to the loggers; a metric called `step` is the x axis."""
        if not self.loggers or not metrics:
            return
        self._board.logged.update(metrics)
        scalars: dict[str, Any] = {name: value.item() for name, value in metrics.items()}
        if step is None:
            given = scalars.pop("step", None)
            if given is None:
                scalars.setdefault("epoch", self.current_epoch)
                step = self.run.logged_steps
            else:
                step = int(given)
        now = time.monotonic()
        saves = now >= self._next_save  # writing to disk costs more than a step; `finalize` writes the rest
        for logger in self.loggers:
            logger.log_metrics(metrics=scalars, step=step)
            if saves:
                logger.save()
        if saves:
            self._next_save = now + SECONDS_BETWEEN_SAVES

    def _validates_in_epoch(self, epoch: int) -> bool:
        every = self.check_val_every_n_epoch
        return self.enable_validation and (every is None or (epoch + 1) % every == 0)

    def _set_validation_interval(self, num_batches: int | float) -> None:
        """Turns `val_check_interval` into a number of batches, now that their count is known."""
        interval = self.val_check_interval
        if self._val_check_seconds is not None:
            self.val_check_batch = None
        elif isinstance(interval, int):
            self.val_check_batch = interval
            if interval > num_batches and self.check_val_every_n_epoch is not None and self.limit_val_batches > 0:
                raise ValueError(
                    f" `val_check_interval` ({interval}) must be less than or equal"
                    f" to the number of the training batches ({num_batches})."
                    " If you want to disable validation set `limit_val_batches` to 0.0 instead."
                    " If you want to validate based on the total training batches, set `check_val_every_n_epoch=None`."
                )
        elif num_batches == INFINITE:
            if interval != 1.0:
                raise MisconfigurationException(
                    "When using an IterableDataset for `train_dataloader`,"
                    " `Trainer(val_check_interval)` must be time based, `1.0` or an int. An int k specifies"
                    " checking validation every k training batches."
                )
            self.val_check_batch = INFINITE
        else:
            self.val_check_batch = max(1, int(num_batches * interval))
        if self.loggers and num_batches < self.log_every_n_steps and not self.fast_dev_run:
            rank_zero_warn(
                f"The number of training batches ({num_batches}) is smaller than the logging interval"
                f" Trainer(log_every_n_steps={self.log_every_n_steps}). Set a lower value for log_every_n_steps if"
                " you want to see logs for the training epoch.",
                category=PossibleUserWarning,
            )

    def _data_owner(self, prefix: str) -> Any:
        return self._data.owner(prefix, LightningModule, LightningDataModule)

    def _has_loader(self, prefix: str) -> bool:
        return self._data.passed.get(prefix) is not None or self._data_owner(prefix) is not None

    def _batch_hook_owner(self, name: str) -> Any:
        """Who overrides a hook for the way of a batch to the device; the datamodule wins."""
        for owner in (self.datamodule, self.lightning_module):
            if owner is not None and is_overridden(name, owner, DataHooks):
                return owner
        return None

    def _checkpoint_path(self, given: Path_ | None, model_given: bool) -> Path_ | None:
        """The checkpoint to load: a path as it is, "best" and "last" from the checkpoint callbacks."""
        fn = self.state.fn.value if self.state.fn is not None else "fit"
        if self._own_ckpt_path is not None:
            if given is None:
                return self._own_ckpt_path
            rank_zero_warn(
                f"`trainer.ckpt_path = {self._own_ckpt_path!r}` was called but then you"
                f" passed `trainer.fit(ckpt_path={given!r})`. The latter will be loaded."
            )
            self._own_ckpt_path = None
        on_exception = [c for c in self.callbacks if isinstance(c, OnExceptionCheckpoint)]
        if given is None and on_exception and self.state.fn is TrainerFn.FITTING:
            given = "last"
        if given is None and not model_given:
            given = "best"
            rank_zero_warn(
                f"`.{fn}(ckpt_path=None)` was called without a model."
                " The best model of the previous `fit` call will be used."
                f" You can pass `.{fn}(ckpt_path='best')` to use the best model or"
                f" `.{fn}(ckpt_path='last')` to use the last model."
                " If you pass a value, this warning will be silenced."
            )
        if given == "best":
            given = self._best_path(fn)
        elif given == "last":
            given = self._last_path(fn, on_exception)
        elif given == "hpc":
            paths = self._hpc_paths()
            if not paths:
                raise ValueError(
                    f'`.{fn}(ckpt_path="hpc")` is set but no HPC checkpoint was found.'
                    f" Please pass an exact checkpoint path to `.{fn}(ckpt_path=...)`"
                )
            given = paths[max(paths)]
        self._ckpt_path = given
        return given

    def _best_path(self, fn: str) -> Path_:
        if len(self.checkpoint_callbacks) > 1:
            rank_zero_warn(
                f'`.{fn}(ckpt_path="best")` is called with Trainer configured with multiple `ModelCheckpoint`'
                " callbacks. It will use the best checkpoint path from first checkpoint callback."
            )
        callback: Any = self.checkpoint_callback
        if callback is None:
            raise ValueError(f'`.{fn}(ckpt_path="best")` is set but `ModelCheckpoint` is not configured.')
        path: Path_ = getattr(callback, "best_model_path", "")
        if not path:
            if self.fast_dev_run:
                raise ValueError(
                    f'You cannot execute `.{fn}(ckpt_path="best")` with `fast_dev_run=True`.'
                    f" Please pass an exact checkpoint path to `.{fn}(ckpt_path=...)`"
                )
            raise ValueError(
                f'`.{fn}(ckpt_path="best")` is set but `ModelCheckpoint` is not configured to save the best model.'
            )
        return path

    def _last_path(self, fn: str, on_exception: list[Any]) -> Path_ | None:
        candidates: set[Any] = {getattr(callback, "ckpt_path", None) for callback in on_exception}
        for callback in self.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                candidates |= callback._find_last_checkpoints(self)
        times = {path: os.path.getmtime(path) for path in candidates if path and os.path.exists(path)}
        if not times:
            rank_zero_warn(
                f'.{fn}(ckpt_path="last") is set, but there is no last checkpoint available.'
                " No checkpoint will be loaded. HINT: Set `ModelCheckpoint(..., save_last=True)`."
            )
            return None
        return max(times, key=lambda path: times[path])

    def _hpc_paths(self) -> dict[int, Path]:
        saved = Path(self.default_root_dir).glob("hpc_ckpt_*.ckpt")
        return {int(path.stem.rsplit("_", 1)[1]): path for path in saved if path.stem.rsplit("_", 1)[1].isdigit()}

    def _next_hpc_version(self) -> int:
        return max(self._hpc_paths(), default=0) + 1

    # ---------------------------------------------------------------- what a script may read

    @property
    def lightning_module(self) -> LightningModule:
        """The module of this or the last call, or the one that the strategy was given."""
        module: LightningModule = self._module if self._module is not None else self.strategy.lightning_module
        return module

    @property
    def model(self) -> torch.nn.Module | None:
        """The module as it is run: wrapped, if the strategy wraps it."""
        return self.strategy.model

    @property
    def datamodule(self) -> LightningDataModule | None:
        datamodule: LightningDataModule | None = self._data.datamodule
        return datamodule

    @datamodule.setter
    def datamodule(self, datamodule: LightningDataModule | None) -> None:
        self._data.datamodule = datamodule

    @property
    def accelerator(self) -> Any:
        return self.strategy.accelerator

    @property
    def precision_plugin(self) -> Precision:
        return self.strategy.precision_plugin

    @property
    def precision(self) -> str:
        return self.precision_plugin.precision

    @property
    def scaler(self) -> Any:
        return self.precision_plugin.scaler

    @property
    def global_rank(self) -> int:
        return self.strategy.global_rank

    @property
    def local_rank(self) -> int:
        return self.strategy.local_rank

    @property
    def node_rank(self) -> int:
        return self.strategy.node_rank

    @property
    def world_size(self) -> int:
        return self.strategy.world_size

    @property
    def num_nodes(self) -> int:
        return self.strategy.num_nodes

    @property
    def device_ids(self) -> list[int]:
        return [device.index or position for position, device in enumerate(self.strategy.parallel_devices)]

    @property
    def num_devices(self) -> int:
        return len(self.strategy.parallel_devices)

    @property
    def is_global_zero(self) -> bool:
        return self.strategy.is_global_zero

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any] | None:
        return self.strategy.distributed_sampler_kwargs

    @property
    def default_root_dir(self) -> str:
        """Where files go that no logger and no callback places."""
        if "://" in self._default_root_dir:
            return self._default_root_dir
        return os.path.normpath(os.path.expanduser(self._default_root_dir))

    @property
    def log_dir(self) -> str | None:
        """The folder of this run; call it in every process."""
        if not self.loggers:
            folder: Any = self.default_root_dir
        elif isinstance(self.loggers[0], (TensorBoardLogger, CSVLogger)):
            folder = self.loggers[0].log_dir
        else:
            folder = self.loggers[0].save_dir
        shared: str | None = self.strategy.broadcast(folder)
        return shared

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self._loggers[0] if self._loggers else None

    @logger.setter
    def logger(self, logger: Logger | None) -> None:
        self._loggers = [logger] if logger else []

    @property
    def loggers(self) -> list[Logger]:
        return self._loggers

    @loggers.setter
    def loggers(self, loggers: list[Logger] | None) -> None:
        self._loggers = loggers or []

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        return [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        return next((callback for callback in self.callbacks if isinstance(callback, ProgressBar)), None)

    @property
    def ckpt_path(self) -> Path_ | None:
        """The checkpoint of the last call; set it to have every call load it."""
        return self._own_ckpt_path if self._own_ckpt_path is not None else self._ckpt_path

    @ckpt_path.setter
    def ckpt_path(self, ckpt_path: Path_ | None) -> None:
        self._ckpt_path = self._own_ckpt_path = ckpt_path or None

    @property
    def enable_validation(self) -> bool:
        """Whether `fit` validates: there are data and a step for it."""
        return (
            self._has_loader("val")
            and is_overridden("validation_step", self.lightning_module, LightningModule)
            and self.limit_val_batches > 0
        )

    @property
    def should_stop(self) -> bool:
        """Set it to end `fit` after the current batch."""
        return self.run.should_stop

    @should_stop.setter
    def should_stop(self, should_stop: bool) -> None:
        self.run.should_stop = should_stop

    @property
    def interrupted(self) -> bool:
        return self.state.status is TrainerStatus.INTERRUPTED

    @property
    def received_sigterm(self) -> bool:
        return self._signals is not None and self._signals.received_sigterm

    @property
    def global_step(self) -> int:
        """Optimizer steps taken, by all optimizers together."""
        return self.run.global_step

    @property
    def current_epoch(self) -> int:
        return self.run.epoch

    @property
    def batch_idx(self) -> int:
        """The index of the training batch in its epoch."""
        return self.run.batch_idx

    @property
    def is_last_batch(self) -> bool:
        """Whether the training batch is known to be its epoch's last."""
        state = self.run
        return state.skipped or state.epoch_closed or state.batch_idx + 1 == self.num_training_batches

    # Stages: each can be read and set, as Lightning's can.

    def _set_stage(self, stage: RunningStage, value: bool) -> None:
        if value:
            self.state.stage = stage
        elif self.state.stage is stage:
            self.state.stage = None

    @property
    def training(self) -> bool:
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        self._set_stage(RunningStage.TRAINING, value)

    @property
    def validating(self) -> bool:
        return self.state.stage is RunningStage.VALIDATING

    @validating.setter
    def validating(self, value: bool) -> None:
        self._set_stage(RunningStage.VALIDATING, value)

    @property
    def testing(self) -> bool:
        return self.state.stage is RunningStage.TESTING

    @testing.setter
    def testing(self, value: bool) -> None:
        self._set_stage(RunningStage.TESTING, value)

    @property
    def predicting(self) -> bool:
        return self.state.stage is RunningStage.PREDICTING

    @predicting.setter
    def predicting(self, value: bool) -> None:
        self._set_stage(RunningStage.PREDICTING, value)

    @property
    def sanity_checking(self) -> bool:
        return self.state.stage is RunningStage.SANITY_CHECKING

    @sanity_checking.setter
    def sanity_checking(self, value: bool) -> None:
        self._set_stage(RunningStage.SANITY_CHECKING, value)

    @property
    def evaluating(self) -> bool:
        return self.state.stage is not None and self.state.stage.evaluating

    # Loaders and their sizes.

    @property
    def _validation(self) -> EvaluationRun | None:
        fitting = self._training.validation if self._training is not None else None
        alone = self._evaluations.get(RunningStage.VALIDATING)
        if self.state.fn is TrainerFn.VALIDATING:
            return alone
        return fitting if fitting is not None and fitting.loaders is not None else alone or fitting

    @property
    def train_dataloader(self) -> Any:
        return _iterables(self._training)

    @property
    def val_dataloaders(self) -> Any:
        return _iterables(self._validation)

    @property
    def test_dataloaders(self) -> Any:
        return _iterables(self._evaluations.get(RunningStage.TESTING))

    @property
    def predict_dataloaders(self) -> Any:
        return _iterables(self.predict_loop)

    @property
    def num_training_batches(self) -> int | float:
        return self._training.num_batches if self._training is not None else INFINITE

    @property
    def num_val_batches(self) -> list[int | float]:
        return _limits(self._validation)

    @property
    def num_sanity_val_batches(self) -> list[int | float]:
        validation = self._training.validation if self._training is not None else None
        return [min(self.num_sanity_val_steps, count) for count in _limits(validation)]

    @property
    def num_test_batches(self) -> list[int | float]:
        return _limits(self._evaluations.get(RunningStage.TESTING))

    @property
    def num_predict_batches(self) -> list[int | float]:
        return _limits(self.predict_loop)

    @property
    def estimated_stepping_batches(self) -> int | float:
        """The number of optimizer steps that `fit` will take, for schedulers that must know it."""
        if self.max_epochs == -1:
            return INFINITE if self.max_steps == -1 else self.max_steps
        if self.train_dataloader is None:
            rank_zero_info("Loading `train_dataloader` to estimate number of stepping batches.")
            assert self._training is not None
            self._training.setup_data()
        batches = self.num_training_batches
        if batches == INFINITE:
            return self.max_steps
        assert self.max_epochs is not None
        steps = math.ceil(batches / self.accumulate_grad_batches) * max(self.max_epochs, 1)
        return min(steps, self.max_steps) if self.max_steps != -1 else steps

    # Metrics: reading them is what fetches values from the device.

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """What was logged, for callbacks that monitor something."""
        self._board.fold(self._results)
        return self._board.callback

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What was logged for the loggers."""
        self._board.fold(self._results)
        return self._board.logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged for the progress bar."""
        self._board.fold(self._results)
        return self._board.bar


def _uncompiled(model: Any) -> LightningModule:
    """The module inside what `torch.compile` returned, with its compiled methods.

    Raises:
        TypeError: it is no LightningModule.
    """
    if isinstance(model, torch._dynamo.OptimizedModule) if "torch._dynamo" in sys.modules else False:
        module = model._orig_mod
        if not isinstance(module, LightningModule):
            raise TypeError(
                f"`model` is expected to be a compiled LightningModule. Found a `{type(module).__name__}` instead"
            )
        for name in ("forward", "training_step", "validation_step", "test_step", "predict_step"):
            setattr(module, name, model.dynamo_ctx(getattr(module, name)))
        return module
    if isinstance(model, LightningModule):
        return model
    raise TypeError(
        f"`model` must be a `LightningModule` or `torch._dynamo.OptimizedModule`, got `{type(model).__qualname__}`"
    )


def _default_logger(folder: str) -> Logger:
    if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
        return TensorBoardLogger(save_dir=folder)
    return CSVLogger(save_dir=folder)


def _iterables(run: TrainingRun | EvaluationRun | None) -> Any:
    return run.loaders.combined.iterables if run is not None and run.loaders is not None else None


def _limits(run: EvaluationRun | None) -> list[int | float]:
    return run.loaders.limits if run is not None and run.loaders is not None else []
