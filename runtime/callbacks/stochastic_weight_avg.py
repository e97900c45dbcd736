"""Stochastic weight averaging by epoch, with a learning rate schedule of its own.

Source: P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR

from ..errors import MisconfigurationException, rank_zero_info, rank_zero_warn
from ..export import on_device
from ..optim import LRSchedulerConfig
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

AverageFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


class StochasticWeightAveraging(Callback):
    """Averages the weights of the last epochs and ends the run with the average.

    Its schedule replaces the run's from the first epoch that is averaged. A model with batch normalization gets its
    running statistics from one more pass over the training data, without a step.

    Args:
        swa_lrs: Learning rate, or one per parameter group.
        swa_epoch_start: First epoch, counted from 1; a float is a share of ``max_epochs``.
        annealing_epochs: Epochs until the learning rate is reached.
        annealing_strategy: "cos" or "linear".
        avg_fn: Takes the average, the weight and the number averaged so far; default: the mean.
        device: Where the average is kept; None: where the module is.
    """

    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: AverageFunction | None = None,
        device: torch.device | str | None = "cpu",
    ) -> None:
        is_epoch = isinstance(swa_epoch_start, int)
        if (is_epoch and swa_epoch_start < 1) or (not is_epoch and not 0 <= swa_epoch_start <= 1):
            raise MisconfigurationException("swa_epoch_start should be a >0 integer or a float between 0 and 1.")
        rates = swa_lrs if isinstance(swa_lrs, list) else [swa_lrs]
        if not all(isinstance(rate, float) and rate > 0 for rate in rates):
            raise MisconfigurationException("The `swa_lrs` should a positive float, or a list of positive floats")
        if avg_fn is not None and not callable(avg_fn):
            raise MisconfigurationException("The `avg_fn` should be callable.")
        if device is not None and not isinstance(device, (torch.device, str)):
            raise MisconfigurationException(f"device is expected to be a torch.device or a str. Found {device}")
        self._swa_epoch_start = swa_epoch_start
        self._swa_lrs = swa_lrs
        self._annealing_epochs = annealing_epochs
        self._annealing_strategy: Literal["cos", "linear"] = annealing_strategy
        self._avg_fn = avg_fn or self.avg_fn
        self._device = device
        self.n_averaged = 0
        self._average: dict[str, Tensor] = {}
        self._latest_update_epoch = -1
        self._swa_scheduler: SWALR | None = None
        self._scheduler_state: dict[str, Any] | None = None
        self._max_epochs = -1

    @property
    def swa_start(self) -> int:
        """First epoch that is averaged, counted from 0."""
        return max(int(self._swa_epoch_start) - 1, 0)

    @property
    def swa_end(self) -> float:
        """Last epoch that is averaged, counted from 0; infinite in a run without an end."""
        return float("inf") if self._max_epochs == -1 else self._max_epochs - 1

    @staticmethod
    def pl_module_contains_batch_norm(pl_module: LightningModule) -> bool:
        """Whether there are running statistics to set."""
        return any(isinstance(module, _BatchNorm) for module in pl_module.modules())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.strategy).__name__ in ("FSDPStrategy", "ModelParallelStrategy"):
            raise MisconfigurationException("SWA does not currently support sharded models.")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise MisconfigurationException("SWA currently works with 1 `optimizer`.")
        if len(trainer.lr_scheduler_configs) > 1:
            raise MisconfigurationException("SWA currently not supported for more than 1 `lr_scheduler`.")
        self._max_epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        if isinstance(self._swa_epoch_start, float):
            if self._max_epochs == -1:
                raise MisconfigurationException(
                    "SWA with `swa_epoch_start` as a float is not supported when `max_epochs=-1`. "
                    "Please provide `swa_epoch_start` as an integer."
                )
            self._swa_epoch_start = int(self._max_epochs * self._swa_epoch_start)
        if self._scheduler_state is not None:
            trainer.lr_scheduler_configs.clear()  # what the checkpoint holds is the state of SWA's own scheduler

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._scheduler_state is not None and self._swa_scheduler is None:
            self._start(trainer)  # an epoch taken up in its middle has had its start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.swa_start <= trainer.current_epoch <= self.swa_end:
            return
        if self._swa_scheduler is None:
            self._start(trainer)
        if trainer.current_epoch > self._latest_update_epoch:
            self._update(pl_module)
            self._latest_update_epoch = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_complete = self._max_epochs == -1 or trainer.current_epoch == self._max_epochs
        if not self._average or not is_complete:
            return
        with torch.no_grad():
            for name, parameter in pl_module.named_parameters():
                parameter.copy_(self._average[name].to(parameter.device))
        if self._max_epochs != -1 and self.pl_module_contains_batch_norm(pl_module):
            if pl_module.automatic_optimization:
                update_batch_norm(trainer, pl_module)
            else:
                rank_zero_warn(
                    "SWA left the running statistics of batch normalization as they were: with manual optimization"
                    " `training_step` would train. Call `torch.optim.swa_utils.update_bn` after `fit`."
                )

    def _start(self, trainer: Trainer) -> None:
        optimizer = trainer.optimizers[0]
        optimizer = getattr(optimizer, "optimizer", optimizer)
        groups = optimizer.param_groups
        restored = [dict(group) for group in groups]
        rates = self._swa_lrs if isinstance(self._swa_lrs, list) else [self._swa_lrs] * len(groups)
        for rate, group in zip(rates, groups):
            group["initial_lr"] = rate
        self._swa_scheduler = SWALR(
            optimizer,
            swa_lr=rates,  # type: ignore[arg-type]
            anneal_epochs=self._annealing_epochs,
            anneal_strategy=self._annealing_strategy,
            last_epoch=self._max_epochs if self._annealing_strategy == "cos" else -1,
        )
        if self._scheduler_state is not None:
            self._swa_scheduler.load_state_dict(self._scheduler_state)
            for group, own in zip(groups, restored):
                group.update(own)  # the scheduler's constructor has set a rate
        elif trainer.current_epoch != self.swa_start:
            rank_zero_warn(
                "SWA is initializing after swa_start without any checkpoint data. "
                "This may be caused by loading a checkpoint that was saved without it."
            )
        if trainer.lr_scheduler_configs:
            replaced = trainer.lr_scheduler_configs[0]
            if replaced.interval != "epoch" or replaced.frequency != 1:
                rank_zero_warn(f"SWA is currently only supported every epoch. Found {replaced}")
            rank_zero_info(f"Swapping scheduler `{type(replaced.scheduler).__name__}` for `SWALR`")
        trainer.lr_scheduler_configs[:] = [LRSchedulerConfig(self._swa_scheduler)]

    @torch.no_grad()
    def _update(self, pl_module: LightningModule) -> None:
        device = torch.device(self._device or pl_module.device)
        for name, parameter in pl_module.named_parameters():
            new = parameter.detach().to(device, copy=True)
            if self.n_averaged:
                new = self._avg_fn(self._average[name].to(device), new, torch.tensor(self.n_averaged, device=device))
            self._average[name] = new
        self.n_averaged += 1

    @staticmethod
    def avg_fn(averaged_model_parameter: Tensor, model_parameter: Tensor, num_averaged: Tensor) -> Tensor:
        """The running mean."""
        return averaged_model_parameter + (model_parameter - averaged_model_parameter) / (num_averaged + 1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "n_averaged": int(self.n_averaged),
            "latest_update_epoch": self._latest_update_epoch,
            "scheduler_state": None if self._swa_scheduler is None else self._swa_scheduler.state_dict(),
            "average_model_state": self._average or None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.n_averaged = state_dict["n_averaged"]
        self._latest_update_epoch = state_dict["latest_update_epoch"]
        self._scheduler_state = state_dict["scheduler_state"]
        self._average = dict(state_dict["average_model_state"] or {})


@torch.no_grad()
def update_batch_norm(trainer: Trainer, pl_module: LightningModule) -> None:
    """Sets the running statistics of batch normalization from one pass of ``training_step`` over the training data.

    Mutates the buffers of the batch normalization layers; draws from the random stream as an epoch does.
    """
    layers = [module for module in pl_module.modules() if isinstance(module, _BatchNorm)]
    momenta = {layer: layer.momentum for layer in layers}
    modes = [(module, module.training) for module in pl_module.modules()]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    pl_module.train()
    try:
        with _without_logging(pl_module):
            batches = islice(trainer.train_dataloader, _count(trainer.num_training_batches))
            for batch_idx, batch in enumerate(batches):
                pl_module.training_step(on_device(pl_module, batch), batch_idx)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
        for module, training in modes:
            module.training = training


def _count(batches: float) -> int | None:
    return None if batches == float("inf") else int(batches)


@contextmanager
def _without_logging(module: nn.Module) -> Iterator[None]:
    # the pass is no epoch: what `training_step` logs in it belongs nowhere
    names = ("log", "log_dict")
    for name in names:
        module.__dict__[name] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for name in names:
            del module.__dict__[name]
