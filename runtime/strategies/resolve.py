"""Trainer arguments -> one strategy with its device, precision, environment and writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

from ..accelerators import Accelerator, CPUAccelerator, MPSAccelerator, resolve_accelerator
from ..checkpoint_io import CheckpointIO
from ..errors import MisconfigurationException
from ..precision import DeepSpeedPrecision, Precision, resolve_precision
from . import environment
from .absent import SHARDING
from .base import Strategy
from .clusters import LSFEnvironment, MPIEnvironment, TorchElasticEnvironment
from .environment import ClusterEnvironment, LightningEnvironment
from .fsdp import FSDPStrategy
from .layer_sync import LayerSync, TorchSyncBatchNorm
from .model_parallel import ModelParallelStrategy
from .parallel import ParallelStrategy
from .registry import StrategyRegistry
from .single_device import SingleDeviceStrategy
from .slurm import SLURMEnvironment

PLUGIN_KINDS: tuple[type, ...] = (Precision, CheckpointIO, ClusterEnvironment, LayerSync)
Plugin = Precision | CheckpointIO | ClusterEnvironment | LayerSync


def resolve_strategy(
    accelerator: str | Accelerator = "auto",
    strategy: str | Strategy = "auto",
    devices: list[int] | str | int = "auto",
    num_nodes: int = 1,
    sync_batchnorm: bool = False,
    precision: str | int | None = None,
    plugins: Plugin | Iterable[Plugin] | None = None,
    use_distributed_sampler: bool = True,
) -> Strategy:
    """The strategy that the arguments of a Trainer describe, complete but not yet running.

    Raises:
        ValueError, TypeError, MisconfigurationException: An argument is wrong, is not there, or contradicts another.
    """
    given = _sorted_plugins(plugins)
    name = strategy.lower() if isinstance(strategy, str) else None
    if (name is None and not isinstance(strategy, Strategy)) or name not in (None, "auto", *StrategyRegistry):
        raise ValueError(
            f"You selected an invalid strategy name: `strategy={strategy!r}`."
            " It must be either a string or an instance of `lightning.pytorch.strategies.Strategy`."
            f" Names: auto, {', '.join(StrategyRegistry)}."
        )
    if isinstance(strategy, Strategy):
        _take_parts_of(strategy, given, accelerator)
    if precision is not None and Precision in given and strategy_precision(strategy) is None:
        raise ValueError(f"Received both `precision={precision}` and `plugins={given[Precision]}`. Choose one.")
    if sync_batchnorm and not isinstance(given.get(LayerSync, TorchSyncBatchNorm()), TorchSyncBatchNorm):
        raise MisconfigurationException(
            "You set `Trainer(sync_batchnorm=True)` and provided a `LayerSync` plugin, but this is not allowed."
            f" Choose one or the other; the plugin is a `{type(given[LayerSync]).__name__}`."
        )
    if isinstance(num_nodes, bool) or not isinstance(num_nodes, int) or num_nodes < 1:
        raise ValueError(f"`num_nodes` must be a positive integer, but got {num_nodes}.")
    chosen, parallel_devices = _devices(accelerator, strategy, devices)
    cluster = given.get(ClusterEnvironment) or detect_environment()
    parallel_devices = _as_launched(parallel_devices, devices, chosen, cluster)
    _refuse_mps_in_parallel(chosen, name, strategy)
    if isinstance(strategy, Strategy):
        resolved = strategy
    elif name == "auto":
        resolved = _automatic(parallel_devices, num_nodes)
    elif name == "single_device":
        resolved = SingleDeviceStrategy(parallel_devices[0])
    else:
        resolved = StrategyRegistry.get(strategy.lower())
    resolved.accelerator = chosen
    resolved.precision_plugin = given.get(Precision) or resolve_precision(
        precision, _kind(parallel_devices[0]), sharded=isinstance(resolved, FSDPStrategy)
    )
    _check_precision(resolved)
    if CheckpointIO in given:
        resolved.checkpoint_io = given[CheckpointIO]
    if resolved.cluster_environment is None:
        resolved.cluster_environment = cluster
    if isinstance(resolved, ParallelStrategy):
        _complete_parallel(resolved, parallel_devices, num_nodes, given.get(LayerSync), sync_batchnorm)
        resolved.shares_data = use_distributed_sampler
    resolved.configure_launcher()
    return resolved


def _kind(device: Any) -> str:
    """The type of a device; an accelerator of the script's own may name its devices as it likes."""
    return device.type if isinstance(device, torch.device) else str(device)


def strategy_precision(strategy: str | Strategy) -> Precision | None:
    return strategy._precision_plugin if isinstance(strategy, Strategy) else None


def _sorted_plugins(plugins: Any) -> dict[type, Any]:
    if plugins is None:
        return {}
    plugins = list(plugins) if isinstance(plugins, Iterable) else [plugins]
    kinds = []
    for plugin in plugins:
        kind = next((kind for kind in PLUGIN_KINDS if isinstance(plugin, kind)), None)
        if kind is None:
            raise MisconfigurationException(
                f"Found invalid type for plugin {plugin}. Expected one of: Precision, "
                "CheckpointIO, ClusterEnvironment, or LayerSync."
            )
        kinds.append(kind)
    double = [kind.__name__ for kind, count in Counter(kinds).items() if count > 1]
    if double:
        raise MisconfigurationException(
            f"Received multiple values for {', '.join(double)} flags in `plugins`."
            " Expected one value for each type at most."
        )
    return dict(zip(kinds, plugins))


def _take_parts_of(strategy: Strategy, given: dict[type, Any], accelerator: str | Accelerator) -> None:
    """Adds the parts that a strategy object brings; two answers to one question are refused."""
    if strategy._accelerator is not None and accelerator != "auto":
        raise MisconfigurationException("accelerator set through both strategy class and accelerator flag, choose one")
    own = {
        Precision: ("precision", strategy._precision_plugin),
        CheckpointIO: ("checkpoint_io", strategy._checkpoint_io),
        ClusterEnvironment: ("cluster_environment", getattr(strategy, "cluster_environment", None)),
    }
    for kind, (word, part) in own.items():
        if part is None:
            continue
        if kind in given and given[kind] is not part:
            raise MisconfigurationException(f"{word} set through both strategy class and plugins, choose one")
        given[kind] = part


def _devices(
    accelerator: str | Accelerator, strategy: str | Strategy, devices: Any
) -> tuple[Accelerator, list[torch.device]]:
    own: list[torch.device] = []
    if isinstance(strategy, Strategy):
        accelerator = strategy._accelerator or accelerator
        own = list(strategy.parallel_devices) if isinstance(strategy, ParallelStrategy) else [strategy.root_device]
        if isinstance(strategy, SingleDeviceStrategy) and accelerator == "auto":
            accelerator = own[0].type
        if isinstance(strategy, ParallelStrategy) and own:
            for kind, word, fitting in (("cpu", "CPU", ("auto", "cpu")), ("cuda", "GPU", ("auto", "cuda", "gpu"))):
                if own[0].type == kind and isinstance(accelerator, str):
                    if accelerator not in fitting:
                        raise MisconfigurationException(
                            f"{word} parallel_devices set through {type(strategy).__name__} class,"
                            f" but accelerator set to {accelerator}, please choose one device type"
                        )
                    accelerator = kind
    if devices in ([], 0, "0"):
        word = type(accelerator).__qualname__ if isinstance(accelerator, Accelerator) else accelerator
        raise MisconfigurationException(
            f"`Trainer(devices={devices!r})` value is not a valid input using {word} accelerator."
        )
    chosen = resolve_accelerator(accelerator)
    if own:
        return chosen, own
    count = chosen.auto_device_count() if devices == "auto" else devices
    return chosen, chosen.get_parallel_devices(chosen.parse_devices(count))


def _as_launched(
    parallel_devices: list[torch.device], devices: Any, accelerator: Accelerator, cluster: ClusterEnvironment
) -> list[torch.device]:
    """With `devices="auto"` on CPU, as many processes as were started on this machine."""
    started = environment.read("LOCAL_WORLD_SIZE")  # set by torchrun
    automatic = devices == "auto" and isinstance(accelerator, CPUAccelerator)
    if automatic and started and cluster.creates_processes_externally and len(parallel_devices) == 1:
        return accelerator.get_parallel_devices(int(started))
    return parallel_devices


def _automatic(parallel_devices: list[torch.device], num_nodes: int) -> Strategy:
    if num_nodes == 1 and len(parallel_devices) == 1:
        return SingleDeviceStrategy(parallel_devices[0])
    return StrategyRegistry.get("ddp_fork" if environment.is_interactive() else "ddp")


def _refuse_mps_in_parallel(accelerator: Accelerator, name: str | None, strategy: Any) -> None:
    parallel = isinstance(strategy, ParallelStrategy) or (name is not None and name.startswith(("ddp", "fsdp")))
    if isinstance(accelerator, MPSAccelerator) and parallel:
        raise ValueError(
            f"You set `strategy={strategy}` but strategies from the DDP family are not supported on the"
            " MPS accelerator. Either explicitly set `accelerator='cpu'` or change the strategy."
        )


def _check_precision(strategy: Strategy) -> None:
    supported = ("32-true", "bf16-mixed", "bf16-true", "16-true")
    if isinstance(strategy.precision_plugin, DeepSpeedPrecision):
        raise MisconfigurationException(f"`DeepSpeedPrecision` needs DeepSpeed's engine. {SHARDING}")
    precision = strategy.precision_plugin.precision
    if type(strategy) is ModelParallelStrategy and precision not in supported:
        raise ValueError(
            f"The `ModelParallelStrategy` does not support `precision={precision!r}`."
            f" Choose a different precision among: {', '.join(supported)}."
        )


def _complete_parallel(
    strategy: ParallelStrategy,
    parallel_devices: list[torch.device],
    num_nodes: int,
    layer_sync: LayerSync | None,
    sync_batchnorm: bool,
) -> None:
    if not strategy.parallel_devices:
        strategy.parallel_devices = parallel_devices
    strategy.num_nodes = num_nodes
    if layer_sync is not None or sync_batchnorm:
        strategy._layer_sync = layer_sync or TorchSyncBatchNorm()
    launcher_fits_notebook = strategy.start_method == "fork"
    started = strategy.environment.creates_processes_externally
    if environment.is_interactive() and not launcher_fits_notebook and not started:
        raise MisconfigurationException(
            f"`Trainer(strategy={strategy.strategy_name!r})` is not compatible with an interactive"
            " environment. Run your code as a script, or choose a notebook-compatible strategy:"
            " `Trainer(strategy='ddp_notebook')`."
        )


def detect_environment() -> ClusterEnvironment:
    """The first environment that claims this process; the runtime's own launch when none does."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment):
        if kind.detect():
            return kind()
    return LightningEnvironment()
