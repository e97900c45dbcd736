"""Loggers: each imports its library only when it is made."""

from .absent import LitLogger, NeptuneLogger
from .base import DummyExperiment, DummyLogger, Logger, rank_zero_experiment
from .comet import CometLogger
from .csv_logs import CSVLogger
from .mlflow import MLFlowLogger
from .tensorboard import TensorBoardLogger
from .values import merge_dicts
from .wandb import WandbLogger

__all__ = [
    "CSVLogger",
    "CometLogger",
    "DummyExperiment",
    "DummyLogger",
    "LitLogger",
    "Logger",
    "MLFlowLogger",
    "NeptuneLogger",
    "TensorBoardLogger",
    "WandbLogger",
    "merge_dicts",
    "rank_zero_experiment",
]
