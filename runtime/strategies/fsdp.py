"""Fully sharded data parallel (FSDP2): each process holds a part of every parameter, gradient and optimizer state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import MisconfigurationException
from ..precision import FSDPPrecision, Precision
from .sharded import ShardedStrategy

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import OffloadPolicy

    from ..trainer import Trainer

Policy = Callable[..., bool] | set[type[Module]] | None

RESHARDS = {
    "FULL_SHARD": None,
    "SHARD_GRAD_OP": False,
    "NO_SHARD": None,
    "HYBRID_SHARD": None,
    "_HYBRID_SHARD_ZERO2": False,
}
# Arguments of FSDP1 that tune what FSDP2 does by itself.
OWN_AFFAIRS = {"use_orig_params", "sync_module_states", "limit_all_gathers", "forward_prefetch", "backward_prefetch"}


class FSDPStrategy(ShardedStrategy):
    """Shards the module with `torch.distributed.fsdp.fully_shard`, unless `configure_model` has done it.

    Args:
        accelerator: As for `ParallelStrategy`, like the next six.
        cpu_offload: Keep the shards in main memory while they are not in use.
        mixed_precision: A `MixedPrecisionPolicy` of `torch.distributed.fsdp`, or its older `MixedPrecision`; from
            `Trainer(precision=...)` when None.
        auto_wrap_policy: Which submodules are gathered by themselves: their classes, or a function of
            ``(module, recurse, nonwrapped_numel)`` as in `torch.distributed.fsdp.wrap`. None: the module as a whole.
        activation_checkpointing: Classes of submodules whose activations are computed again in the backward pass.
        activation_checkpointing_policy: The same as a policy.
        sharding_strategy: "FULL_SHARD", "SHARD_GRAD_OP" (parameters stay gathered until the backward pass),
            "NO_SHARD" (each process has all of it), or "HYBRID_SHARD" (sharded within, copied between, the groups that
            `device_mesh` gives). Also as a `torch.distributed.fsdp.ShardingStrategy`, which it becomes.
        state_dict_type: "full" saves one file that any strategy loads; "sharded" a folder that each process writes
            its part of, and that loads at any number of processes.
        device_mesh: (copies, shards), or a mesh.
        **kwargs: Arguments of FSDP1 that need no counterpart: `use_orig_params`, `limit_all_gathers`, ...

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
        **kwargs: Any,
    ) -> None:
        _check_precision(precision_plugin)
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
        foreign = kwargs.keys() - OWN_AFFAIRS
        if foreign:
            raise MisconfigurationException(
                f"`FSDPStrategy` does not know {sorted(foreign)}: it shards with FSDP2 (`fully_shard`), and these are"
                " arguments of FSDP1. Groups of processes are given by `device_mesh`; parts that are to stay whole, by"
                " calling `fully_shard` in `configure_model`."
            )
        name = str(getattr(sharding_strategy, "name", sharding_strategy)).upper()
        if name not in RESHARDS:
            raise MisconfigurationException(
                f"`FSDPStrategy(sharding_strategy={sharding_strategy!r})` is not one of {', '.join(RESHARDS)}."
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
        from torch.distributed.fsdp import ShardingStrategy

        self.sharding_strategy = ShardingStrategy[name]
        self.kwargs = {"use_orig_params": True, **kwargs}
        self.cpu_offload = _offload(cpu_offload)
        self.mixed_precision = mixed_precision
        self.auto_wrap_policy = auto_wrap_policy
        self.checkpointing_policy = activation_checkpointing_policy
        self.saves_shards = state_dict_type == "sharded"
        self._device_mesh = device_mesh

    @property
    def precision_plugin(self) -> Precision:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, precision: Precision) -> None:
        _check_precision(precision)
        self._precision_plugin = precision

    @property
    def mixed_precision_config(self) -> Any:
        """The types that are gathered, computed in and reduced in."""
        if self.mixed_precision is not None:
            return self.mixed_precision
        return getattr(self.precision_plugin, "policy", None)

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
        self.take_from_first(state)  # as under DDP
        if self.checkpointing_policy is not None:
            from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

            apply_activation_checkpointing(module, check_fn=lambda part: _chosen(part, self.checkpointing_policy))
        arguments: dict[str, Any] = {
            "mesh": self._mesh(),
            "mp_policy": _policy(self.mixed_precision_config),
            "offload_policy": self._offload_policy(),
        }
        reshards = RESHARDS[self.sharding_strategy.name]
        if reshards is not None:
            arguments["reshard_after_forward"] = reshards
        _keep_statistics(module, arguments)
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
        if self._device_mesh is None and self.sharding_strategy.name == "NO_SHARD":
            self._device_mesh = (self.world_size, 1)
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


def _check_precision(precision: Precision | None) -> None:
    # The plain `Precision` is what a strategy has before the Trainer gives it one.
    if precision is not None and type(precision) is not Precision and not isinstance(precision, FSDPPrecision):
        raise TypeError(f"The FSDP strategy can only work with the `FSDPPrecision` plugin, found {precision}")


def _policy(config: Any) -> Any:
    """FSDP1's `MixedPrecision` as FSDP2's policy; a policy as it is. Buffers keep their types in FSDP2."""
    from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy

    if not isinstance(config, MixedPrecision):
        return config or MixedPrecisionPolicy()
    return MixedPrecisionPolicy(
        param_dtype=config.param_dtype,
        reduce_dtype=config.reduce_dtype,
        cast_forward_inputs=config.cast_forward_inputs,
    )


def _keep_statistics(module: Module, arguments: dict[str, Any]) -> None:
    """Batch normalisation computes in its buffers' type: FSDP2 does not cast those, and FSDP1 left it out, too."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    low = arguments["mp_policy"].param_dtype
    for part in module.modules():
        if low is None or not isinstance(part, _BatchNorm) or isinstance(part, FSDPModule):
            continue
        kept = next((buffer.dtype for buffer in part.buffers() if buffer.is_floating_point()), low)
        if kept != low:
            fully_shard(part, **{**arguments, "mp_policy": MixedPrecisionPolicy(param_dtype=kept, output_dtype=low)})


def _chosen(module: Module, policy: Policy) -> bool:
    classes = getattr(policy, "_module_classes", policy)  # of torch.distributed.fsdp.wrap.ModuleWrapPolicy
    if isinstance(classes, (set, frozenset)):
        return isinstance(module, tuple(classes))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return callable(policy) and policy(module=module, recurse=False, nonwrapped_numel=parameters)
