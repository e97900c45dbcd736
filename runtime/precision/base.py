"""What a precision decides, and the default: 32 bits throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from ..transfer import map_contents


class Precision:
    """Runs everything in the types that the module and the batch have.

    What a subclass needs of the step is declared, so that the loop leaves out the rest:
    `needs_forward_context`, `needs_input_conversion` and `scales_loss`.
    """

    precision: str = "32-true"
    scaler: torch.amp.GradScaler | None = None
    needs_forward_context = False
    needs_input_conversion = False

    @property
    def scales_loss(self) -> bool:
        return self.scaler is not None

    @property
    def state_key(self) -> str:
        """Where the state is in a checkpoint; Lightning's is the class's name."""
        return type(self).__qualname__

    def connect(self, model: Module, optimizers: list[Optimizer], lr_schedulers: list[Any]) -> tuple[Any, Any, Any]:
        """Lets a plugin replace the parts before training; returns them."""
        return model, optimizers, lr_schedulers

    def convert_module(self, module: Module) -> Module:
        return module

    def convert_input(self, data: Any) -> Any:
        return data

    def convert_output(self, data: Any) -> Any:
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """A fresh context for one step."""
        return nullcontext()

    def train_step_context(self) -> AbstractContextManager[Any]:
        return self.forward_context()

    def val_step_context(self) -> AbstractContextManager[Any]:
        return self.forward_context()

    def test_step_context(self) -> AbstractContextManager[Any]:
        return self.forward_context()

    def predict_step_context(self) -> AbstractContextManager[Any]:
        return self.forward_context()

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """The context in which tensors are created with this precision's type."""
        return nullcontext()

    def module_init_context(self) -> AbstractContextManager[Any]:
        """The context in which layers are created with this precision's type."""
        return nullcontext()

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` on."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divides the gradients by the loss scale, once per step; to be called before they are looked at or clipped."""

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        return optimizer.step(**kwargs) if closure is None else optimizer.step(closure=closure, **kwargs)

    def clip_gradients(
        self, optimizer: Optimizer, clip_val: float | None = 0.0, gradient_clip_algorithm: str = "norm"
    ) -> None:
        """Clips in place what `optimizer` is about to use; nothing when `clip_val` is None or 0."""
        if clip_val is None or clip_val <= 0:
            return
        if gradient_clip_algorithm == "value":
            self.clip_grad_by_value(optimizer, clip_val)
        else:
            self.clip_grad_by_norm(optimizer, clip_val)

    def clip_grad_by_value(self, optimizer: Optimizer, clip_val: float) -> None:
        torch.nn.utils.clip_grad_value_(self.main_params(optimizer), clip_val)

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.main_params(optimizer), clip_val)

    def main_params(self, optimizer: Optimizer) -> list[Tensor]:
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` returned."""

    def teardown(self) -> None:
        """Undoes what lasts beyond a run."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Makes `dtype` the type of new floating point tensors within the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def convert_floats(data: Any, dtype: torch.dtype) -> Any:
    """`data` with its floating point tensors as `dtype`; other tensors and values stay."""
    if isinstance(data, Tensor):
        return data.to(dtype) if data.is_floating_point() else data
    return map_contents(data, partial(convert_floats, dtype=dtype))


def convert_weights(module: Module, dtype: torch.dtype) -> Module:
    """`module` with its floating point parameters and buffers as `dtype`.

    Complex ones stay: `Module.to` would cast them to the real type, and drop their imaginary parts.
    """
    return module._apply(lambda value: convert_floats(value, dtype))  # type: ignore[no-untyped-call]
