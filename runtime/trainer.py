"""Trainer: arguments become parts; the public methods. The loops are in `loops.py` and `evaluation.py`."""

from __future__ import annotations

import functools
import inspect
import os
from ast import literal_eval
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from torch.optim import Optimizer

from . import legacy, loops, snapshot
from .accelerators import Accelerator
from .call import STAGES, Call
from .callbacks import Callback
from .config import Interval, Limit, TrainerConfig, batch_limit, seconds_of
from .data import DataSource
from .datamodule import LightningDataModule
from .errors import TunerExit, rank_zero_info
from .evaluation import EvaluationRun, evaluate
from .hooks import Hooks
from .loggers import Logger
from .module import LightningModule
from .optim import GradClipAlgorithmType, LightningOptimizer, LRSchedulerConfig
from .parts import make_callbacks, make_loggers, set_torch_flags
from .prediction import PredictionRun, predict
from .profilers import Profiler, resolve_profiler
from .properties import TrainerProperties
from .results import Board, Results
from .run import TrainingRun
from .session import session
from .signals import Signals
from .state import RunningStage, RunState, TrainerFn, TrainerState, TrainerStatus
from .strategies import Plugin, Strategy, environment, resolve_strategy
from .trial import trial
from .validation_checks import INFINITE

Path_ = str | Path


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
        older = {name: given.pop(name) for name in list(given) if name.startswith("_")}
        init(self, **given)
        self._older = older

    return init_with_defaults


class Trainer(TrainerProperties):
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
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: str | int | None = None,
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
        plugins: Plugin | list[Plugin] | None = None,
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
        set_torch_flags(self.config)
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
        self._loggers = make_loggers(self.config, self.default_root_dir)
        self.callbacks = make_callbacks(self.config)
        self._clear_parts()
        if barebones:
            rank_zero_info(
                "You are running in `Trainer(barebones=True)` mode: checkpoints, loggers, the progress bar, the model"
                " summary, `self.log`, sanity checking, fast_dev_run, anomaly detection and profilers are off."
            )
        if detect_anomaly:
            rank_zero_info(
                "You have turned on `Trainer(detect_anomaly=True)`. This will significantly slow down compute speed and"
                " is recommended only for model debugging."
            )
        if self.fast_dev_run:
            rank_zero_info(
                f"Running in `fast_dev_run` mode: will run the requested loop using {int(self.fast_dev_run)} batch(es)."
                " Logging and checkpointing is suppressed."
            )

    # ---------------------------------------------------------------- from arguments to parts

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
        self._call: Call | None = None
        self._older: dict[str, Any] = {}  # settings of Lightning 1.x, for `legacy`
        self._optimizer_frequencies: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        # Bound parts are made anew by the next call; a signal handler belongs to its process.
        bound: dict[str, Any] = dict.fromkeys(("_signals", "_training", "predict_loop", "_call"))
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
        train, val = legacy.modern_loaders(older, train_dataloaders=train_dataloaders, val_dataloaders=val_dataloaders)
        ckpt_path = self._older.get("_resume_from_checkpoint") if ckpt_path is None else ckpt_path
        if self._launches():
            self._launch(self.fit, model, train, val, datamodule, ckpt_path, weights_only)
            return
        call = Call(TrainerFn.FITTING, model, {"train": train, "val": val}, datamodule, ckpt_path, weights_only)
        with suppress(TunerExit), session(self, call):
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
        (loaders,) = legacy.modern_loaders(older, dataloaders=dataloaders)
        call = Call(TrainerFn.VALIDATING, model, {"val": loaders}, datamodule, ckpt_path, weights_only, verbose=verbose)
        return self._evaluate(call)

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
        (loaders,) = legacy.modern_loaders(older, dataloaders=dataloaders)
        call = Call(TrainerFn.TESTING, model, {"test": loaders}, datamodule, ckpt_path, weights_only, verbose=verbose)
        return self._evaluate(call)

    def _evaluate(self, call: Call) -> list[dict[str, float]]:
        if self._launches():
            launched: list[dict[str, float]] = self._launch(self._evaluate, call)
            return launched
        results: list[dict[str, float]] = []
        with suppress(TunerExit), session(self, call):
            found = evaluate(self._evaluations[STAGES[call.fn]])
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
        call = Call(
            TrainerFn.PREDICTING, model, {"predict": dataloaders}, datamodule, ckpt_path, weights_only,
            return_predictions=return_predictions,
        )  # fmt: skip
        results: list[Any] | list[list[Any]] | None = None
        with suppress(TunerExit), session(self, call):
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

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return legacy.old_attribute(self, name)
