"""An evaluation every k epochs: `if (epoch + 1) % k == 0:` is the Trainer's `check_val_every_n_epoch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.opening import live
from lightify.loops.epochs import EpochHead
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.evaluation.between import keeps_apart
from lightify.plan.evaluation.seen import first_evaluation
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.query import block, code, dotted, module_attribute
from lightify.syntax.substitute import substitute


@dataclass(frozen=True)
class Periodic:
    """The end of an epoch that evaluates every k epochs.

    Attributes:
        guard: the statement that asks; every: k; inside: what it runs.
        apart: what each epoch runs beside it.
    """

    guard: Item
    every: cst.BaseExpression
    inside: tuple[Step, ...]
    apart: tuple[Step, ...]


def guarded_evaluation(draft: Draft, steps: Sequence[Step]) -> Item | None:
    """The `if` around the evaluation of an epoch's end, where there is no other."""
    if first_evaluation(steps, draft.nest, draft.analysis, draft.tree) is not None:
        return None
    for step in steps:
        if isinstance(step, Item) and isinstance(step.node, cst.If):
            inside = live([Item(node, step.frame) for node in block(step.node.body)], draft.tree)
            if first_evaluation(inside, draft.nest, draft.analysis, draft.tree) is not None:
                return step
    return None


def periodic(draft: Draft, guard: Item, epochs: EpochHead | None) -> Periodic | str:
    """Reads what asks whether to evaluate; a text says why the Trainer can't ask in its place."""
    node = guard.node
    assert isinstance(node, cst.If)
    every = _every(draft, node.test, guard.frame, epochs) if node.orelse is None else None
    if every is None:
        return "not every epoch has one, and those that do are not every k-th, the k-th first"
    end = draft.nest.epoch_end
    place = end.index(guard)
    for step in end[:place]:
        if problem := keeps_apart(step, guard, draft.kinds):
            return f"not every epoch has one, and {problem}"
    inside = live([Item(part, guard.frame) for part in block(node.body)], draft.tree)
    return Periodic(guard, every, tuple(inside), (*end[:place], *end[place + 1 :]))


def _every(draft: Draft, test: cst.BaseExpression, frame: Frame, epochs: EpochHead | None) -> cst.BaseExpression | None:
    """k of `(epoch + 1) % k == 0`, where that counts from one as the Trainer does."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        asked: cst.BaseExpression = test.expression
    elif isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        target = test.comparisons[0]
        if not isinstance(target.operator, cst.Equal) or code(target.comparator) != "0":
            return None
        asked = test.left
    else:
        return None
    if not (isinstance(asked, cst.BinaryOperation) and isinstance(asked.operator, cst.Modulo)) or epochs is None:
        return None
    if frame is not draft.nest.host or _count(draft, asked.left, epochs) != 1:
        return None
    k = asked.right
    settled = dotted(k) is not None or (isinstance(k, cst.Integer) and k.evaluated_value > 0)
    if not settled or draft.may_change(k, frame) or in_host(draft, k, frame) is None:
        return None
    return k


def _count(draft: Draft, node: cst.BaseExpression, epochs: EpochHead) -> int | None:
    """What an expression is in the first epoch, where it counts the epochs by one."""
    values = {target.value: value for target, value in epochs.names if isinstance(target, cst.Name)}
    told = substitute(node, lambda name: values.get(name))
    return _ahead(told)


def _ahead(node: cst.CSTNode) -> int | None:
    if code(node) == code(module_attribute("current_epoch")):
        return 0
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(other, cst.Integer) and (start := _ahead(one)) is not None:
                return start + other.evaluated_value
    return None
