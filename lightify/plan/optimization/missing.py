"""Batches that may be None: a Trainer takes None for no batch and leaves the step out, where the loop's body runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import libcst as cst

from lightify.loops.headers import BatchHead
from lightify.plan.batches import is_loader
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.syntax.flow import usage
from lightify.syntax.frames import Item, Variable
from lightify.syntax.names import same_scope
from lightify.syntax.query import arguments, block, call_name, dotted, walk

#: What counts, pairs or numbers things gives no None.
_NEVER_NONE = ("range", "count", "zip", "enumerate", "arange", "product")


def without_missing(draft: Draft, head: BatchHead) -> BatchHead:
    """The head of the loop with each batch in a tuple of its own, where one may be None."""
    if not isinstance(head.element, cst.Name) or not _may_be_none(draft, head, head.element):
        return head
    boxed = cst.Call(cst.Name("zip"), [cst.Arg(head.source)])
    return replace(head, element=cst.Tuple([cst.Element(head.element)]), source=boxed)


def _may_be_none(draft: Draft, head: BatchHead, element: cst.Name) -> bool:
    frame = draft.nest.batch_frame
    if any(isinstance(part, cst.Name) and part.value == "None" for part in walk(head.source)):
        return True
    variable = frame.variable(element.value)
    items = [step for step in draft.nest.body if isinstance(step, Item)]
    if any(draft.kinds.variable(part, item.frame) is variable for item in items for part in _asked(item.node)):
        return True
    if is_loader(draft, head.source, frame):
        loader = draft.kinds.variable(head.source, frame)
        return loader is not None and _collates_to_none(draft, loader)
    return call_name(head.source) not in _NEVER_NONE and variable not in usage(draft.nest.body).reads


def _asked(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What conditions take for a truth, or compare with None."""
    for outer in walk(node):
        if isinstance(outer, (cst.If, cst.IfExp, cst.While, cst.Assert)):
            yield outer.test
        elif isinstance(outer, cst.BooleanOperation):
            yield from (outer.left, outer.right)
        elif isinstance(outer, cst.UnaryOperation) and isinstance(outer.operator, cst.Not):
            yield outer.expression
        elif isinstance(outer, cst.Comparison) and any(dotted(c.comparator) == "None" for c in outer.comparisons):
            yield outer.left


def _collates_to_none(draft: Draft, loader: Variable) -> bool:
    """True for a loader whose `collate_fn` of the script's own may return None."""
    made = construction(loader, draft.tree, draft.nest.host_loop)
    given = arguments(made[1]).keyword.get("collate_fn") if made is not None else None
    function = draft.tree.functions.get(dotted(given) or "")
    if function is None:
        return False
    found = [node for node in same_scope(block(function.body)) if isinstance(node, cst.Return)]
    return any(node.value is None or dotted(node.value) == "None" for node in found)
