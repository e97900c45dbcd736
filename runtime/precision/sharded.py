"""The precisions of a module whose parameters are sharded (FSDP2)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from .base import convert_floats, convert_weights, default_dtype
from .mixed import MixedPrecision

if TYPE_CHECKING:
    from torch.distributed.fsdp import MixedPrecisionPolicy

COMPUTE = {
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-mixed": torch.bfloat16,
}


class FSDPPrecision(MixedPrecision):
    """Lets FSDP cast what it gathers, instead of autocast casting each layer again.

    Args:
        precision: "32-true", "16-true", "bf16-true", "16-mixed" or "bf16-mixed".
        scaler: Replaces the default scaler of "16-mixed".
    """

    needs_input_conversion = True

    def __init__(self, precision: str, scaler: torch.amp.GradScaler | None = None) -> None:
        if precision not in COMPUTE:
            raise ValueError(
                f"`precision={precision!r})` is not supported in FSDP. `precision` must be one of: {tuple(COMPUTE)}."
            )
        if scaler is not None and precision != "16-mixed":
            raise ValueError(f"`precision={precision!r}` does not use a scaler, found {scaler}.")
        if scaler is None and precision == "16-mixed":
            scaler = torch.amp.GradScaler(device="cuda" if torch.cuda.is_available() else "cpu")
        self.precision = precision
        self.scaler = scaler
        self.needs_forward_context = precision != "32-true"

    @property
    def dtype(self) -> torch.dtype:
        return COMPUTE[self.precision]

    @property
    def weights_dtype(self) -> torch.dtype:
        return torch.float32 if self.precision.endswith("mixed") else self.dtype

    @property
    def policy(self) -> MixedPrecisionPolicy:
        """What `fully_shard` gets: the type it gathers and computes in, and reduces gradients in."""
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if self.precision.endswith("mixed"):
            return MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=self.dtype)
        return MixedPrecisionPolicy()

    def convert_module(self, module: Module) -> Module:
        return convert_weights(module, self.weights_dtype) if self.precision.endswith("true") else module

    def convert_input(self, data: Any) -> Any:
        return convert_floats(data, self.dtype)

    def convert_output(self, data: Any) -> Any:
        return convert_floats(data, torch.get_default_dtype())

    def forward_context(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.precision == "32-true" else default_dtype(self.dtype)

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        return default_dtype(self.weights_dtype)

    def module_init_context(self) -> AbstractContextManager[Any]:
        return default_dtype(self.weights_dtype)
