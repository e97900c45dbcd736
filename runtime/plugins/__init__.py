"""What `Trainer(plugins=...)` takes, under the import paths of Lightning; nothing is defined here."""

from . import environments, io, layer_sync, precision
from .io import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO, XLACheckpointIO
from .layer_sync import LayerSync, TorchSyncBatchNorm
from .precision import (
    BitsandbytesPrecision,
    DeepSpeedPrecision,
    DoublePrecision,
    FSDPPrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
    TransformerEnginePrecision,
    XLAPrecision,
)

__all__ = [
    "AsyncCheckpointIO",
    "BitsandbytesPrecision",
    "CheckpointIO",
    "DeepSpeedPrecision",
    "DoublePrecision",
    "FSDPPrecision",
    "HalfPrecision",
    "LayerSync",
    "MixedPrecision",
    "Precision",
    "TorchCheckpointIO",
    "TorchSyncBatchNorm",
    "TransformerEnginePrecision",
    "XLACheckpointIO",
    "XLAPrecision",
    "environments",
    "io",
    "layer_sync",
    "precision",
]
