"""What a recogniser is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Named, Scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, target_names

#: Gets every node of the node types it asks for, its scope and the tree; yields what it recognises.
Recogniser = Callable[[cst.CSTNode, Scope, Tree], Iterable[Fact]]


def assigned_value(node: cst.CSTNode) -> cst.BaseExpression | None:
    """The right side of an assignment statement."""
    return node.value if isinstance(node, (cst.Assign, cst.AnnAssign)) else None


def assigned_names(node: cst.CSTNode) -> list[str]:
    """Names and attributes of self that an assignment binds to its whole value."""
    targets = [t.target for t in node.targets] if isinstance(node, cst.Assign) else [node.target]  # type: ignore[attr-defined]
    names = []
    for target in targets:
        if isinstance(target, cst.Name):
            names.extend(target_names(target))
        elif (name := dotted(target)) is not None:
            names.append(name)
    return names


def named(node: cst.CSTNode, scope: Scope, kind: Kind, *, sure: bool = True) -> Iterable[Named]:
    """One fact for each name that the assignment binds."""
    for name in assigned_names(node):
        yield Named(scope, name, kind, node, sure)


def is_module_class(definition: cst.ClassDef, tree: Tree) -> bool:
    """True when a class derives from `torch.nn.Module`, directly or through classes of the file."""
    return bool(base_of(definition, tree, lambda full: full.startswith("torch.nn.") or full.endswith("nn.Module")))


def base_of(
    definition: cst.ClassDef,
    tree: Tree,
    known: Callable[[str], bool],
    fits: Callable[[cst.ClassDef], bool] = lambda _: True,
    depth: int = 0,
) -> str:
    """The full name of the known class that a class derives from, directly or through classes of the file that fit."""
    for base in definition.bases if fits(definition) else ():
        full = tree.qualified(base.value) or ""
        if known(full):
            return full
        own = tree.classes.get(full) if depth < _MOST_BASES else None
        if own is not None and (found := base_of(own, tree, known, fits, depth + 1)):
            return found
    return ""


#: How many classes of the file may stand between a class and the base.
_MOST_BASES = 8


def is_criterion(full: str) -> bool:
    """True for the full name of a loss of `torch.nn`: without weights, it computes the same in either mode."""
    return full.startswith("torch.nn.") and full.endswith("Loss")
