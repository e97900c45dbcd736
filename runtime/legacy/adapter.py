"""A module in the form of 1.x, made one of today for the time of one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import LBFGS

from ..errors import MisconfigurationException
from .hooks import OldHooks, own_method
from .said import instead
from .steps import STEPS, OptimizerLoop, then


@contextmanager
def adapted(trainer: Any, module: Any) -> Iterator[None]:
    """Lets a module in the form of 1.x run as one of today; leaves it as it was."""
    methods, old_hooks = adapt(trainer, module), OldHooks(module, trainer.callbacks)
    kept = {name: module.__dict__[name] for name in methods if name in module.__dict__}
    was_automatic = module.automatic_optimization
    callbacks = trainer.callbacks
    module.__dict__.update(methods)
    if isinstance(methods.get("training_step"), OptimizerLoop):
        if trainer.accumulate_grad_batches != 1 or trainer.gradient_clip_val:
            raise MisconfigurationException(
                "`optimizer_idx` and `hiddens` in `training_step` run without accumulation and clipping. Set"
                " `automatic_optimization = False` and write both where you want them."
            )
        module.automatic_optimization = False
    if old_hooks.is_needed:
        trainer.callbacks = [old_hooks, *callbacks]
    try:
        yield
    finally:
        for name in methods:
            del module.__dict__[name]
        module.__dict__.update(kept)
        if module.automatic_optimization is not was_automatic:
            module.automatic_optimization = was_automatic
        if old_hooks in trainer.callbacks:
            trainer.callbacks = [callback for callback in trainer.callbacks if callback is not old_hooks]


def adapt(trainer: Any, module: Any) -> dict[str, Callable[..., Any]]:
    """Today's methods in place of those of 1.x, to be set on the module for the time of one call."""
    methods: dict[str, Callable[..., Any]] = {}
    if not module.automatic_optimization and not hasattr(module, "manual_optimizer_step"):
        methods["manual_optimizer_step"] = _step_by_hand
    for name in STEPS:
        ending = own_method(module, f"{name}_end")
        if ending is not None and own_method(module, name) is not None:
            instead(f"{type(module).__name__}.{name}_end", f"its lines at the end of `{name}`")
            methods[name] = then(getattr(module, name), ending)
    methods |= _adapt_optimizer_step(module) | _adapt_backward(trainer, module)
    if own_method(module, "training_step") is None:
        return methods
    parameters = inspect.signature(module.training_step).parameters
    pieces = getattr(module, "truncated_bptt_steps", 0)
    if "optimizer_idx" in parameters or "hiddens" in parameters:
        step = methods.get("training_step", module.training_step)
        methods["training_step"] = OptimizerLoop(trainer, module, step, parameters, pieces)
    return methods


def _step_by_hand(optimizer: Any, *arguments: Any, **keywords: Any) -> None:
    instead("self.manual_optimizer_step(optimizer)", "`optimizer.step()`")
    optimizer.step()


def _adapt_optimizer_step(module: Any) -> dict[str, Callable[..., Any]]:
    own = module.optimizer_step
    parameters = inspect.signature(own).parameters
    if not {"optimizer_idx", "optimizer_i", "second_order_closure", "on_tpu", "using_lbfgs"} & parameters.keys():
        return {}
    instead("optimizer_step(..., optimizer_idx, ...)", "`optimizer_step(epoch, batch_idx, optimizer, closure)`")

    def optimizer_step(epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> Any:
        by_name = {
            "optimizer_idx": 0, "optimizer_i": 0, "optimizer_closure": optimizer_closure, "on_tpu": False,
            "second_order_closure": optimizer_closure, "using_native_amp": "mixed" in module.trainer.precision,
            "using_lbfgs": isinstance(getattr(optimizer, "optimizer", optimizer), LBFGS),
        }  # fmt: skip
        keywords = {name: value for name, value in by_name.items() if name in parameters}
        return own(epoch, batch_idx, optimizer, **keywords)

    return {"optimizer_step": optimizer_step}


def _adapt_backward(trainer: Any, module: Any) -> dict[str, Callable[..., Any]]:
    own = module.backward
    parameters = inspect.signature(own).parameters
    if "optimizer" not in parameters:
        return {}
    instead("backward(self, loss, optimizer, ...)", "`backward(self, loss)`")

    def backward(loss: Tensor, *arguments: Any, **keywords: Any) -> None:
        by_name = {"optimizer": trainer.optimizers[0] if trainer.optimizers else None, "optimizer_idx": 0}
        own(loss, **{name: value for name, value in by_name.items() if name in parameters})

    return {"backward": backward}
