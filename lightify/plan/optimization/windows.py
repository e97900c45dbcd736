"""Gradients that a script accumulates itself, as the Trainer's `accumulate_grad_batches`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.loops.nest import Nest
from lightify.plan.batches import batch_source, in_host
from lightify.plan.draft import Draft
from lightify.plan.logs.samples import counts_batches
from lightify.plan.types import FateNote, TrainerOption
from lightify.syntax.flow import exits_of, expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import block, code, expression_of, method_call, method_name, small


@dataclass(frozen=True, eq=False)
class Window:
    """A body that steps every `count` batches, with the step taken out of its condition.

    Attributes:
        loss: a batch's own; the Trainer divides it.
        departures: what the Trainer does otherwise; the faithful style has none.
    """

    nest: Nest
    loss: cst.Name
    option: TrainerOption
    fates: dict[cst.CSTNode, FateNote]
    departures: tuple[str, ...]


def accumulated(draft: Draft, head: BatchHead) -> Window | None:
    """Reads `(loss / k).backward()` with `if (i + 1) % k == 0 or i + 1 == len(loader): step(); zero_grad()`."""
    nest = draft.nest
    found = [n for n, step in enumerate(nest.body) if isinstance(step, Item) and _steps_inside(step, nest)]
    if len(found) != 1 or head.index is None or batch_source(draft, head) is None or draft.lazy:
        return None
    condition = nest.body[found[0]]
    assert isinstance(condition, Item) and isinstance(condition.node, cst.If)
    if any(True for step in nest.body if isinstance(step, Item) for _ in exits_of(step.node)):
        return None
    test = _window_test(draft, condition.node.test, condition.frame, head)
    divided = _divided(nest, found[0])
    if test is None or divided is None:
        return None
    count, last = test
    place, loss, by, alone = divided
    written = usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
    if code(by) != code(count) or expression_usage(count, condition.frame).reads & written:
        return None
    if in_host(draft, count, condition.frame) is None:
        return None
    departures = [] if last else ["an epoch's last batches, too few for a window, are stepped on at its end"]
    later = (*nest.body[place + 1 :], *nest.epoch_end)
    if not alone and _read_again(draft, loss, [step for step in later if not _is_backward(step, nest)]):
        departures.append("the loss is shown as it is, not divided by the number of batches in a window")
    if departures and draft.settings.style == "faithful":
        return None
    fates: dict[cst.CSTNode, FateNote] = {}
    note = FateNote(Fate.REPLACED, "Trainer(accumulate_grad_batches=...)", "the Trainer counts and divides")
    body: list[Step] = []
    for number, step in enumerate(nest.body):
        if number == found[0]:
            fates[condition.node] = note
            body.extend(Item(node, condition.frame) for node in block(condition.node.body))
        elif number == place and not alone:
            fates[small(step.node)] = note  # type: ignore[index, union-attr]
        else:
            body.append(step)
    option = TrainerOption("accumulate_grad_batches", count, condition.frame)
    return Window(replace(nest, body=tuple(body)), cst.Name(loss), option, fates, tuple(departures))


def _steps_inside(step: Item, nest: Nest) -> bool:
    """True for a condition that holds a step, the zeroing after it, and nothing else but clipping before it."""
    if not isinstance(step.node, cst.If) or step.node.orelse is not None:
        return False
    calls = [expression_of(node) for node in block(step.node.body)]
    names = [used[1] if (used := method_call(call)) is not None else "" for call in calls]
    return names[-2:] == ["step", "zero_grad"] and calls[-2] in nest.sites and all("clip_grad" in n for n in names[:-2])


def _is_backward(step: Step, nest: Nest) -> bool:
    call = expression_of(step.node) if isinstance(step, Item) else None
    return call in nest.sites and method_name(call) == "backward"


def _divided(nest: Nest, end: int) -> tuple[int, str, cst.BaseExpression, bool] | None:
    """(place, loss, divisor, True when the division stands in the backward call itself)."""
    places = [n for n, step in enumerate(nest.body[:end]) if _is_backward(step, nest)]
    if len(places) != 1:
        return None
    step = nest.body[places[0]]
    assert isinstance(step, Item)
    used = method_call(expression_of(step.node))
    assert used is not None
    if isinstance(used[0], cst.BinaryOperation):
        whole = used[0]
        if isinstance(whole.operator, cst.Divide) and isinstance(whole.left, cst.Name):
            return places[0], whole.left.value, whole.right, True
        return None
    before = nest.body[places[0] - 1] if places[0] else None
    inner = small(before.node) if isinstance(before, Item) else None
    if not isinstance(used[0], cst.Name):
        return None
    name = used[0].value
    if isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.DivideAssign) and code(inner.target) == name:
        return places[0] - 1, name, inner.value, False
    if (
        isinstance(inner, cst.Assign)
        and [code(target.target) for target in inner.targets] == [name]
        and isinstance(inner.value, cst.BinaryOperation)
        and isinstance(inner.value.operator, cst.Divide)
        and code(inner.value.left) == name
    ):
        return places[0] - 1, name, inner.value.right, False
    return None


def _read_again(draft: Draft, name: str, steps: Sequence[Step]) -> bool:
    frame = draft.nest.batch_frame
    meaning = frame.resolve(name)
    return meaning in usage(steps).reads | draft.read_elsewhere() or not isinstance(meaning, Variable)


def _window_test(
    draft: Draft, test: cst.BaseExpression, frame: Frame, head: BatchHead
) -> tuple[cst.BaseExpression, bool] | None:
    """(k, True when the last batch closes a window, too) for `(i + 1) % k == 0`, perhaps `or i + 1 == len(loader)`."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.Or):
        for one, other in ((test.left, test.right), (test.right, test.left)):
            read = _window_test(draft, one, frame, head)
            if read is not None and _is_last(draft, other, frame, head):
                return read[0], True
        return None
    left = test.left if isinstance(test, cst.Comparison) and len(test.comparisons) == 1 else None
    if not isinstance(left, cst.BinaryOperation) or not isinstance(left.operator, cst.Modulo):
        return None
    target = test.comparisons[0]  # type: ignore[attr-defined]
    zero = isinstance(target.operator, cst.Equal) and code(target.comparator) == "0"
    return (left.right, False) if zero and _number(left.left, head) == 1 else None


def _number(node: cst.BaseExpression, head: BatchHead) -> int | None:
    """What a batch's number is ahead of its index: 1 for `i + 1`, and for `i` that starts from 1."""
    index = head.index.value if head.index is not None else ""
    start = 0 if head.start is None else int(head.start.value) if isinstance(head.start, cst.Integer) else None
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        one = code(node.left) == index and code(node.right) == "1"
        return start + 1 if one and start is not None else None
    return start if code(node) == index else None


def _is_last(draft: Draft, test: cst.BaseExpression, frame: Frame, head: BatchHead) -> bool:
    """`i + 1 == len(loader)` and `i == len(loader) - 1`."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return False
    target = test.comparisons[0]
    if not isinstance(target.operator, cst.Equal):
        return False
    for number, total in ((test.left, target.comparator), (target.comparator, test.left)):
        less = 0
        if isinstance(total, cst.BinaryOperation) and isinstance(total.operator, cst.Subtract):
            less, total = (1, total.left) if code(total.right) == "1" else (9, total)
        if counts_batches(draft, total, frame, head.source, draft.nest.batch_frame, None):
            return _number(number, head) == 1 - less
    return False
