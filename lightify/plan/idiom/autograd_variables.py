"""`Variable(x)` is `x` since torch 0.4, but cut off from what made it: gone where there is nothing to cut off.

https://pytorch.org/docs/stable/autograd.html#variable-deprecated
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.plan.batches import batch_variables, is_loader
from lightify.plan.draft import Draft
from lightify.plan.evaluation.afterwards import runs
from lightify.plan.idiom.handed_on import under_one_name
from lightify.plan.idiom.plain_data import PlainData, asks_for_gradients, is_variable, may_change_arguments
from lightify.plan.idiom.replacing import Replacing
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import (
    atom,
    block,
    children,
    dotted,
    map_children,
    path_node,
    root_of,
    small,
    target_names,
)

NOTE = FateNote(Fate.DROPPED, "torch: a Variable is a tensor", "it has no gradients that this would cut off")


def without_variables(
    draft: Draft, steps: Sequence[Step], head: BatchHead, frame: Frame, beyond: Set[Variable]
) -> tuple[Step, ...]:
    """The steps of a batch without `Variable(...)` around data.

    Args:
        beyond: what more than the batch's steps use.
    """
    if "Variable" not in draft.tree.text or asks_for_gradients(steps, draft.tree):
        return tuple(steps)
    batch = batch_variables(head, frame)
    if may_change_arguments(draft.tree):
        data = PlainData((), frozenset(), draft.kinds)  # a named tensor and its Variable may part
    else:
        data = PlainData(steps, batch if _is_data(draft, head.source, frame) else frozenset(), draft.kinds)

    wrappers = {call for step in steps for call in _wrappers(step, data)}

    def bare(node: cst.CSTNode, within: Frame) -> cst.BaseExpression | None:
        return node.args[0].value if isinstance(node, cst.Call) and node in wrappers else None

    def change(node: cst.CSTNode, within: Frame) -> cst.CSTNode:
        value = bare(node, within)
        if value is not None:
            return change(value, within)
        whole = isinstance(node, (cst.Assign, cst.Arg, cst.Element, cst.Return))

        def changed(child: cst.CSTNode) -> cst.CSTNode:
            new = change(child, within)
            return new if whole or child not in wrappers else atom(new)  # type: ignore[arg-type]

        return map_children(node, changed)

    steps = under_one_name(draft, steps, batch, beyond, bare, NOTE)
    replacing = Replacing(change, NOTE, draft.tree, draft.stripped)
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Item):
            result.extend(replacing.items(step))
        else:
            result.append(replace(step, value=change(step.value, step.value_frame)))  # type: ignore[arg-type]
    return tuple(result)


def _wrappers(step: Step, data: PlainData) -> list[cst.Call]:
    """The calls of a step that are what they are given; goes on behind it."""
    node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
    if isinstance(node, cst.With):
        return [call for inner in block(node.body) for call in _wrappers(Item(inner, frame), data)]
    if isinstance(node, cst.BaseCompoundStatement):
        data.passes(step)  # its parts may run again, after one another
    calls = [one for one in _own_nodes(node) if isinstance(one, cst.Call) and is_variable(one, data.kinds) and one.args]
    found = [call for call in calls if data.holds(call, frame) and data.holds(call.args[0].value, frame)]
    data.passes(step)
    return found


def _own_nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What is within a node, without what has names of its own."""
    if not isinstance(node, (cst.Lambda, cst.BaseComp, cst.FunctionDef, cst.ClassDef)):
        yield node
        for child in children(node):
            yield from _own_nodes(child)


def _is_data(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True for loaders, side by side as well, whose data no network has made in the host before the run."""
    zipped = isinstance(source, cst.Call) and dotted(source.func) == "zip"
    sources = [arg.value for arg in source.args] if zipped else [source]  # type: ignore[attr-defined]
    return all(is_loader(draft, one, frame) for one in sources) and not any(
        isinstance(inner := small(item.node), cst.Assign) and _may_be_computed(item, inner, draft.kinds)
        for item in draft.around.before
    )


def _may_be_computed(item: Item, made: cst.Assign, kinds: Kinds) -> bool:
    """True for a statement that binds what is none of the training's own to what a network may have computed."""
    names = [name for target in made.targets for name in target_names(target.target)]
    if all(kinds.kind(path_node(name), item.frame) is not None for name in names):
        return False
    for node, frame in runs(item, kinds):
        if not isinstance(node, cst.Call) or not node.args:
            continue
        given = [root_of(node.func), *(arg.value for arg in node.args)]
        if any(Kind.MODULE in (kinds.kind(one, frame), kinds.in_scope(dotted(one), frame.function)) for one in given):
            return True
    return False
