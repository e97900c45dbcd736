"""What a function, or what it calls, may change outside of itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from lightify.analysis.computed import runs_code
from lightify.analysis.held import held_by_name
from lightify.syntax.names import declared_elsewhere
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, dotted, literal, method_call, nodes_of, root_name, walk


@dataclass(frozen=True)
class Changes:
    """Names of other scopes and fields of objects that are bound anew; the names of what items are stored in."""

    names: frozenset[str]
    fields: frozenset[str]
    items: frozenset[str]


def may_run(node: cst.Call | cst.Attribute, tree: Tree) -> list[cst.FunctionDef]:
    """The script's functions and methods that a call, or the reading of a field, may run, as far as its name tells."""
    if isinstance(node, cst.Attribute):
        return runs_code(node, tree)
    called = (dotted(node.func) or "").rpartition(".")[2]
    held = (thing for thing in held_by_name(tree).get(called, ()) if isinstance(thing, cst.FunctionDef))
    return [*tree.methods.get(called, ()), *filter(None, [tree.functions.get(called)]), *held]


@lru_cache(maxsize=256)
def changes_of(function: cst.FunctionDef, tree: Tree) -> Changes:
    """Reads a function and all that it may call, as far as names tell."""
    names: set[str] = set()
    fields: set[str] = set()
    items: set[str] = set()
    seen: set[cst.FunctionDef] = set()
    waiting = [function]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        names |= declared_elsewhere(current) | bound_by_text(current)
        for node in walk(current.body):
            if isinstance(node, (cst.Call, cst.Attribute)):
                waiting += may_run(node, tree)
            elif isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For)):
                for part in walk(node.target):
                    items |= {root_name(part) or ""} if isinstance(part, cst.Subscript) else set()
                    path, _, field = (dotted(part) or "").rpartition(".")
                    fields |= {field} if path else set()
    return Changes(frozenset(names), frozenset(fields), frozenset(items))


def bound_by_text(function: cst.FunctionDef) -> frozenset[str]:
    """The globals that `globals()["name"] = ...` and `globals().update(name=...)` bind."""
    names: set[str | None] = set()
    for node in nodes_of(function.body, cst.AssignTarget, cst.Call):
        if isinstance(node, cst.Call):
            used = method_call(node)
            if used is not None and used[1] == "update" and code(used[0]) == "globals()":
                names |= {arg.keyword.value for arg in node.args if arg.keyword is not None}
        elif isinstance(node.target, cst.Subscript) and code(node.target.value) == "globals()":  # type: ignore[attr-defined]
            keys = [part.slice.value for part in node.target.slice if isinstance(part.slice, cst.Index)]  # type: ignore[attr-defined]
            names |= {literal(key) for key in keys if isinstance(key, cst.SimpleString)}
    return frozenset(filter(None, names))
