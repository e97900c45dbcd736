"""`optimizer = adjust(optimizer, epoch)`, where the function gives its argument back: the call alone does the same."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import libcst as cst

from lightify.analysis.calls import callee
from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.draft import Draft
from lightify.plan.idiom.replacing import Replacing
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.names import bound_names, same_scope
from lightify.syntax.query import arguments, block, dotted, small

_NOTE = FateNote(Fate.DROPPED, "", "the name has that object already")
_TRAINED = (Kind.OPTIMIZER, Kind.SCHEDULER, Kind.MODULE)


def without_rebinding(draft: Draft) -> Nest:
    """The loops with calls in the place of assignments that bind a name to the object that it has."""
    kinds, nest = draft.kinds, draft.nest

    def change(node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        alone = isinstance(node, cst.Assign) and _binds_nothing_new(node, frame, kinds)
        return cst.Expr(node.value) if alone else node  # type: ignore[attr-defined]

    replacing = Replacing(change, _NOTE, draft.tree, draft.stripped)

    def told(step: Step) -> Step:
        (new,) = replacing.items(step) if isinstance(step, Item) else (step,)
        return step if isinstance(new, Item) and isinstance(step, Item) and new.node is step.node else new

    start, body, end = (tuple(map(told, steps)) for steps in (nest.epoch_start, nest.body, nest.epoch_end))
    return replace(nest, epoch_start=start, body=body, epoch_end=end)


def _binds_nothing_new(node: cst.Assign, frame: Frame, kinds: Kinds) -> bool:
    call, target = node.value, node.targets[0].target
    variable = kinds.variable(target, frame) if len(node.targets) == 1 else None
    if not isinstance(call, cst.Call) or variable is None or kinds.of(variable) not in _TRAINED:
        return False
    found = callee(call, frame, kinds.tree)
    place = _given_back(found[0]) if found is not None and found[1] is None else None
    given = arguments(call)
    if place is None or given.starred:
        return False
    argument = given.get(*place)
    return argument is not None and kinds.variable(argument, frame) is variable


@lru_cache(maxsize=256)
def _given_back(function: cst.FunctionDef) -> tuple[int, str] | None:
    """The place and name of the parameter that a function returns, whichever way it takes."""
    body = block(function.body)
    last = small(body[-1])
    name = dotted(last.value) if isinstance(last, cst.Return) else None
    names = [param.name.value for param in function.params.params]
    if name not in names or name in bound_names(body) or function.decorators or function.asynchronous:
        return None
    for node in same_scope(body):
        if isinstance(node, cst.Yield) or (isinstance(node, cst.Return) and dotted(node.value) != name):
            return None
    return names.index(name), name
