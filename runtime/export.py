"""A module as ONNX or TorchScript: the functions behind the module's methods of these names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import rank_zero_deprecation
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
    if input_sample is None:
        input_sample = module.example_input_array
    if input_sample is None:
        raise ValueError(
            "Could not export to ONNX since neither `input_sample` nor `model.example_input_array` attribute is set."
        )
    path = str(file_path) if isinstance(file_path, Path) else file_path
    with _same_mode_after(module):
        return torch.onnx.export(module, on_device(module, input_sample), path, **kwargs)  # type: ignore[arg-type]


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
