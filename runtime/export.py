"""A module as ONNX, TorchScript or TensorRT: the functions behind the module's methods of these names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import MisconfigurationException, rank_zero_deprecation
from .filesystem import filesystem

if TYPE_CHECKING:
    from .module import LightningModule


@torch.no_grad()
def to_onnx(
    module: LightningModule,
    file_path: str | Path | BytesIO | None = None,
    input_sample: Any = None,
    **kwargs: Any,
) -> Any:
    """Exports ``forward`` to ONNX and leaves the module in its mode.

    Args:
        module: The module.
        file_path: A path or an open buffer; None writes nothing.
        input_sample: An input of ``forward``; default: ``example_input_array``.
        **kwargs: For ``torch.onnx.export``.

    Returns:
        What ``torch.onnx.export`` returns: an ``ONNXProgram`` with ``dynamo=True``.

    Raises:
        ModuleNotFoundError: onnx, or onnxscript with ``dynamo=True``, is not installed.
        ValueError: There is no input.
    """
    name = f"{type(module).__name__}.to_onnx"
    if find_spec("onnx") is None:
        raise ModuleNotFoundError(f"`{name}()` requires `onnx` to be installed: pip install onnx")
    if kwargs.get("dynamo", False) and find_spec("onnxscript") is None:
        raise ModuleNotFoundError(
            f"`{name}(dynamo=True)` requires `onnxscript` and `torch>=2.5.0` to be installed. pip install onnxscript"
        )
    sample: Any = on_device(module, _sample(module, input_sample, "ONNX"))
    path: Any = str(file_path) if isinstance(file_path, Path) else file_path
    with _same_mode_after(module):
        return torch.onnx.export(module, sample, path, **kwargs)


@torch.no_grad()
def to_tensorrt(
    module: LightningModule,
    file_path: str | Path | BytesIO | None = None,
    input_sample: Any = None,
    ir: str = "default",
    output_format: str = "exported_program",
    retrace: bool = False,
    default_device: str | torch.device = "cuda",
    **compile_kwargs: Any,
) -> Any:
    """Compiles ``forward`` in eval mode by TensorRT and leaves the module in its mode and on its device.

    Args:
        module: The module.
        file_path: Where to save it, if anywhere.
        input_sample: An input of ``forward``; default: ``example_input_array``.
        ir: "default", "dynamo" or "ts": what TensorRT reads.
        output_format: "exported_program" or "torchscript": how it is saved; "ts" knows the latter alone.
        retrace: Traces it anew to save it.
        default_device: Where to compile a module that is on no GPU.
        **compile_kwargs: For ``torch_tensorrt.compile``.

    Raises:
        MisconfigurationException: There is no GPU.
        ModuleNotFoundError: torch_tensorrt is not installed.
        ValueError: There is no input, or ``ir`` and ``output_format`` contradict one another.
    """
    name = f"{type(module).__name__}.to_tensorrt"
    if find_spec("torch_tensorrt") is None:
        raise ModuleNotFoundError(f"`{name}` requires `torch_tensorrt` to be installed. pip install torch-tensorrt")
    home = module.device
    device = home if home.type == "cuda" else torch.device(default_device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise MisconfigurationException(
            f"TensorRT only supports CUDA devices. The current device is {home}."
            " Please set the `default_device` argument to a CUDA device."
        )
    if ir == "ts" and file_path is not None and output_format != "torchscript":
        raise ValueError(
            "TensorRT with IR mode 'ts' only supports output format 'torchscript'."
            f" The current output format is {output_format}."
        )
    sample = _sample(module, input_sample, "TensorRT")
    import torch_tensorrt  # type: ignore[import-not-found]

    path = str(file_path) if isinstance(file_path, Path) else file_path
    with _same_mode_after(module), scripting(module) if ir == "ts" else nullcontext():
        try:
            module.to(device).eval()
            inputs = on_device(module, (sample,) if isinstance(sample, torch.Tensor) else sample)
            compiled = torch_tensorrt.compile(module=module, ir=ir, inputs=inputs, **compile_kwargs)
        finally:
            module.to(home)
    if path is not None and ir == "ts":
        torch.jit.save(compiled, path)
    elif path is not None:
        torch_tensorrt.save(compiled, path, inputs=inputs, output_format=output_format, retrace=retrace)
    return compiled


def _sample(module: LightningModule, given: Any, target: str) -> Any:
    sample = module.example_input_array if given is None else given
    if sample is None:
        raise ValueError(
            f"Could not export to {target} since neither `input_sample` nor `model.example_input_array` attribute is"
            " set."
        )
    return sample


@torch.no_grad()
def to_torchscript(
    module: LightningModule,
    file_path: str | Path | None = None,
    method: str | None = "script",
    example_inputs: Any = None,
    **kwargs: Any,
) -> Any:
    """Compiles ``forward`` in eval mode to TorchScript and leaves the module in its mode.

    Args:
        module: The module.
        file_path: Where to save it, if anywhere.
        method: "script" or "trace".
        example_inputs: The input to trace with; default: ``example_input_array``.
        **kwargs: For ``torch.jit.script`` or ``torch.jit.trace``.

    Raises:
        ValueError: The method is unknown, or there is no input to trace with.
    """
    rank_zero_deprecation(
        "`LightningModule.to_torchscript` has been deprecated in v2.7 and will be removed in v2.8 of Lightning, as"
        " TorchScript is deprecated in PyTorch. It goes on working here; for new code use `torch.export.export()`."
    )
    if method not in ("script", "trace"):
        raise ValueError(f"The 'method' parameter only supports 'script' or 'trace', but value given was: {method}")
    with _same_mode_after(module), scripting(module):
        module.eval()
        if method == "script":
            script = torch.jit.script(module, **kwargs)
        else:
            script = _trace(module, example_inputs, kwargs)
    if file_path is not None:
        with filesystem(file_path).open(str(file_path), "wb") as file:
            torch.jit.save(script, file)
    return script


def _trace(module: LightningModule, example_inputs: Any, options: dict[str, Any]) -> Any:
    if example_inputs is None:
        example_inputs = module.example_input_array
    if example_inputs is None:
        raise ValueError(
            "Choosing method=`trace` requires either `example_inputs` or `model.example_input_array` to be defined."
        )
    if options.get("check_inputs") is not None:
        options = {**options, "check_inputs": on_device(module, options["check_inputs"])}
    return torch.jit.trace(module, example_inputs=on_device(module, example_inputs), **options)


def on_device(module: LightningModule, batch: Any) -> Any:
    """Moves a batch to the module's device, through its transfer hooks."""
    batch = module.on_before_batch_transfer(batch, 0)
    batch = module.transfer_batch_to_device(batch, module.device, 0)
    return module.on_after_batch_transfer(batch, 0)


@contextmanager
def scripting(module: torch.nn.Module) -> Iterator[None]:
    """Lets TorchScript look at every attribute of a LightningModule, those that need a Trainer too."""
    owners = [cls for cls in type(module).__mro__ if "_jit_is_scripting" in vars(cls)]
    for owner in owners:
        owner._jit_is_scripting = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for owner in owners:
            owner._jit_is_scripting = False  # type: ignore[attr-defined]


@contextmanager
def _same_mode_after(module: LightningModule) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
