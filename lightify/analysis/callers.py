"""Which calls may run a function, as far as names tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache

import libcst as cst

from lightify.analysis.calls import (
    class_around,
    class_of,
    classes_of_object,
    family_of,
    heirs_of,
    method_of,
    nested_function,
)
from lightify.analysis.closures import closure_of
from lightify.analysis.held import held_by
from lightify.syntax.parse import Tree
from lightify.syntax.query import method_call


@lru_cache(maxsize=4)
def callers(tree: Tree) -> Mapping[cst.FunctionDef, list[cst.Call]]:
    """The calls of each function and method that the file defines."""
    found: dict[cst.FunctionDef, list[cst.Call]] = defaultdict(list)
    for call in tree.nodes(cst.Call):
        for function in dict.fromkeys(run_by(call, tree)):
            found[function].append(call)
    return found


def run_by(call: cst.Call, tree: Tree) -> Iterator[cst.FunctionDef]:
    """The script's functions that a call may run."""
    if isinstance(call.func, cst.Name) and call.func.value.startswith("self."):
        definition = class_of(call, tree)
        family = (*family_of(definition, tree), *heirs_of(definition, tree)) if definition is not None else ()
        for function in tree.methods.get(call.func.value[5:], ()):
            if definition is None or class_around(function, tree) in family:
                yield function
        yield from _held(call.func, tree)
    elif isinstance(call.func, cst.Name):
        yield from _named(call.func, call, tree)
    elif (used := method_call(call)) is not None:
        for function in tree.methods.get(used[1], ()):
            if _may_be_receiver(used[0], function, tree):
                yield function
        yield from _held(call.func, tree)
    elif isinstance(call.func, cst.Subscript):
        yield from _held(call.func, tree)


def _named(name: cst.Name, call: cst.Call, tree: Tree) -> Iterator[cst.FunctionDef]:
    named = nested_function(name.value, call, tree) or tree.functions.get(name.value)
    closure = closure_of(call, tree) if named is None else None
    if named is None and closure is not None:
        named = closure.function
    if named is not None:
        yield named
        return
    for made in classes_of_object(name, tree):
        if (called := _called(made, tree)) is not None:
            yield called
    yield from _held(name, tree)


def _held(callable_: cst.BaseExpression, tree: Tree) -> Iterator[cst.FunctionDef]:
    """What a parameter or field runs when it is called."""
    for thing in held_by(callable_, tree):
        function = thing if isinstance(thing, cst.FunctionDef) else _called(thing, tree)
        if function is not None:
            yield function


def _may_be_receiver(receiver: cst.BaseExpression, method: cst.FunctionDef, tree: Tree) -> bool:
    definition = class_around(method, tree)
    known = (*classes_of_object(receiver, tree), *(h for h in held_by(receiver, tree) if isinstance(h, cst.ClassDef)))
    if known:
        return any(definition in family_of(one, tree) for one in known)
    return not method.name.value.startswith("__") and method.name.value not in _TENSOR_METHODS


#: Methods that torch objects have too: a call on an unknown object says nothing about the file's own classes.
_TENSOR_METHODS = {"train", "eval", "step", "forward", "to", "cuda", "backward", "zero_grad", "update", "reset", "add"}


def _called(definition: cst.ClassDef, tree: Tree) -> cst.FunctionDef | None:
    """The method that runs when an object is called: `__call__`, or `forward` of a network."""
    methods = (method_of(definition, name, cst.Name("self"), tree) for name in ("__call__", "forward"))
    return next((found[0] for found in methods if found is not None), None)
