"""LightningModule: the user's contract. Research code goes here, everything else is the Trainer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from .datahooks import DataHooks
from .errors import rank_zero_warn
from .hparams import HyperparametersMixin
from .loading import ClassOnly, load_module
from .logged import is_metric_collection, take_in
from .modelhooks import CheckpointHooks, ModelHooks
from .optimhooks import OptimizationHooks
from .transfer import map_contents

if TYPE_CHECKING:
    from .callbacks.base import Callback
    from .loggers import Logger
    from .trainer import Trainer

Self = TypeVar("Self", bound="LightningModule")
STEP_OUTPUT = Tensor | Mapping[str, Any] | None


class LightningModule(OptimizationHooks, ModelHooks, CheckpointHooks, DataHooks, HyperparametersMixin, torch.nn.Module):
    """An `nn.Module` that also says how it is trained, evaluated and optimized."""

    __jit_unused_properties__: ClassVar[list[str]] = [
        "example_input_array", "on_gpu", "current_epoch", "global_step", "global_rank", "local_rank", "logger",
        "loggers", "automatic_optimization", "trainer", "strict_loading", "device", "dtype",
        "device_mesh",
        *HyperparametersMixin.__jit_unused_properties__,
    ]  # fmt: skip
    _jit_is_scripting = False
    allow_zero_length_dataloader_with_multiple_devices = False

    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "hparams_type"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trainer: Trainer | None = None
        self._example_input_array: Tensor | tuple[Any, ...] | dict[str, Any] | None = None
        self._automatic_optimization = True
        self._strict_loading: bool | None = None
        self._device = torch.get_default_device()
        self._dtype = torch.get_default_dtype()
        self._required_grad: dict[Tensor, bool] = {}
        self._compiler_ctx: dict[str, Any] | None = None

    # ---------------------------------------------------------------- where it runs

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs this module.

        Raises:
            RuntimeError: there is none yet.
        """
        if self._trainer is None and not self._jit_is_scripting:
            raise RuntimeError(f"{type(self).__qualname__} is not attached to a `Trainer`.")
        return self._trainer  # type: ignore[return-value]

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        for child in self.children():
            if isinstance(child, LightningModule):
                child.trainer = trainer  # type: ignore[assignment]
        self._trainer = trainer

    @property
    def automatic_optimization(self) -> bool:
        """Whether the Trainer does backward, step and zero_grad; False leaves them to `training_step`."""
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, automatic_optimization: bool) -> None:
        self._automatic_optimization = automatic_optimization

    @property
    def strict_loading(self) -> bool:
        """Whether checkpoints must match this module's parameters exactly."""
        return self._strict_loading in (None, True)

    @strict_loading.setter
    def strict_loading(self, strict_loading: bool) -> None:
        self._strict_loading = strict_loading

    @property
    def example_input_array(self) -> Tensor | tuple[Any, ...] | dict[str, Any] | None:
        """An input for `forward`: one tensor, a tuple of arguments, or a dict of keyword arguments."""
        return self._example_input_array

    @example_input_array.setter
    def example_input_array(self, example: Tensor | tuple[Any, ...] | dict[str, Any] | None) -> None:
        self._example_input_array = example

    @property
    def current_epoch(self) -> int:
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps taken."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> list[Logger]:
        return self._trainer.loggers if self._trainer is not None else []

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @dtype.setter
    def dtype(self, new_dtype: torch.dtype) -> None:
        raise RuntimeError("Cannot set the dtype explicitly. Please use module.to(new_dtype).")

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def device_mesh(self) -> Any:
        """The strategy's device mesh, in `configure_model`."""
        return getattr(self.trainer.strategy, "device_mesh", None)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Every move and cast of a module goes through here, so an empty tensor tells where it is now.
        if "_device" in self.__dict__:
            probe = fn(torch.empty(0, device=self._device, dtype=self._dtype))
            self._device, self._dtype = probe.device, probe.dtype
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_trainer"] = None
        return state

    # ---------------------------------------------------------------- steps

    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One batch of training; returns the loss, a dict with ``loss``, or None to skip the batch.

        Manual optimization may return anything: it steps by itself.
        """
        rank_zero_warn("`training_step` must be implemented to be used with the Lightning Trainer")
        return None

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One batch of validation; several loaders also pass ``dataloader_idx``."""
        return None

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """One batch of testing; several loaders also pass ``dataloader_idx``."""
        return None

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """One batch of prediction; `forward` of the batch by default."""
        batch = kwargs.get("batch", args[0])
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Optimizers and schedulers: one optimizer, several, ``([optimizers], [schedulers])``, a dict with
        ``optimizer`` and ``lr_scheduler``, several such dicts, or None."""
        rank_zero_warn("`configure_optimizers` must be implemented to be used with the Lightning Trainer")

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Callbacks of this module; they replace the Trainer's of the same type."""
        return []

    def configure_model(self) -> None:
        """Builds layers late, where they may be created sharded. May be called more than once."""

    def configure_sharded_model(self) -> None:
        """The old name of `configure_model`."""

    # ---------------------------------------------------------------- logging

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Logs a value under a name; `docs/runtime-logging.md` has the defaults per hook.

        Args:
            name: the key, equal in all processes.
            value: a number, a tensor of one element, or a torchmetrics object.
            prog_bar: show it in the progress bar.
            logger: send it to the loggers.
            on_step: keep each step's value.
            on_epoch: reduce the values over the epoch.
            reduce_fx: mean, sum, max or min over the epoch; a mean is weighted by batch size.
            enable_graph: keep the graph.
            sync_dist: reduce over processes.
            sync_dist_group: the process group for that.
            add_dataloader_idx: add the loader's index to the name when there are several.
            batch_size: the weight of this value; read from the batch by default.
            metric_attribute: the attribute under which the module holds the torchmetrics object.
            rank_zero_only: the call is made on rank zero only.
        """
        options = (
            prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, sync_dist_group,
            add_dataloader_idx, rank_zero_only,
        )  # fmt: skip
        trainer = self._trainer
        if trainer is not None and (results := trainer._results) is not None:
            if is_dynamo_compiling():
                kept = value.detach() if isinstance(value, Tensor) else value
                results.pending.append((name, kept, options, batch_size))
                return
            entry = results.entries.get((results.state.hook, name, results.dataloader_idx))
            if entry is not None and entry.options == options:
                entry.add(value, batch_size, results)
                return
        take_in(self, name, value, options, batch_size, metric_attribute)

    def log_dict(
        self,
        dictionary: Mapping[str, Any],
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Logs each value of a dict, or of a torchmetrics collection, under its key."""
        values: Any = dictionary
        if is_metric_collection(values):
            # Members of a compute group share their state until the epoch's end; a copy would break that.
            items = values.items(keep_base=False, copy_state=not values._enable_compute_groups)
        else:
            items = values.items()
        for name, value in items:
            self.log(
                name,
                value,
                prog_bar,
                logger,
                on_step,
                on_epoch,
                reduce_fx,
                enable_graph,
                sync_dist,
                sync_dist_group,
                add_dataloader_idx,
                batch_size,
                rank_zero_only=rank_zero_only,
            )

    def get_progress_bar_dict(self) -> dict[str, Any]:
        """What the bar shows beside metrics, for modules of Lightning 1.x; today a bar's `get_metrics` says it."""
        version = self.logger.version if self.logger is not None else None
        return {} if version is None else {"v_num": version}

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints from rank zero, without breaking the progress bar."""
        if self.trainer.is_global_zero:
            bar = self.trainer.progress_bar_callback
            if bar is not None and getattr(bar, "is_enabled", True):
                bar.print(*args, **kwargs)
            else:
                print(*args, **kwargs)

    def all_gather(self, data: Any, group: Any | None = None, sync_grads: bool = False) -> Any:
        """Collects a tensor, or a nest of tensors, from all processes; one process returns it unchanged."""
        gather = self.trainer.strategy.all_gather

        def gathered(value: Any) -> Any:
            if isinstance(value, (int, float)) or hasattr(value, "__array__"):  # of NumPy, too
                value = torch.as_tensor(value, device=self.device)
            if isinstance(value, Tensor):
                return gather(value, group=group, sync_grads=sync_grads)
            return map_contents(value, gathered)

        return gathered(data)

    # ---------------------------------------------------------------- the module itself

    def _run_model(self) -> torch.nn.Module:
        """This module as it is run: inside the strategy's wrapper, if there is one."""
        return self.trainer.model or self

    def freeze(self: Self) -> Self:
        """Stops all parameters from training and sets eval mode."""
        for param in self.parameters():
            param.requires_grad = False
        return self.eval()

    def unfreeze(self: Self) -> Self:
        """Lets all parameters train and sets train mode."""
        for param in self.parameters():
            param.requires_grad = True
        return self.train()

    @ClassOnly
    def load_from_checkpoint(
        cls: type[Self],
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Makes the module with its saved hyperparameters and loads its weights.

        Args:
            checkpoint_path: the file, an address, or an open binary file.
            map_location: where tensors go, as for `torch.load`.
            hparams_file: YAML or CSV file with hyperparameters for checkpoints that hold none.
            strict: whether parameters must match exactly; the module's `strict_loading` by default.
            weights_only: False allows pickled objects; needed for checkpoints that hold such.
            **kwargs: arguments of ``__init__`` that are not saved, or that replace saved ones.
        """
        module: Self = load_module(cls, checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs)
        return module

    def to_torchscript(
        self,
        file_path: str | Path | None = None,
        method: str | None = "script",
        example_inputs: Any | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compiles the module to TorchScript by ``script`` or ``trace``, and saves it when a path is given."""
        from .export import to_torchscript

        return to_torchscript(self, file_path, method, example_inputs, **kwargs)

    def to_onnx(
        self, file_path: str | Path | BytesIO | None = None, input_sample: Any | None = None, **kwargs: Any
    ) -> Any:
        """Exports the module to ONNX; the input is `example_input_array` if not given."""
        from .export import to_onnx

        return to_onnx(self, file_path, input_sample, **kwargs)

    def to_tensorrt(
        self, file_path: str | Path | BytesIO | None = None, input_sample: Any | None = None, **kwargs: Any
    ) -> Any:
        """Compiles the module by TensorRT, and saves it when a path is given; see `export.to_tensorrt`."""
        from .export import to_tensorrt

        return to_tensorrt(self, file_path, input_sample, **kwargs)
