"""Reads the head of an epoch loop: how many epochs there are, and what each is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import libcst as cst

from lightify.loops.headers import difference, without_progress
from lightify.loops.runs import Loop
from lightify.syntax.frames import Expression, Frame, Variable
from lightify.syntax.query import FieldName, arguments, atom, dotted, is_constant, module_attribute, walk

#: What a name of the host was set to, once and for all; None when that is not known.
Value = Callable[[cst.Name], cst.BaseExpression | None]


class EpochName(NamedTuple):
    """A target of the loop, and its value in terms of the Trainer's count and of the loop's frame."""

    target: cst.BaseExpression
    value: cst.BaseExpression


@dataclass(frozen=True, eq=False)
class EpochHead:
    """An epoch loop.

    Attributes:
        count: Trainer's `max_epochs`; names in it belong to the loop's frame.
        names: what the loop's targets are in each epoch.
        test: the condition of a while loop, asked before the first epoch and after each; None when it is always true.
        first: what the run starts from, where its loops change that; `FIRST` in the names' values stands for it.
    """

    count: cst.BaseExpression
    names: tuple[EpochName, ...] = ()
    test: cst.BaseExpression | None = None
    first: cst.BaseExpression | None = None


FIRST = FieldName("<first epoch>")  # no name of the script


class _Sequence(NamedTuple):
    """What is iterated over: how many values, and the one of the epoch that is on."""

    length: cst.BaseExpression
    value: cst.BaseExpression


def epoch_head(loop: Loop, known: Value) -> EpochHead | str:
    """Reads an epoch loop; a text says why its epochs can't be counted."""
    if isinstance(loop, cst.While):
        return _while_head(loop.test)
    read = _read(loop.iter, loop.target, known)
    return read if isinstance(read, str) else EpochHead(read[0], tuple(read[1]))


def with_first(head: EpochHead) -> EpochHead | None:
    """The head with its one start put by for the run, as a range does; None where the values are others."""
    [name, *others] = head.names
    if others or not isinstance(name.value, cst.BinaryOperation):
        return None
    return replace(head, names=(EpochName(name.target, name.value.with_changes(right=FIRST)),), first=name.value.right)


def taken_one_by_one(loop: Loop, host: Frame) -> list[cst.BaseStatement]:
    """What starts each epoch of a loop over values that nobody counts: the next value, or the end of the run."""
    values = FieldName(f"<values {len(host.outermost.aliases)}>")
    host.outermost.stand_for(values.value, Variable("epoch_values", host))
    assert isinstance(loop, cst.For)
    first = cst.Comparison(module_attribute("current_epoch"), [cst.ComparisonTarget(cst.Equal(), cst.Integer("0"))])
    iterate = FieldName("<iter>")  # no name of the script, which may call a counter so
    host.outermost.stand_for(iterate.value, Expression(cst.Name("iter"), Frame("")))
    make = cst.Assign([cst.AssignTarget(values)], cst.Call(iterate, [cst.Arg(without_progress(loop.iter))]))
    end = cst.IndentedBlock([cst.SimpleStatementLine([cst.Break()])])
    return [
        cst.If(first, cst.IndentedBlock([cst.SimpleStatementLine([make])])),
        cst.For(loop.target, values, end, cst.Else(end.deep_clone())),
    ]


def _read(
    iterable: cst.BaseExpression, target: cst.BaseExpression, known: Value
) -> tuple[cst.BaseExpression, list[EpochName]] | str:
    """The number of epochs and the names that a target binds."""
    iterable = without_progress(iterable)
    given = arguments(iterable) if isinstance(iterable, cst.Call) else None
    name = dotted(iterable.func) if isinstance(iterable, cst.Call) else ""
    parts = [e.value for e in target.elements] if isinstance(target, (cst.Tuple, cst.List)) else None
    if given is not None and name == "enumerate" and parts is not None and len(parts) == 2:
        inner = given.get(0, "iterable")
        read = _read(inner, parts[1], known) if inner is not None else "the epochs are not a range"
        if isinstance(read, str):
            return read
        return read[0], [EpochName(parts[0], _ahead(given.get(1, "start"))), *read[1]]
    if given is not None and name == "zip" and parts is not None and len(parts) == len(given) and not given.keyword:
        found = [_read(inner, part, known) for inner, part in zip(given.positional, parts)]
        counts, names = [], list[EpochName]()
        for one in found:
            if isinstance(one, str):
                return one
            counts.append(one[0])
            names.extend(one[1])
        return reduce(_smaller, counts), names
    sequence = _sequence(iterable, known)
    return sequence if isinstance(sequence, str) else (sequence.length, [EpochName(target, sequence.value)])


def _sequence(iterable: cst.BaseExpression, known: Value) -> _Sequence | str:
    epoch = module_attribute("current_epoch")
    if isinstance(iterable, cst.Name):
        set_to = known(iterable)
        if set_to is None or not _is_list(set_to):
            return "the epochs are not a range"
        return _Sequence(_length(iterable), _item(iterable, epoch))
    if _is_list(iterable) and not any(isinstance(node, cst.Call) for node in walk(iterable)):
        return _Sequence(_length(iterable), _item(iterable, epoch))
    if not isinstance(iterable, cst.Call):
        return "the epochs are not a range"
    given, name = arguments(iterable), (dotted(iterable.func) or "").rpartition(".")[2]
    if given.starred or given.keyword or (not given.positional and name != "count"):
        return "the epochs are not a range"
    if name == "count" and len(given) < 2:
        return _Sequence(ENDLESS, _ahead(given.get(0, "start")))
    if dotted(iterable.func) == "list" and len(given) == 1:
        return _sequence(given.positional[0], known)
    if dotted(iterable.func) == "reversed":
        return _reversed(given.positional[0], known)
    if dotted(iterable.func) == "range":
        return _range(iterable, given.positional, known)
    return "the epochs are not a range"


ENDLESS = cst.UnaryOperation(cst.Minus(), cst.Integer("1"))


def _range(call: cst.Call, bounds: Sequence[cst.BaseExpression], known: Value) -> _Sequence:
    if len(bounds) == 1:
        return _Sequence(bounds[0], _ahead(None))
    if len(bounds) == 2:
        count = difference(bounds[1], bounds[0])
        if isinstance(count, cst.BinaryOperation) and not _is_ordered(bounds, known):
            count = cst.Call(cst.Name("max"), [cst.Arg(count), cst.Arg(cst.Integer("0"))])  # -1 is endless to a Trainer
        return _Sequence(count, _ahead(bounds[0]))
    return _Sequence(_length(call), _item(call, module_attribute("current_epoch")))


def _reversed(inner: cst.BaseExpression, known: Value) -> _Sequence | str:
    """Counts from the end."""
    if not (isinstance(inner, cst.Call) and dotted(inner.func) == "range"):
        read = _sequence(inner, known)
        if isinstance(read, str) or not isinstance(read.value, cst.Subscript):
            return "the epochs are not a range"
    last = cst.BinaryOperation(ENDLESS, cst.Subtract(), module_attribute("current_epoch"))
    return _Sequence(_length(inner), _item(inner, last))


def _ahead(start: cst.BaseExpression | None) -> cst.BaseExpression:
    """The Trainer's count, which starts from 0, from another start."""
    epoch = module_attribute("current_epoch")
    if start is None or (isinstance(start, cst.Integer) and start.value == "0"):
        return epoch
    return cst.BinaryOperation(epoch, cst.Add(), atom(start))


def _item(sequence: cst.BaseExpression, number: cst.BaseExpression) -> cst.Subscript:
    return cst.Subscript(_closed(sequence), [cst.SubscriptElement(cst.Index(number))])


def _length(sequence: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(sequence, (cst.List, cst.Tuple)):
        return cst.Integer(str(len(sequence.elements)))
    if isinstance(sequence, cst.Call) and dotted(sequence.func) == "range" and all(map(_is_number, sequence.args)):
        return cst.Integer(str(len(range(*(int(arg.value.value) for arg in sequence.args)))))  # type: ignore[attr-defined]
    return cst.Call(cst.Name("len"), [cst.Arg(sequence)])


def _is_ordered(bounds: Sequence[cst.BaseExpression], known: Value) -> bool:
    """True when it is known that a range does not start beyond its end."""
    values = [known(bound) if isinstance(bound, cst.Name) else bound for bound in bounds]
    numbers = [int(value.value) for value in values if isinstance(value, cst.Integer)]
    return len(numbers) == 2 and numbers[0] <= numbers[1]


def _is_number(arg: cst.Arg) -> bool:
    return isinstance(arg.value, cst.Integer)


def _smaller(one: cst.BaseExpression, other: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(one, cst.Integer) and isinstance(other, cst.Integer):
        return min(one, other, key=lambda number: int(number.value))
    if ENDLESS in (one, other):
        return other if one is ENDLESS else one
    return cst.Call(cst.Name("min"), [cst.Arg(one), cst.Arg(other)])


def _closed(node: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(node, cst.Tuple) and not node.lpar:
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node


def _is_list(node: cst.BaseExpression) -> bool:
    """True for what has a length, and the same values whenever it is asked."""
    if isinstance(node, (cst.List, cst.Tuple)):
        return not any(isinstance(element, cst.StarredElement) for element in node.elements)
    if isinstance(node, cst.BinaryOperation):
        return _is_list(node.left) and (_is_list(node.right) or is_constant(node.right))
    if isinstance(node, cst.ListComp):
        return True
    name = dotted(node.func) if isinstance(node, cst.Call) else ""
    return name in ("list", "sorted", "tuple", "range", "np.linspace", "np.arange", "np.logspace", "numpy.linspace")


def _while_head(test: cst.BaseExpression) -> EpochHead | str:
    if any(isinstance(node, cst.NamedExpr) for node in walk(test)):
        return "the epoch loop's test assigns a name"
    if isinstance(test, cst.Name) and test.value == "True":
        return EpochHead(ENDLESS)
    return EpochHead(cst.IfExp(test=test, body=ENDLESS, orelse=cst.Integer("0")), test=test)
