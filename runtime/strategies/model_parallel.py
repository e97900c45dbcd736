"""Parameters sharded by the user: `configure_model` applies tensor parallelism and FSDP over `self.device_mesh`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import MisconfigurationException
from .sharded import ShardedStrategy

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ..trainer import Trainer


class ModelParallelStrategy(ShardedStrategy):
    """Makes the mesh of processes; what is done with it is the module's own.

    Args:
        data_parallel_size: Processes that see different batches; "auto" is the number of nodes.
        tensor_parallel_size: Processes that share one batch; "auto" is the number of devices of a node.
        save_distributed_checkpoint: A folder of shards instead of one file.
        process_group_backend: "nccl" on CUDA and "gloo" elsewhere when None.
        timeout: After which a process that waits for the others gives up.
    """

    strategy_name = "model_parallel"

    def __init__(
        self,
        data_parallel_size: int | str = "auto",
        tensor_parallel_size: int | str = "auto",
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)
        self.data_parallel_size, self.tensor_parallel_size = data_parallel_size, tensor_parallel_size
        self.saves_shards = save_distributed_checkpoint
        self._device_mesh: DeviceMesh | None = None

    @property
    def device_mesh(self) -> DeviceMesh:
        if self._device_mesh is None:
            raise RuntimeError("Accessing the device mesh before processes have initialized is not allowed.")
        return self._device_mesh

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int] | None:
        mesh = self.device_mesh["data_parallel"]
        return {"num_replicas": mesh.size(), "rank": mesh.get_local_rank()}

    def setup_environment(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        super().setup_environment()
        data = self.num_nodes if self.data_parallel_size == "auto" else int(self.data_parallel_size)
        tensor = self.num_processes if self.tensor_parallel_size == "auto" else int(self.tensor_parallel_size)
        if data * tensor != self.world_size:
            raise RuntimeError(
                f"The sizes `data_parallel_size={data}` and `tensor_parallel_size={tensor}` multiplied should equal the"
                f" world size ({self.world_size})."
            )
        self._device_mesh = init_device_mesh(
            self.root_device.type, (data, tensor), mesh_dim_names=("data_parallel", "tensor_parallel")
        )

    def setup(self, trainer: Trainer) -> None:
        from torch.distributed.tensor import DTensor

        self.accelerator.setup(trainer)
        module: Any = self.precision_plugin.convert_module(self.lightning_module)
        if not any(isinstance(parameter, DTensor) for parameter in module.parameters()):
            raise MisconfigurationException(
                "`ModelParallelStrategy` needs a module that shards itself: apply `parallelize_module` or `fully_shard`"
                " over `self.device_mesh` in `configure_model`, or use `strategy='fsdp'`."
            )
        module.to(self.root_device)
        self.model = module
