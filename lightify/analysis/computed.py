"""Attributes whose reading runs code: properties, descriptors, and what `__getattr__` answers for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import block, call_name, dotted, is_docstring, small, walk

_READS = ("__getattr__", "__getattribute__")


def runs_code(attribute: cst.Attribute, tree: Tree) -> list[cst.FunctionDef]:
    """The script's own code that the reading of an attribute may run, as far as its name tells."""
    name = attribute.attr.value
    return [*_getters(tree).get(name, ()), *(_answering(tree) if name not in _fields(tree) else ())]


def is_computed(name: str, tree: Tree) -> bool:
    """True when `x.name` may be another object each time: what reads it once knows nothing of the next time."""
    getters = _getters(tree).get(name, ())
    if name in _set_by_name(tree):
        return True
    if not all(_only_hands_out(getter, tree) for getter in getters):
        return True
    return not getters and bool(_answering(tree)) and name not in _fields(tree)


@lru_cache(maxsize=4)
def _getters(tree: Tree) -> Mapping[str, list[cst.FunctionDef]]:
    """Properties and descriptors by name."""
    found: dict[str, list[cst.FunctionDef]] = defaultdict(list)
    for definition in tree.classes.values():
        for node in block(definition.body):
            if isinstance(node, cst.FunctionDef) and any(_is_property(d.decorator) for d in node.decorators):
                found[node.name.value].append(node)
            inner = small(node)
            made = inner.value if isinstance(inner, cst.Assign) else None
            kind = tree.classes.get(dotted(made.func) or "") if isinstance(made, cst.Call) else None
            if isinstance(inner, cst.Assign) and kind is not None:
                for target in inner.targets:
                    found[dotted(target.target) or ""] += _methods(kind, "__get__")
    return found


def _is_property(decorator: cst.BaseExpression) -> bool:
    """True for `@property`, `@cached_property`, `@x.setter` and the like."""
    return (dotted(decorator) or "").rpartition(".")[2] in ("property", "cached_property", "setter", "deleter")


@lru_cache(maxsize=4)
def _answering(tree: Tree) -> tuple[cst.FunctionDef, ...]:
    """What classes of the script answer for attributes that they lack."""
    classes = tree.classes.values()
    return tuple(method for definition in classes for name in _READS for method in _methods(definition, name))


@lru_cache(maxsize=4)
def _set_by_name(tree: Tree) -> frozenset[str]:
    """Fields that a class's methods may set by name: `setattr(self, name, value)`, `self.__dict__.update(state)`."""
    found: set[str] = set()
    for definition in tree.classes.values():
        methods = [node for node in block(definition.body) if isinstance(node, cst.FunctionDef)]
        later = [method for method in methods if method.name.value not in ("__init__", *_READS)]
        if any(_sets_by_name(node) for method in later for node in walk(method.body)):
            targets = (node.target for node in walk(definition) if isinstance(node, (cst.AssignTarget, cst.AnnAssign)))
            names = (dotted(target) or "" for target in targets)
            found |= {name.removeprefix("self.") for name in names if name.startswith("self.")}
    return frozenset(found)


def _sets_by_name(node: cst.CSTNode) -> bool:
    if not isinstance(node, cst.Call):
        return False
    given = dotted(node.args[0].value) if node.args else None
    return (call_name(node) in ("setattr", "__setattr__") and given == "self") or (
        dotted(node.func) == "self.__dict__.update"
    )


def _methods(definition: cst.ClassDef, name: str) -> Iterator[cst.FunctionDef]:
    for node in block(definition.body):
        if isinstance(node, cst.FunctionDef) and node.name.value == name:
            yield node


@lru_cache(maxsize=4)
def _fields(tree: Tree) -> Mapping[str, bool]:
    """Fields that are assigned, and methods, outside of what answers; true where a start alone assigns them."""
    found: dict[str, bool] = dict.fromkeys(tree.methods, True)
    for node in tree.nodes(cst.AssignTarget, cst.AnnAssign, cst.AugAssign, cst.NamedExpr, cst.For, cst.Del):
        path, _, name = (dotted(node.target) or "").rpartition(".")  # type: ignore[attr-defined]
        function = tree.around(node, cst.FunctionDef) if path else None
        around = function.name.value if function is not None else ""
        if path and around not in _READS:
            found[name] = found.get(name, True) and around == "__init__"
    return found


def _only_hands_out(getter: cst.FunctionDef, tree: Tree) -> bool:
    """True for a property that gives a field which is set once."""
    if [dotted(d.decorator) for d in getter.decorators] != ["property"]:
        return False
    body = [node for node in block(getter.body) if not is_docstring(node)]
    inner = small(body[0]) if len(body) == 1 else None
    path, _, name = (dotted(inner.value) or "").rpartition(".") if isinstance(inner, cst.Return) else ("", "", "")
    return path == "self" and _fields(tree).get(name, False) and not is_computed(name, tree)
