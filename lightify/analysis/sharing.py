"""Names that may stand for weights: a network's parameter, a list of them, what hands one on.

`w = net.weight`, `train(net, list(net.parameters()))`, `self.head = head`: what a name gets, wherever it gets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.calls import classes_of_object, family_of
from lightify.analysis.held import Place, flows, place_of
from lightify.facts import Kind, Scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import assigned_pairs, dotted, method_call, target_names, walk

#: Methods of networks that give parts of them.
_GIVES_PARTS = frozenset(
    """parameters named_parameters buffers named_buffers children named_children modules named_modules state_dict
    get_parameter get_submodule get_buffer""".split()  # noqa: SIM905, a list of words
)
#: Methods that give what shares memory or parts with what they are called on.
_SHARES = frozenset(
    """detach view view_as reshape t transpose permute squeeze unsqueeze flatten expand expand_as numpy contiguous
    to cuda cpu float double items values get copy requires_grad_ eval train""".split()  # noqa: SIM905
)
#: Functions that give what they are given, or its elements.
_HANDS_ON = frozenset("list tuple dict set sorted reversed iter next enumerate zip filter itertools.chain".split())  # noqa: SIM905
#: What gives pairs of a key and something.
_PAIRS = ("enumerate", "items", "named_parameters", "named_buffers", "named_children", "named_modules")
#: What an optimizer knows of a group of weights beside the weights themselves: numbers.
_GROUPS, _GROUP = "param_groups", "params"

#: A name, or what a function returns: as a whole or, in a tuple, at a place.
_Key = tuple[Place, str]
_Value = cst.BaseExpression | _Key


class Sharing:
    """Which names of a script may stand for weights, or for what holds them."""

    def __init__(self, tree: Tree, kinds: Mapping[tuple[Scope, str], Kind]) -> None:
        self._tree, self._kinds = tree, kinds
        self._found: set[_Key] = set()
        waiting = [*flows(tree), *_unpacked(tree), *_returned(tree)]
        while True:
            reached = {key for key, value in waiting if self._may_give(value)} - self._found
            if not reached:
                break
            self._found |= reached
            waiting = [(key, value) for key, value in waiting if key not in reached]

    def holds(self, where: Place, name: str) -> bool:
        return (where, name) in self._found

    def _may_give(self, value: _Value) -> bool:
        return value in self._found if isinstance(value, tuple) else self.may_share(value)

    def may_share(self, node: cst.CSTNode | None) -> bool:
        """True for an expression of the script that may give weights, not only what is computed from them."""
        if isinstance(node, (cst.Name, cst.Attribute)):
            return self._is_held(node) or (isinstance(node, cst.Attribute) and self.may_share(node.value))
        if isinstance(node, cst.Subscript):
            return not _is_number_of_group(node) and self.may_share(node.value)
        if isinstance(node, (cst.StarredElement, cst.NamedExpr)):
            return self.may_share(node.value)
        if isinstance(node, (cst.List, cst.Tuple, cst.Set, cst.Dict)):
            return any(self.may_share(element.value) for element in node.elements)
        if isinstance(node, cst.IfExp):
            return self.may_share(node.body) or self.may_share(node.orelse)
        if isinstance(node, cst.BooleanOperation):
            return self.may_share(node.left) or self.may_share(node.right)
        if isinstance(node, (cst.ListComp, cst.GeneratorExp, cst.SetComp)):
            return self._comprehends(node.elt, node.for_in)
        if isinstance(node, cst.DictComp):
            return self._comprehends(node.value, node.for_in)
        return isinstance(node, cst.Call) and self._gives(node)

    def _comprehends(self, element: cst.BaseExpression, source: cst.CompFor) -> bool:
        """`[p for p in net.parameters()]`, but not `[p.norm() for p in net.parameters()]`."""
        base: cst.CSTNode = element
        while isinstance(base, (cst.Attribute, cst.Subscript)):
            base = base.value
        goes_over = isinstance(base, cst.Name) and base.value in target_names(source.target)
        return (goes_over and self.may_share(source.iter)) or self.may_share(element)

    def _gives(self, call: cst.Call) -> bool:
        used = method_call(call)
        if used is not None and used[1] in _GIVES_PARTS | _SHARES:
            return self.may_share(used[0])
        name = self._tree.qualified(call.func) or dotted(call.func) or ""
        if name in _HANDS_ON:
            return any(self.may_share(arg.value) for arg in call.args)
        return any((function, _RETURNED) in self._found for function in run_by(call, self._tree))

    def _is_held(self, node: cst.Name | cst.Attribute) -> bool:
        place = place_of(node, self._tree)
        if place is not None:
            where, name = place
            wheres: Sequence[Place] = family_of(where, self._tree) if isinstance(where, cst.ClassDef) else (where,)
        elif isinstance(node, cst.Attribute):
            wheres, name = classes_of_object(node.value, self._tree), node.attr.value
        else:
            return False
        return any(self._is_network(one, name) or (one, name) in self._found for one in wheres)

    def _is_network(self, where: Place, name: str) -> bool:
        path = f"self.{name}" if isinstance(where, cst.ClassDef) else name
        return self._kinds.get((where, path)) in (Kind.MODULE, Kind.OPTIMIZER)


def _is_number_of_group(node: cst.Subscript) -> bool:
    """True for `optimizer.param_groups[0]["lr"]`."""
    index = node.slice[0].slice
    if not (isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString)):
        return False
    path = (part.attr.value for part in walk(node) if isinstance(part, cst.Attribute))
    return index.value.evaluated_value != _GROUP and _GROUPS in path


def _unpacked(tree: Tree) -> Iterator[tuple[_Key, _Value]]:
    """Names that get an element: `net, weight = make()`, `for weight in weights`."""
    for loop in tree.nodes(cst.For):
        yield from _elements(loop.target, loop.iter, tree)
    for assign in tree.nodes(cst.Assign):
        for target in assign.targets:
            if isinstance(target.target, cst.Tuple):
                for one, value in assigned_pairs(target.target, assign.value):
                    yield from _elements(one, value, tree)


def _elements(target: cst.CSTNode, value: cst.CSTNode, tree: Tree) -> Iterator[tuple[_Key, _Value]]:
    """What each name of a target gets of a value: the keys of pairs are nothing."""
    functions = list(run_by(value, tree)) if isinstance(value, cst.Call) else []
    pairs = isinstance(value, cst.Call) and (dotted(value.func) or "").rpartition(".")[2] in _PAIRS
    elements = [one.value for one in target.elements] if isinstance(target, cst.Tuple) else [target]
    for number, element in enumerate(elements):
        for place in _places(element, tree) if not (pairs and number == 0) else ():
            for function in functions:
                yield place, (function, _UNKNOWN)
                yield place, (function, f"{_RETURNED} {number}")
            if not functions:
                yield place, value  # type: ignore[misc]


def _places(target: cst.CSTNode, tree: Tree) -> list[_Key]:
    """Where what is assigned to a target, or part of it, goes."""
    if isinstance(target, (cst.Tuple, cst.List)):
        return [place for element in target.elements for place in _places(element.value, tree)]
    place = place_of(target, tree)
    return [place] if place is not None else []


#: What a function returns, and what it returns where that is no tuple of its own, go by names that no script has.
_RETURNED, _UNKNOWN = "return", "return *"


def _returned(tree: Tree) -> Iterator[tuple[_Key, _Value]]:
    """What functions return, as a whole or, in a tuple, at its place."""
    for node in tree.nodes(cst.Return):
        function = tree.around(node, cst.FunctionDef)
        if function is None or node.value is None:
            continue
        yield (function, _RETURNED), node.value
        if isinstance(node.value, cst.Tuple):
            yield from (((function, f"{_RETURNED} {n}"), one.value) for n, one in enumerate(node.value.elements))
        else:
            yield (function, _UNKNOWN), node.value
