"""Which statements evaluate: they go over evaluation data, or call a function that does."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.opening import Opened, open_call
from lightify.facts import Analysis
from lightify.loops.nest import Nest
from lightify.loops.runs import is_over_data
from lightify.plan.logs.dictionaries import without_dictionary
from lightify.syntax.frames import Item, Step
from lightify.syntax.parse import Tree
from lightify.syntax.query import block


def call_opened(
    end: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree
) -> tuple[Sequence[Step], tuple[Opened, ...], Sequence[Step]]:
    """The steps up to the end of a function that evaluates, its call, and the steps that follow."""
    for number, step in enumerate(end):
        if not isinstance(step, Item):
            continue
        inner = evaluating_call(step, nest, analysis, tree)
        if inner is not None:
            own, others = without_dictionary(inner.steps, end[number + 1 :])
            return (*end[:number], *own), (inner,), others
        if holds_loop(step, analysis):
            break
    return (), (), end


def evaluating_call(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> Opened | None:
    """The opened call of a function that holds a loop over evaluation data."""
    found = called_statement(step.node)
    if found is None or callee(found[0], step.frame, tree) is None:
        return None
    inner = open_call(step, tree, nest.module, evaluating=True)
    if isinstance(inner, str):
        return None
    return inner if any(isinstance(s, Item) and holds_loop(s, analysis) for s in inner.body) else None


def first_evaluation(steps: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree) -> Item | None:
    """The first statement that goes over evaluation data."""
    items = (step for step in steps if isinstance(step, Item))
    return next((step for step in items if evaluates(step, nest, analysis, tree)), None)


def evaluates(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> bool:
    return holds_loop(step, analysis) or evaluating_call(step, nest, analysis, tree) is not None


def holds_loop(step: Item, analysis: Analysis) -> bool:
    """True for a loop over data, perhaps under `torch.no_grad()`."""
    if isinstance(step.node, cst.For):
        return is_over_data(step.node, analysis)
    if isinstance(step.node, cst.With):
        return any(isinstance(node, cst.For) and is_over_data(node, analysis) for node in block(step.node.body))
    return False
