"""Second names of the script's classes and functions: `Exp = Exp_Main`, and then `Exp(args)`."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted


def with_aliases(tree: Tree) -> Tree:
    """Returns the tree with such names among its classes and functions; without any, the tree itself."""
    names = {
        name: value for one in tree.nodes(cst.Assign) for name, value in _named(one) if _is_only_called(name, tree)
    }
    classes = {name: tree.classes[value] for name, value in names.items() if value in tree.classes}
    functions = {name: tree.functions[value] for name, value in names.items() if value in tree.functions}
    if not classes and not functions:
        return tree
    return replace(tree, classes={**tree.classes, **classes}, functions={**tree.functions, **functions})


def _named(assign: cst.Assign) -> list[tuple[str, str]]:
    """The name and the value of a plain `name = other`."""
    target = assign.targets[0].target if len(assign.targets) == 1 else None
    if not isinstance(target, cst.Name) or not isinstance(assign.value, (cst.Name, cst.Attribute)):
        return []
    return [(target.value, dotted(assign.value) or "")]


def _is_only_called(name: str, tree: Tree) -> bool:
    """True when a name is bound once and else only called, so that it means the same wherever it stands."""
    bound = 0
    for node in tree.mentions.get(name, ()):
        parent = tree.parents[node]
        if isinstance(parent, cst.AssignTarget):
            bound += 1
        elif not isinstance(parent, cst.Call) or parent.func is not node:
            return False
    return bound == 1 and name not in tree.imports.keys() | tree.classes.keys() | tree.functions.keys()
