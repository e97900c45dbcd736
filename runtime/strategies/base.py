"""What a strategy decides: where the module is, which processes there are, how they talk, what a checkpoint holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from .. import checkpoints, shards
from ..accelerators import Accelerator, CPUAccelerator
from ..checkpoint_io import CheckpointIO, TorchCheckpointIO
from ..checkpoints import Checkpoint
from ..precision import Precision
from ..transfer import move_data_to_device
from .environment import ClusterEnvironment

if TYPE_CHECKING:
    from ..trainer import Trainer

T = TypeVar("T")


@dataclass(frozen=True)
class Gradients:
    """Of an accumulation window, by parameter: what is this process's alone, and what all processes have together."""

    own: dict[str, Tensor]
    common: dict[str, Tensor] = field(default_factory=dict)


class Launcher(ABC):
    """Starts the processes of a run."""

    is_interactive_compatible = False

    @abstractmethod
    def launch(self, function: Callable[..., T], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> T:
        """Runs `function` in all processes and returns what the first one's call returned."""

    def kill(self, signum: int) -> None:
        """Passes a signal on to the processes that were started."""


class Strategy(ABC):
    """The engine under a Trainer. The defaults are those of one process on one device."""

    handles_sync = False  # whether gradients are synchronised between processes, so that it can be put off
    handles_gradient_accumulation = False
    steps_together = False  # whether a process waits for the others in each step of an evaluation, too
    num_nodes = 1
    num_processes = 1
    node_rank = 0
    local_rank = 0
    global_rank = 0
    world_size = 1

    @property
    def inexact(self) -> str:
        """Why a run that is taken up from a checkpoint is not exactly the one that was ended; empty: it is."""
        return ""

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        self._accelerator = accelerator
        self._checkpoint_io = checkpoint_io
        self._precision_plugin = precision_plugin
        self.lightning_module: Any = None
        self.model: Any = None  # what steps go through: the module, or its wrapper
        self.launcher: Launcher | None = None
        self.cluster_environment: ClusterEnvironment | None = None
        self.optimizers: list[Optimizer] = []

    # Parts; each is what the user gave, or the default.

    @property
    def accelerator(self) -> Accelerator:
        if self._accelerator is None:
            self._accelerator = CPUAccelerator()
        return self._accelerator

    @accelerator.setter
    def accelerator(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def checkpoint_io(self) -> CheckpointIO:
        if self._checkpoint_io is None:
            self._checkpoint_io = TorchCheckpointIO()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, checkpoint_io: CheckpointIO) -> None:
        self._checkpoint_io = checkpoint_io

    @property
    def precision_plugin(self) -> Precision:
        if self._precision_plugin is None:
            self._precision_plugin = Precision()
        return self._precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, precision: Precision) -> None:
        self._precision_plugin = precision

    @property
    def precision(self) -> Precision:
        return self.precision_plugin

    # Which process this is.

    @property
    @abstractmethod
    def root_device(self) -> torch.device:
        """This process's device."""

    @property
    def parallel_devices(self) -> list[torch.device]:
        """The devices of this machine's processes."""
        return [self.root_device]

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int] | None:
        """How samplers share the data out; None when there is nothing to share."""
        return None

    # The course of a run.

    def connect(self, module: Module) -> None:
        """Takes the module of the run."""
        self.lightning_module = module
        self.model = module

    def configure_launcher(self) -> None:
        """Sets `launcher`, once all parts are known."""

    def setup_environment(self) -> None:
        """Joins the processes and takes the device; the first thing a process of a run does."""
        self.accelerator.setup_device(self.root_device)

    def module_to_device(self, module: Module) -> None:
        module.to(self.root_device)

    def model_to_device(self) -> None:
        self.module_to_device(self.model)

    def setup(self, trainer: Trainer) -> None:
        """Brings the module into the form in which it is run, between `configure_model` and `configure_optimizers`."""
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()

    def setup_optimizers(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """Takes what `configure_optimizers` made; returns what is stepped."""
        self.optimizers = optimizers
        return optimizers

    def process_dataloader(self, loader: Any) -> Any:
        """Lets a strategy wrap a loader."""
        return loader

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        return move_data_to_device(batch, device or self.root_device)

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        """The context in which layers are made on their device, in their type, and not filled when `empty_init`."""
        with ExitStack() as stack:
            stack.enter_context(self.root_device)
            stack.enter_context(self.precision_plugin.tensor_init_context())
            if empty_init:
                stack.enter_context(_EmptyInit())
            yield

    def model_sharded_context(self) -> AbstractContextManager[Any]:
        """The context around `configure_model`."""
        return nullcontext()

    def wrap_step(self, module: Any, name: str) -> Callable[..., Any]:
        """What the loop calls for `module.<name>`, a step."""
        return getattr(module, name)

    def block_backward_sync(self) -> AbstractContextManager[Any]:
        """The context of a backward pass whose gradients are not exchanged yet."""
        return nullcontext()

    def share_buffers(self) -> None:
        """Gives the first process's buffers to all, which evaluate with them."""

    def pre_backward(self, loss: Tensor) -> None:
        """Runs before each backward pass that the loop or `manual_backward` makes through its hooks."""

    def on_exception(self, exception: BaseException) -> None:
        """Is told that the run ends with an error."""

    def teardown(self) -> None:
        """Leaves the devices as they were found: the module back in memory, the caches empty."""
        for optimizer in self.optimizers:
            move_optimizer_state(optimizer, torch.device("cpu"))
        if self.lightning_module is not None and self.root_device.type != "cpu":
            self.lightning_module.cpu()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()

    # Talk among processes.

    def reduce(self, tensor: Any, group: Any | None = None, reduce_op: Any = "mean") -> Any:
        """The tensor reduced over all processes: "mean", "sum", "min", "max", "product"."""
        return tensor

    def all_gather(self, tensor: Tensor, group: Any | None = None, sync_grads: bool = False) -> Tensor:
        """The tensors of all processes, stacked: (world_size, *shape); the tensor itself when there is one process."""
        return tensor

    def barrier(self, name: str | None = None) -> None:
        """Waits for all processes."""

    def broadcast(self, obj: T, src: int = 0) -> T:
        """`obj` of process `src`."""
        return obj

    def gather_object(self, obj: T) -> list[T]:
        """In the first process, the objects of all, in the order of their ranks; nothing in the others."""
        return [obj]

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Whether all processes (or any) decided so."""
        return decision

    # State.

    def exchange_order(self) -> list[int]:
        """The order in which parameters' gradients are exchanged, where that decides sums' last digits."""
        return []

    def load_exchange_order(self, order: list[int]) -> None:
        """Lets gradients be exchanged in this order from the next step on."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether the module's weights are loaded only after `setup`."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether `load_optimizer_state_dict` is to be called when a run is taken up."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return self.lightning_module.state_dict()

    def model_state_dict(self, module: Module) -> dict[str, Any]:
        return self.lightning_module_state_dict() if module is self.lightning_module else module.state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        # In the precision of the run: weights of 64 bits must not pass through a module that still has 32.
        self.precision_plugin.convert_module(self.lightning_module)
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        if callable(getattr(optimizer, "consolidate_state_dict", None)):  # torch's ZeroRedundancyOptimizer
            optimizer.consolidate_state_dict()  # type: ignore[attr-defined]
            return optimizer.state_dict() if self.is_global_zero else {}
        return optimizer.state_dict()

    def load_optimizer_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        optimizer.load_state_dict(state)
        move_optimizer_state(optimizer, self.root_device)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"]):
            self.load_optimizer_state(optimizer, state)

    def gradients(self) -> Gradients:
        """What this process has summed up for a step that is still to come."""
        named = self.lightning_module.named_parameters()
        return Gradients({name: parameter.grad.cpu() for name, parameter in named if parameter.grad is not None})

    def load_gradients(self, gradients: Gradients) -> None:
        """Gives back what `gradients` returned; `own` is of this process, `common` of all together."""
        parameters = dict(self.lightning_module.named_parameters())
        for name, gradient in {**gradients.own, **gradients.common}.items():
            parameters[name].grad = gradient.to(parameters[name].device)

    def save_checkpoint(self, checkpoint: Checkpoint, filepath: str | Path, storage_options: Any | None = None) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> Checkpoint:
        if checkpoints.is_sharded(shards.existing(checkpoint_path)):
            return shards.load_whole(shards.existing(checkpoint_path), "cpu", weights_only)
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def remove_checkpoint(self, filepath: str | Path) -> None:
        if self.is_global_zero:
            self.checkpoint_io.remove_checkpoint(filepath)


def move_optimizer_state(optimizer: Optimizer, device: torch.device) -> None:
    """Moves what the optimizer keeps per parameter to `device`, in place; counters that it keeps on the CPU stay."""
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.device != device and not (key == "step" and value.dim() == 0):
                state[key] = value.to(device)


class _EmptyInit(torch.overrides.TorchFunctionMode):
    """Skips what `torch.nn.init` would fill parameters with: a checkpoint will overwrite them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)
