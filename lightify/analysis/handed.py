"""Where a parameter's value comes from, when its function is called at one place and once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import libcst as cst

from lightify.analysis.callers import callers
from lightify.syntax.names import bound_names, local_names, parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block


@dataclass(frozen=True)
class Origin:
    """The name under which a value is made that calls hand on.

    Attributes:
        name: in its own scope.
        scope: the function that makes it; None: the module.
        calls: the calls that hand it on, the first one in that scope; none where the name is no parameter.
    """

    name: str
    scope: cst.FunctionDef | None
    calls: tuple[cst.Call, ...] = ()


def origin_of(name: str, function: cst.FunctionDef | None, tree: Tree) -> Origin | None:
    """Follows a name of a scope to the callers; None where the calls that hand it on may differ."""
    if function is None or all(param.name.value != name for param in parameters(function)):
        return Origin(name, function)
    call = _only_call(function, tree)
    if call is None or name in bound_names(block(function.body)):
        return None
    named = (*function.params.posonly_params, *function.params.params, *function.params.kwonly_params)
    given = arguments(call)
    position = next((n for n, param in enumerate(named) if param.name.value == name), -1)
    value = None if given.starred else given.get(position, name)
    if not isinstance(value, cst.Name):
        return None
    found = origin_of(value.value, tree.around(call, cst.FunctionDef), tree)
    return replace(found, calls=(*found.calls, call)) if found is not None else None


def only_site(function: cst.FunctionDef, tree: Tree) -> cst.Call | None:
    """The one call by which the script runs a function; None where it may run by another, or unseen."""
    calls = callers(tree).get(function, [])
    return calls[0] if len(calls) == 1 and _named(function, tree) == [calls[0].func] else None


def _only_call(function: cst.FunctionDef, tree: Tree) -> cst.Call | None:
    """The call of a function that runs once in the script; None where it may run again or unseen."""
    call = only_site(function, tree)
    if function.decorators or call is None:
        return None
    for outer in tree.ancestors(call):
        if isinstance(outer, (cst.For, cst.While, cst.CompFor, cst.Lambda, cst.ClassDef)):
            return None
        if isinstance(outer, cst.FunctionDef):
            return call if outer is not function and _only_call(outer, tree) is not None else None
    return call


def _named(function: cst.FunctionDef, tree: Tree) -> list[cst.Name]:
    """The places that may mean a function by its name: no attributes, no names of arguments or of other scopes."""
    return [
        node
        for node in tree.mentions.get(function.name.value, ())
        if node is not function.name
        and getattr(tree.parents[node], "attr", None) is not node
        and getattr(tree.parents[node], "keyword", None) is not node
        and not _is_shadowed(node, function, tree)
    ]


def _is_shadowed(node: cst.Name, function: cst.FunctionDef, tree: Tree) -> bool:
    """True for a variable of another function that bears the function's name."""
    around = set(tree.ancestors(function))
    inner = (outer for outer in tree.ancestors(node) if isinstance(outer, cst.FunctionDef) and outer not in around)
    return any(outer is not function and node.value in local_names(outer) for outer in inner)
