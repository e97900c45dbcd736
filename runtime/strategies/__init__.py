"""Strategies: one process or many, and how they work together."""

from __future__ import annotations

from .absent import DeepSpeedStrategy, SingleDeviceXLAStrategy, XLAStrategy
from .base import Launcher, Strategy, move_optimizer_state
from .clusters import KubeflowEnvironment, LSFEnvironment, MPIEnvironment, TorchElasticEnvironment
from .ddp import DDPStrategy
from .environment import ClusterEnvironment, LightningEnvironment
from .fsdp import FSDPStrategy
from .launch import SpawnLauncher, SubprocessLauncher
from .layer_sync import LayerSync, TorchSyncBatchNorm
from .model_parallel import ModelParallelStrategy
from .parallel import ParallelStrategy
from .registry import StrategyRegistry
from .resolve import Plugin, resolve_strategy
from .single_device import SingleDeviceStrategy
from .slurm import SLURMEnvironment

__all__ = [
    "ClusterEnvironment",
    "DDPStrategy",
    "DeepSpeedStrategy",
    "FSDPStrategy",
    "KubeflowEnvironment",
    "LSFEnvironment",
    "Launcher",
    "LayerSync",
    "LightningEnvironment",
    "MPIEnvironment",
    "ModelParallelStrategy",
    "ParallelStrategy",
    "Plugin",
    "SLURMEnvironment",
    "SingleDeviceStrategy",
    "SingleDeviceXLAStrategy",
    "SpawnLauncher",
    "Strategy",
    "StrategyRegistry",
    "SubprocessLauncher",
    "TorchElasticEnvironment",
    "TorchSyncBatchNorm",
    "XLAStrategy",
    "move_optimizer_state",
    "resolve_strategy",
]
