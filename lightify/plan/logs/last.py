"""What an epoch's end shows of its last batch: the idiomatic style logs it in each batch, and keeps nothing for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import log_call, log_name, logs
from lightify.plan.types import Hook
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Item, Step, Variable

LAST = "what an epoch shows of its last batch is logged in each batch"


def logged_in_each_batch(draft: Draft, hooks: Sequence[Hook]) -> list[Hook]:
    """Moves `self.log("loss", loss)` from an epoch's end to the step that sets `loss` for nothing else."""
    step = next(hook for hook in hooks if hook.name == "training_step")
    if draft.settings.style != "idiomatic" or step.result is None or step.leaves or _is_left(step):
        return list(hooks)
    ends = [hook for hook in hooks if hook.name in ("on_train_epoch_end", "on_validation_epoch_start")]
    moved = [item for end in ends for item in end.steps if _is_of_last_batch(draft, item, step, hooks)]
    if moved:
        draft.steps_away.append(LAST)
    new = {end: replace(end, steps=tuple(item for item in end.steps if item not in moved)) for end in ends}
    new[step] = replace(step, steps=(*step.steps, *moved))
    return [new.get(hook, hook) for hook in hooks]


def _is_left(hook: Hook) -> bool:
    return any(True for step in hook.steps if isinstance(step, Item) for _ in exits_of(step.node))


def _is_of_last_batch(draft: Draft, item: Step, step: Hook, hooks: Sequence[Hook]) -> bool:
    """True for the log of a name that each step sets anew, and that nothing but the log reads."""
    call = log_call(item.node) if isinstance(item, Item) else None
    value = call.args[1].value if call is not None else None
    if call is None or not isinstance(item, Item) or not isinstance(value, cst.Name):
        return False
    variable = item.frame.resolve(value.value)
    others = [one for hook in hooks if hook is not step for one in hook.steps if one is not item]
    name = log_name(call)
    own = usage(step.steps)
    return (
        isinstance(variable, Variable)
        and variable in (own.must or set()) - own.exposed
        and variable not in usage(others).reads | usage(others).writes | draft.read_elsewhere()
        and name not in {*draft.monitored, *logs(step.steps), *logs(others)}
    )
