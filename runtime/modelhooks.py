"""What a module may do in the course of a run: every hook. The loops call those that a module overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer


class CheckpointHooks:
    """What a module adds to a checkpoint, and takes from it."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """May add to the checkpoint before it is written."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """May read or change the checkpoint before it is restored."""


class ModelHooks:
    """Hooks of a run, in about the order in which they are called; those that set a mode at the end."""

    if TYPE_CHECKING:  # the module's

        def _run_model(self) -> Module: ...

        def zero_grad(self, set_to_none: bool = True) -> None: ...

    def on_fit_start(self) -> None: ...

    def on_fit_end(self) -> None: ...

    def on_train_start(self) -> None: ...

    def on_train_end(self) -> None: ...

    def on_train_epoch_start(self) -> None: ...

    def on_train_epoch_end(self) -> None: ...

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Returns -1 to skip the rest of the epoch."""
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...

    def on_validation_start(self) -> None: ...

    def on_validation_end(self) -> None: ...

    def on_validation_epoch_start(self) -> None: ...

    def on_validation_epoch_end(self) -> None: ...

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_validation_model_zero_grad(self) -> None:
        """Frees the gradients' memory. Called before validation inside fit if overridden: a loop keeps gradients."""
        self.zero_grad()

    def on_test_start(self) -> None: ...

    def on_test_end(self) -> None: ...

    def on_test_epoch_start(self) -> None: ...

    def on_test_epoch_end(self) -> None: ...

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_predict_start(self) -> None: ...

    def on_predict_end(self) -> None: ...

    def on_predict_epoch_start(self) -> None: ...

    def on_predict_epoch_end(self) -> None: ...

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_predict_batch_end(
        self, outputs: Any | None, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...

    def on_before_backward(self, loss: Tensor) -> None: ...

    def on_after_backward(self) -> None: ...

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None: ...

    def on_before_zero_grad(self, optimizer: Optimizer) -> None: ...

    def on_validation_model_eval(self) -> None:
        """Puts the module into the mode that validation runs in."""
        self._run_model().eval()

    def on_validation_model_train(self) -> None:
        """Puts the module back; each submodule gets its own mode back unless this is overridden."""
        self._run_model().train()

    def on_test_model_eval(self) -> None:
        self._run_model().eval()

    def on_test_model_train(self) -> None:
        self._run_model().train()

    def on_predict_model_eval(self) -> None:
        self._run_model().eval()
