"""Small modules and data to try things with."""

from .boring_classes import BoringDataModule, BoringModel, DemoModel, RandomDataset
from .lstm import LightningLSTM, SequenceSampler, SimpleLSTM
from .transformer import LightningTransformer, Transformer, WikiText2

__all__ = [
    "BoringDataModule",
    "BoringModel",
    "DemoModel",
    "LightningLSTM",
    "LightningTransformer",
    "RandomDataset",
    "SequenceSampler",
    "SimpleLSTM",
    "Transformer",
    "WikiText2",
]
