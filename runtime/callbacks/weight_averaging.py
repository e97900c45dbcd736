"""An averaged copy of the model, updated by step or epoch, and evaluated in the model's place."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from ..errors import rank_zero_info, rank_zero_warn
from ..hooks import is_overridden
from ..module import LightningModule
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

_PREFIX = "module."  # of the model's names in AveragedModel's state


class WeightAveraging(Callback):
    """Keeps torch's ``AveragedModel``: the equal mean by default, the exponential one with ``avg_fn``.

    Validation runs on the averaged weights, the run ends with them, and checkpoints hold them as ``state_dict``; the
    weights in training are in ``current_model_state``.

    Args:
        device: Where the average is kept; default: where the module is.
        use_buffers: Averages buffers too.
        **kwargs: For ``AveragedModel``: ``avg_fn`` or ``multi_avg_fn``.
    """

    def __init__(self, device: torch.device | str | int | None = None, use_buffers: bool = True, **kwargs: Any) -> None:
        self._device = torch.device(device) if isinstance(device, str) else device
        self._use_buffers = use_buffers
        self._kwargs = kwargs
        self._average_model: AveragedModel | None = None
        self._latest_update_step = 0
        self._latest_update_epoch = -1
        self._is_swapped = False  # the module holds the average, for the time of a validation

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to average now; override it to choose.

        Args:
            step_idx: The optimizer step just taken, counted from 0; None at the end of an epoch.
            epoch_idx: The epoch just ended, counted from 0; None after a step.
        """
        return step_idx is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if is_overridden("configure_model", pl_module, LightningModule):
            rank_zero_warn(
                "You're using the WeightAveraging callback with a model that overrides the configure_model "
                "callback. WeightAveraging doesn't support sharding model layers, so you may run out of memory."
            )
            pl_module.configure_model()
        self._is_swapped = False
        device = self._device if self._device is not None else pl_module.device
        self._average_model = AveragedModel(
            model=pl_module, device=device, use_buffers=self._use_buffers, **self._kwargs
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step > self._latest_update_step and self.should_update(step_idx=step - 1):
            self._averaged.update_parameters(pl_module)
            self._latest_update_step = step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        if epoch > self._latest_update_epoch and self.should_update(epoch_idx=epoch):
            self._averaged.update_parameters(pl_module)
            self._latest_update_epoch = epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._copy_average_to_current(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is not None:
            self._swap_models(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is not None:
            self._swap_models(pl_module)

    @property
    def _averaged(self) -> AveragedModel:
        assert self._average_model is not None, "made in `setup`"
        return self._average_model

    def _pairs(self, pl_module: LightningModule) -> Any:
        average = self._averaged.module
        return zip(chain(average.parameters(), average.buffers()), chain(pl_module.parameters(), pl_module.buffers()))

    @torch.no_grad()
    def _swap_models(self, pl_module: LightningModule) -> None:
        for average, current in self._pairs(pl_module):
            kept = average.data.clone()
            average.data.copy_(current.data)
            current.data.copy_(kept)
        self._is_swapped = not self._is_swapped

    @torch.no_grad()
    def _copy_average_to_current(self, pl_module: LightningModule) -> None:
        for average, current in self._pairs(pl_module):
            current.data.copy_(average.data)

    def state_dict(self) -> dict[str, Any]:
        return {
            "latest_update_step": self._latest_update_step,
            "latest_update_epoch": self._latest_update_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._latest_update_step = state_dict["latest_update_step"]
        self._latest_update_epoch = state_dict.get("latest_update_epoch", -1)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None:
            rank_zero_info(
                "You're using the WeightAveraging callback, but saving a checkpoint outside the 'fit' stage. The state "
                "of the WeightAveraging callback won't be saved in the checkpoint. If training has finished, the "
                "average model parameters will be saved to the state_dict in the checkpoint."
            )
            return
        state = self._average_model.state_dict()
        beside = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        both = (checkpoint["state_dict"], beside) if self._is_swapped else (beside, checkpoint["state_dict"])
        checkpoint["state_dict"], checkpoint["current_model_state"] = both
        checkpoint["averaging_state"] = {name: value for name, value in state.items() if not name.startswith(_PREFIX)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None:
            rank_zero_warn(
                "You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage. The "
                "WeightAveraging state cannot be restored. If you're using the checkpoint for prediction or testing, "
                "you can ignore this warning. To disable the warning, remove the WeightAveraging callback."
            )
        elif "current_model_state" in checkpoint and "averaging_state" in checkpoint:
            rank_zero_info("Found current_model_state in the checkpoint. This will be used to initialize the model.")
            average = {f"{_PREFIX}{name}": value for name, value in checkpoint["state_dict"].items()}
            self._average_model.load_state_dict({**average, **checkpoint["averaging_state"]})
            # the module holds "state_dict", the average, by now
            pl_module.load_state_dict(checkpoint["current_model_state"])
        else:
            rank_zero_warn(
                "The checkpoint was not created with WeightAveraging. Both the current and the average model will be "
                "initialized with state_dict."
            )
            self._average_model.module.load_state_dict(deepcopy(checkpoint["state_dict"]), strict=False)


class EMAWeightAveraging(WeightAveraging):
    """The exponential moving average of the weights.

    Args:
        device: Where the average is kept; default: where the module is.
        use_buffers: Averages buffers too.
        decay: Weight of the old average at each update.
        update_every_n_steps: Optimizer steps between updates.
        update_starting_at_step: First step that counts.
        update_starting_at_epoch: Updates at the end of each epoch from this one on.
        **kwargs: For ``AveragedModel``.
    """

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(device=device, use_buffers=use_buffers, **kwargs, avg_fn=get_ema_avg_fn(decay=decay))
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is not None:
            has_started = self.update_starting_at_step is None or step_idx >= self.update_starting_at_step
            return has_started and self.update_every_n_steps > 0 and step_idx % self.update_every_n_steps == 0
        if epoch_idx is not None:
            return self.update_starting_at_epoch is not None and epoch_idx >= self.update_starting_at_epoch
        return False
