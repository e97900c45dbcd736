"""16-mixed and bf16-mixed: 32-bit weights, layers computed in 16 bits by torch.autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.optim import LBFGS, Optimizer

from ..errors import MisconfigurationException
from .base import Precision


class MixedPrecision(Precision):
    """Computes under autocast; in float16 the loss is scaled so that small gradients survive.

    Args:
        precision: "16-mixed" or "bf16-mixed".
        device: The device type to autocast on: "cpu", "cuda", "mps".
        scaler: Replaces the default `torch.amp.GradScaler` of "16-mixed".

    Source: https://docs.pytorch.org/docs/stable/notes/amp_examples.html
    """

    needs_forward_context = True

    def __init__(self, precision: str, device: str, scaler: torch.amp.GradScaler | None = None) -> None:
        if precision not in ("16-mixed", "bf16-mixed"):
            raise ValueError(
                f"Passed `{type(self).__name__}(precision={precision!r})`."
                " Precision must be '16-mixed' or 'bf16-mixed'."
            )
        if scaler is not None and precision == "bf16-mixed":
            raise MisconfigurationException(f"`precision='bf16-mixed'` does not use a scaler, found {scaler}.")
        if scaler is None and precision == "16-mixed":
            scaler = torch.amp.GradScaler(device=device)
        self.precision = precision
        self.device = device
        self.scaler = scaler

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16

    def autocast_context_manager(self) -> torch.autocast:
        # With its cache, as loops have it: what a weight used twice gets as gradient is added up in 16 bits.
        return torch.autocast(self.device, dtype=self.dtype, cache_enabled=cache_keeps_graphs())

    def forward_context(self) -> AbstractContextManager[Any]:
        return self.autocast_context_manager()

    def unscale(self, optimizer: Optimizer) -> None:
        if self.scaler is not None and not unscales_itself(optimizer) and holds_gradients(optimizer):
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Steps unless the gradients overflowed, and adapts the scale.

        A closure runs first and once: an optimizer that evaluates it again cannot be scaled.
        """
        if self.scaler is None:
            return super().step(optimizer, closure, **kwargs)
        if isinstance(optimizer, LBFGS):
            raise MisconfigurationException("AMP and the LBFGS optimizer are not compatible.")
        if closure is not None:
            closure()
        if not holds_gradients(optimizer):
            return None  # the step was skipped, or another optimizer's turn; GradScaler refuses it
        result = self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        return result

    def clip_gradients(
        self, optimizer: Optimizer, clip_val: float | None = 0.0, gradient_clip_algorithm: str = "norm"
    ) -> None:
        if clip_val and clip_val > 0 and self.scaler is not None and unscales_itself(optimizer):
            raise RuntimeError(
                f"The current optimizer, {type(optimizer).__qualname__}, does not allow for gradient clipping"
                " because it performs unscaling of gradients internally. HINT: Are you using a 'fused' optimizer?"
            )
        super().clip_gradients(optimizer, clip_val, gradient_clip_algorithm)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.scaler is not None and state_dict:
            self.scaler.load_state_dict(state_dict)


@functools.cache
def cache_keeps_graphs() -> bool:
    """Whether this torch differentiates a weight that was first cast under no_grad; older ones lose its gradient."""
    weight = torch.ones(1, 1, requires_grad=True)
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            torch.nn.functional.linear(weight, weight)
        return torch.nn.functional.linear(weight.detach(), weight).requires_grad


def unscales_itself(optimizer: Optimizer) -> bool:
    """Whether the optimizer divides by the loss scale in its own step, as the fused ones do."""
    return getattr(optimizer, "_step_supports_amp_scaling", False) is True


def holds_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
