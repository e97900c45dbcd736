"""How checkpoints are written and read."""

from ..absent import XLACheckpointIO
from ..checkpoint_io import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO

__all__ = [
    "AsyncCheckpointIO",
    "CheckpointIO",
    "TorchCheckpointIO",
    "XLACheckpointIO",
]
