"""Reads the heads of the loops: how many epochs, what a batch is, what its number is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import libcst as cst

from lightify.plan.runs import Loop
from lightify.query import arguments, code, dotted, walk


@dataclass(frozen=True, eq=False)
class EpochHead:
    """`for target in range(start, stop)`.

    Attributes:
        target: None when the epochs have no name.
        count: Trainer's `max_epochs`; names in it belong to the loop's frame.
        offset: what is added to the Trainer's count from 0; None for 0.
        index, index_offset: the name that `enumerate` gives, if any.
        test: the condition of a while loop, asked before the first epoch and after each; None when it is always true.
    """

    target: cst.Name | None
    count: cst.BaseExpression
    offset: cst.BaseExpression | None
    index: cst.Name | None = None
    index_offset: cst.BaseExpression | None = None
    test: cst.BaseExpression | None = None


@dataclass(frozen=True, eq=False)
class BatchHead:
    """`for number, element in enumerate(source, start)`."""

    element: cst.BaseExpression | None
    source: cst.BaseExpression
    index: cst.Name | None = None
    start: cst.BaseExpression | None = None
    while_test: cst.BaseExpression | None = None


_PROGRESS = ("tqdm", "track", "progress_bar", "trange", "notebook")


def _progress(node: cst.BaseExpression) -> cst.BaseExpression:
    """Takes `tqdm(...)` and `trange(n)` off an iterable."""
    while isinstance(node, cst.Call):
        name = (dotted(node.func) or "").rpartition(".")[2]
        if name == "trange":
            return cst.Call(cst.Name("range"), [arg for arg in node.args if arg.keyword is None])
        inner = arguments(node).get(0, "iterable")
        if name not in _PROGRESS or inner is None:
            break
        node = inner
    return node


class _Enumerated(NamedTuple):
    iterable: cst.BaseExpression
    element: cst.BaseExpression
    number: cst.Name | None = None
    start: cst.BaseExpression | None = None


def _enumerated(iterable: cst.BaseExpression, target: cst.BaseExpression) -> _Enumerated:
    """What a loop goes over, without `enumerate`."""
    iterable = _progress(iterable)
    if isinstance(iterable, cst.Call) and dotted(iterable.func) == "enumerate":
        given = arguments(iterable)
        inner = given.get(0, "iterable")
        if inner is not None and isinstance(target, cst.Tuple) and len(target.elements) == 2:
            index, element = target.elements[0].value, target.elements[1].value
            if isinstance(index, cst.Name):
                start = given.get(1, "start")
                if isinstance(start, cst.Integer) and start.value == "0":
                    start = None
                return _Enumerated(_progress(inner), element, index, start)
    return _Enumerated(iterable, target)


def epoch_head(loop: Loop) -> EpochHead | str:
    """Reads an epoch loop; a text says why its epochs can't be counted."""
    if isinstance(loop, cst.While):
        return _while_head(loop.test)
    iterable, target, index, index_offset = _enumerated(loop.iter, loop.target)
    if not isinstance(target, cst.Name):
        return "the epoch loop unpacks what it iterates over"
    if not (isinstance(iterable, cst.Call) and dotted(iterable.func) == "range"):
        return "the epochs are not a range"
    given = arguments(iterable)
    if given.starred or given.keyword or not 1 <= len(given) <= 2:
        return "the epochs' range has a step"
    if len(given) == 1:
        return EpochHead(target, given.positional[0], None, index, index_offset)
    start, stop = given.positional
    return EpochHead(target, difference(stop, start), None if _is_zero(start) else start, index, index_offset)


def _while_head(test: cst.BaseExpression) -> EpochHead | str:
    if any(isinstance(node, cst.NamedExpr) for node in walk(test)):
        return "the epoch loop's test assigns a name"
    endless = cst.UnaryOperation(cst.Minus(), cst.Integer("1"))
    if isinstance(test, cst.Name) and test.value == "True":
        return EpochHead(None, endless, None)
    return EpochHead(None, cst.IfExp(test=test, body=endless, orelse=cst.Integer("0")), None, test=test)


def _is_zero(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer) and node.value == "0"


def difference(stop: cst.BaseExpression, start: cst.BaseExpression) -> cst.BaseExpression:
    """`stop - start`, with `n + 1 - 1` and `n - 0` made simple."""
    if _is_zero(start):
        return stop
    if isinstance(stop, cst.Integer) and isinstance(start, cst.Integer):
        return cst.Integer(str(int(stop.value) - int(start.value)))
    if (
        isinstance(stop, cst.BinaryOperation)
        and isinstance(stop.operator, cst.Add)
        and not isinstance(start, cst.BinaryOperation)
    ):
        if code(stop.right) == code(start):
            return stop.left
        if code(stop.left) == code(start):
            return stop.right
    left = _operand(stop)
    return cst.BinaryOperation(left, cst.Subtract(), _operand(start))


def _operand(node: cst.BaseExpression) -> cst.BaseExpression:
    simple = (cst.Name, cst.Attribute, cst.Integer, cst.Call, cst.Subscript)
    if isinstance(node, simple) or node.lpar:
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def batch_head(loop: Loop) -> BatchHead | str:
    """Reads a batch loop; a text says why not."""
    if isinstance(loop, cst.While):
        return BatchHead(None, cst.Name("None"), while_test=loop.test)
    if loop.asynchronous is not None:
        return "the batch loop is asynchronous"
    iterable, target, index, start = _enumerated(loop.iter, loop.target)
    return BatchHead(target, iterable, index, start)
