"""Names that hold a network: built from a class of `nn.Module`, or used as only networks are."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Named, Scope
from lightify.recognisers.base import assigned_value, is_module_class, named
from lightify.syntax.parse import Tree
from lightify.syntax.query import IN_PLACE, arguments, dotted, method_call

_USED_AS_MODULE = {
    "parameters",
    "named_parameters",
    "state_dict",
    "load_state_dict",
    "train",
    "eval",
    "zero_grad",
    "requires_grad_",
    "named_modules",
    "children",
}
#: What schedulers, optimizers and scalers have, too.
_STATES = ("state_dict", "load_state_dict")
_STEPPED = ("sched", "optim", "scaler")
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "compile")


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `net = Net(...).to(device)` and `net.parameters()`; not `data.to(device)`."""
    value = assigned_value(node)
    if value is not None and builds_module(value, tree):
        yield from named(node, scope, Kind.MODULE)
    used = method_call(node)
    if used is not None and used[1] in _USED_AS_MODULE:
        name = dotted(used[0])
        stepped = used[1] in _STATES and any(word in (name or "").rpartition(".")[2].lower() for word in _STEPPED)
        plain = used[1] not in ("train", "eval") or not node.args  # type: ignore[attr-defined]
        if name is not None and plain and not stepped:
            yield Named(scope, name, Kind.MODULE, node)


def kind_of(value: cst.BaseExpression, tree: Tree) -> Kind | None:
    return Kind.MODULE if builds_module(value, tree) else None


def builds_module(value: cst.BaseExpression, tree: Tree) -> bool:
    """True when an expression is the call of a module's class, perhaps moved or wrapped."""
    if not isinstance(value, cst.Call):
        return False
    moved = method_call(value)
    if moved is not None and moved[1] in IN_PLACE and isinstance(moved[0], cst.Call):
        return builds_module(moved[0], tree)
    full = tree.qualified(value.func) or ""
    if full.rpartition(".")[2] in _WRAPPERS:
        inner = arguments(value).get(0, "module")
        return inner is not None
    if full.startswith(("torch.nn.", "torchvision.models.")) and full.rpartition(".")[2][:1].isupper():
        return not full.endswith((".Parameter", ".Buffer"))
    if full.startswith("torchvision.models.") and not full.rpartition(".")[2].startswith("get_"):
        return True
    return full in tree.classes and is_module_class(tree.classes[full], tree)
