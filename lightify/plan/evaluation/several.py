"""Several passes of one evaluation: one step for all of their loaders.

Passes that do the same become one body that keeps what it counts in a list, an entry for each loader; others stand
under `if dataloader_idx == 0:` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.evaluation.branches import branched
from lightify.plan.evaluation.one_body import shared, with_call
from lightify.plan.evaluation.parts import INDEX, Evaluation, Turn
from lightify.plan.logs.metrics import log_call, log_name
from lightify.plan.types import Local
from lightify.syntax.frames import Item, Step

_TIGHT = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def in_one_step(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation with one body for the batches of all loaders."""
    draft.forced[draft.generated.variable(INDEX)] = Local(INDEX)
    found = found.with_bodies(lambda turn: tuple(_told_apart(step, found.turns) for step in turn.body))
    return shared(draft, found) or branched(draft, found)


def _told_apart(step: Step, turns: Sequence[Turn]) -> Step:
    """A log under its plain name, where no other loader logs under it."""
    call = log_call(step.node) if isinstance(step, Item) else None
    if call is None or not isinstance(step, Item):
        return step
    bodies = (turn.body for turn in turns)
    named = [{log_name(one) for s in body if isinstance(s, Item) and (one := log_call(s.node))} for body in bodies]
    if sum(log_name(call) in names for names in named) > 1:
        return step
    plain = cst.Arg(cst.Name("False"), keyword=cst.Name("add_dataloader_idx"), equal=_TIGHT)
    return with_call(step, call.with_changes(args=[*call.args, plain]))
