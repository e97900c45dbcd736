"""A step with a closure that no loop repeats, as a loop of one round: L-BFGS iterates within the one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.calls import called_statement
from lightify.analysis.held import held_by
from lightify.loops.reachable import reachable
from lightify.loops.runs import Loop, ways_to
from lightify.syntax.parse import Once, Tree, edited
from lightify.syntax.query import method_name, walk


def with_rounds(tree: Tree) -> Tree:
    """Returns the tree with a loop around each such step; without any, the tree itself."""
    places: dict[cst.CSTNode, list[range]] = defaultdict(list)
    for statement in _steps(tree):
        around = tree.parents[statement]
        assert isinstance(around, (cst.IndentedBlock, cst.Module))
        last = next(number for number, node in enumerate(around.body) if node is statement)
        first = last - 1 if last and _is_its_closure(around.body[last - 1], statement, tree) else last
        places[around].append(range(first, last + 1))
    return edited(tree, {around: _Looped(found) for around, found in places.items()}) if places else tree


def all_run(tree: Tree, loops: Sequence[Loop]) -> bool:
    """True when each of the loops made here is one of those given."""
    return all(any(made is loop for loop in loops) for made in tree.nodes(Once))


class _Looped:
    """Puts the statements of some places of a block into loops of one round."""

    def __init__(self, places: Sequence[range]) -> None:
        self.places = places

    def __call__(self, node: cst.CSTNode) -> cst.CSTNode:
        assert isinstance(node, (cst.IndentedBlock, cst.Module))
        body = list(node.body)
        for place in sorted(self.places, key=lambda place: place.start, reverse=True):
            first, *others = body[place.start : place.stop]
            lines = first.leading_lines  # type: ignore[attr-defined]
            rounds = cst.Call(cst.Name("range"), [cst.Arg(cst.Integer("1"))])
            inner = cst.IndentedBlock([first.with_changes(leading_lines=()), *others])
            body[place.start : place.stop] = [Once(cst.Name("_"), rounds, inner, leading_lines=lines)]
        return node.with_changes(body=body)


def _steps(tree: Tree) -> Iterator[cst.BaseStatement]:
    """The statements that take such a step, whoever calls the functions around them."""
    calls = None
    for call in tree.nodes(cst.Call):
        if method_name(call) != "step" or len(call.args) != 1 or not _takes_gradients(call.args[0].value, tree):
            continue
        line = tree.around(call, cst.SimpleStatementLine)
        if line is None or (called_statement(line) or (None,))[0] is not call:
            continue
        calls = callers(tree) if calls is None else calls
        if not any(isinstance(node, Loop) for way in ways_to(call, tree, calls) for node in way):
            yield line


def _takes_gradients(closure: cst.BaseExpression, tree: Tree) -> bool:
    """True for a function of the script that calls `backward()`."""
    if isinstance(closure, cst.Lambda):
        return any(_leads_back(node, tree) for node in walk(closure.body) if isinstance(node, cst.Call))
    functions = [thing for thing in held_by(closure, tree) if isinstance(thing, cst.FunctionDef)]
    return any(_is_backward(node) for function in functions for node in reachable(function, tree))


def _leads_back(call: cst.Call, tree: Tree) -> bool:
    return _is_backward(call) or _takes_gradients(call.func, tree)


def _is_backward(node: cst.CSTNode) -> bool:
    return method_name(node) == "backward"


def _is_its_closure(definition: cst.BaseStatement, step: cst.BaseStatement, tree: Tree) -> bool:
    """True for `def closure(): ...` before the step if nothing else knows of it, and it binds no name of others."""
    if not isinstance(definition, cst.FunctionDef) or definition.decorators:
        return False
    uses = [node for node in tree.mentions[definition.name.value] if node is not definition.name]
    apart = not any(isinstance(node, (cst.Global, cst.Nonlocal)) for node in walk(definition))
    return apart and len(uses) == 1 and step in tree.ancestors(uses[0])
