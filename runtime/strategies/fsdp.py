"""Fully sharded data parallel (FSDP2): each process holds a part of every parameter, gradient and optimizer state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn import Module

from ..errors import MisconfigurationException
from .sharded import ShardedStrategy

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import OffloadPolicy

    from ..trainer import Trainer

Policy = Callable[..., bool] | set[type[Module]] | None

RESHARDS = {"FULL_SHARD": None, "SHARD_GRAD_OP": False, "HYBRID_SHARD": None, "_HYBRID_SHARD_ZERO2": False}


class FSDPStrategy(ShardedStrategy):
    """Shards the module with `torch.distributed.fsdp.fully_shard`, unless `configure_model` has done it.

    Args:
        accelerator: As for `ParallelStrategy`, like the next six.
        cpu_offload: Keep the shards in main memory while they are not in use.
        mixed_precision: A `torch.distributed.fsdp.MixedPrecisionPolicy`; from `Trainer(precision=...)` when None.
        auto_wrap_policy: Which submodules are gathered by themselves: their classes, or a function of
            ``(module, recurse, nonwrapped_numel)`` as in `torch.distributed.fsdp.wrap`. None: the module as a whole.
        activation_checkpointing: Classes of submodules whose activations are computed again in the backward pass.
        activation_checkpointing_policy: The same as a policy.
        sharding_strategy: "FULL_SHARD", "SHARD_GRAD_OP" (parameters stay gathered until the backward pass), or
            "HYBRID_SHARD" (sharded within, copied between, the groups that `device_mesh` gives).
        state_dict_type: "full" saves one file that any strategy loads; "sharded" a folder that each process writes
            its part of, and that loads at any number of processes.
        device_mesh: (copies, shards), or a mesh.

    Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """

    strategy_name = "fsdp"

    def __init__(
        self,
        accelerator: Any = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: Any = None,
        checkpoint_io: Any = None,
        precision_plugin: Any = None,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
        cpu_offload: Any = None,
        mixed_precision: Any = None,
        auto_wrap_policy: Policy = None,
        activation_checkpointing: type[Module] | list[type[Module]] | None = None,
        activation_checkpointing_policy: Policy = None,
        sharding_strategy: Any = "FULL_SHARD",
        state_dict_type: str = "full",
        device_mesh: tuple[int, int] | DeviceMesh | None = None,
    ) -> None:
        super().__init__(
            accelerator,
            parallel_devices,
            cluster_environment,
            checkpoint_io,
            precision_plugin,
            process_group_backend,
            timeout,
        )
        try:
            from torch.distributed.fsdp import fully_shard  # noqa: F401
        except ImportError:
            raise MisconfigurationException(
                f"`FSDPStrategy` needs torch 2.6 or newer; this is {torch.__version__}. Use `strategy='ddp'` here."
            ) from None
        name = getattr(sharding_strategy, "name", sharding_strategy)
        if name not in RESHARDS:
            raise MisconfigurationException(
                f"`FSDPStrategy(sharding_strategy={sharding_strategy!r})` is not one of {', '.join(RESHARDS)}."
                " To keep whole parameters in each process, use `strategy='ddp'`."
            )
        if name.lstrip("_").startswith("HYBRID") and device_mesh is None:
            raise MisconfigurationException(
                f"The hybrid sharding strategy {name} needs `FSDPStrategy(device_mesh=(copies, shards))`."
            )
        if state_dict_type not in ("full", "sharded"):
            raise ValueError(f"`state_dict_type` is 'full' or 'sharded', got {state_dict_type!r}.")
        if activation_checkpointing is not None and activation_checkpointing_policy is not None:
            raise ValueError(
                "You cannot set both `activation_checkpointing` and `activation_checkpointing_policy`. Use the latter."
            )
        if activation_checkpointing is not None:
            classes = activation_checkpointing
            activation_checkpointing_policy = set(classes) if isinstance(classes, list) else {classes}
        self.sharding_strategy: str = name
        self.cpu_offload = _offload(cpu_offload)
        self.mixed_precision = mixed_precision
        self.auto_wrap_policy = auto_wrap_policy
        self.checkpointing_policy = activation_checkpointing_policy
        self.saves_shards = state_dict_type == "sharded"
        self._device_mesh = device_mesh

    def setup(self, trainer: Trainer) -> None:
        from torch.distributed.fsdp import FSDPModule

        self.accelerator.setup(trainer)
        module = self.precision_plugin.convert_module(self.lightning_module)
        if not any(isinstance(part, FSDPModule) for part in module.modules()):
            self._shard(module)
        self.model = module

    def _shard(self, module: Module) -> None:
        from torch.distributed.fsdp import fully_shard

        state = [*module.parameters(), *module.buffers()]
        empty = any(tensor.is_meta for tensor in state)
        for tensor in state:
            if tensor.is_meta:
                continue
            # All start from the first process's values, as under DDP.
            value = tensor.detach().to(self.root_device)
            dist.broadcast(value, 0)
            tensor.data.copy_(value)
        if self.checkpointing_policy is not None:
            from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

            apply_activation_checkpointing(module, check_fn=lambda part: _chosen(part, self.checkpointing_policy))
        arguments: dict[str, Any] = {
            "mesh": self._mesh(),
            "mp_policy": self.mixed_precision or self.precision_plugin.policy,  # type: ignore[attr-defined]
            "offload_policy": self._offload_policy(),
        }
        if RESHARDS[self.sharding_strategy] is not None:
            arguments["reshard_after_forward"] = RESHARDS[self.sharding_strategy]
        if self.auto_wrap_policy is not None:
            # From the leaves up: a parent gathers what its children do not.
            for part in reversed(list(module.modules())):
                if part is not module and _chosen(part, self.auto_wrap_policy):
                    fully_shard(part, **arguments)
        fully_shard(module, **arguments)
        if empty:
            # Made without memory, so that each process allocates and fills its own part only.
            module.to_empty(device=self.root_device)
            for part in module.modules():
                fill = getattr(part, "reset_parameters", None)
                if callable(fill):
                    fill()

    def _mesh(self) -> DeviceMesh:
        from torch.distributed.device_mesh import init_device_mesh

        kind = self.root_device.type
        if self._device_mesh is None:
            self._device_mesh = init_device_mesh(kind, (self.world_size,), mesh_dim_names=("data_parallel",))
        elif isinstance(self._device_mesh, tuple):
            self._device_mesh = init_device_mesh(kind, self._device_mesh, mesh_dim_names=("copies", "shards"))
        return self._device_mesh

    def _offload_policy(self) -> OffloadPolicy:
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

        return CPUOffloadPolicy() if getattr(self.cpu_offload, "offload_params", False) else OffloadPolicy()


def _offload(cpu_offload: Any) -> Any:
    """`True` as torch's own settings object; other objects as they are."""
    if not isinstance(cpu_offload, bool):
        return cpu_offload
    from torch.distributed.fsdp import CPUOffload

    return CPUOffload(offload_params=cpu_offload)


def _chosen(module: Module, policy: Policy) -> bool:
    classes = getattr(policy, "_module_classes", policy)  # of torch.distributed.fsdp.wrap.ModuleWrapPolicy
    if isinstance(classes, (set, frozenset)):
        return isinstance(module, tuple(classes))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return callable(policy) and policy(module=module, recurse=False, nonwrapped_numel=parameters)
