"""16-true, bf16-true and 64-true: weights, inputs and computation in one type other than 32 bits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import Module

from .base import Precision, convert_floats, convert_weights, default_dtype


class TruePrecision(Precision):
    """Everything in `dtype`: the module is converted, batches are, and steps create tensors in it."""

    needs_forward_context = True
    needs_input_conversion = True
    dtype: torch.dtype

    def convert_module(self, module: Module) -> Module:
        return convert_weights(module, self.dtype)

    def convert_input(self, data: Any) -> Any:
        return convert_floats(data, self.dtype)

    def convert_output(self, data: Any) -> Any:
        return convert_floats(data, torch.get_default_dtype())

    def forward_context(self) -> AbstractContextManager[Any]:
        return default_dtype(self.dtype)

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        return default_dtype(self.dtype)

    def module_init_context(self) -> AbstractContextManager[Any]:
        return default_dtype(self.dtype)


class HalfPrecision(TruePrecision):
    """Everything in 16 bits.

    Args:
        precision: "bf16-true" or "16-true".
    """

    def __init__(self, precision: str = "16-true") -> None:
        if precision not in ("16-true", "bf16-true"):
            raise ValueError(
                f"Passed `{type(self).__name__}(precision={precision!r})`. Precision must be '16-true' or 'bf16-true'."
            )
        self.precision = precision
        self.dtype = torch.bfloat16 if precision == "bf16-true" else torch.float16


class DoublePrecision(TruePrecision):
    """Everything in 64 bits, complex numbers in 128."""

    precision = "64-true"
    dtype = torch.float64
