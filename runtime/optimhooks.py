"""What a module has to do with its optimizers: manual optimization, and the hooks of an optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from .errors import MisconfigurationException, rank_zero_deprecation
from .gradients import clip_settings
from .optim import LightningOptimizer

if TYPE_CHECKING:
    from .trainer import Trainer


class OptimizationHooks:
    """Calls of manual optimization, and hooks whose defaults do what torch's plain calls do."""

    if TYPE_CHECKING:  # the module's; TorchScript reads annotations of classes
        trainer: Trainer
        automatic_optimization: bool
        _required_grad: dict[Tensor, bool]

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizers of this run, one alone or a list; wrapped by default, so that steps are counted.

        Which of both it is only `configure_optimizers` knows, so the type leaves it open.
        """
        found: list[Any] = self.trainer._lightning_optimizers if use_pl_optimizer else self.trainer.optimizers
        return found[0] if len(found) == 1 else list(found)

    def lr_schedulers(self) -> Any:
        """The schedulers of this run: one alone, a list, or None."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        if not found:
            return None
        return found[0] if len(found) == 1 else found

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """`loss.backward()` for manual optimization: scales for mixed precision and calls the hooks."""
        self._require_manual("manual_backward")
        if any(isinstance(argument, (Optimizer, LightningOptimizer)) for argument in args):
            rank_zero_deprecation("`manual_backward(loss, optimizer)` is Lightning 1.x; write `manual_backward(loss)`.")
            args = ()
        training = self.trainer._training
        assert training is not None
        if training.backward is None:
            loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]
        else:
            training.backward(loss, *args, **kwargs)

    def _require_manual(self, name: str) -> None:
        if self.automatic_optimization:
            raise MisconfigurationException(
                f"to use {name}, please disable automatic optimization:"
                " set model property `automatic_optimization` as False"
            )

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """How gradients are computed; override to do it another way."""
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]

    def toggle_optimizer(self, optimizer: Optimizer | LightningOptimizer) -> None:
        """Lets only this optimizer's parameters require gradients, until `untoggle_optimizer`."""
        state: dict[Tensor, bool] = {}
        for other in self.trainer.optimizers:
            for param in _params(other):
                if param not in state:
                    state[param] = param.requires_grad
                    param.requires_grad = False
        for param in _params(optimizer):
            param.requires_grad = state[param]
        self._required_grad = state

    def untoggle_optimizer(self, optimizer: Optimizer | LightningOptimizer) -> None:
        """Undoes `toggle_optimizer`."""
        itself = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        for other in self.trainer.optimizers:
            if other is not itself:
                for param in _params(other):
                    if param in self._required_grad:
                        param.requires_grad = self._required_grad[param]
        self._required_grad = {}

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer | LightningOptimizer) -> Generator[None, None, None]:
        """`toggle_optimizer` for a with block."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the gradients of an optimizer's parameters, by norm or by value."""
        trainer = self.trainer
        value, algorithm = clip_settings(trainer, gradient_clip_val, gradient_clip_algorithm)
        trainer.precision_plugin.clip_gradients(optimizer, value, algorithm)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips between backward and step; override for other ways."""
        self.clip_gradients(
            optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One optimizer step; the closure is step, zero_grad and backward, and must be called."""
        optimizer.step(closure=optimizer_closure)  # type: ignore[arg-type]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Zeroes gradients before backward."""
        optimizer.zero_grad()

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Steps a scheduler; `metric` is the monitored value for those that need one."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)


def _params(optimizer: Any) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]
