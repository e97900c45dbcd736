"""Whether a batch, unpacked again at its end, gives the parts that the step had."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.analysis.calls import method_of
from lightify.analysis.held import held_by
from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.syntax.frames import Frame
from lightify.syntax.names import same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    assigned_pairs,
    block,
    dotted,
    is_constant,
    method_call,
    target_names,
    walk,
)

#: What hands on what it goes over, its first argument.
_HANDS_ON = ("list", "tuple", "iter", "reversed", "sorted")
#: What makes parts that are there to stay, of whatever it may be.
_COLLECTS = ("list", "tuple", "dict", "sorted")


def unpacks_alike(target: cst.CSTNode, source: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for names of a batch that is no iterator, no object of the script's own and no list that others change."""
    if isinstance(target, cst.Name):
        return True
    starred = any(isinstance(part, cst.StarredElement) for part in walk(target))  # makes a new list
    return not starred and _gives_tuples(source, frame, draft) and all(_collates_parts(draft.tree))


def _gives_tuples(source: cst.CSTNode, frame: Frame, draft: Draft, names: frozenset[str] = frozenset()) -> bool:
    """True for loaders, what gives tuples as far as it can be seen, and what is not known."""
    if isinstance(source, (cst.List, cst.Tuple)):
        return all(isinstance(one.value, cst.Tuple) for one in source.elements)
    if isinstance(source, (cst.ListComp, cst.GeneratorExp)):
        return isinstance(source.elt, cst.Tuple)
    if isinstance(source, cst.Call):
        return _call_gives_tuples(source, frame, draft, names)
    variable = draft.kinds.variable(source, frame)
    if variable is None or draft.kinds.of(variable) is Kind.LOADER or variable.name in names:
        return True
    names |= {variable.name}
    return all(_gives_tuples(value, variable.frame, draft, names) for value in draft.kinds.assigned(variable))


def _call_gives_tuples(call: cst.Call, frame: Frame, draft: Draft, names: frozenset[str]) -> bool:
    name, tree = dotted(call.func) or "", draft.tree
    if name in _HANDS_ON and call.args:
        return _gives_tuples(call.args[0].value, frame, draft, names)
    if name in tree.classes:
        defined = [part for part in block(tree.classes[name].body) if isinstance(part, cst.FunctionDef)]
        gives = [one for one in defined if one.name.value in ("__iter__", "__next__", "__getitem__")]
        return all(_makes_tuples(one) for one in gives)
    used = method_call(call)
    own = [tree.functions[name]] if name in tree.functions else tree.methods.get(used[1], ()) if used else ()
    return name != "map" and all(_makes_tuples(one) for one in own)


def _makes_tuples(function: cst.FunctionDef) -> bool:
    """True for a function that yields nothing but tuples; one that yields nothing may give a loader."""
    given = [node.value for node in same_scope(block(function.body)) if isinstance(node, cst.Yield)]
    return all(isinstance(value, cst.Tuple) for value in given)


def _collates_parts(tree: Tree) -> Iterator[bool]:
    """Of each `collate_fn` that the script names, whether its batches are known to be tuples, lists or dicts."""
    for call in tree.nodes(cst.Call):
        is_loader = (dotted(call.func) or "").endswith("DataLoader")
        value = arguments(call).get(_COLLATE if is_loader else -1, "collate_fn")
        if value is not None:
            yield _makes_parts(value, tree)
    for one in tree.nodes(cst.DictElement):
        if isinstance(one.key, cst.SimpleString) and one.key.evaluated_value == "collate_fn":
            yield _makes_parts(one.value, tree)


#: The place of `collate_fn` among the arguments of a DataLoader.
_COLLATE = 6


def _makes_parts(collate: cst.BaseExpression, tree: Tree) -> bool:
    """True for None, a library's function, and one of the script's own that returns nothing but parts."""
    if isinstance(collate, cst.Call) and tree.qualified(collate.func) == "functools.partial" and collate.args:
        return _makes_parts(collate.args[0].value, tree)
    if isinstance(collate, cst.Lambda):
        return _are_parts(collate.body, None, tree)
    name = dotted(collate) or ""
    if is_constant(collate) or (name.partition(".")[0] in tree.imports and name not in tree.functions):
        return True
    found = [*held_by(collate, tree)] or [*tree.methods.get(name.rpartition(".")[2], ())]
    return bool(found) and all(_returns_parts(one, tree) for one in found)


def _returns_parts(collate: cst.FunctionDef | cst.ClassDef, tree: Tree) -> bool:
    called = method_of(collate, "__call__", cst.Name("self"), tree) if isinstance(collate, cst.ClassDef) else None
    function = called[0] if called is not None else collate
    if not isinstance(function, cst.FunctionDef):
        return False
    own = list(same_scope(block(function.body)))
    returned = [node.value for node in own if isinstance(node, cst.Return)]
    return bool(returned) and all(value is not None and _are_parts(value, function, tree) for value in returned)


def _are_parts(value: cst.BaseExpression, function: cst.FunctionDef | None, tree: Tree) -> bool:
    """True for tuples, lists, dicts and what torch makes."""
    if isinstance(value, (cst.Tuple, cst.List, cst.Dict, cst.ListComp, cst.DictComp)) or is_constant(value):
        return True
    if isinstance(value, cst.Call):
        name = tree.qualified(value.func) or ""
        return name in _COLLECTS or name.startswith(("torch.", "numpy."))
    if not isinstance(value, cst.Name) or function is None:
        return False
    targets = [
        (target, given)
        for node in same_scope(block(function.body))
        if isinstance(node, cst.Assign)
        for one in node.targets
        for target, given in assigned_pairs(one.target, node.value)
    ]
    values = [given for target, given in targets if value.value in target_names(target)]
    return all(given is not value and _are_parts(given, None, tree) for given in values)  # type: ignore[arg-type]
