"""How layers work together across processes."""

from ..strategies.layer_sync import LayerSync, TorchSyncBatchNorm

__all__ = [
    "LayerSync",
    "TorchSyncBatchNorm",
]
