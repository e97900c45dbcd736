"""The statement that builds what a variable holds when the run begins."""

from __future__ import annotations

from functools import lru_cache

import libcst as cst

from lightify.loops.runs import Loop
from lightify.syntax.frames import Field, Variable
from lightify.syntax.names import bound_names, scope_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, class_test, code, small, target_names


def construction(variable: Variable, tree: Tree, loop: Loop) -> tuple[cst.BaseStatement, cst.Call] | None:
    """The plain `name = call(...)` whose value a variable holds at the run's loop; None when others may have set it."""
    if isinstance(variable, Field):
        return None  # a name of the frame may be the same
    only = bound_values(variable, tree)
    if only is not None and len(only) == 1:
        return only[0]
    owner = variable.frame.function
    found = _bindings(owner or tree.scope)[0].get(variable.name, [])
    last = _last_binding(variable.name, loop, tree) if found and tree.function_of(loop) is owner else None
    return next((one for one in found if one[0] is last), None)


def bound_values(variable: Variable, tree: Tree) -> list[tuple[cst.BaseStatement, cst.Call]] | None:
    """The assignments of a variable in its frame; None when some are not plain calls, or there are none."""
    if isinstance(variable, Field):
        return None
    return values_in(variable.name, variable.frame.function or tree.scope)


def values_in(name: str, owner: cst.CSTNode) -> list[tuple[cst.BaseStatement, cst.Call]] | None:
    """The assignments of a name in a function or module; None when some are not plain calls, or there are none."""
    calls, bound = _bindings(owner)
    found = calls.get(name, [])
    return found if found and bound.get(name) == len(found) else None


def _last_binding(name: str, loop: Loop, tree: Tree) -> cst.BaseStatement | None:
    """The statement before a loop that bound a name last, on every way to it."""
    inner: cst.CSTNode = loop
    if name in bound_names([loop]):
        return None
    for outer in tree.ancestors(loop):
        if isinstance(outer, (cst.IndentedBlock, cst.Module)):
            body = block(outer)
            index = next(number for number, node in enumerate(body) if node is inner)
            for statement in reversed(body[:index]):
                if name in bound_names([statement]):
                    return statement
        if isinstance(outer, (cst.For, cst.While, cst.Try)) and name in bound_names([outer]):
            return None
        if isinstance(outer, cst.FunctionDef):
            return None
        inner = outer
    return None


_BINDS = (cst.AssignTarget, cst.For, cst.AugAssign, cst.AnnAssign, cst.NamedExpr, cst.AsName)


@lru_cache(maxsize=64)
def _bindings(owner: cst.CSTNode) -> tuple[dict[str, list[tuple[cst.BaseStatement, cst.Call]]], dict[str, int]]:
    """In a function or module: the plain `name = call(...)` statements, and how often each name is bound at all."""
    calls: dict[str, list[tuple[cst.BaseStatement, cst.Call]]] = {}
    bound: dict[str, int] = {}
    same: set[cst.CSTNode] = set()  # what is left of `model = DDP(model)` where the Trainer wraps it
    is_asked = class_test(*_BINDS, cst.SimpleStatementLine)
    for node in scope_nodes(owner):
        if not is_asked(node.__class__):
            continue
        inner = small(node)
        if isinstance(inner, cst.Assign) and code(inner.targets[0].target) == code(inner.value):
            same.add(inner.targets[0])
        elif isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.value, cst.Call):
            target = inner.targets[0].target
            if isinstance(node, cst.BaseStatement) and isinstance(target, cst.Name):
                calls.setdefault(target.value, []).append((node, inner.value))
        if node in same:
            continue
        if isinstance(node, (cst.AssignTarget, cst.For, cst.AugAssign, cst.AnnAssign, cst.NamedExpr)):
            names = target_names(node.target)
        elif isinstance(node, cst.AsName):
            names = target_names(node.name)
        else:
            continue
        for name in names:
            bound[name] = bound.get(name, 0) + 1
    return calls, bound
