"""What a script may read of a Trainer, and set: the run, its parts, its processes, its data and its metrics."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from .data import DataSource
from .datamodule import LightningDataModule
from .errors import MisconfigurationException, rank_zero_info
from .evaluation import EvaluationRun
from .hooks import is_overridden
from .loggers import CSVLogger, Logger, TensorBoardLogger
from .module import LightningModule
from .precision import Precision
from .prediction import PredictionRun
from .results import Board, Results
from .run import TrainingRun
from .signals import Signals
from .state import RunningStage, RunState, TrainerFn, TrainerState, TrainerStatus
from .strategies import Strategy
from .validation_checks import INFINITE

Path_ = str | Path


class TrainerProperties:
    """The names of Lightning's Trainer that are answered by one of its parts."""

    run: RunState
    state: TrainerState
    strategy: Strategy
    callbacks: list[Callback]
    max_epochs: int | None
    max_steps: int
    num_sanity_val_steps: int | float
    limit_val_batches: int | float
    accumulate_grad_batches: int
    predict_loop: PredictionRun | None
    _board: Board
    _ckpt_path: Path_ | None
    _data: DataSource
    _default_root_dir: str
    _evaluations: dict[RunningStage, EvaluationRun]
    _loggers: list[Logger]
    _module: LightningModule | None
    _own_ckpt_path: Path_ | None
    _results: Results | None
    _signals: Signals | None
    _training: TrainingRun | None

    @property
    def lightning_module(self) -> LightningModule:
        """The module of this or the last call, or the one that the strategy was given."""
        module: LightningModule = self._module if self._module is not None else self.strategy.lightning_module
        return module

    @property
    def fit_loop(self) -> TrainerProperties:
        """The trainer itself, so that `trainer.fit_loop.max_epochs = 20` sets a limit between two calls of `fit`."""
        return self

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
            self._data.has("val")
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
        return state.was_last or state.epoch_closed or state.batch_idx + 1 == self.num_training_batches

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
            if self._training is None:
                raise MisconfigurationException(
                    "`trainer.estimated_stepping_batches` is known when `fit` has begun: read it in"
                    " `configure_optimizers` or in a hook."
                )
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
        """What was logged for the progress bar.

        Of several processes only the first has a bar, so reading must not reduce an epoch's values over all of them: it
        sees those that the loops have read.
        """
        if self.world_size == 1 or (self._results is not None and self._results.in_batches):
            self._board.fold(self._results)
        return self._board.bar


def _iterables(run: TrainingRun | EvaluationRun | None) -> Any:
    return run.loaders.combined.iterables if run is not None and run.loaders is not None else None


def _limits(run: EvaluationRun | None) -> list[int | float]:
    return run.loaders.limits if run is not None and run.loaders is not None else []
