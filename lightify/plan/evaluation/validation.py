"""The evaluation that ends each epoch, as the hooks of the Trainer's validation."""

from __future__ import annotations

from dataclasses import replace

from lightify.ledger import Fate
from lightify.plan.batches import batch_variables, in_host, is_loader
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.ending import Evaluation, find_evaluation
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.exits import limits_batches
from lightify.plan.idiom.devices import strip_moves
from lightify.plan.idiom.precision import without_contexts
from lightify.plan.idiom.simplify import strippable
from lightify.plan.kinds import Kinds
from lightify.plan.logs.averages import log_averages, replaced
from lightify.plan.logs.progress import logged
from lightify.plan.logs.sums import Pass
from lightify.plan.trainer.lightning import is_steady, on_lightning
from lightify.plan.trainer.samplers import evaluation_order_changes
from lightify.plan.types import (
    FateNote,
    Hook,
)
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Variable
from lightify.syntax.query import expression_of, method_call

SAME_MODE = "pass  # the loop evaluates in the mode that it trains in"

OWN_MODE = "self.eval()  # without the wrapper for several devices: Lightning would leave it in this mode"


def evaluation_of(draft: Draft, plain: bool, optimizer: Variable | None) -> Evaluation | str:
    """The evaluation that the Trainer can run; a text says why there is none.

    Args:
        plain: the Trainer knows the last batch of a pass.
        optimizer: what the Trainer steps; it zeroes the gradients before each backward, so the evaluation need not.
    """
    if not plain:
        return "the training pass is made anew or may end early, so the Trainer can't tell its last batch"
    if evaluation_order_changes(draft):
        return "its processes would share out the data in another order"
    if draft.evaluates_apart:
        return "it computes in another precision than the training"
    found = find_evaluation(
        draft.nest, draft.nest.epoch_end, draft.kinds, draft.analysis, draft.tree, bars=draft.counted_bars
    )
    if isinstance(found, str):
        return found
    nest = replace(draft.nest, opened=(*draft.nest.opened, *found.opened))
    draft.kinds = Kinds(nest, draft.analysis, draft.tree)
    written = usage((*nest.epoch_start, *nest.body, *found.before, *found.body, *found.after, *found.rest)).writes
    reads = expression_usage(found.head.source, found.frame).reads
    known = is_loader(draft, found.head.source, found.frame)
    known &= not on_lightning(draft) or is_steady(draft, found.head.source, found.frame)
    if reads & written or not known or in_host(draft, found.head.source, found.frame) is None:
        return "its data is no loader that is made before the loops, once"
    if found.breaks and not limits_batches(draft, found.body[-1], found.head, found.loop, "limit_val_batches"):
        return "the evaluation may be left early"
    body = []
    for step in found.body:
        used = method_call(expression_of(step.node)) if isinstance(step, Item) else None
        if (
            isinstance(step, Item)
            and used is not None
            and used[1] == "zero_grad"
            and optimizer is not None
            and (draft.kinds.variable(used[0], found.frame) is optimizer)
        ):
            draft.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: zeroes gradients", "no backward comes before it")
        else:
            body.append(step)
    return prepared(draft, replace(found, body=tuple(body)))


def prepared(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation without what the Trainer does for it."""
    batch = batch_variables(found.head, found.frame)
    if not draft.batch_mover and strippable(draft, found.body, batch):
        stripped = strip_moves(found.body, batch, draft.kinds, draft.stripped)
        draft.fates.update(draft.stripped.fates)
        found = replace(found, body=stripped)
    found = replace(found, body=without_contexts(draft, found.body))
    if draft.settings.style == "idiomatic":
        found = averaged(draft, found, batch)
    draft.fates.update(found.fates)
    draft.fates[found.loop] = FateNote(Fate.REPLACED, "Trainer.fit", "the Trainer runs the validation")
    return found


def averaged(draft: Draft, found: Evaluation, batch: set[Variable]) -> Evaluation:
    """The evaluation without the averages that it keeps by hand, and without progress prints."""
    head, nest = found.head, draft.nest
    outside = draft.read_elsewhere() | usage((*nest.epoch_start, *nest.body)).reads
    after = (*found.after, *found.rest)
    one = Pass(found.before, found.body, after, head, found.frame, batch, outside, training=False)
    new = log_averages(draft, one)
    later = (*after, *nest.epoch_start, *nest.body, *found.before, *found.body)
    return replace(
        found,
        before=replaced(found.before, new),
        body=logged(draft, replaced(found.body, new), head, found.frame, batch, later),
        after=replaced(found.after, new),
        rest=replaced(found.rest, new),
    )


def validation_hooks(draft: Draft) -> list[Hook]:
    found = draft.evaluation
    if found is None:
        return []
    first = batch_names(draft, found.head, found.frame, found.loop, found.body, (*found.after, *found.rest))
    hooks = [
        Hook("on_validation_epoch_start", (), found.before),
        Hook("validation_step", ("batch", "batch_idx"), (*first, *found.body), on_continue=("return",)),
        Hook("on_validation_epoch_end", (), found.after),
    ]
    if not found.modules:
        hooks.insert(0, Hook("on_validation_model_eval", (), (), last=(SAME_MODE,)))
    elif on_lightning(draft) and draft.distribution is not None:
        hooks.insert(0, Hook("on_validation_model_eval", (), (), last=(OWN_MODE,)))
    return hooks


def modes_after_fit(draft: Draft) -> tuple[str, ...]:
    """The last evaluation left its networks in evaluation mode; so must the run."""
    found = draft.evaluation
    if found is None or found.trains_again:
        return ()
    lines = []
    for variable in sorted(found.modules, key=lambda v: v.order):
        used_later = variable in usage(draft.around.after).reads or variable.name in draft.around.kept_reads
        of_host = variable.frame is draft.nest.host or variable.frame.is_module or isinstance(variable, Field)
        if used_later and of_host and any(uses_modules(item, draft.kinds) for item in draft.around.after):
            lines.append(f"{variable.path}.eval()")
    return tuple(lines)
