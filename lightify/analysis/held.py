"""Functions and objects of the script that names stand for: parameters that get them, fields and names that keep them.

`run(loader, step)` may call whatever function any call of `run` hands to it as `step`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import libcst as cst

from lightify.analysis.calls import class_of, classes_of_object, method_of, nested_function, scope_of_name
from lightify.syntax.names import parameters, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, dotted, method_call

#: Where a name lives: a function, the module (None) or, for a field of `self`, a class.
Place = cst.FunctionDef | cst.ClassDef | None
#: A function, or an object of a class.
Held = cst.FunctionDef | cst.ClassDef


def held_by(node: cst.BaseExpression, tree: Tree) -> frozenset[Held]:
    """What an expression may stand for, as far as functions and objects are handed on within the script."""
    return _things(node, _held(tree), tree)


def objects_at(place: Place, name: str, tree: Tree) -> list[cst.ClassDef]:
    """The script's classes that a name of a function or the module, or a field of a class, may hold an object of."""
    field = name.removeprefix("self.") if isinstance(place, cst.ClassDef) else name
    return [thing for thing in _held(tree).get((place, field), ()) if isinstance(thing, cst.ClassDef)]


@lru_cache(maxsize=4)
def held_by_name(tree: Tree) -> Mapping[str, frozenset[Held]]:
    """What any name of a spelling may stand for, wherever it lives."""
    found: dict[str, frozenset[Held]] = defaultdict(frozenset)
    for (_, name), things in _held(tree).items():
        found[name] |= things
    return found


def place_of(node: cst.CSTNode, tree: Tree) -> tuple[Place, str] | None:
    """Where a name, or a field of `self`, lives."""
    path = dotted(node) or ""
    if path.startswith("self.") and path.count(".") == 1:
        definition = class_of(node, tree)
        return (definition, path[5:]) if definition is not None else None
    return (scope_of_name(node, tree), path) if isinstance(node, cst.Name) else None


@lru_cache(maxsize=4)
def _held(tree: Tree) -> Mapping[tuple[Place, str], frozenset[Held]]:
    """Follows values from where they are named to all places that they are handed on to."""
    found: dict[tuple[Place, str], frozenset[Held]] = defaultdict(frozenset)
    waiting = flows(tree)
    changed = True
    while changed:
        changed = False
        for place, value in waiting:
            things = _things(value, found, tree)
            if not things <= found[place]:
                found[place] |= things
                changed = True
    return {place: things for place, things in found.items() if things}


@lru_cache(maxsize=4)
def flows(tree: Tree) -> Sequence[tuple[tuple[Place, str], cst.BaseExpression]]:
    """Each place with an expression that it may get."""
    return list(_flows(tree))


def _flows(tree: Tree) -> Iterator[tuple[tuple[Place, str], cst.BaseExpression]]:
    for node in tree.nodes(cst.Assign, cst.FunctionDef, cst.Call):
        if isinstance(node, cst.Assign):
            for target in node.targets:
                place = place_of(target.target, tree)
                if place is not None:
                    yield place, node.value
        elif isinstance(node, cst.FunctionDef):
            yield from (((node, p.name.value), p.default) for p in parameters(node) if p.default is not None)
        elif isinstance(node, cst.Call) and node.args:
            for function, bound in _called(node, tree):
                names = [param.name.value for param in parameters(function)]
                given = arguments(node)
                for name, value in (*zip(names[bound:], given.positional), *given.keyword.items()):
                    yield (function, name), value


def _called(call: cst.Call, tree: Tree) -> Iterator[tuple[cst.FunctionDef, int]]:
    """The script's functions that a call gives arguments to, and how many parameters come before them."""
    path = dotted(call.func) or ""
    if path.startswith("self."):
        objects, method = [*filter(None, [class_of(call, tree)])], path[5:]
    elif isinstance(call.func, cst.Name):
        name = call.func.value
        function = nested_function(name, call, tree) or tree.functions.get(name)
        if function is not None:
            yield function, 0
        objects, method = [*filter(None, [tree.classes.get(name)])], "__init__"
        if not objects:
            objects, method = [*classes_of_object(call.func, tree)], "__call__"
    elif (used := method_call(call)) is not None:
        objects, method = [*classes_of_object(used[0], tree)], used[1]
    else:
        return
    for definition in objects:
        found = method_of(definition, method, call.func, tree)
        if found is not None:
            yield found[0], 1


@lru_cache(maxsize=1024)
def _returned(factory: cst.FunctionDef) -> frozenset[cst.FunctionDef]:
    """The functions that a function makes and returns."""
    own = list(same_scope(block(factory.body)))
    made = {node.name.value: node for node in own if isinstance(node, cst.FunctionDef)}
    names = {dotted(node.value) or "" for node in own if isinstance(node, cst.Return)}
    return frozenset(made[name] for name in names & made.keys())


def _things(
    value: cst.BaseExpression, found: Mapping[tuple[Place, str], frozenset[Held]], tree: Tree
) -> frozenset[Held]:
    """The functions and objects that an expression may give."""
    if isinstance(value, cst.IfExp):
        return _things(value.body, found, tree) | _things(value.orelse, found, tree)
    if isinstance(value, (cst.Dict, cst.List, cst.Tuple)):
        parts = [element.value for element in value.elements]
        return frozenset(thing for part in parts for thing in _things(part, found, tree))
    if isinstance(value, cst.Subscript):
        return _things(value.value, found, tree)
    if isinstance(value, cst.Call):
        if tree.qualified(value.func) == "functools.partial" and value.args:
            return _things(value.args[0].value, found, tree)
        name = dotted(value.func) or ""
        if name in tree.classes:
            return frozenset((tree.classes[name],))
        return frozenset(function for factory, _ in _called(value, tree) for function in _returned(factory))
    place = place_of(value, tree)
    if place is None:
        classes = classes_of_object(value.value, tree) if isinstance(value, cst.Attribute) else ()
        methods = (method_of(one, value.attr.value, value, tree) for one in classes)  # type: ignore[attr-defined]
        return frozenset(found[0] for found in methods if found is not None)
    things = found.get(place, frozenset())
    if isinstance(value, cst.Name) and "." not in value.value:
        function = nested_function(value.value, value, tree) or (
            tree.functions.get(value.value) if place[0] is None else None
        )
        return things | {function} if function is not None else things
    method = method_of(place[0], place[1], value, tree) if isinstance(place[0], cst.ClassDef) else None
    return things | {method[0]} if method is not None else things
