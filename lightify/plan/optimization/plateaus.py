"""Schedulers that a metric steps, `scheduler.step(val_loss)`: in the idiomatic style the Trainer monitors it."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import log_call, log_name
from lightify.plan.logs.records import KEPT
from lightify.plan.types import Hook, Made
from lightify.syntax.flow import usage
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.query import code, method_call, small


def monitored(draft: Draft, hook: Hook, step: Item, call: cst.Call, scheduler: Made, optimizer: Variable) -> str:
    """The name that the metric of a plateau is logged under, where the Trainer may ask it at the epoch's end.

    The Trainer steps the scheduler after the epoch's last hook; what follows the script's own step and reads the
    optimizer would see the old rate.
    """
    made = scheduler.value
    is_plateau = isinstance(made, cst.Call) and (draft.tree.qualified(made.func) or "").endswith(".ReduceLROnPlateau")
    alone = [type(arg.keyword) for arg in call.args] == [type(None)] and not call.args[0].star
    if draft.settings.style != "idiomatic" or hook.name != "on_train_epoch_end" or not is_plateau or not alone:
        return ""
    place = hook.steps.index(step)
    if {optimizer, scheduler.variable} & usage(hook.steps[place + 1 :]).reads:
        return ""
    value = call.args[0].value
    return _read_back(_held(hook.steps[:place], step, value)) or _logged(hook.steps, step, value)


def _held(before: Sequence[Step], step: Item, value: cst.BaseExpression) -> cst.BaseExpression:
    """What the last statement that gave a name its value gave it."""
    variable = step.frame.resolve(value.value) if isinstance(value, cst.Name) else None
    writes = [one for one in before if variable in usage([one]).writes]
    inner = small(writes[-1].node) if writes and isinstance(writes[-1], Item) else None
    return inner.value if isinstance(inner, cst.Assign) and isinstance(inner.targets[0].target, cst.Name) else value


def _read_back(value: cst.BaseExpression) -> str:
    """`loss` for `self.trainer.callback_metrics["loss"].item()`."""
    used = method_call(value)
    kept = used[0] if used is not None and used[1] == "item" else value
    if not isinstance(kept, cst.Subscript) or code(kept.value) != KEPT:
        return ""
    index = kept.slice[0].slice
    key = index.value if isinstance(index, cst.Index) else None
    return str(key.raw_value) if isinstance(key, cst.SimpleString) else ""


def _logged(steps: Sequence[Step], step: Item, value: cst.BaseExpression) -> str:
    """The name under which the hook logs a variable that the step reads, too."""
    variable = step.frame.resolve(value.value) if isinstance(value, cst.Name) else None
    for place, one in enumerate(steps):
        call = log_call(one.node) if isinstance(one, Item) else None
        if not isinstance(one, Item) or call is None or not isinstance(call.args[1].value, cst.Name):
            continue
        first, last = sorted((place, steps.index(step)))
        same = isinstance(variable, Variable) and one.frame.resolve(call.args[1].value.value) is variable
        if same and variable not in usage(steps[first:last]).writes:
            return log_name(call) or ""
    return ""
