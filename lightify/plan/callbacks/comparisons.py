"""The comparison of a metric with its best, `if metric < best: best = metric`, as the loops state it."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from lightify.loops.nest import Nest
from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import metrics_of, printed
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.query import block, small, walk

#: How a metric is compared with its best.
COMPARES = (cst.LessThan, cst.LessThanEqual, cst.GreaterThan, cst.GreaterThanEqual)


@dataclass(frozen=True, eq=False)
class Best:
    """`if metric < best: best = metric`.

    Attributes:
        ties: an equal metric is the best, too.
        kept: what the improved branch does beside, without prints.
    """

    step: Item
    node: cst.If
    metric: Variable
    best: Variable
    mode: str
    ties: bool
    update: cst.BaseStatement
    kept: tuple[cst.BaseStatement, ...]


def best_at(draft: Draft, nest: Nest, step: Step) -> Best | None:
    node = step.node if isinstance(step, Item) else None
    if not isinstance(step, Item) or not isinstance(node, cst.If) or not isinstance(node.test, cst.Comparison):
        return None
    test = node.test
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    if len(test.comparisons) != 1 or not isinstance(operator, COMPARES):
        return None
    less = isinstance(operator, (cst.LessThan, cst.LessThanEqual))
    ties = isinstance(operator, (cst.LessThanEqual, cst.GreaterThanEqual))
    for left, other, mode in (
        (test.left, right, "min" if less else "max"),
        (right, test.left, "max" if less else "min"),
    ):
        metric, best = draft.kinds.variable(left, step.frame), draft.kinds.variable(other, step.frame)
        if not isinstance(left, cst.Name) or metric is None or best is None or isinstance(metric, Field):
            continue
        updates = [line for line in block(node.body) if _assigns(draft, line, best, metric, step.frame)]
        others = [one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not step]
        outside = best in usage(others).writes or isinstance(best, Field) or metric.name != left.value
        if len(updates) == 1 and not outside and not shown_in_batches(draft, nest, left.value):
            lines = (line for line in block(node.body) if line not in updates)
            kept = tuple(line for line in lines if printed(line, step.frame, draft.kinds) is None)
            return Best(step, node, metric, best, mode, ties, updates[0], kept)
    return None


def _assigns(draft: Draft, line: cst.CSTNode, target: Variable, value: Variable, frame: Frame) -> bool:
    inner = small(line)
    return (
        isinstance(inner, cst.Assign)
        and len(inner.targets) == 1
        and draft.kinds.variable(inner.targets[0].target, frame) is target
        and draft.kinds.variable(inner.value, frame) is value
    )


def shown_in_batches(draft: Draft, nest: Nest, name: str) -> bool:
    """True when batches log something under a metric's name."""
    for step in (*nest.body, *nest.epoch_end):
        inside = isinstance(step, Item) and (step in nest.body or isinstance(step.node, (cst.With, cst.For)))
        for line in walk(step.node) if inside else ():  # type: ignore[union-attr]
            call = printed(line, step.frame, draft.kinds) if isinstance(line, cst.SimpleStatementLine) else None  # type: ignore[union-attr]
            if call is not None and any(m.name == name for m in metrics_of(call, step.frame, draft.kinds)):  # type: ignore[union-attr]
                return True
    return False
