"""One name for one network: `ddp_model`, which held the wrapper of `model`, is `model` without it."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.distribution.edits import Edit, module_argument
from lightify.distribution.wrapping import Wrapping
from lightify.syntax.names import local_names
from lightify.syntax.parse import Tree


def renamed(wrapping: Wrapping, mentions: Sequence[cst.CSTNode], tree: Tree) -> dict[cst.CSTNode, Edit]:
    """Edits of all mentions of a name, when it is bound to nothing but one other name's network or its wrapper.

    Args:
        mentions: of the name that holds the wrapper, in the scope that owns it.
    """
    inner: set[str | None] = set()
    for node in mentions:
        target = tree.parents[node]
        if isinstance(target, cst.AssignTarget):
            statement = tree.parents[target]
            assert isinstance(statement, cst.Assign)
            inner |= _named(statement.value, wrapping)
        elif not isinstance(node, cst.Name) or isinstance(target, (cst.For, cst.NamedExpr, cst.Element, cst.NameItem)):
            return {}
    name = inner.pop() if len(inner) == 1 else None
    if name is None or any(_is_hidden(name, node, tree) for node in mentions):
        return {}
    return {node: lambda new: new.with_changes(value=name) for node in mentions}


def _named(value: cst.BaseExpression, wrapping: Wrapping) -> set[str | None]:
    """The names of the networks that a value is or wraps; None for any other value."""
    if isinstance(value, cst.IfExp):
        return _named(value.body, wrapping) | _named(value.orelse, wrapping)
    if isinstance(value, cst.Call) and value in wrapping.calls:
        value = value.args[module_argument(value)].value
    return {value.value if isinstance(value, cst.Name) and "." not in value.value else None}


def _is_hidden(name: str, node: cst.CSTNode, tree: Tree) -> bool:
    """True where a function has another variable of that name."""
    functions = [a for a in tree.ancestors(node) if isinstance(a, cst.FunctionDef)]
    return any(name in local_names(function) for function in functions[:-1])
