"""Logs how fast a run goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import rank_zero_only, rank_zero_warn
from ..logged import is_due
from ..state import RunningStage, TrainerFn
from ..throughput import Throughput
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer


@dataclass
class _Stage:
    throughput: Throughput
    started: float = 0.0
    batches: int = 0
    samples: int = 0
    lengths: int = 0
    batches_ever: int = 0


class ThroughputMonitor(Callback):
    """Logs `Throughput` for each stage as ``train/...``, ``validate/...``, at every ``log_every_n_steps``.

    A ``flops_per_batch`` attribute of the module, from `measure_flops`, adds operations per second. On a GPU the
    device is waited for when something is logged, and not in between.

    Args:
        batch_size_fn: Takes a batch and returns its number of samples.
        length_fn: Takes a batch and returns its number of items, tokens for example.
        **kwargs: For `Throughput`: ``window_size``, ``separator``, ``available_flops``.
    """

    def __init__(
        self, batch_size_fn: Callable[[Any], int], length_fn: Callable[[Any], int] | None = None, **kwargs: Any
    ) -> None:
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.kwargs = kwargs
        self._stages: dict[RunningStage, _Stage] = {}
        self._has_flops: bool | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        stages = [trainer.state.stage]
        if stage == TrainerFn.FITTING and trainer.enable_validation:
            stages.append(RunningStage.VALIDATING)
        for each in stages:
            assert each is not None
            self._stages[each] = _Stage(Throughput(world_size=trainer.world_size, **self.kwargs))

    def _now(self, trainer: Trainer) -> _Stage:
        assert trainer.state.stage is not None
        return self._stages[trainer.state.stage]

    @rank_zero_only
    def _start(self, trainer: Trainer) -> None:
        stage = self._now(trainer)
        if trainer.state.fn == TrainerFn.FITTING or not stage.batches:
            stage.throughput.reset()
            stage.batches = stage.samples = stage.lengths = 0
        stage.started = time.perf_counter()

    @rank_zero_only
    @torch.inference_mode()
    def _update(self, trainer: Trainer, pl_module: LightningModule, batch: Any, logs: bool) -> None:
        stage = self._now(trainer)
        if logs and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - stage.started
        stage.batches += 1
        stage.batches_ever += 1
        stage.samples += self.batch_size_fn(batch)
        if self.length_fn is not None:
            stage.lengths += self.length_fn(batch)
        stage.throughput.update(
            time=elapsed,
            batches=stage.batches,
            samples=stage.samples,
            lengths=None if self.length_fn is None else stage.lengths,
            flops=self._flops(pl_module),
        )
        if logs:
            self._log(trainer, stage)

    def _flops(self, module: LightningModule) -> int | None:
        if self._has_flops is None:
            self._has_flops = hasattr(module, "flops_per_batch")
            if not self._has_flops:
                rank_zero_warn(
                    "When using the `ThroughputMonitor`, you need to define a `flops_per_batch` attribute or property"
                    f" in {type(module).__name__} to compute the FLOPs."
                )
        return module.flops_per_batch if self._has_flops else None  # type: ignore[return-value]

    def _log(self, trainer: Trainer, stage: _Stage) -> None:
        assert trainer.state.stage is not None
        throughput = stage.throughput
        prefix = f"{trainer.state.stage.value}{throughput.separator}"
        metrics: dict[str, float] = {prefix + name: value for name, value in throughput.compute().items()}
        step = stage.batches_ever
        if trainer.training:
            metrics["epoch"] = trainer.current_epoch
            step = trainer.run.logged_steps
        for logger in trainer.loggers:
            logger.log_metrics(metrics=metrics, step=step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # within an accumulation window the optimizer's time is missing
        closes = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        self._update(trainer, pl_module, batch, closes and is_due(trainer, batch_idx))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._start(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self._update(trainer, pl_module, batch, is_due(trainer, batch_idx))

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        training, validation = self._stages[RunningStage.TRAINING], self._stages[RunningStage.VALIDATING]
        # training's clock stood still from its last batch to the end of the validation
        paused = training.started + training.throughput.elapsed
        training.started += validation.started + validation.throughput.elapsed - paused

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._update(trainer, pl_module, batch, is_due(trainer, batch_idx))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._update(trainer, pl_module, batch, is_due(trainer, batch_idx))
