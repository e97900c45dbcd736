"""Names of functions and methods that come to stand for something else: `step = twice(step)`, `self.step = other`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import libcst as cst

from lightify.recognisers.base import is_criterion
from lightify.syntax.names import bound_by, declared_elsewhere, local_names, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, call_name, dotted, is_constant, literal, nodes_of


def in_force(name: str, call: cst.Call | None, tree: Tree) -> cst.FunctionDef | None:
    """The function of the module that a name stands for; None where it may stand for something else, too.

    Args:
        call: where the name is read, if that is code of the module itself, which runs in the order of the text.
    """
    function = tree.functions.get(name)
    binds = _binds(tree).get(name, ())
    if function is None or len(binds) < 2 or function in tree.links.origins:
        return function
    if call is None or any(not _is_straight(node, tree) for node in binds):
        return None
    earlier = [node for node in binds if tree.span(node) < tree.span(call)]
    last = earlier[-1] if earlier else None
    return last if isinstance(last, cst.FunctionDef) else None


def stays(default: cst.BaseExpression, function: cst.FunctionDef, tree: Tree) -> bool:
    """True when a default, which is made once, may as well be made at each call."""
    if isinstance(default, cst.Call):
        made = tree.qualified(default.func) or ""
        plain = made == "torch.device" or is_criterion(made)
        return plain and all(stays(arg.value, function, tree) for arg in default.args)
    if is_constant(default):
        return True
    name, *fields = (dotted(default) or "").split(".")
    outer = tree.around(function, cst.FunctionDef)
    binds = _binds(tree).get(name, []) if outer is None or name not in local_names(outer) else binds_of(name, outer)
    return name != "" and len(binds) < 2 and not any(field in _fields(tree) for field in fields)


def binds_of(name: str, function: cst.FunctionDef) -> Sequence[cst.CSTNode]:
    """What binds a name of a function, and the functions inside it that declare it."""
    return _binds_within(function).get(name, ())


@lru_cache(maxsize=1024)
def _binds_within(function: cst.FunctionDef) -> Mapping[str, Sequence[cst.CSTNode]]:
    return _binds_by_name(block(function.body), nodes_of(function.body, cst.FunctionDef))


@lru_cache(maxsize=4)
def _binds(tree: Tree) -> Mapping[str, Sequence[cst.CSTNode]]:
    """What binds names of the module, in the order of the text, and the functions that declare them."""
    return _binds_by_name(tree.module.body, tree.nodes(cst.FunctionDef))


def _binds_by_name(
    body: Iterable[cst.CSTNode], functions: Iterable[cst.FunctionDef]
) -> Mapping[str, Sequence[cst.CSTNode]]:
    """What binds each name in statements, and those of some functions that declare it."""
    found: dict[str, list[cst.CSTNode]] = defaultdict(list)
    for node in same_scope(body):
        for name in bound_by(node):
            found[name].append(node)
    for function in functions:
        for name in declared_elsewhere(function):
            found[name].append(function)
    return found


def _is_straight(node: cst.CSTNode, tree: Tree) -> bool:
    """True for what runs once, where it stands."""
    around = (a for a in tree.ancestors(node) if isinstance(a, (cst.BaseCompoundStatement, cst.Lambda)))
    return next(around, None) is None


def is_replaced(name: str, family: tuple[cst.ClassDef, ...], tree: Tree) -> bool:
    """True when an object of a class may get a field of a method's name."""
    set_with = _fields(tree).get(name, ())
    return any(owner in family if owner is not None else not plain for owner, plain in set_with)


@lru_cache(maxsize=4)
def _fields(tree: Tree) -> Mapping[str, list[tuple[cst.ClassDef | None, bool]]]:
    """Fields that are set: the class of `self`, or None for another object, and whether to a plain value."""
    found: dict[str, list[tuple[cst.ClassDef | None, bool]]] = defaultdict(list)
    for node in tree.nodes(cst.AssignTarget, cst.Call):
        if isinstance(node, cst.AssignTarget):
            owner, _, name = (dotted(node.target) or "").rpartition(".")
            around = tree.around(node, cst.ClassDef)
            parent = tree.parents[node]
            plain = not isinstance(parent, cst.Assign) or is_constant(parent.value)
            if owner:
                found[name].append((around if owner == "self" else None, plain))
        elif isinstance(node, cst.Call) and call_name(node) == "setattr" and len(node.args) == 3:
            name = literal(arguments(node).get(1, "name")) or ""
            found[name].append((None, False))
    return found
