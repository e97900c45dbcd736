"""Optimizers, learning-rate schedulers and gradient scalers."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Named, Scope
from lightify.parse import Tree
from lightify.query import dotted, method_call
from lightify.recognisers.base import assigned_value, is_module_class, named

_NOT_OPTIMIZERS = ("torch.optim.lr_scheduler.", "torch.optim.swa_utils.")


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `opt = torch.optim.Adam(...)`, `opt.param_groups`, `sched.get_last_lr()`, `GradScaler(...)`."""
    value = assigned_value(node)
    if isinstance(value, cst.Call):
        full = tree.qualified(value.func) or ""
        if full.startswith("torch.optim.lr_scheduler."):
            yield from named(node, scope, Kind.SCHEDULER)
        elif full.startswith("torch.optim.") and not full.startswith(_NOT_OPTIMIZERS):
            yield from named(node, scope, Kind.OPTIMIZER)
        elif full.endswith("GradScaler"):
            yield from named(node, scope, Kind.SCALER)
        elif full in tree.classes and not (
            _is_optimizer_class(tree.classes[full], tree) or is_module_class(tree.classes[full], tree)
        ):
            # a schedule that wraps an optimizer steps like one, but is none
            yield from named(node, scope, Kind.OBJECT)
    used = method_call(node)
    if used is not None:
        name = dotted(used[0])
        if name is not None and used[1] in ("get_last_lr", "get_lr"):
            yield Named(scope, name, Kind.SCHEDULER, node)
        elif name is not None and used[1] == "zero_grad" and "opt" in name.lower():
            yield Named(scope, name, Kind.OPTIMIZER, node)
    if isinstance(node, cst.Attribute) and node.attr.value == "param_groups":
        name = dotted(node.value)
        if name is not None:
            yield Named(scope, name, Kind.OPTIMIZER, node)


def _is_optimizer_class(definition: cst.ClassDef, tree: Tree) -> bool:
    return any((tree.qualified(base.value) or "").startswith("torch.optim.") for base in definition.bases)
