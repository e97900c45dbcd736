"""Optimizers, learning-rate schedulers and gradient scalers."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Named, Scope
from lightify.recognisers.base import assigned_value, base_of, is_module_class, named
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, method_call

_NOT_OPTIMIZERS = ("torch.optim.lr_scheduler.", "torch.optim.swa_utils.")


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `opt = torch.optim.Adam(...)`, `opt.param_groups`, `sched.get_last_lr()`, `GradScaler(...)`."""
    value = assigned_value(node)
    kind = kind_of(value, tree) if value is not None else None
    if kind is not None:
        yield from named(node, scope, kind)
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


def kind_of(value: cst.BaseExpression, tree: Tree) -> Kind | None:
    """The kind of an expression that makes an optimizer, a schedule, a scaler or an object of the script's own."""
    if isinstance(value, cst.IfExp) and "None" in (dotted(value.body), dotted(value.orelse)):
        kinds = {kind_of(value.body, tree), kind_of(value.orelse, tree)}
        return Kind.SCALER if Kind.SCALER in kinds else None  # `GradScaler() if args.amp else None`
    full = (tree.qualified(value.func) or "") if isinstance(value, cst.Call) else ""
    if full.startswith("torch.optim.lr_scheduler."):
        return Kind.SCHEDULER
    if full.startswith("torch.optim.") and not full.startswith(_NOT_OPTIMIZERS):
        return Kind.OPTIMIZER
    if full.endswith("GradScaler"):
        return Kind.SCALER
    definition = tree.classes.get(full)
    if definition is None or is_module_class(definition, tree):
        return None
    if is_optimizer_class(definition, tree):
        return Kind.OPTIMIZER
    if _base_of_torch(definition, tree):
        return None
    return Kind.OBJECT  # a schedule that wraps an optimizer steps like one, but is none


def is_optimizer_class(definition: cst.ClassDef, tree: Tree) -> bool:
    """True when a class derives from an optimizer of torch, directly or through classes of the script."""
    base = _base_of_torch(definition, tree)
    return bool(base) and not base.startswith(_NOT_OPTIMIZERS)


def _base_of_torch(definition: cst.ClassDef, tree: Tree) -> str:
    """The class of `torch.optim` that a class derives from, directly or through classes of the script."""
    return base_of(definition, tree, lambda full: full.startswith("torch.optim."))
