"""DeepSpeed's types without its engine: they can be made and asked, and a Trainer refuses them."""

from __future__ import annotations

import torch

from .true import TruePrecision

_COMPUTES_IN = {
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-mixed": torch.bfloat16,
}


class DeepSpeedPrecision(TruePrecision):
    """The type of weights under DeepSpeed: that of the computation, or 32 bits if it is mixed.

    Args:
        precision: "32-true", "16-true", "bf16-true", "16-mixed" or "bf16-mixed".
    """

    def __init__(self, precision: str) -> None:
        if precision not in _COMPUTES_IN:
            raise ValueError(
                f"`Trainer(strategy='deepspeed', precision={precision!r})` is not supported."
                f" `precision` must be one of: {tuple(_COMPUTES_IN)}."
            )
        self.precision = precision
        self.dtype = _COMPUTES_IN[precision] if precision.endswith("true") else torch.float32
