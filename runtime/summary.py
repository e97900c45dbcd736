"""What a model is made of: layers, parameters, sizes, and operations where an example input is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from .errors import WarningCache, rank_zero_warn
from .export import on_device
from .randomness import isolate_rng

if TYPE_CHECKING:
    from .module import LightningModule

PARAMETER_NUM_UNITS = (" ", "K", "M", "B", "T")
UNKNOWN_SIZE = "?"
LEFTOVER_PARAMS_NAME = "other params"
NOT_APPLICABLE = "n/a"

_BITS = {"64": 64, "64-true": 64, "32": 32, "32-true": 32, "16": 16, "16-true": 16, "bf16": 16, "bf16-true": 16}

warning_cache = WarningCache()


class LayerSummary:
    """One layer: its type, parameters and mode, and the sizes seen in the first forward pass after it was made."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._in_size: str | list[Any] | None = None
        self._out_size: str | list[Any] | None = None
        # a scripted module takes no hooks
        scripted = isinstance(module, torch.jit.ScriptModule)
        self._hook_handle = None if scripted else module.register_forward_hook(self._note_sizes, with_kwargs=True)

    def _note_sizes(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        inputs = (*args, *kwargs.values())
        self._in_size = parse_batch_shape(inputs[0] if len(inputs) == 1 else inputs)
        self._out_size = parse_batch_shape(out)
        self.detach_hook()  # a layer that is called twice shows its first call

    def detach_hook(self) -> None:
        """Stops waiting for a forward pass."""
        if self._hook_handle is not None:
            self._hook_handle.remove()

    @property
    def in_size(self) -> str | list[Any]:
        """Shape, or nested list of shapes, of the input; ``?`` when the layer was not called."""
        return self._in_size or UNKNOWN_SIZE

    @property
    def out_size(self) -> str | list[Any]:
        """Shape, or nested list of shapes, of the output; ``?`` when the layer was not called."""
        return self._out_size or UNKNOWN_SIZE

    @property
    def layer_type(self) -> str:
        """The layer's class."""
        return type(self._module).__name__

    @property
    def num_parameters(self) -> int:
        """Parameters of the layer and of all within it."""
        return sum(map(_size, self._module.parameters()))

    @property
    def training(self) -> bool:
        """Whether the layer is in training mode."""
        return self._module.training


class ModelSummary:
    """Reads a module; ``str()`` of it is a table.

    With ``example_input_array`` set, the module runs once in eval mode, without gradients and without a trace in the
    random state, to learn sizes and operations.

    Args:
        model: The module to summarize.
        max_depth: How deep layers are shown: 1 the children, -1 all, 0 none.
    """

    def __init__(self, model: LightningModule, max_depth: int = 1) -> None:
        if not isinstance(max_depth, int) or max_depth < -1:
            raise ValueError(f"`max_depth` can be -1, 0 or > 0, got {max_depth}.")
        self._model = model
        self._max_depth = max_depth
        self._flop_counter: Any = None
        self._layer_summary = self.summarize()
        self._bytes_per_parameter = _bits(model) / 8

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The layers within the wanted depth, and below it where sizes are learnt from a forward pass."""
        if self._max_depth == 0:
            return []
        if self._max_depth == 1:
            return list(self._model.named_children())
        return [(name, module) for name, module in self._model.named_modules() if name]

    def summarize(self) -> dict[str, LayerSummary]:
        """Reads the layers anew."""
        layers = {name: LayerSummary(module) for name, module in self.named_modules}
        if self._model.example_input_array is not None:
            self._run_example_input()
        for layer in layers.values():
            layer.detach_hook()
        if self._max_depth < 1:
            return layers
        return {name: layer for name, layer in layers.items() if name.count(".") < self._max_depth}

    def _run_example_input(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode  # slow to import, and only needed here

        model = self._model
        inputs = on_device(model, model.example_input_array)
        self._flop_counter = FlopCounterMode(display=False, depth=self._max_depth + 1)
        trainer = model._trainer
        precision = contextlib.nullcontext() if trainer is None else trainer.precision_plugin.forward_context()
        with isolate_rng(), _in_eval_mode(model), torch.no_grad(), precision, self._flop_counter:
            if isinstance(inputs, (list, tuple)):
                model(*inputs)
            elif isinstance(inputs, dict):
                model(**inputs)
            else:
                model(inputs)

    @property
    def layer_names(self) -> list[str]:
        """The layers' names."""
        return list(self._layer_summary)

    @property
    def layer_types(self) -> list[str]:
        """The layers' classes."""
        return [layer.layer_type for layer in self._layer_summary.values()]

    @property
    def in_sizes(self) -> list[Any]:
        """The shapes of the layers' inputs."""
        return [layer.in_size for layer in self._layer_summary.values()]

    @property
    def out_sizes(self) -> list[Any]:
        """The shapes of the layers' outputs."""
        return [layer.out_size for layer in self._layer_summary.values()]

    @property
    def param_nums(self) -> list[int]:
        """The layers' parameters."""
        return [layer.num_parameters for layer in self._layer_summary.values()]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each layer is in training mode."""
        return [layer.training for layer in self._layer_summary.values()]

    @property
    def total_training_modes(self) -> dict[str, int]:
        """How many submodules, at any depth, are in each mode."""
        modes = [module.training for module in self._model.modules()][1:]
        return {"train": modes.count(True), "eval": modes.count(False)}

    @property
    def total_parameters(self) -> int:
        """All parameters of the model."""
        return sum(map(_size, self._model.parameters()))

    @property
    def trainable_parameters(self) -> int:
        """Parameters that require a gradient."""
        return sum(_size(parameter) for parameter in self._model.parameters() if parameter.requires_grad)

    @property
    def total_layer_params(self) -> int:
        """The sum of what the shown layers have."""
        return sum(self.param_nums)

    @property
    def model_size(self) -> float:
        """Megabytes (1e6 bytes) of the parameters in the Trainer's precision."""
        return self.total_parameters * (self._bytes_per_parameter * 1e-6)

    @property
    def total_flops(self) -> int:
        """Floating point operations of the example input's forward pass; 0 without an example input."""
        return 0 if self._flop_counter is None else self._flop_counter.get_total_flops()

    @property
    def flop_counts(self) -> dict[str, dict[Any, int]]:
        """Operations of each shown layer, by operator."""
        counts = {} if self._flop_counter is None else self._flop_counter.get_flop_counts()
        return {name: counts.get(f"{type(self._model).__name__}.{name}", {}) for name in self.layer_names}

    def _get_summary_data(self) -> list[tuple[str, list[str]]]:
        """Returns the table by columns: title and cells."""
        flops = [sum(counts.values()) for counts in self.flop_counts.values()]
        columns = [
            (" ", [str(index) for index in range(len(self._layer_summary))]),
            ("Name", self.layer_names),
            ("Type", self.layer_types),
            ("Params", [get_human_readable_count(number) for number in self.param_nums]),
            ("Mode", ["train" if training else "eval" for training in self.training_modes]),
            ("FLOPs", [get_human_readable_count(number) for number in flops]),
        ]
        if self._model.example_input_array is not None:
            columns.append(("In sizes", [str(size) for size in self.in_sizes]))
            columns.append(("Out sizes", [str(size) for size in self.out_sizes]))
        leftover = self.total_parameters - self.total_layer_params
        if leftover > 0:
            row = {" ": " ", "Name": LEFTOVER_PARAMS_NAME, "Params": get_human_readable_count(leftover)}
            for title, cells in columns:
                cells.append(row.get(title, NOT_APPLICABLE))
        return columns

    def __str__(self) -> str:
        return summary_table(
            self._get_summary_data(),
            self.total_parameters,
            self.trainable_parameters,
            self.model_size,
            self.total_training_modes,
            self.total_flops,
        )

    __repr__ = __str__


def summarize(lightning_module: LightningModule, max_depth: int = 1) -> ModelSummary:
    """Summarizes a module; see `ModelSummary`."""
    return ModelSummary(lightning_module, max_depth=max_depth)


def parse_batch_shape(value: Any) -> str | list[Any]:
    """Returns the shape of anything that has one, of lists and tuples item by item, and ``?`` for the rest."""
    if hasattr(value, "shape"):
        return list(value.shape)
    if isinstance(value, (list, tuple)):
        return [parse_batch_shape(item) for item in value]
    return UNKNOWN_SIZE


def summary_totals(
    total_parameters: int,
    trainable_parameters: int,
    model_size: float,
    total_training_modes: dict[str, int],
    total_flops: int,
) -> list[tuple[str, str]]:
    """Returns the lines below the table: what, and how much."""
    count = get_human_readable_count
    return [
        ("Trainable params", count(trainable_parameters)),
        ("Non-trainable params", count(total_parameters - trainable_parameters)),
        ("Total params", count(total_parameters)),
        ("Total estimated model params size (MB)", get_formatted_model_size(model_size)),
        ("Modules in train mode", str(total_training_modes["train"])),
        ("Modules in eval mode", str(total_training_modes["eval"])),
        ("Total Flops", count(total_flops)),
    ]


def summary_table(
    columns: list[tuple[str, list[str]]],
    total_parameters: int,
    trainable_parameters: int,
    model_size: float,
    total_training_modes: dict[str, int],
    total_flops: int,
) -> str:
    """Returns the table and the totals below it as text."""
    widths = [max(map(len, [title, *cells])) for title, cells in columns]
    header = " | ".join(f"{title:<{width}}" for (title, _), width in zip(columns, widths))
    rows = zip(*(cells for _, cells in columns))
    lines = [" | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)) for row in rows]
    rule = "-" * (sum(widths) + 3 * (len(columns) + 1))
    totals = summary_totals(total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
    return "\n".join([header, rule, *lines, rule, *(f"{number:<10}{what}" for what, number in totals)])


def get_formatted_model_size(total_model_size: float) -> str:
    """Formats megabytes."""
    return f"{total_model_size:,.3f}"


def get_human_readable_count(number: float) -> str:
    """Shortens a number: 123 is ``"123  "``, 1234 ``"1.2 K"``, 4e14 ``"400 T"``."""
    unit = 0
    while number >= 1000 and unit < len(PARAMETER_NUM_UNITS) - 1:
        number /= 1000
        unit += 1
    digits = f"{int(number):,d}" if unit == 0 or number >= 100 else f"{number:,.1f}"
    return f"{digits} {PARAMETER_NUM_UNITS[unit]}"


def _size(parameter: Tensor) -> int:
    if isinstance(parameter, UninitializedParameter):
        warning_cache.warn(
            "The total number of parameters detected may be inaccurate because the model contains"
            " an instance of `UninitializedParameter`. To get an accurate number, set `self.example_input_array`"
            " in your LightningModule."
        )
        return 0
    return parameter.numel()


def _bits(model: LightningModule) -> int:
    precision = "32-true" if model._trainer is None else str(model.trainer.precision)
    if precision not in _BITS:
        rank_zero_warn(
            f"Precision {precision} is not supported by the model summary. "
            " Estimated model size in MB will not be accurate. Using 32 bits instead."
        )
    return _BITS.get(precision, 32)


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
