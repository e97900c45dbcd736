"""Fields of the script's objects: which of them change, and which only some objects have."""

from __future__ import annotations

import libcst as cst

from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Usage
from lightify.syntax.names import bound_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, dotted, small


def changed_fields(tree: Tree) -> set[str]:
    """Fields that code outside `__init__` or only some of its paths assign: the object is asked for them each time."""
    found: set[str] = set()
    for start in (function for function in tree.nodes(cst.FunctionDef) if function.name.value == "__init__"):
        made = _made(start)
        found |= {v.name for v in made.writes - (made.must or set()) if isinstance(v, Field)}
    for node in tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign):
        path, _, name = (dotted(node.target) or "").rpartition(".")  # type: ignore[attr-defined]
        around = tree.around(node, cst.FunctionDef) if path else None
        if path and (around is None or around.name.value != "__init__"):
            found.add(name)
    return found


def may_be_missing(name: str, tree: Tree) -> bool:
    """True for a field that methods assign, but none on all of its paths: `if amp: self.scaler = GradScaler()`."""
    if any(name in bound_names(block(definition.body)) for definition in tree.nodes(cst.ClassDef)):
        return False  # the class itself may have it
    targets = [node for node in tree.nodes(cst.AssignTarget, cst.AnnAssign) if dotted(node.target) == f"self.{name}"]  # type: ignore[attr-defined]
    methods = [method for target in targets if (method := tree.around(target, cst.FunctionDef)) is not None]
    return bool(methods) and not any(v.name == name for method in methods for v in _made(method).must or ())


def _made(method: cst.FunctionDef) -> Usage:
    """What a method does with names and fields, up to what it returns at its end."""
    frame = Frame(method.name.value, method, Frame(""))
    *steps, last = [Item(statement, frame) for statement in block(method.body)]
    return usage(steps if isinstance(small(last.node), cst.Return) else [*steps, last])
