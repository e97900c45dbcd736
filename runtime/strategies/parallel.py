"""What strategies of several processes share: ranks, the process group, collective calls."""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..accelerators import Accelerator
from ..checkpoint_io import CheckpointIO
from ..errors import MisconfigurationException, rank_zero_info, rank_zero_only
from ..precision import Precision
from . import environment
from .base import Gradients, Strategy
from .environment import ClusterEnvironment, LightningEnvironment
from .launch import SpawnLauncher, SubprocessLauncher
from .layer_sync import LayerSync

T = TypeVar("T")

SETTLE_S = 0.05  # for threads to drop what they hold, at the end of a process

OPERATIONS: dict[str, Any] = {
    "sum": dist.ReduceOp.SUM,
    "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX,
    "product": dist.ReduceOp.PRODUCT,
}


class ParallelStrategy(Strategy):
    """One process for each device of each node, joined by torch.distributed.

    Args:
        accelerator: The kind of device.
        parallel_devices: This machine's devices, one per process.
        cluster_environment: Where ranks and addresses come from.
        checkpoint_io: How files are written.
        precision_plugin: The precision.
        process_group_backend: "nccl" on CUDA and "gloo" elsewhere when None.
        timeout: After which a process that waits for the others gives up.
        start_method: "popen" runs the script again; "spawn", "fork" and "forkserver" start from this process.
    """

    handles_sync = True
    shares_data = True  # whether samplers are replaced: `Trainer(use_distributed_sampler=...)`
    strategy_name = ""

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
        start_method: str = "popen",
    ) -> None:
        super().__init__(accelerator, checkpoint_io, precision_plugin)
        self._parallel_devices = parallel_devices or []
        self.cluster_environment = cluster_environment
        self.process_group_backend = process_group_backend
        self.timeout = timeout
        self.start_method = start_method
        self._layer_sync: LayerSync | None = None
        self.num_nodes = 1
        self.spawned_rank: int | None = None  # the local rank that the launcher gave this process

    # Ranks.

    @property
    def parallel_devices(self) -> list[torch.device]:
        return self._parallel_devices

    @parallel_devices.setter
    def parallel_devices(self, devices: list[torch.device]) -> None:
        self._parallel_devices = devices

    @property
    def environment(self) -> ClusterEnvironment:
        if self.cluster_environment is None:
            self.cluster_environment = LightningEnvironment()
        return self.cluster_environment

    @property
    def num_processes(self) -> int:  # type: ignore[override]
        return len(self._parallel_devices)

    @property
    def local_rank(self) -> int:  # type: ignore[override]
        return self.environment.local_rank() if self.spawned_rank is None else self.spawned_rank

    @property
    def node_rank(self) -> int:  # type: ignore[override]
        return self.environment.node_rank()

    @property
    def global_rank(self) -> int:  # type: ignore[override]
        if not isinstance(self.environment, LightningEnvironment):
            return self.environment.global_rank()
        return self.node_rank * self.num_processes + self.local_rank

    @property
    def world_size(self) -> int:  # type: ignore[override]
        return self.num_nodes * self.num_processes

    @property
    def root_device(self) -> torch.device:
        return self._parallel_devices[self.local_rank]

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int] | None:
        return {"num_replicas": self.world_size, "rank": self.global_rank} if self.shares_data else None

    def announce_rank(self) -> None:
        """Lets the environment and the messages of this process know which one it is."""
        self.environment.set_world_size(self.world_size)
        self.environment.set_global_rank(self.global_rank)
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined]

    # Processes.

    def configure_launcher(self) -> None:
        if self.start_method != "popen":
            self.launcher = SpawnLauncher(self, self.start_method)
        elif not self.environment.creates_processes_externally:
            self.launcher = SubprocessLauncher(self.environment, self.num_processes, self.num_nodes)
        self.announce_rank()

    def setup_environment(self) -> None:
        self.environment.validate_settings(self.num_processes, self.num_nodes)
        super().setup_environment()
        self.announce_rank()
        _at_exit(_let_threads_end)
        if dist.is_initialized():
            if dist.get_world_size() == self.world_size:
                return
            if dist.get_world_size() > 1:
                raise MisconfigurationException(
                    f"A process group of {dist.get_world_size()} exists, but `Trainer(devices={self.num_processes},"
                    f" num_nodes={self.num_nodes})` needs one of {self.world_size}. Make them agree."
                )
            dist.destroy_process_group()  # of an earlier Trainer's one process
        environment.publish("MASTER_ADDR", self.environment.main_address)
        environment.publish("MASTER_PORT", str(self.environment.main_port))
        backend = self.process_group_backend or ("nccl" if self.root_device.type == "cuda" else "gloo")
        options: dict[str, Any] = {"device_id": self.root_device} if backend == "nccl" else {}
        if self.timeout is not None:
            options["timeout"] = self.timeout
        dist.init_process_group(backend, rank=self.global_rank, world_size=self.world_size, **options)
        _at_exit(_leave)
        rank_zero_info(
            f"Distributed: {self.world_size} process{'es' if self.world_size > 1 else ''} on {self.num_nodes} node"
            f"{'s' if self.num_nodes > 1 else ''}, backend {backend}."
        )

    def teardown(self) -> None:
        self.model = self.lightning_module
        if self._layer_sync is not None and self.lightning_module is not None:
            self.lightning_module = self.model = self._layer_sync.revert(self.lightning_module)
        super().teardown()
        self.environment.teardown()

    # Collective calls.

    def reduce(self, tensor: Any, group: Any | None = None, reduce_op: Any = "mean") -> Any:
        if not isinstance(tensor, Tensor) or not dist.is_initialized():
            return tensor
        mean = reduce_op is None or (isinstance(reduce_op, str) and reduce_op.lower() in ("avg", "mean"))
        operation = dist.ReduceOp.SUM if mean else reduce_op
        if isinstance(operation, str):
            operation = OPERATIONS[operation.lower()]
        device = tensor.device
        # A copy: the caller's tensor is often the state of something. NCCL cannot reduce what is on the CPU.
        result = tensor.detach().to(self.root_device, copy=True).contiguous()
        if mean and not (result.is_floating_point() or result.is_complex()):
            result = result.to(torch.get_default_dtype())
        dist.all_reduce(result, op=operation, group=group)
        if mean:  # gloo cannot average
            result /= dist.get_world_size(group)
        return result.to(device)

    def all_gather(self, tensor: Tensor, group: Any | None = None, sync_grads: bool = False) -> Tensor:
        if not dist.is_initialized():
            return tensor
        tensor = tensor.to(self.root_device).contiguous()
        if sync_grads and tensor.requires_grad:
            from torch.distributed.nn.functional import all_gather

            return torch.stack(all_gather(tensor) if group is None else all_gather(tensor, group))
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, tensor.detach(), group=group)
        return torch.stack(parts)

    def barrier(self, name: str | None = None) -> None:
        if not dist.is_initialized():
            return
        if dist.get_backend() == "nccl":
            dist.barrier(device_ids=[self.root_device.index])
        else:
            dist.barrier()

    def broadcast(self, obj: T, src: int = 0) -> T:
        if not dist.is_initialized():
            return obj
        objects: list[Any] = [obj]
        dist.broadcast_object_list(objects, src)
        return objects[0]

    def gather_object(self, obj: T) -> list[T]:
        if not dist.is_initialized():
            return [obj]
        objects: list[Any] = [None] * dist.get_world_size() if self.is_global_zero else []
        dist.gather_object(obj, objects or None)
        return objects

    def gradients(self) -> Gradients:
        held = super().gradients()
        if not self._hold_the_same(held.own):
            return held
        return Gradients({}, held.own if self.is_global_zero else {})  # exchanged already: once is enough

    def _hold_the_same(self, tensors: dict[str, Tensor]) -> bool:
        if not dist.is_initialized():
            return False
        names: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(names, list(tensors))
        if any(each != names[0] for each in names):
            return False
        same = True
        for tensor in tensors.values():
            of_first = tensor.to(self.root_device, copy=True)
            dist.broadcast(of_first, 0)
            same = same and torch.equal(of_first.cpu(), tensor)
        return self.reduce_boolean_decision(same)

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """All processes start from the first one's values; what has none yet is left."""
        for tensor in tensors:
            if not (tensor.is_meta or is_lazy(tensor)):
                value = tensor.detach().to(self.root_device)
                dist.broadcast(value, 0)
                tensor.data.copy_(value)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        votes = int(self.reduce(torch.tensor(int(decision), device=self.root_device), reduce_op="sum"))
        return votes == self.world_size if all else votes > 0


@cache
def _at_exit(function: Callable[[], None]) -> None:
    """Calls it once when Python ends, however many runs there were; what was given last is called first."""
    atexit.register(function)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _let_threads_end() -> None:
    """Lets gloo's threads drop what they exchanged last, which Python holds, too, before Python ends.

    A thread that comes to it after that asks an interpreter that is no more, and the process aborts. Threads end with
    their group, which modules wrapped by DDP hold in circles; FSDP's modules live on in caches of torch's, so that
    their group's threads need a moment.
    """
    gc.collect()
    time.sleep(SETTLE_S)
