"""`Variable(x)` is `x` since torch 0.4, but cut off from what made it: gone where there is nothing to cut off.

https://pytorch.org/docs/stable/autograd.html#variable-deprecated
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.headers import BatchHead, operand
from lightify.plan.batches import batch_variables, is_loader
from lightify.plan.draft import Draft
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.idiom.handed_on import under_one_name
from lightify.plan.idiom.plain_data import PlainData, asks_for_gradients, is_variable
from lightify.plan.idiom.replacing import Replacing
from lightify.plan.types import FateNote
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import arguments, map_children, small, target_names

NOTE = FateNote(Fate.DROPPED, "torch: a Variable is a tensor", "it has no gradients that this would cut off")


def unwrapped(
    draft: Draft, steps: Sequence[Step], head: BatchHead, frame: Frame, beyond: Set[Variable]
) -> tuple[Step, ...]:
    """The steps of a batch without `Variable(...)` around data.

    Args:
        beyond: what more than the batch's steps use.
    """
    if "Variable" not in draft.tree.text or asks_for_gradients(steps):
        return tuple(steps)
    batch = batch_variables(head, frame)
    known = is_loader(draft, head.source, frame) and not _computed(draft)
    data = PlainData(steps, batch if known else set(), draft.kinds)

    def bare(node: cst.CSTNode, within: Frame) -> cst.BaseExpression | None:
        if not isinstance(node, cst.Call) or not is_variable(node, draft.kinds) or not data.holds(node, within):
            return None
        value = arguments(node).get(0, "data")
        return value if value is not None and data.holds(value, within) else None

    def change(node: cst.CSTNode, within: Frame) -> cst.CSTNode:
        if isinstance(node, (cst.Lambda, cst.BaseComp)):
            return node  # its names are its own
        whole = isinstance(node, (cst.Assign, cst.Arg, cst.Element, cst.Return))

        def changed(child: cst.CSTNode) -> cst.CSTNode:
            new = change(child, within)
            return new if whole or bare(child, within) is None else operand(new)  # type: ignore[arg-type]

        new = map_children(node, changed)
        return bare(new, within) or new

    steps = under_one_name(draft, steps, batch, beyond, bare, NOTE)
    replacing = Replacing(change, NOTE, draft.tree, draft.stripped)
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Item):
            result.extend(replacing.items(step))
        else:
            result.append(replace(step, value=change(step.value, step.value_frame)))  # type: ignore[arg-type]
    return tuple(result)


def _computed(draft: Draft) -> bool:
    """True when the host may have computed what the loaders hold by a network, before the run."""
    for item in draft.around.before:
        inner = small(item.node)
        if not isinstance(inner, cst.Assign):
            continue
        names = [name for target in inner.targets for name in target_names(target.target)]
        unknown = any(draft.kinds.kind(cst.Name(name), item.frame) is None for name in names)
        if unknown and uses_modules(item, draft.kinds):
            return True
    return False
