"""Small modules and data to try things with."""

from .boring_classes import BoringDataModule, BoringModel, DemoModel, RandomDataset
from .transformer import LightningTransformer, Transformer, WikiText2

__all__ = [
    "BoringDataModule",
    "BoringModel",
    "DemoModel",
    "LightningTransformer",
    "RandomDataset",
    "Transformer",
    "WikiText2",
]
