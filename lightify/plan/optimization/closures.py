"""Functions made in the loops that outlive the batch in which they were made."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.names import free_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import method_call, walk

_KEEPING = ("append", "appendleft", "add", "insert", "extend", "setdefault", "update", "put")


def read_by_closures(steps: Iterable[Step], tree: Tree) -> set[Variable]:
    """Variables that such a function reads: as in the loop it must see their last value, not that of its batch."""
    found: set[Variable] = set()
    for step in steps:
        if not isinstance(step, Item):
            continue
        for node in walk(step.node):
            if isinstance(node, (cst.Lambda, cst.FunctionDef, cst.ClassDef)) and _is_kept(node, tree):
                names = sorted(free_names(node))
                found |= {meaning for name in names if isinstance(meaning := step.frame.resolve(name), Variable)}
    return found


def _is_kept(function: cst.Lambda | cst.FunctionDef | cst.ClassDef, tree: Tree) -> bool:
    if isinstance(function, cst.ClassDef):
        return True
    if isinstance(function, cst.Lambda):
        if _keeps(function, tree):
            return True
        given = tree.parents.get(function)
        targets = [one.target for one in given.targets] if isinstance(given, cst.Assign) else []
        return any(_outlives(one, tree) for one in targets if isinstance(one, cst.Name))
    uses = tree.mentions.get(function.name.value, ())
    return any(_keeps(use, tree) for use in uses if use is not function.name) or _outlives(function.name, tree)


def _outlives(name: cst.Name, tree: Tree) -> bool:
    """True for the name of a function that is read outside of the loop which makes it."""
    scope, loop = tree.around(name, cst.FunctionDef), tree.around(name, cst.For, cst.While)
    uses = (one for one in tree.mentions.get(name.value, ()) if one is not name)
    read = (
        one for one in uses if not isinstance(tree.parents.get(one), (cst.AssignTarget, cst.FunctionDef, cst.Param))
    )
    outside = (one for one in read if loop is not None and loop not in tree.ancestors(one))
    return any(scope is None or scope in tree.ancestors(one) for one in outside)


def _keeps(node: cst.CSTNode, tree: Tree) -> bool:
    """True when an expression is put into a collection, a field or an element."""
    for outer in tree.ancestors(node):
        if isinstance(outer, cst.Call):
            used = method_call(outer)
            if used is not None and (used[1] in _KEEPING or used[1].startswith("register")):
                return node is not outer.func
        elif isinstance(outer, cst.Assign):
            return any(not isinstance(target.target, cst.Name) for target in outer.targets)
        elif isinstance(outer, (cst.BaseSmallStatement, cst.BaseSuite, cst.Lambda)):
            return False
    return False
