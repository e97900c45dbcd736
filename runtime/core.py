"""The import path of Lightning for the user's classes."""

from .datahooks import DataHooks
from .datamodule import LightningDataModule
from .modelhooks import CheckpointHooks, ModelHooks
from .module import LightningModule
from .optim import LightningOptimizer

__all__ = [
    "CheckpointHooks",
    "DataHooks",
    "LightningDataModule",
    "LightningModule",
    "LightningOptimizer",
    "ModelHooks",
]
