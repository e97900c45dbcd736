"""Passes that differ: each stands under `if dataloader_idx == 0:` and so on."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.analysis.passing import named_in_all
from lightify.loops.condition import guarded
from lightify.plan.batches import batch_parts
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.parts import INDEX, Evaluation, Turn
from lightify.plan.types import Local
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Item, Step
from lightify.syntax.query import small


def branched(draft: Draft, found: Evaluation) -> Evaluation:
    steps: list[Step] = []
    for turn in found.others:
        for name in _passing(found, turn):
            turn.frame.stand_for(name, found.frame.variable(name))
    for number, turn in enumerate(found.turns):
        first = _batch_names(draft, turn, found)
        named = [step for step in first if not _is_batch(draft, step)]
        test = cst.parse_expression(f"{INDEX} == {number}")
        steps += guarded([*named, *turn.body], (test, draft.generated), draft.nest.module)
    return replace(found, body=tuple(steps))


def _passing(found: Evaluation, turn: Turn) -> list[str]:
    """Names that both a pass and the first one have for a batch alone: one name will do."""
    others = usage((*found.before, *found.later))

    def passing(one: Turn) -> set[str]:
        own = usage([Item(one.loop, one.frame)])
        kept = usage(one.body).exposed - set(batch_parts(one.head, one.frame)) | others.reads | others.writes
        return {v.name for v in own.writes - kept if v.frame is one.frame}

    return sorted(passing(found.turns[0]) & passing(turn)) if turn.frame is not found.frame else []


def _batch_names(draft: Draft, turn: Turn, found: Evaluation) -> list[Step]:
    """What the head of a loop binds, as statements of its own frame."""
    names = batch_names(draft, turn.head, turn.frame, turn.loop, turn.body, found.later)
    return [_statement(step, draft) for step in names]


def _statement(step: Step, draft: Draft) -> Step:
    if not isinstance(step, Binding):
        return step
    value = named_in_all(step.value, step.value_frame, draft.nest.module)
    assign = cst.Assign([cst.AssignTarget(step.target)], value)  # type: ignore[arg-type]
    return Item(cst.SimpleStatementLine([assign]), step.target_frame)


def _is_batch(draft: Draft, step: Step) -> bool:
    """True for `batch = batch`."""
    inner = small(step.node) if isinstance(step, Item) else None
    target = inner.targets[0].target if isinstance(inner, cst.Assign) else None
    if not isinstance(target, cst.Name) or target.value != "batch" or not isinstance(step, Item):
        return False
    draft.forced[step.frame.variable("batch")] = Local("batch")
    return True
