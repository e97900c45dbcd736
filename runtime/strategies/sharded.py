"""What strategies with sharded parameters share: stepping through the module, and their state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from .. import checkpoints, shards
from ..checkpoint_io import AsyncCheckpointIO, TorchCheckpointIO
from ..checkpoints import Checkpoint
from .base import Gradients
from .parallel import ParallelStrategy

if TYPE_CHECKING:
    from torch.distributed.checkpoint.state_dict import StateDictOptions


@dataclass(frozen=True)
class Shards:
    """Stands in a loaded checkpoint for a state that each process reads its part of."""

    folder: Path
    key: str


class ShardedStrategy(ParallelStrategy):
    """Parameters are DTensors, of which each process holds a part."""

    steps_together = True  # the parameters are gathered in each forward
    saves_shards = False  # a folder of shards, or one file with everything

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True  # parameters are sharded in setup, and what is loaded is sharded like them

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        # Not on the device: the whole module may not fit there.
        with self.precision_plugin.tensor_init_context():
            yield

    def module_to_device(self, module: Module) -> None:
        """Nothing: sharding moves what it manages."""

    def wrap_step(self, module: Any, name: str) -> Callable[..., Any]:
        return StepThroughForward(module, getattr(module, name))

    @contextmanager
    def _without_sync(self) -> Iterator[None]:
        parts = [part for part in self.model.modules() if hasattr(part, "set_requires_gradient_sync")]
        for part in parts:
            part.set_requires_gradient_sync(False, recurse=False)
        try:
            yield
        finally:
            for part in parts:
                part.set_requires_gradient_sync(True, recurse=False)

    def block_backward_sync(self) -> AbstractContextManager[Any]:
        return self._without_sync()

    def teardown(self) -> None:
        """Leaves the shards where they are: they are the module's parameters now."""
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()
        self.environment.teardown()

    # State. All processes take part in reading it; with one file, only the first gets it.

    def _options(self, **options: Any) -> StateDictOptions:
        from torch.distributed.checkpoint.state_dict import StateDictOptions

        return StateDictOptions(full_state_dict=not self.saves_shards, cpu_offload=not self.saves_shards, **options)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        if not self.model.state_dict():
            return {}  # torch's function takes that for a mistake
        return get_model_state_dict(self.model, options=self._options())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        if not optimizer.state:
            return optimizer.state_dict()  # to fill it, torch's function would take a step
        state = get_optimizer_state_dict(self.model, optimizer, options=self._options())
        return state if self.saves_shards or not state else shards.by_index(state)

    def save_checkpoint(self, checkpoint: Checkpoint, filepath: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError(
                f"`{type(self).__name__}.save_checkpoint(..., storage_options=...)` is not supported because"
                f" `{type(self).__name__}` does not use the `CheckpointIO`."
            )
        path = Path(self.broadcast(str(filepath)))
        if path.is_dir() and not checkpoints.is_sharded(path):
            raise IsADirectoryError(f"The checkpoint path exists and is a directory: {path}")
        if not self.saves_shards:
            if not self.is_global_zero or not path.is_dir() or self._replaces_folders():
                super().save_checkpoint(checkpoint, path)
                return
            with checkpoints.giving_way(path):
                super().save_checkpoint(checkpoint, path)
                if isinstance(self.checkpoint_io, AsyncCheckpointIO):
                    self.checkpoint_io.wait()
            return
        self._save_shards(dict(checkpoint), path)

    def _replaces_folders(self) -> bool:
        """Whether what writes the checkpoints is ours; a writer of the user's own may want the name to be free."""
        writer = getattr(self.checkpoint_io, "checkpoint_io", self.checkpoint_io)
        return type(writer).save_checkpoint is TorchCheckpointIO.save_checkpoint

    def _save_shards(self, checkpoint: Checkpoint, path: Path) -> None:
        from torch.distributed.checkpoint.state_dict_saver import save

        state = {"model": checkpoint.pop("state_dict")}
        states = dict(enumerate(checkpoint.pop("optimizer_states", [])))
        checkpoint[shards.FRESH] = {index: own for index, own in states.items() if not own.get("state")}
        state |= {f"optimizer_{index}": own for index, own in states.items() if own.get("state")}
        if self.is_global_zero:
            shards.make_temporary_folder(path)
        self.barrier("the folder is there")
        save(state, checkpoint_id=shards.temporary_folder(path))
        self.barrier("the shards are written")
        if self.is_global_zero:
            shards.publish(checkpoint, path)
        self.barrier("the checkpoint is there")

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> Checkpoint:
        path = shards.existing(checkpoint_path)
        if not checkpoints.is_sharded(path):
            return super().load_checkpoint(path, weights_only)
        checkpoint = shards.load_meta(path, map_location="cpu", weights_only=weights_only)
        checkpoint["state_dict"] = Shards(path, "model")
        fresh = checkpoint.pop(shards.FRESH, {})
        checkpoint["optimizer_states"] = [
            fresh.get(index, Shards(path, f"optimizer_{index}"))
            for index in range(shards.count_optimizers(path, fresh))
        ]
        return checkpoint

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_model_state_dict,
            set_model_state_dict,
        )
        from torch.distributed.checkpoint.state_dict_loader import load

        source = checkpoint["state_dict"]
        if not self.model.state_dict():
            given = shards.load_whole(source.folder)["state_dict"] if isinstance(source, Shards) else source
            super().load_model_state_dict({"state_dict": given}, strict)
        elif isinstance(source, Shards):
            state = {source.key: get_model_state_dict(self.model)}
            load(state, checkpoint_id=source.folder)
            set_model_state_dict(self.model, state[source.key], options=StateDictOptions(strict=strict))
        else:
            set_model_state_dict(self.model, source, options=StateDictOptions(full_state_dict=True, strict=strict))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"]):
            self.load_optimizer_state(optimizer, state)

    def load_optimizer_state(self, optimizer: Optimizer, state: Any) -> None:
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_optimizer_state_dict,
            set_optimizer_state_dict,
        )
        from torch.distributed.checkpoint.state_dict_loader import load

        if isinstance(state, Shards):
            own = {state.key: get_optimizer_state_dict(self.model, optimizer)}
            load(own, checkpoint_id=state.folder)
            set_optimizer_state_dict(self.model, optimizer, own[state.key])
            return
        if not state.get("state"):
            optimizer.load_state_dict(state)
            return
        named = {id(parameter): name for name, parameter in self.model.named_parameters()}
        names = [named[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
        set_optimizer_state_dict(
            self.model, optimizer, shards.by_name(state, names), options=StateDictOptions(full_state_dict=True)
        )

    def gradients(self) -> Gradients:
        from torch.distributed.tensor import DTensor

        held = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        common = {name: grad.full_tensor().cpu() for name, grad in held.items() if isinstance(grad, DTensor)}
        own = {name: grad.cpu() for name, grad in held.items() if not isinstance(grad, DTensor)}
        # Not yet exchanged, so whole and different in each process; kept by FSDP, not in the parameters.
        own |= {name: grad.cpu() for name, part in _managed(self.model) if (grad := _unexchanged(part)) is not None}
        return Gradients(own, common if self.is_global_zero else {})

    def load_gradients(self, gradients: Gradients) -> None:
        from torch.distributed.tensor import DTensor, distribute_tensor

        parts, parameters = dict(_managed(self.model)), dict(self.model.named_parameters())
        for name, grad in gradients.common.items():
            parameter = parameters[name]
            assert isinstance(parameter, DTensor)
            there = grad.to(self.root_device)
            parameter.grad = distribute_tensor(there, parameter.device_mesh, parameter.placements)
        for name, grad in gradients.own.items():
            if name in parts:
                parts[name].unsharded_accumulated_grad = grad.to(self.root_device)
            else:
                parameters[name].grad = grad.to(parameters[name].device)


def _managed(model: Module) -> Iterator[tuple[str, Any]]:
    """FSDP's own records of the parameters that it shards, by the parameters' names."""
    names = {id(part): f"{name}." if name else "" for name, part in model.named_modules()}
    for part in model.modules():
        # There is no public way to gradients that are not exchanged yet.
        state = part._get_fsdp_state() if hasattr(part, "_get_fsdp_state") else None  # type: ignore[operator]
        groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
        for record in (record for group in groups if group is not None for record in group.fsdp_params):
            yield names[id(record._module_info.module)] + record._module_info.param_name, record


def _unexchanged(record: Any) -> Tensor | None:
    if record.unsharded_accumulated_grad is not None:
        return record.unsharded_accumulated_grad
    unsharded = getattr(record, "_unsharded_param", None)
    return None if unsharded is None else unsharded.grad


class StepThroughForward:
    """Calls a step inside the module's own call, whose hooks gather the parameters.

    The step stands in for the module's `forward` until it is entered: what it calls as `self(...)` is its own forward.
    """

    def __init__(self, module: Module, method: Callable[..., Any]) -> None:
        self.module, self.method = module, method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.module.forward = self._enter
        try:
            return self.module(*args, **kwargs)
        finally:
            self.module.__dict__.pop("forward", None)

    def _enter(self, *args: Any, **kwargs: Any) -> Any:
        del self.module.__dict__["forward"]
        return self.method(*args, **kwargs)
