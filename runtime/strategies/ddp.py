"""DistributedDataParallel: each process trains on its share, gradients are averaged in every step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from ..state import TrainerFn
from .layer_sync import on_cpu
from .parallel import ParallelStrategy

if TYPE_CHECKING:
    from ..trainer import Trainer

UNUSED_PARAMETERS = (
    "It looks like your LightningModule has parameters that were not used in producing the loss returned by"
    " training_step. If this is intentional, you must enable the detection of unused parameters in DDP, either by"
    " setting the string value `strategy='ddp_find_unused_parameters_true'` or by setting the flag in the strategy"
    " with `strategy=DDPStrategy(find_unused_parameters=True)`."
)


class DDPStrategy(ParallelStrategy):
    """One copy of the module per process.

    Args:
        ddp_comm_hook: How gradients travel, for example compressed; `ddp_comm_state` is its state and
            `ddp_comm_wrapper` wraps it.
        **kwargs: The arguments of `ParallelStrategy`, and those of `torch.nn.parallel.DistributedDataParallel`
            (`find_unused_parameters`, `static_graph`, `gradient_as_bucket_view`, ...).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    """

    strategy_name = "ddp"

    def __init__(
        self,
        accelerator: Any = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: Any = None,
        checkpoint_io: Any = None,
        precision_plugin: Any = None,
        ddp_comm_state: object | None = None,
        ddp_comm_hook: Callable[..., Any] | None = None,
        ddp_comm_wrapper: Callable[..., Any] | None = None,
        process_group_backend: str | None = None,
        timeout: Any = None,
        start_method: str = "popen",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            accelerator,
            parallel_devices,
            cluster_environment,
            checkpoint_io,
            precision_plugin,
            process_group_backend,
            timeout,
            start_method,
        )
        unknown = kwargs.keys() - inspect.signature(DistributedDataParallel).parameters
        if unknown:
            raise TypeError(
                f"`DDPStrategy` got {', '.join(sorted(unknown))}, which neither it nor"
                " `torch.nn.parallel.DistributedDataParallel` knows."
            )
        self.comm_state, self.comm_hook, self.comm_wrapper = ddp_comm_state, ddp_comm_hook, ddp_comm_wrapper
        self.ddp_arguments = kwargs

    def setup(self, trainer: Trainer) -> None:
        if self._layer_sync is not None:
            self.model = self._layer_sync.apply(self.model)
            if self.root_device.type == "cpu":
                self.model = on_cpu(self.model)
        super().setup(trainer)
        trains = trainer.state.fn == TrainerFn.FITTING
        if trains and any(parameter.requires_grad for parameter in self.model.parameters()):
            self.model = self._wrap(self.model)
        elif dist.is_initialized():  # the wrapper does it otherwise
            ignored = getattr(self.model, "_ddp_params_and_buffers_to_ignore", ())
            state = [*self.model.named_parameters(), *self.model.named_buffers()]
            self.take_from_first(tensor for name, tensor in state if name not in ignored)

    def _wrap(self, module: Module) -> DistributedDataParallel:
        device = self.root_device
        device_ids = None if device.type == "cpu" else [device.index]
        # Gradient buckets are made on a stream of their own, as torch advises for CUDA graphs and overlap.
        side_stream = torch.cuda.stream(torch.cuda.Stream()) if device.type == "cuda" else nullcontext()
        with side_stream:
            wrapped = DistributedDataParallel(module, device_ids=device_ids, **self.ddp_arguments)
        if self.comm_hook is not None:
            hook = self.comm_hook if self.comm_wrapper is None else self.comm_wrapper(self.comm_hook)
            wrapped.register_comm_hook(self.comm_state, hook)
        return wrapped

    def exchange_order(self) -> list[int]:
        # Two numbers have one sum; of more, it depends on their places in DDP's buckets, which it forms anew once it
        # knows the order in which gradients come. Its next forward would; then it tells.
        if self.world_size <= 2 or not self._forms_buckets_anew():
            return []
        self.model.reducer._rebuild_buckets()
        self.model.logger.set_runtime_stats_and_log()
        told = self.model._get_ddp_logging_data().get("rebuilt_per_bucket_param_indices", "")
        return [int(index) for index in told.replace(",", " ").split()]

    def load_exchange_order(self, order: list[int]) -> None:
        if not order or not self._forms_buckets_anew():
            return
        # A pass of zeros, in which the gradients come in that order.
        exchanged = self.model._module_parameters
        self.model.module.forward = lambda: sum(exchanged[index].sum() * 0 for index in reversed(order))
        try:
            self.model().backward()
        finally:
            del self.model.module.forward
        for parameter in exchanged:
            parameter.grad = None
        self.model.reducer._rebuild_buckets()  # while there are no gradients, which it would take in

    @property
    def inexact(self) -> str:
        if self.world_size < 3 or not (self.comm_hook is not None or self.ddp_arguments.get("static_graph")):
            return ""
        return "DDP forms its buckets anew, and a sum over three or more processes depends on their order"

    def _forms_buckets_anew(self) -> bool:
        wrapped = self.model
        if not isinstance(wrapped, DistributedDataParallel) or self.comm_hook is not None:
            return False
        return not (wrapped.find_unused_parameters or wrapped.static_graph)

    def wrap_step(self, module: Any, name: str) -> Callable[..., Any]:
        method = getattr(module, name)
        if name != "training_step" or not isinstance(self.model, DistributedDataParallel):
            return method
        return _StepThroughDDP(self.model, module, method)

    def block_backward_sync(self) -> AbstractContextManager[Any]:
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def share_buffers(self) -> None:
        if isinstance(self.model, DistributedDataParallel) and self.model.will_sync_module_buffers():
            with torch.no_grad():
                self.model._sync_buffers()  # as its own forward does, also in evaluation

    def pre_backward(self, loss: Tensor) -> None:
        """Readies the exchange for a backward pass of manual optimization: DDP itself expects one per forward."""
        wrapped = self.model
        if not isinstance(wrapped, DistributedDataParallel) or self.lightning_module.automatic_optimization:
            return
        if not (torch.is_grad_enabled() and wrapped.require_backward_grad_sync):
            wrapped.require_forward_param_sync = False
            return
        wrapped.require_forward_param_sync = True
        wrapped.reducer._rebuild_buckets()
        searched = [loss] if wrapped.find_unused_parameters and not wrapped.static_graph else []
        wrapped.reducer.prepare_for_backward(searched)

    def on_exception(self, exception: BaseException) -> None:
        if isinstance(exception, RuntimeError) and "Expected to have finished reduction" in str(exception):
            exception.args = (f"{UNUSED_PARAMETERS} {exception}",)


class _StepThroughDDP:
    """Calls a step through DDP's forward, in which DDP readies the exchange of gradients.

    The step stands in for the module's `forward` until it is entered: what it calls as `self(...)` is its own forward.
    """

    def __init__(self, wrapped: DistributedDataParallel, module: Any, method: Callable[..., Any]) -> None:
        self.wrapped, self.module, self.method = wrapped, module, method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        syncs = self.wrapped.require_backward_grad_sync
        self.module.forward = self._enter
        try:
            return self.wrapped(*args, **kwargs)
        finally:
            self.module.__dict__.pop("forward", None)
            self.wrapped.require_backward_grad_sync = syncs

    def _enter(self, *args: Any, **kwargs: Any) -> Any:
        del self.module.__dict__["forward"]
        result = self.method(*args, **kwargs)
        if not self.module.automatic_optimization:
            # The backward passes are over: DDP must not wait for another one.
            self.wrapped.require_backward_grad_sync = False
        return result
