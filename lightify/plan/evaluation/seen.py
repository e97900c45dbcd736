"""Which statements evaluate: they go over evaluation data, or call a function that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.opening import Opened, open_call
from lightify.facts import Analysis, Kind
from lightify.loops.nest import Nest
from lightify.loops.runs import is_over_data
from lightify.loops.within import call_within, open_within
from lightify.plan.evaluation.titles import title_of
from lightify.plan.evaluation.without_gradients import under_no_grad
from lightify.plan.logs.dictionaries import without_dictionary
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import FieldName, assigned_pairs, block, dotted, small, walk


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
        inner = evaluating_within(step, nest, analysis, tree)
        parts = _one_by_one(step) if inner is not None else []
        if parts:
            own, opened, others = call_opened([*end[:number], *parts, *end[number + 1 :]], nest, analysis, tree)
            made = {small(part.node): small(step.node) for part in parts}
            return own, tuple(replace(call, origins={**call.origins, **made}) for call in opened), others  # type: ignore[dict-item]
        if inner is not None:  # the statement around the call follows it
            return (*end[:number], *inner.steps[:-1]), (inner,), (inner.steps[-1], *end[number + 1 :])
        if holds_loop(step, analysis):
            break
    return (), (), end


def _one_by_one(step: Item) -> list[Item]:
    """`a = test(x)` and `b = test(y)` for `a, b = test(x), test(y)`; nothing for what is not like that."""
    inner = small(step.node)
    target = inner.targets[0].target if isinstance(inner, cst.Assign) and len(inner.targets) == 1 else None
    pairs = list(assigned_pairs(target, inner.value)) if target is not None else []  # type: ignore[union-attr, arg-type]
    names = {dotted(name) for name, _ in pairs}
    read = {node.value for _, value in pairs for node in walk(value) if isinstance(node, cst.Name)}
    if len(pairs) < 2 or not all(isinstance(name, cst.Name) for name, _ in pairs) or names & read:
        return []
    assigns = [cst.Assign([cst.AssignTarget(name)], value) for name, value in pairs]  # type: ignore[arg-type]
    return [Item(cst.SimpleStatementLine([assign]), step.frame) for assign in assigns]


def evaluating_call(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> Opened | None:
    """The opened call of a function that holds a loop over evaluation data."""
    found = called_statement(step.node)
    return _evaluating(found[0], step, nest, analysis, tree, plain=True) if found is not None else None


def evaluating_within(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> Opened | None:
    """The same for a call inside of an expression: the statement around it comes last, and reads the result."""

    def evaluating(call: cst.Call) -> bool:
        return _evaluating(call, step, nest, analysis, tree, plain=False) is not None

    call = call_within(step.node, evaluating)
    if call is None:
        return None
    beside = (node for node in walk(step.node) if isinstance(node, cst.Call) and node is not call)
    earlier = [node.value for node in walk(step.node) if isinstance(node, FieldName)]
    taken = {one.name for name in earlier if isinstance(one := nest.module.aliases.get(name), Variable)}
    several = bool(taken) or any(map(evaluating, beside))
    title = title_of(call, step.node, several, taken | tree.names)
    if several and not title:
        return None  # nothing would hold the first result while the second pass runs
    opened = open_within(step, call, tree, nest.module, evaluating=True, title=title)
    return opened if isinstance(opened, Opened) else None


def _evaluating(
    call: cst.Call, step: Item, nest: Nest, analysis: Analysis, tree: Tree, *, plain: bool
) -> Opened | None:
    """A call of a function that holds a loop over evaluation data, opened.

    Args:
        plain: the statement calls, and no more.
    """
    if callee(call, step.frame, tree) is None:
        return None
    inner = open_call(step, tree, nest.module, evaluating=True, within=None if plain else call)
    if isinstance(inner, str):
        return None
    return inner if any(isinstance(s, Item) and holds_loop(s, analysis) for s in inner.body) else None


def first_evaluation(steps: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree) -> Item | None:
    """The first statement that goes over evaluation data."""
    items = (step for step in steps if isinstance(step, Item))
    return next((step for step in items if evaluates(step, nest, analysis, tree)), None)


def evaluates(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> bool:
    """True for a loop over evaluation data, and for a statement that surely calls a function with one."""
    opens = evaluating_call, evaluating_within
    if holds_loop(step, analysis) or any(opened(step, nest, analysis, tree) for opened in opens):
        return True
    return any(evaluates(inner, nest, analysis, tree) for inner in under_no_grad(step, tree) or ())


def holds_loop(step: Item, analysis: Analysis) -> bool:
    """True for a loop over data, perhaps under `torch.no_grad()` or a bar."""
    if isinstance(step.node, cst.With):
        return any(holds_loop(Item(node, step.frame), analysis) for node in block(step.node.body))
    return isinstance(step.node, cst.For) and goes_over_data(step.node, step.frame, analysis)


def goes_over_data(loop: cst.For, frame: Frame, analysis: Analysis) -> bool:
    """True for a loop over a loader, and for `for i in range(0, len(data), size):` that runs a network on each part."""
    if is_over_data(loop, analysis, frame):
        return True
    counted = loop.iter
    while isinstance(counted, cst.Call) and counted.args and dotted(counted.func) in ("enumerate", "tqdm"):
        counted = counted.args[0].value
    parts = isinstance(counted, cst.Call) and dotted(counted.func) == "range" and len(counted.args) == 3
    networks = {name for (_, name), kind in analysis.kinds.items() if kind is Kind.MODULE} if parts else set()
    return any(isinstance(node, cst.Call) and dotted(node.func) in networks for node in walk(loop.body))
