"""Which names a piece of code binds, reads and declares, by Python's rules of scope."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import libcst as cst

from lightify.syntax.query import MODULE_SELF, block, children, class_test, target_names

_Function = cst.FunctionDef | cst.Lambda
_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)


def parameters(function: _Function) -> list[cst.Param]:
    """All parameters, `*args` and `**kwargs` included."""
    params = function.params
    extra = [p for p in (params.star_arg, params.star_kwarg) if isinstance(p, cst.Param)]
    return [*params.posonly_params, *params.params, *params.kwonly_params, *extra]


@lru_cache(maxsize=4096)
def local_names(function: _Function) -> frozenset[str]:
    """Names that belong to a function: its parameters and what its body binds, without `global` and `nonlocal`."""
    names = {param.name.value for param in parameters(function)}
    if isinstance(function, cst.FunctionDef):
        names |= bound_names(block(function.body))
        names -= declared_elsewhere(function)
    return frozenset(names)


@lru_cache(maxsize=4096)
def declared_elsewhere(function: cst.FunctionDef) -> frozenset[str]:
    """Names that a function declares `global` or `nonlocal`."""
    names: set[str] = set()
    for node in same_scope(block(function.body)):
        if isinstance(node, (cst.Global, cst.Nonlocal)):
            names |= {item.name.value for item in node.names}
    return frozenset(names)


_is_scope = class_test(cst.FunctionDef, cst.ClassDef, cst.Lambda)
_may_bind = class_test(
    *(cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.Del, cst.AsName, cst.FunctionDef),
    *(cst.ClassDef, cst.ImportAlias, cst.MatchAs, cst.MatchStar, cst.MatchMapping),
)
_reads_specially = class_test(
    *(cst.Name, cst.Attribute, cst.Arg, cst.FunctionDef, cst.ClassDef, cst.Lambda, *_COMPREHENSIONS, cst.CompFor),
    *(cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal),
    *(cst.AssignTarget, cst.AnnAssign, cst.For, cst.AsName, cst.NamedExpr, cst.Del),
)


def same_scope(nodes: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    stack = list(reversed(list(nodes)))
    while stack:
        node = stack.pop()
        yield node
        if not _is_scope(node.__class__):
            stack += reversed(children(node))


def scope_nodes(owner: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Nodes of a function's or module's own scope."""
    return same_scope(children(owner.body if isinstance(owner, cst.FunctionDef) else owner))


@lru_cache(maxsize=256)
def assignments(owner: cst.CSTNode) -> Mapping[str, Sequence[cst.Assign]]:
    """The assignments of each name in a function's or module's own scope; `a, b = f()` is one of both."""
    found: dict[str, list[cst.Assign]] = defaultdict(list)
    for node in scope_nodes(owner):
        if isinstance(node, cst.Assign):
            for name in dict.fromkeys(name for one in node.targets for name in target_names(one.target)):
                found[name].append(node)
    return dict(found)


@lru_cache(maxsize=256)
def entered_as(owner: cst.CSTNode) -> Mapping[str, Sequence[cst.WithItem]]:
    """What a function or module enters under each name: `with opened as name:`."""
    found: dict[str, list[cst.WithItem]] = defaultdict(list)
    for node in scope_nodes(owner):
        if isinstance(node, cst.WithItem) and node.asname is not None and isinstance(node.asname.name, cst.Name):
            found[node.asname.name.value].append(node)
    return dict(found)


def bound_names(nodes: Iterable[cst.CSTNode]) -> set[str]:
    """Names that statements bind in their own scope."""
    return set().union(*map(_bound_in, nodes))


@lru_cache(maxsize=16384)
def _bound_in(node: cst.CSTNode) -> frozenset[str]:
    """Names that one statement binds: loops and functions are asked for theirs again and again."""
    return frozenset(name for part in same_scope([node]) for name in bound_by(part))


def bound_by(node: cst.CSTNode) -> Iterable[str]:
    """Names that a node itself binds, not those below it."""
    if not _may_bind(node.__class__):
        return ()
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.Del)):
        return target_names(node.target)
    if isinstance(node, cst.AsName):
        return target_names(node.name)
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        return (node.name.value,)
    if isinstance(node, cst.ImportAlias) and node.asname is None:
        root: cst.CSTNode = node.name
        while isinstance(root, cst.Attribute):
            root = root.value
        return target_names(root)
    if isinstance(node, (cst.MatchAs, cst.MatchStar)) and node.name is not None:
        return (node.name.value,)
    if isinstance(node, cst.MatchMapping) and node.rest is not None:
        return (node.rest.value,)
    return ()


@lru_cache(maxsize=4096)
def free_names(function: cst.FunctionDef | cst.Lambda | cst.ClassDef) -> frozenset[str]:
    """Names that a nested function or class reads or declares from outside (defaults and decorators not counted)."""
    if isinstance(function, cst.ClassDef):
        own: frozenset[str] = frozenset()
        body: Iterable[cst.CSTNode] = block(function.body)
    else:
        own = local_names(function)
        body = block(function.body) if isinstance(function, cst.FunctionDef) else (function.body,)
    names: set[str] = set()
    for node in body:
        names.update(read_names(node))
    if isinstance(function, cst.FunctionDef):
        names |= declared_elsewhere(function)
    return frozenset(names - own)


def read_names(node: cst.CSTNode) -> set[str]:
    """Names read anywhere in a node, seen from the scope around it."""
    names: set[str] = set()
    _collect_reads(node, frozenset(), names)
    return names


def _collect_reads(node: cst.CSTNode, hidden: frozenset[str], names: set[str]) -> None:
    if not _reads_specially(node.__class__):
        for child in children(node):
            _collect_reads(child, hidden, names)
    elif isinstance(node, cst.Name):
        if node.value not in hidden and node.value != MODULE_SELF:
            names.add(node.value)
    elif isinstance(node, (cst.Attribute, cst.Arg)):
        _collect_reads(node.value, hidden, names)
    elif isinstance(node, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
        names |= free_names(node) - hidden
        for outside in _evaluated_outside(node):
            _collect_reads(outside, hidden, names)
    elif isinstance(node, _COMPREHENSIONS):
        inner, first = hidden | _comprehension_names(node), node.for_in  # type: ignore[attr-defined]
        _collect_reads(first.iter, hidden, names)  # the one part that is evaluated where the comprehension stands
        for child in (*children(node), *children(first)):
            if child is not first and child is not first.iter:
                _collect_reads(child, inner, names)
    elif isinstance(node, (cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal)):
        return
    elif isinstance(node, (cst.AssignTarget, cst.AnnAssign, cst.For, cst.AsName, cst.NamedExpr, cst.Del, cst.CompFor)):
        for child in children(node):
            if child is _target_of(node):
                collect_target_reads(child, hidden, names)
            else:
                _collect_reads(child, hidden, names)


def _target_of(node: cst.CSTNode) -> cst.CSTNode | None:
    return node.name if isinstance(node, cst.AsName) else getattr(node, "target", None)


def collect_target_reads(target: cst.CSTNode, hidden: frozenset[str], names: set[str]) -> None:
    if isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            collect_target_reads(element.value, hidden, names)
    elif isinstance(target, cst.StarredElement):
        collect_target_reads(target.value, hidden, names)
    elif not isinstance(target, cst.Name):
        _collect_reads(target, hidden, names)


def _comprehension_names(node: cst.CSTNode) -> frozenset[str]:
    names: set[str] = set()
    part = node.for_in  # type: ignore[attr-defined]
    while part is not None:
        names.update(target_names(part.target))
        part = part.inner_for_in
    return frozenset(names)


def _evaluated_outside(node: cst.FunctionDef | cst.Lambda | cst.ClassDef) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.ClassDef):
        yield from (*node.bases, *node.keywords, *node.decorators)
        return
    for param in parameters(node):
        if param.default is not None:
            yield param.default
        if param.annotation is not None:
            yield param.annotation
    if isinstance(node, cst.FunctionDef):
        yield from node.decorators
        if node.returns is not None:
            yield node.returns
