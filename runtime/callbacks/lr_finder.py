"""Looks for a good learning rate before training: the loss over a learning rate that grows with each step.

Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3.
"""

from __future__ import annotations

import logging
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..attributes import lightning_hasattr, lightning_setattr
from ..errors import MisconfigurationException, TunerExit, rank_zero_warn
from ..optim import LRSchedulerConfig
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

log = logging.getLogger(__name__)

_SMOOTHING = 0.98  # of the loss
_USUAL_NAMES = ("lr", "learning_rate")


class LRFinderResult:
    """What a search found.

    Args:
        mode: "exponential" or "linear": how the learning rate grew.
        lr_min: Where it began.
        lr_max: Where it was to end.
        num_training: In how many steps.

    Attributes:
        results: ``lr`` and the smoothed ``loss`` of each step.
    """

    def __init__(self, mode: str, lr_min: float, lr_max: float, num_training: int) -> None:
        assert mode in ("linear", "exponential"), "mode should be either `linear` or `exponential`"
        self.mode = mode
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.num_training = num_training
        self.results: dict[str, list[float]] = {}
        self._optimal_idx: int | None = None

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """Returns the learning rate where the loss falls most steeply, None when there are too few values.

        Args:
            skip_begin: Steps to leave out at the beginning.
            skip_end: Steps to leave out at the end.
        """
        count = len(self.results["loss"])
        used = [index for index in range(count)[skip_begin:-skip_end] if math.isfinite(self.results["loss"][index])]
        if len(used) < 2:
            log.error(
                "Failed to compute suggestion for learning rate because there are not enough points. Increase the loop"
                " iteration limits or the size of your dataset/dataloader."
            )
            self._optimal_idx = None
            return None
        losses = torch.tensor([self.results["loss"][index] for index in used])
        rates = torch.tensor([self.results["lr"][index] for index in used])
        slopes = torch.gradient(losses, spacing=[rates])[0]
        self._optimal_idx = used[int(torch.argmin(slopes))]
        return self.results["lr"][self._optimal_idx]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Draws the loss over the learning rate and returns the figure.

        Args:
            suggest: Marks the suggestion.
            show: Opens a window.
            ax: Axes to draw on; default: those of a new figure.

        Raises:
            MisconfigurationException: matplotlib is not installed.
        """
        if find_spec("matplotlib") is None:
            raise MisconfigurationException("The `plot` method needs Matplotlib: pip install matplotlib")
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots() if ax is None else (ax.figure, ax)
        rates, losses = self.results["lr"], self.results["loss"]
        ax.plot(rates, losses)
        if self.mode == "exponential":
            ax.set_xscale("log")
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        if suggest and self.suggestion() is not None:
            assert self._optimal_idx is not None
            best = self._optimal_idx
            ax.plot(rates[best], losses[best], markersize=10, marker="o", color="red")
        if show:
            plt.show()
        return figure


class LearningRateFinder(Callback):
    """Runs the search when ``fit`` starts and sets the module's learning rate to what it suggests.

    Args:
        min_lr: Where to begin.
        max_lr: Where to end.
        num_training_steps: In how many steps.
        mode: "exponential" or "linear".
        early_stop_threshold: Ends the search when the loss is this many times the best; None never does.
        update_attr: Sets the learning rate in the module, its hparams or the datamodule, and in the optimizers.
        attr_name: Its name; default: ``lr`` or ``learning_rate``.
    """

    SUPPORTED_MODES = ("linear", "exponential")

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        if mode.lower() not in self.SUPPORTED_MODES:
            raise ValueError(f"`mode` should be either of {self.SUPPORTED_MODES}")
        self._min_lr = min_lr
        self._max_lr = max_lr
        self._num_training_steps = num_training_steps
        self._mode = mode.lower()
        self._early_stop_threshold = early_stop_threshold
        self._update_attr = update_attr
        self._attr_name = attr_name
        self._early_exit = False  # set by the Tuner: the run ends with the search
        self.optimal_lr: LRFinderResult | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lr_find(trainer, pl_module)

    def lr_find(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the search now; ``optimal_lr`` is its result."""
        if trainer.fast_dev_run:
            rank_zero_warn("Skipping learning rate finder since `fast_dev_run` is enabled.")
        else:
            name = _attribute_name(pl_module, self._attr_name) if self._update_attr else ""
            self.optimal_lr = self._search(trainer)
            if self._update_attr:
                self._apply(trainer, pl_module, name, self.optimal_lr.suggestion())
        if self._early_exit:
            raise TunerExit

    def _search(self, trainer: Trainer) -> LRFinderResult:
        steps = self._num_training_steps
        result = LRFinderResult(self._mode, self._min_lr, self._max_lr, steps)
        recorder = _Recorder(self._early_stop_threshold)
        with trainer._trial([recorder], max_steps=steps, limit_val_batches=steps) as run:
            run(lambda: self._install_schedule(trainer))
            if trainer.global_step != steps:
                log.info(f"LR finder stopped early after {trainer.global_step} steps due to diverging loss.")
        found = {"lr": recorder.lrs, "loss": recorder.losses}
        result.results = trainer.strategy.broadcast(found)
        return result

    def _install_schedule(self, trainer: Trainer) -> None:
        if len(trainer.optimizers) != 1:
            raise MisconfigurationException(
                f"`model.configure_optimizers()` returned {len(trainer.optimizers)}, but"
                " learning rate finder only works with single optimizer"
            )
        optimizer: Optimizer = trainer.optimizers[0]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._min_lr
        scheduler = LambdaLR(optimizer, self._factor)
        trainer.lr_scheduler_configs = [LRSchedulerConfig(scheduler, interval="step")]

    def _factor(self, step: int) -> float:
        if step == 0:
            return 1.0
        share = (step + 1) / self._num_training_steps
        whole = self._max_lr / self._min_lr
        return whole**share if self._mode == "exponential" else 1 + share * (whole - 1)

    @staticmethod
    def _apply(trainer: Trainer, module: LightningModule, name: str, lr: float | None) -> None:
        if lr is None:
            return
        lightning_setattr(module, name, lr)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        log.info(f"Learning rate set to {lr}")


class _Recorder(Callback):
    """Notes the learning rate before and the smoothed loss after each optimizer step."""

    def __init__(self, early_stop_threshold: float | None) -> None:
        self.early_stop_threshold = early_stop_threshold
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self._average = 0.0
        self._best = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._closes_window(trainer, batch_idx):
            self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._closes_window(trainer, batch_idx):
            return
        loss = outputs["loss"] if isinstance(outputs, dict) and outputs else outputs
        if not isinstance(loss, torch.Tensor):
            self.losses.append(float("nan"))  # the step returned None: the suggestion leaves it out
            return
        step = trainer.global_step
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss.item()
        smoothed = self._average / (1 - _SMOOTHING ** (step + 1))
        threshold = self.early_stop_threshold
        diverges = threshold is not None and step > 1 and smoothed > threshold * self._best
        if trainer.strategy.broadcast(diverges):
            trainer.should_stop = True
        if smoothed < self._best or step == 1:
            self._best = smoothed
        self.losses.append(smoothed)

    @staticmethod
    def _closes_window(trainer: Trainer, batch_idx: int) -> bool:
        return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def _attribute_name(module: LightningModule, given: str) -> str:
    if given:
        if not lightning_hasattr(module, given):
            raise AttributeError(
                f"The attribute name for the learning rate was set to {given}, but"
                " could not find this as a field in `model` or `model.hparams`."
            )
        return given
    for name in _USUAL_NAMES:
        if lightning_hasattr(module, name):
            return name
    raise AttributeError(
        "When using the learning rate finder, either `model` or `model.hparams` should"
        f" have one of these fields: {_USUAL_NAMES}. If your model has a different name for the learning rate, set"
        " it with `.lr_find(attr_name=...)`."
    )
