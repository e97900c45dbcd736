"""The types that a run computes in."""

from ..absent import BitsandbytesPrecision, DeepSpeedPrecision, TransformerEnginePrecision, XLAPrecision
from ..precision import DoublePrecision, FSDPPrecision, HalfPrecision, MixedPrecision, Precision

__all__ = [
    "BitsandbytesPrecision",
    "DeepSpeedPrecision",
    "DoublePrecision",
    "FSDPPrecision",
    "HalfPrecision",
    "MixedPrecision",
    "Precision",
    "TransformerEnginePrecision",
    "XLAPrecision",
]
