"""A module in the form of 1.x, made one of today for the time of one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.optim import LBFGS

from ..errors import MisconfigurationException
from ..module import LightningModule
from .hooks import OldHooks, own_method, with_former_arguments
from .said import instead
from .steps import STEPS, OptimizerLoop, then


@contextmanager
def adapted(trainer: Any, module: Any) -> Iterator[None]:
    """Lets a module in the form of 1.x run as one of today; leaves it as it was."""
    callbacks = trainer.callbacks
    old_hooks = OldHooks(module, callbacks)
    methods = adapt(trainer, module) | with_former_arguments(module, old_hooks.outputs)
    with ExitStack() as stack:
        stack.enter_context(_wearing(module, methods))
        for callback in callbacks:
            stack.enter_context(_wearing(callback, with_former_arguments(callback, old_hooks.outputs)))
        if (bar := trainer.progress_bar_callback) is not None:
            stack.enter_context(_wearing(bar, _adapt_bar(module)))
        for owner in filter(None, (module, trainer.datamodule)):
            stack.enter_context(_wearing(owner, _kept_settings(trainer)))
        if isinstance(methods.get("training_step"), OptimizerLoop):
            _refuse_with_optimizer_loop(trainer)
            stack.callback(setattr, module, "automatic_optimization", True)
            module.automatic_optimization = False
        if old_hooks.is_needed:
            trainer.callbacks = [old_hooks, *callbacks]
        try:
            yield
        finally:
            if old_hooks in trainer.callbacks:
                trainer.callbacks = [callback for callback in trainer.callbacks if callback is not old_hooks]


@contextmanager
def _wearing(owner: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Sets attributes on one object, past its class, and takes them off again."""
    own = vars(owner) if attributes else {}
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


def _kept_settings(trainer: Any) -> dict[str, Any]:
    per_node = trainer._older.get("_prepare_data_per_node")
    return {} if per_node is None else {"prepare_data_per_node": per_node}


def _refuse_with_optimizer_loop(trainer: Any) -> None:
    if trainer.accumulate_grad_batches != 1 or trainer.gradient_clip_val:
        raise MisconfigurationException(
            "`optimizer_idx` and `hiddens` in `training_step` run without accumulation and clipping. Set"
            " `automatic_optimization = False` and write both where you want them."
        )


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
    step = methods.get("training_step", module.training_step)
    if not module.automatic_optimization:
        if "optimizer_idx" in parameters:
            instead("training_step(..., optimizer_idx)", "`training_step` without it, and `self.optimizers()`")
            methods["training_step"] = lambda batch, batch_idx: step(batch, batch_idx, optimizer_idx=None)
    elif "optimizer_idx" in parameters or "hiddens" in parameters:
        pieces = getattr(module, "truncated_bptt_steps", 0) or trainer._older.get("_truncated_bptt_steps") or 0
        methods["training_step"] = OptimizerLoop(trainer, module, step, parameters, pieces)
    return methods


def _adapt_bar(module: Any) -> dict[str, Callable[..., Any]]:
    if type(module).get_progress_bar_dict is LightningModule.get_progress_bar_dict:
        return {}
    instead(f"{type(module).__name__}.get_progress_bar_dict", "`get_metrics` of a progress bar of your own")
    return {"get_metrics": lambda trainer, module: {**module.get_progress_bar_dict(), **trainer.progress_bar_metrics}}


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
