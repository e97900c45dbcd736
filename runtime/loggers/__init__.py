"""Loggers: each imports its library only when it is made."""

from .base import DummyExperiment, DummyLogger, Logger, rank_zero_experiment
from .comet import CometLogger
from .csv_logs import CSVLogger
from .mlflow import MLFlowLogger
from .tensorboard import TensorBoardLogger
from .wandb import WandbLogger

__all__ = [
    "CSVLogger",
    "CometLogger",
    "DummyExperiment",
    "DummyLogger",
    "Logger",
    "MLFlowLogger",
    "TensorBoardLogger",
    "WandbLogger",
    "rank_zero_experiment",
]
