"""Functions that a function of the script makes and returns: `step = make_step(model, optimizer)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from lightify.syntax.names import bound_by, declared_elsewhere, local_names, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, is_constant, is_docstring, small, walk

Scope = cst.FunctionDef | None


@dataclass(frozen=True, eq=False)
class Closure:
    """The function that a name of a scope always holds.

    Attributes:
        function: the one that was made; it reads parameters of its factory, and changes none.
        made: the factory's call, whose arguments keep their meaning.
        statement: the assignment.
    """

    name: str
    scope: Scope
    function: cst.FunctionDef
    factory: cst.FunctionDef
    made: cst.Call
    statement: cst.Assign


@lru_cache(maxsize=4)
def closures(tree: Tree) -> Mapping[tuple[Scope, str], Closure]:
    """The functions that are made by others and called by one name."""
    found: dict[tuple[Scope, str], Closure] = {}
    inner = {name: made for name, factory in tree.functions.items() if (made := _returned(factory)) is not None}
    for node in tree.spans if inner else ():
        value = node.value if isinstance(node, cst.Assign) and len(node.targets) == 1 else None
        if not (isinstance(node, cst.Assign) and isinstance(value, cst.Call) and isinstance(value.func, cst.Name)):
            continue
        target = node.targets[0].target
        if value.func.value in inner and isinstance(target, cst.Name):
            scope = tree.around(node, cst.FunctionDef)
            factory = tree.functions[value.func.value]
            once = len(_binds(target.value, scope, tree)) == 1
            if once and _keeps_arguments(value, node, scope, tree):
                made = inner[value.func.value]
                found[scope, target.value] = Closure(target.value, scope, made, factory, value, node)
    return found


def closure_of(call: cst.Call, tree: Tree) -> Closure | None:
    """The closure that a call runs, by the name in its own scope."""
    if not isinstance(call.func, cst.Name):
        return None
    functions = (a for a in tree.ancestors(call) if isinstance(a, cst.FunctionDef))
    scope = next((function for function in functions if call.func.value in local_names(function)), None)
    return closures(tree).get((scope, call.func.value))


def _returned(factory: cst.FunctionDef) -> cst.FunctionDef | None:
    """What a function makes that does nothing but `def made(...): ...` and `return made`."""
    body = [statement for statement in block(factory.body) if not is_docstring(statement)]
    last = small(body[-1]) if len(body) == 2 else None
    made = body[0] if isinstance(last, cst.Return) else None
    if not isinstance(made, cst.FunctionDef) or not isinstance(last, cst.Return) or factory.decorators:
        return None
    same = isinstance(last.value, cst.Name) and last.value.value == made.name.value
    nonlocals = any(isinstance(node, cst.Nonlocal) for node in walk(made))
    return made if same and not nonlocals and factory.asynchronous is None else None


def _binds(name: str, scope: Scope, tree: Tree) -> list[cst.CSTNode]:
    """What binds a name in its scope, functions that declare it included."""
    own = same_scope(block(scope.body) if scope is not None else tree.module.body)
    declaring = tree.nodes(cst.FunctionDef)
    return [
        *(node for node in own if name in bound_by(node)),
        *(node for node in declaring if name in declared_elsewhere(node)),
    ]


def _keeps_arguments(call: cst.Call, statement: cst.Assign, scope: Scope, tree: Tree) -> bool:
    """True when all arguments are constants and names that nothing binds after the call."""
    if arguments(call).starred or any(isinstance(node, (cst.For, cst.While)) for node in tree.ancestors(statement)):
        return False
    for value in (arg.value for arg in call.args):
        if isinstance(value, cst.Name) and not is_constant(value):
            owner = scope if scope is not None and value.value in local_names(scope) else None
            bound = _binds(value.value, owner, tree)
            if any(isinstance(node, cst.FunctionDef) for node in bound) and len(bound) > 1:
                return False
            if owner is scope and any(not tree.span(node) < tree.span(statement) for node in bound):
                return False
            if owner is not scope and len(bound) > 1:
                return False
        elif not is_constant(value):
            return False
    return True
