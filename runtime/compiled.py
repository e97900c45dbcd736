"""LightningModules that `torch.compile` wrapped: taken out with their compiled methods, and given back plain."""

from __future__ import annotations

import sys
from typing import Any

from .hooks import is_overridden
from .module import LightningModule

METHODS = ("forward", "training_step", "validation_step", "test_step", "predict_step")


def from_compiled(model: Any) -> LightningModule:
    """The module inside what `torch.compile` returned, with its compiled methods.

    Raises:
        ValueError: `model` is neither compiled nor a LightningModule that `from_compiled` returned.
        TypeError: what is inside is no LightningModule.
    """
    if not is_compiled(model):
        raise ValueError(f"`model` is required to be a `OptimizedModule`. Found a `{type(model).__name__}` instead.")
    module = model._orig_mod
    if not isinstance(module, LightningModule):
        raise TypeError(
            f"`model` is expected to be a compiled LightningModule. Found a `{type(module).__name__}` instead"
        )
    if module._compiler_ctx is not None:
        if module._compiler_ctx["dynamo_ctx"] is model.dynamo_ctx:
            return module
        to_uncompiled(module)  # another compilation of the same module
    # A method that the module does not have must not look as if it had it; `predict_step` is there when `forward` is.
    has = {name for name in METHODS if is_overridden(name, module, LightningModule)}
    has |= {"predict_step"} if "forward" in has else set()
    own = {name: getattr(module, name) for name in METHODS if name in has}
    module._compiler_ctx = {
        "compiler": "dynamo",
        "dynamo_ctx": model.dynamo_ctx,
        "set": {name: module.__dict__[name] for name in own if name in module.__dict__},
        "compiled": tuple(own),
    }
    for name, method in own.items():
        setattr(module, name, model.dynamo_ctx(method))
    return module


def to_uncompiled(model: Any) -> LightningModule:
    """The module without compiled methods: of what `torch.compile` returned, or of what `from_compiled` did.

    Raises:
        ValueError: `model` is not compiled.
        TypeError: what is inside is no LightningModule.
    """
    module = model._orig_mod if is_compiled(model) else model
    if module is model and not isinstance(module, LightningModule):
        raise ValueError("`model` must either be an instance of OptimizedModule or LightningModule")
    if not isinstance(module, LightningModule):
        raise TypeError(f"`model` must hold a LightningModule, found a `{type(module).__name__}`.")
    context = module._compiler_ctx
    if context is None and module is model:
        raise ValueError(
            "`model` is required to be a compiled LightningModule. Found a non-compiled LightningModule instead."
        )
    if context is not None:
        for name in context["compiled"]:
            module.__dict__.pop(name, None)
        module.__dict__.update(context["set"])
        module._compiler_ctx = None
    return module


def is_compiled(model: Any) -> bool:
    """Whether `torch.compile` returned it; asks without importing the compiler."""
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)
