"""Backward, zero_grad and optimizer steps with all that belongs to them: hooks, scaling, clipping."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from .hooks import Hooks, is_overridden
from .module import LightningModule
from .precision import Precision
from .profilers import PassThroughProfiler

if TYPE_CHECKING:
    from .trainer import Trainer


_TORCHS_ZERO_GRAD = Optimizer.zero_grad


def drop_gradients(optimizer: Optimizer) -> None:
    """What torch's `Optimizer.zero_grad` does, without its label for profiles: that takes longer than the rest."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = None


class Optimization:
    """What a run does with a loss. Two ``bind`` methods return None where torch's plain call is enough."""

    def __init__(self, trainer: Trainer, hooks: Hooks) -> None:
        self.trainer, self.hooks = trainer, hooks
        self.module, self.state = trainer.lightning_module, trainer.run
        self.strategy, self.precision = trainer.strategy, trainer.precision_plugin
        self.is_profiled = not isinstance(trainer.profiler, PassThroughProfiler)

    def bind_backward(self) -> Callable[..., None] | None:
        hooks = self.hooks["on_before_backward"], self.hooks["on_after_backward"]
        # In manual optimization DDP has to be told of each backward pass.
        announced = self.strategy.handles_sync and not self.module.automatic_optimization
        plain = not announced and not is_overridden("backward", self.module, LightningModule)
        if plain and not any(hooks) and not self.precision.scales_loss and not self.is_profiled:
            return None
        return self._backward

    def _backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        state, before = self.state, self.state.hook
        if self.precision.scales_loss:
            loss = self.precision.scale_loss(loss)
        self.strategy.pre_backward(loss)
        state.hook = "on_before_backward"
        for hook in self.hooks["on_before_backward"]:
            hook(loss)
        state.hook = "backward"
        label = f"[LightningModule]{type(self.module).__name__}.backward"
        self.trainer.profiler.measured(label, self.module.backward)(loss, *args, **kwargs)
        state.hook = "on_after_backward"
        for hook in self.hooks["on_after_backward"]:
            hook()
        state.hook = before

    def bind_zero_grad(self, optimizer: Any) -> Callable[[], None]:
        overridden = is_overridden("optimizer_zero_grad", self.module, LightningModule)
        if overridden or self.hooks["on_before_zero_grad"]:
            return lambda: self._zero_grad(optimizer)
        if getattr(optimizer.zero_grad, "__func__", None) is _TORCHS_ZERO_GRAD and not self.is_profiled:
            return functools.partial(drop_gradients, optimizer)
        zero_grad: Callable[[], None] = optimizer.zero_grad
        return zero_grad

    def _zero_grad(self, optimizer: Any) -> None:
        state, before = self.state, self.state.hook
        state.hook = "on_before_zero_grad"
        for hook in self.hooks["on_before_zero_grad"]:
            hook(optimizer)
        state.hook = "optimizer_zero_grad"
        self.module.optimizer_zero_grad(state.epoch, state.batch_idx, optimizer)
        state.hook = before

    def bind_step(self, optimizer: Any) -> Callable[[], Any] | None:
        plain = (
            not self.hooks["on_before_optimizer_step"]
            and not self._clips()
            and type(self.precision).step is Precision.step
        )
        return None if plain else lambda: self.step(optimizer)

    def _clips(self) -> bool:
        overridden = is_overridden("configure_gradient_clipping", self.module, LightningModule)
        return self.module.automatic_optimization and bool(self.trainer.gradient_clip_val or overridden)

    def step(self, optimizer: Any, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Steps an optimizer with everything that belongs before it: unscaling, hooks, clipping."""
        if not self.module.automatic_optimization:
            self.state.global_step += 1
        if closure is not None and self.precision.scaler is not None:
            # A scaler must see the gradients before it decides to step, so the closure cannot run inside.
            answer = closure()
            self._before_step(optimizer)
            self.precision.step(optimizer, None, **kwargs)
            return answer
        if closure is None:
            self._before_step(optimizer)
            return self.precision.step(optimizer, None, **kwargs)
        evaluate_loss = closure

        def closure_and_hooks() -> Any:
            loss = evaluate_loss()
            self._before_step(optimizer)
            return loss

        return self.precision.step(optimizer, closure_and_hooks, **kwargs)

    def _before_step(self, optimizer: Any) -> None:
        state, before = self.state, self.state.hook
        self.precision.unscale(optimizer)
        state.hook = "on_before_optimizer_step"
        for hook in self.hooks["on_before_optimizer_step"]:
            hook(optimizer)
        if self._clips():
            trainer = self.trainer
            state.hook = "configure_gradient_clipping"
            self.module.configure_gradient_clipping(
                optimizer,
                gradient_clip_val=trainer.gradient_clip_val,
                gradient_clip_algorithm=trainer.gradient_clip_algorithm,
            )
        state.hook = before
