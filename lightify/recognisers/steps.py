"""Backward passes and parameter updates: where training happens."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Backward, Fact, Scope, Update
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, code, method_call, method_name, walk


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `loss.backward()`, `torch.autograd.backward(...)` and `x.step(...)`; not a `backward` that computes."""
    used = method_call(node)
    if used is None:
        return
    receiver, method = used
    if method == "backward" and not _computes_back(node, tree):  # type: ignore[arg-type]
        library = tree.qualified(receiver) in ("torch.autograd", "autograd")
        yield Backward(node, None if library else receiver)  # type: ignore[arg-type]
    elif method == "step":
        yield Update(node, receiver)  # type: ignore[arg-type]


def _computes_back(call: cst.Call, tree: Tree) -> bool:
    """True for `x = flow.backward(z)` and `eta = ddpm.backward(x, t)`: a function of the script's own with a result.

    The `backward` of a tensor has none; that of an engine gives its argument back.
    """
    parent = tree.parents.get(call)
    if not call.args or isinstance(parent, cst.Expr):
        return False
    own = [method for definition in tree.classes.values() for method in _methods(definition)]
    if own:
        return not any(method_name(node) == "backward" and not node.args for node in _calls(own))
    target = parent.targets[0].target if isinstance(parent, cst.Assign) and len(parent.targets) == 1 else None
    return isinstance(target, (cst.Name, cst.Tuple)) and code(target) not in ("_", code(call.args[0].value))


def _methods(definition: cst.ClassDef) -> Iterable[cst.FunctionDef]:
    return (one for one in block(definition.body) if isinstance(one, cst.FunctionDef) and one.name.value == "backward")


def _calls(functions: Iterable[cst.FunctionDef]) -> Iterable[cst.Call]:
    return (node for function in functions for node in walk(function.body) if isinstance(node, cst.Call))
