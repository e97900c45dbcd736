"""A lean Trainer with the public names, arguments and meanings of Lightning 2.x."""

from .callbacks import Callback, EarlyStopping, ModelCheckpoint
from .datamodule import LightningDataModule
from .errors import MisconfigurationException
from .module import LightningModule
from .randomness import seed_everything
from .trainer import Trainer

__all__ = [
    "Callback",
    "EarlyStopping",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "ModelCheckpoint",
    "Trainer",
    "seed_everything",
]
