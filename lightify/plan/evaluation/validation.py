"""The evaluation that ends each epoch, as the hooks of the Trainer's validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from functools import partial

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.epochs import EpochHead
from lightify.plan.batches import batch_variables, in_host, is_loader, settled_range
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.afterwards import obstacle
from lightify.plan.evaluation.between import put_off
from lightify.plan.evaluation.ending import find_evaluation
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.evaluation.parts import Asked, Evaluation, Turn
from lightify.plan.evaluation.periodic import Periodic, guarded_evaluation, handed_when, periodic
from lightify.plan.evaluation.several import in_one_step
from lightify.plan.exits import limits_batches
from lightify.plan.idiom.autograd_variables import without_variables
from lightify.plan.idiom.bars import SHOWN, shown_as_logs
from lightify.plan.idiom.devices import moved, strip_moves
from lightify.plan.idiom.handed_on import under_one_name
from lightify.plan.idiom.precision import without_contexts
from lightify.plan.idiom.simplify import strippable
from lightify.plan.kinds import Kinds
from lightify.plan.logs.averages import log_averages, replaced
from lightify.plan.logs.metrics import log_call, log_calls, logs, metrics_of, printed
from lightify.plan.logs.progress import logged, sums_of
from lightify.plan.logs.records import asks_for_means
from lightify.plan.logs.sums import Pass
from lightify.plan.trainer.lightning import is_steady, on_lightning
from lightify.plan.trainer.samplers import evaluation_order_changes
from lightify.plan.types import (
    FateNote,
    Hook,
    TrainerOption,
)
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Step, Variable
from lightify.syntax.query import code, dotted, expression_of, method_call, small

SAME_MODE = "pass  # the loop evaluates in the mode that it trains in"

STAYS = "pass  # the loop trains on in evaluation mode"

OWN_MODE = "self.eval()  # without the wrapper for several devices: Lightning would leave it in this mode"


def evaluation_of(draft: Draft, whole: bool, optimizer: Variable | None, epochs: EpochHead | None) -> Evaluation | str:
    """The evaluation that the Trainer can run; a text says why there is none.

    Args:
        whole: the Trainer knows where a pass ends.
        optimizer: what the Trainer steps; it zeroes the gradients before each backward, so the evaluation need not.
    """
    if not whole:
        return "the training pass is made anew or may end early, so the Trainer can't tell its last batch"
    if evaluation_order_changes(draft):
        return "its processes would share out the data in another order"
    if draft.evaluates_apart:
        return "it computes in another precision than the training"
    guard = guarded_evaluation(draft, draft.nest.epoch_end)
    within = periodic(draft, guard, epochs) if guard is not None else None
    if isinstance(within, str):
        return within
    several = _readable(draft, optimizer, within, several=True)
    if not isinstance(several, str):
        return several
    alone = _readable(draft, optimizer, within, several=False)
    return several if isinstance(alone, str) else alone


def evaluation_at(draft: Draft, end: Sequence[Step], *, several: bool = False, final: bool = False) -> Evaluation | str:
    """What `find_evaluation` reads at the end of an epoch, or of the training, as the draft stands."""
    return find_evaluation(
        draft.nest,
        end,
        draft.kinds,
        draft.analysis,
        draft.tree,
        bars=draft.counted_bars,
        final=final,
        several=several,
        begun=on_lightning(draft),
    )


def _readable(draft: Draft, optimizer: Variable | None, within: Periodic | None, several: bool) -> Evaluation | str:
    """The evaluation, with the passes that follow it or without; a text says why the Trainer can't run it."""
    end = within.inside if within is not None else draft.nest.epoch_end
    found = evaluation_at(draft, end, several=several)
    if isinstance(found, str):
        return found
    if within is None or within.asked == Asked():
        found = _of_the_training_put_off(draft, found)
        always = FateNote(Fate.DROPPED, "", "it holds in each epoch")
        found = replace(found, fates={**found.fates, within.guard.node: always}) if within is not None else found
    else:
        found = _ended_within(draft, found, within)
        if isinstance(found, str):
            return found
    if any(map(asks_for_means, found.before)):
        return "what stands before it reads means of the training, which the Trainer has at the epoch's end"
    if found.modes and draft.distribution is not None:
        return "the network is never put back into training mode"
    if found.others and draft.distribution is not None:
        return "its processes share out the data of several evaluations"
    nest = replace(draft.nest, opened=(*draft.nest.opened, *found.opened))
    draft.kinds = Kinds(nest, draft.analysis, draft.tree)
    written = usage((*nest.epoch_start, *nest.body, *found.steps)).writes
    if any(
        expression_usage(one.head.source, one.frame).reads & written or not is_given(draft, one) for one in found.turns
    ):
        return "its data is no loader that is made before the loops, once"
    if found.breaks and not limits_batches(draft, found.body[-1], found.head, found.loop, "limit_val_batches"):
        return "the evaluation may be left early"
    return prepared(draft, found.with_bodies(lambda turn: tuple(_without_zeroing(draft, turn.body, optimizer))))


def _of_the_training_put_off(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation without what stands before it and gives it nothing, such as the means of the training pass."""
    passes = [Item(turn.loop, turn.frame) for turn in found.turns]
    before, late = put_off(found.before, (*passes, *found.after), found.rest, draft.kinds)
    return replace(found, before=tuple(before), rest=(*late, *found.rest))


def _ended_within(draft: Draft, found: Evaluation, within: Periodic) -> Evaluation | str:
    """The evaluation of some epochs: what it is followed by in these ends it; what each epoch runs follows."""
    if problem := obstacle(found.rest, found.modules, found.without, draft.nest, draft.kinds):
        return problem
    if any(uses_modules(step, draft.kinds, asking=True) for step in (*found.rest, *within.apart)):
        return "not every epoch has one, and what follows it may notice the mode"
    if found.modules and not found.trains_again and _read_after(draft, found):
        return "not every epoch has one, and what follows the training would notice whether the last one had"
    target = "Trainer(check_val_every_n_epoch=...)" if within.asked.every is not None else "Trainer.fit"
    fates = {**found.fates, within.guard.node: FateNote(Fate.REPLACED, target)}
    return replace(found, after=found.later, rest=within.apart, asked=within.asked, fates=fates)


def is_given(draft: Draft, one: Turn) -> bool:
    """True when the Trainer can be handed what a pass goes over."""
    counts = isinstance(one.head.source, cst.Call) and dotted(one.head.source.func) == "range"
    known = settled_range(draft, one.head.source, one.frame) if counts else is_loader(draft, one.head.source, one.frame)
    known &= not on_lightning(draft) or is_steady(draft, one.head.source, one.frame)
    return known and in_host(draft, one.head.source, one.frame) is not None


def _without_zeroing(draft: Draft, steps: Sequence[Step], optimizer: Variable | None) -> Iterator[Step]:
    for step in steps:
        used = method_call(expression_of(step.node)) if isinstance(step, Item) else None
        if (
            isinstance(step, Item)
            and used is not None
            and used[1] == "zero_grad"
            and optimizer is not None
            and (draft.kinds.variable(used[0], step.frame) is optimizer)
        ):
            draft.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: zeroes gradients", "no backward comes before it")
        else:
            yield step


def prepared(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation without what the Trainer does for it."""
    found = _without_bars(draft, found) if found.bars else found
    found = found.with_bodies(lambda turn: without_contexts(draft, _bare(draft, found, turn)))
    if draft.settings.style == "idiomatic":
        for number in range(len(found.turns)):
            found = averaged(draft, found, number)
    if found.asked is not None and found.asked.every is not None:
        draft.options.append(TrainerOption("check_val_every_n_epoch", found.asked.every, draft.nest.host))
    draft.fates.update(found.fates)
    for call in found.opened:
        draft.stripped.origins.update(call.origins)
    for turn in found.turns:
        draft.fates[turn.loop] = FateNote(Fate.REPLACED, "Trainer.fit", "the Trainer runs the validation")
    return found


def _without_bars(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation without the bars that it holds in variables; what they showed of a batch is logged."""

    def shown(steps: Sequence[Step], sums: Set[Variable] = frozenset()) -> tuple[Step, ...]:
        return tuple(shown_as_logs(draft, found.bars, steps, sums=sums))

    for bar in found.bars.values():
        draft.fates[small(bar.made.node) or bar.made.node] = SHOWN  # type: ignore[union-attr]
    bare = found.with_bodies(lambda turn: shown(turn.body, sums_of(turn.body)))
    return replace(bare, before=shown(found.before), after=shown(found.after), rest=shown(found.rest), bars={})


def _bare(draft: Draft, found: Evaluation, turn: Turn) -> tuple[Step, ...]:
    """One batch without its moves to the device, and without `Variable(...)` around its data."""
    batch, body, nest = batch_variables(turn.head, turn.frame), turn.body, draft.nest
    others = [step for one in found.turns if one.loop is not turn.loop for step in one.body]
    beyond = usage((*nest.epoch_start, *nest.body, *found.before, *others, *found.later))
    outside = draft.read_elsewhere() | beyond.reads | beyond.writes
    if not draft.batch_mover and strippable(draft, body, batch, turn.head):
        body = under_one_name(draft, body, batch, outside, partial(moved, kinds=draft.kinds))
        body = strip_moves(body, batch_variables(turn.head, turn.frame), draft.kinds, draft.stripped)
    body = without_variables(draft, body, turn.head, turn.frame, outside)
    draft.fates.update(draft.stripped.fates)
    return body


def averaged(draft: Draft, found: Evaluation, number: int) -> Evaluation:
    """The evaluation without the averages that one of its passes keeps by hand, and without progress prints."""
    turn, nest = found.turns[number], draft.nest
    batch = batch_variables(turn.head, turn.frame)
    each = found.rest if found.asked is None else ()
    after = (*found.after, *each)  # what an epoch without it runs finds nothing that it has logged
    outside = draft.read_elsewhere() | usage((*nest.epoch_start, *nest.body, *found.rest[len(each) :])).reads
    others = [
        step for one in found.turns if one.frame is not turn.frame or one.loop is not turn.loop for step in one.body
    ]
    outside |= _shown_together(draft, after, usage(others).writes)
    beside = frozenset(logs(others))
    one = Pass(found.before, turn.body, after, turn.head, turn.frame, batch, outside, training=False, beside=beside)
    new = log_averages(draft, one)
    later = (*after, *nest.epoch_start, *nest.body, *found.before, *found.batches)
    means = {code(call.args[1].value) for steps in new.values() for step in steps for call in log_calls(step)}
    alone = tuple(step for step in turn.body if not (_logs_of(step) & means))  # what a bar showed of each batch
    body = logged(draft, replaced(alone, new), turn.head, turn.frame, batch, later, training=False)
    found = found.with_bodies(lambda one: body if one.body is turn.body else one.body)
    return replace(
        found,
        before=replaced(found.before, new),
        after=replaced(found.after, new),
        rest=replaced(found.rest, new),
    )


def _logs_of(step: Step) -> set[str]:
    """What a step logs, where it does nothing else."""
    call = log_call(step.node) if isinstance(step, Item) else None
    return {code(call.args[1].value)} if call is not None else set()


def _shown_together(draft: Draft, steps: Sequence[Step], others: Set[Variable]) -> set[Variable]:
    """What prints show beside sums of other passes that no log of theirs would tell."""
    found: set[Variable] = set()
    for step in steps:
        reads = usage([step]).reads
        call = printed(step.node, step.frame, draft.kinds) if isinstance(step, Item) else None
        if call is not None and isinstance(step, Item) and reads & others:
            told = {v for metric in metrics_of(call, step.frame, draft.kinds) for v in metric.variables}
            found |= set() if reads & others <= told else reads
    return found


def validation_source(draft: Draft) -> cst.BaseExpression | None:
    """What the Trainer validates on, in terms of the host."""
    found = draft.evaluation
    if found is None:
        return None
    first, *others = [in_host(draft, turn.head.source, turn.frame) for turn in found.turns]
    source = cst.List([cst.Element(one) for one in (first, *others) if one is not None]) if others else first
    return handed_when(found.asked.when, source) if found.asked is not None and source is not None else source


def validation_hooks(draft: Draft) -> list[Hook]:
    found = draft.evaluation
    if found is None:
        return []
    if found.others:
        found = in_one_step(draft, found)
    else:
        first = batch_names(draft, found.head, found.frame, found.loop, found.body, found.later)
        found = replace(found, body=(*first, *found.body))
    given = ("batch", "batch_idx", *(("dataloader_idx=0",) if found.others else ()))
    hooks = [
        Hook("on_validation_epoch_start", (), found.before),
        Hook("validation_step", given, found.body, on_continue=("return",)),
        Hook("on_validation_epoch_end", (), found.after),
    ]
    if found.asked is not None:
        hooks = [replace(hook, leaves=True) for hook in hooks]  # it may not run at all
    if not found.modules:
        hooks.insert(0, Hook("on_validation_model_eval", (), (), last=(SAME_MODE,)))
    elif found.modes:
        hooks.insert(0, Hook("on_validation_model_eval", (), found.modes))
        hooks.append(Hook("on_validation_model_train", (), (), last=(STAYS,)))
    elif on_lightning(draft) and draft.distribution is not None:
        hooks.insert(0, Hook("on_validation_model_eval", (), (), last=(OWN_MODE,)))
    return hooks


def modes_after_fit(draft: Draft) -> tuple[str, ...]:
    """The last evaluation left its networks in evaluation mode; so must the run."""
    found = draft.evaluation
    if found is None or found.trains_again or found.modes:
        return ()
    return tuple(f"{variable.path}.eval()" for variable in _read_after(draft, found))


def _read_after(draft: Draft, found: Evaluation) -> list[Variable]:
    """The networks that evaluate and that the host uses after the run."""
    read = []
    for variable in sorted(found.modules, key=lambda v: v.order):
        used_later = variable in usage(draft.around.after).reads or variable.name in draft.around.kept_reads
        of_host = variable.frame is draft.nest.host or variable.frame.is_module or isinstance(variable, Field)
        if used_later and of_host and any(uses_modules(item, draft.kinds) for item in draft.around.after):
            read.append(variable)
    return read
