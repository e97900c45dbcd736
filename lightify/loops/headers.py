"""Reads the head of a batch loop: what a batch is, and what its number is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import libcst as cst

from lightify.loops.runs import Loop
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, atom, code, dotted, opposite, target_names, walk


@dataclass(frozen=True, eq=False)
class BatchHead:
    """`for number, element in enumerate(source, start)`."""

    element: cst.BaseExpression | None
    source: cst.BaseExpression
    index: cst.Name | None = None
    start: cst.BaseExpression | None = None
    while_test: cst.BaseExpression | None = None


_PROGRESS = ("tqdm", "track", "progress_bar", "trange", "notebook")
#: What makes its one iterator itself, or is one.
_ITERATED_ONCE = ("range", "enumerate", "zip", "map", "filter", "reversed", "list", "sorted", "iter", "islice")


def starts_twice(bar: cst.BaseExpression, tree: Tree) -> bool:
    """True for a bar of `tqdm.auto` around a loader: it makes an iterator when it is made, and one for the loop.

    Each iterator of a DataLoader draws a seed, so that the batches of such a pass come in another order without it.
    """
    if not isinstance(bar, cst.Call):
        return False
    if not (tree.qualified(bar.func) or "").startswith(("tqdm.auto.", "tqdm.asyncio.")):
        return False
    inner = arguments(bar).get(0, "iterable")
    made = (dotted(inner.func) or "").rpartition(".")[2] if isinstance(inner, cst.Call) else ""
    return inner is not None and not (dotted(bar.func) or "").endswith("trange") and made not in _ITERATED_ONCE


def without_progress(node: cst.BaseExpression, tree: Tree | None = None) -> cst.BaseExpression:
    """Takes `tqdm(...)`, `trange(n)` and `iter(...)` off an iterable; with a tree, only what changes nothing else."""
    while isinstance(node, cst.Call):
        name = (dotted(node.func) or "").rpartition(".")[2]
        if name == "trange":
            bounds = [cst.Arg(arg.value, star=arg.star) for arg in node.args if arg.keyword is None]
            return cst.Call(cst.Name("range"), bounds)
        inner = arguments(node).get(0, "iterable")
        asked = dotted(node.func) == "iter" and len(node.args) == 1  # a loop asks for it in any case
        if not (name in _PROGRESS or asked) or inner is None or (tree is not None and starts_twice(node, tree)):
            break
        node = inner
    return node


class _Enumerated(NamedTuple):
    iterable: cst.BaseExpression
    element: cst.BaseExpression
    number: cst.Name | None = None
    start: cst.BaseExpression | None = None


def _enumerated(iterable: cst.BaseExpression, target: cst.BaseExpression, tree: Tree | None) -> _Enumerated:
    """What a loop goes over, without `enumerate`."""
    iterable = without_progress(iterable, tree)
    if isinstance(iterable, cst.Call) and dotted(iterable.func) == "enumerate":
        given = arguments(iterable)
        inner = given.get(0, "iterable")
        if inner is not None and isinstance(target, cst.Tuple) and len(target.elements) == 2:
            index, element = target.elements[0].value, target.elements[1].value
            if isinstance(index, cst.Name):
                start = given.get(1, "start")
                if isinstance(start, cst.Integer) and start.value == "0":
                    start = None
                return _Enumerated(without_progress(inner, tree), element, index, start)
    return _Enumerated(iterable, target)


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
    left = atom(stop)
    return cst.BinaryOperation(left, cst.Subtract(), atom(start))


def asked_within(loop: Loop) -> cst.If | None:
    """`if not test: break`, where a while loop's test assigns names, as its body can; None for other loops."""
    if not isinstance(loop, cst.While) or loop.orelse is not None:
        return None
    if not any(isinstance(node, cst.NamedExpr) for node in walk(loop.test)):
        return None
    return cst.If(opposite(loop.test), cst.IndentedBlock([cst.SimpleStatementLine([cst.Break()])]))


def asking_within(loop: Loop) -> Loop:
    """A loop whose test assigns no names: its body asks instead."""
    return loop if asked_within(loop) is None else loop.with_changes(test=cst.Name("True"))


def batch_head(loop: Loop, tree: Tree | None) -> BatchHead | str:
    """Reads a batch loop; a text says why not.

    Args:
        tree: tells which bars are more than bars; without it, all are taken off.
    """
    head = loop.test if isinstance(loop, cst.While) else loop.iter
    if any(isinstance(node, cst.NamedExpr) for node in walk(head)):
        return "the loop's head assigns a name"
    if isinstance(loop, cst.While):
        return BatchHead(None, cst.Name("None"), while_test=loop.test)
    if loop.asynchronous is not None:
        return "the batch loop is asynchronous"
    iterable, target, index, start = _enumerated(loop.iter, loop.target, tree)
    if index is not None and index.value in target_names(target):
        index = None  # `_, (x, _)`: the batch has the last word
    if isinstance(target, cst.Name) and target.value == "batch_idx" and _counts_from_zero(iterable):
        return BatchHead(None, iterable, target)  # the Trainer's own count has this name
    return BatchHead(target, iterable, index, start)


def _counts_from_zero(node: cst.BaseExpression) -> bool:
    """True for `range(n)` and `range(0, n)`."""
    if not isinstance(node, cst.Call) or dotted(node.func) != "range" or any(arg.star for arg in node.args):
        return False
    return len(node.args) == 1 or (len(node.args) == 2 and _is_zero(node.args[0].value))
