"""Precisions: which types a run computes in, and how the loss is scaled for it."""

from __future__ import annotations

from ..errors import MisconfigurationException, rank_zero_info, rank_zero_warn
from .base import Precision
from .deepspeed import DeepSpeedPrecision
from .mixed import MixedPrecision
from .sharded import FSDPPrecision
from .true import DoublePrecision, HalfPrecision

__all__ = [
    "DeepSpeedPrecision",
    "DoublePrecision",
    "FSDPPrecision",
    "HalfPrecision",
    "MixedPrecision",
    "Precision",
    "resolve_precision",
]

SPELLINGS: dict[str, str] = {
    "64": "64-true",
    "64-true": "64-true",
    "32": "32-true",
    "32-true": "32-true",
    "16": "16-mixed",
    "16-mixed": "16-mixed",
    "16-true": "16-true",
    "bf16": "bf16-mixed",
    "bf16-mixed": "bf16-mixed",
    "bf16-true": "bf16-true",
}
FOREIGN = ("transformer-engine", "transformer-engine-float16")


def normal_spelling(precision: str | int | None) -> str:
    """The one spelling of what `Trainer(precision=...)` accepts.

    Raises:
        ValueError: No precision is called so.
    """
    if precision is None:
        return "32-true"
    spelling = str(precision)
    if spelling in FOREIGN:
        raise MisconfigurationException(
            f"`precision={precision!r}` needs an engine that this runtime does not have."
            " Use 'bf16-mixed' or 'bf16-true' instead."
        )
    if spelling not in SPELLINGS:
        raise ValueError(f"Precision {precision!r} is invalid. Allowed precision values: {tuple(SPELLINGS)}")
    if spelling in ("16", "bf16"):
        rank_zero_warn(
            f"`precision={spelling}` is supported for historical reasons but its usage is discouraged. "
            f"Please set your precision to {SPELLINGS[spelling]} instead!"
        )
    return SPELLINGS[spelling]


def resolve_precision(precision: str | int | None, device_type: str, sharded: bool = False) -> Precision:
    """The precision that `Trainer(precision=...)` names, for a device type ("cpu", "cuda", "mps")."""
    name = normal_spelling(precision)
    if sharded:
        return FSDPPrecision(name)
    if name == "32-true":
        return Precision()
    if name == "64-true":
        if device_type == "mps":
            raise MisconfigurationException("`precision='64-true'` is not supported on MPS. Use 32-true instead.")
        return DoublePrecision()
    if name in ("16-true", "bf16-true"):
        return HalfPrecision(name)
    if name == "16-mixed" and device_type == "cpu":
        rank_zero_warn(
            "You passed `Trainer(accelerator='cpu', precision='16-mixed')` but AMP with fp16 is not supported on "
            "CPU. Using `precision='bf16-mixed'` instead."
        )
        name = "bf16-mixed"
    kind = "16bit" if name == "16-mixed" else "bfloat16"
    rank_zero_info(f"Using {kind} Automatic Mixed Precision (AMP)")
    return MixedPrecision(name, device_type)
