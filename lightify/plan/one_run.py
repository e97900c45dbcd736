"""One run of the loops -> Plan: which statement goes to which hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.distribution import Distribution
from lightify.facts import Analysis
from lightify.ledger import Fate
from lightify.loops.epochs import ENDLESS, EpochHead, epoch_head
from lightify.loops.headers import BatchHead, asking_within, batch_head
from lightify.loops.nest import Nest
from lightify.loops.surroundings import needless_closures, surroundings
from lightify.plan.batches import batch_source, interruptible
from lightify.plan.counters import changes, set_once
from lightify.plan.draft import Draft, Flatten
from lightify.plan.evaluation.gradient_mode import gradients_off
from lightify.plan.evaluation.testing import FinalTest, final_test
from lightify.plan.evaluation.training_mode import without_training_calls
from lightify.plan.evaluation.unseen import staying
from lightify.plan.evaluation.validation import evaluation_of, modes_after_fit, validation_source
from lightify.plan.exits import (
    assigned_in_expressions,
    breaks_epochs,
    ends_early,
    hidden_module,
    may_return,
    unsupported,
)
from lightify.plan.homes import Homes, assign_homes
from lightify.plan.hooks import make_hooks
from lightify.plan.idiom.bars import bare_loop, goes_over_bar, without_bars
from lightify.plan.idiom.loader_options import inline_options
from lightify.plan.idiom.precision import mixed_precision
from lightify.plan.idiom.profilers import without_profiler
from lightify.plan.idiom.simplify import idiom, take_host_moves
from lightify.plan.initial import incomparable, initial_values
from lightify.plan.kinds import Kinds
from lightify.plan.logs.summaries import with_summaries
from lightify.plan.optimization.automatic import Automatic, is_rebound
from lightify.plan.optimization.closures import read_by_closures
from lightify.plan.optimization.missing import without_missing
from lightify.plan.optimization.mode import automatic
from lightify.plan.optimization.optimizers import drop_scheduler_steps, make_optimizers
from lightify.plan.optimization.own_optimizers import steps_without_closure, works_before_closure
from lightify.plan.optimization.own_step import own_step
from lightify.plan.optimization.windows import accumulated
from lightify.plan.outputs import told_by_outputs
from lightify.plan.trainer.acceleration import OWNS_STEPS, backwards_of_others
from lightify.plan.trainer.device import device_variable
from lightify.plan.trainer.lightning import (
    finds_gradients,
    leaves_gradients,
    on_lightning,
    own_way_of_stepping,
    starts_late,
)
from lightify.plan.trainer.options import departures, trainer_options
from lightify.plan.trainer.processes import ask_trainer, without_gone
from lightify.plan.trainer.signals import own_sigterm, unreachable_sigterm
from lightify.plan.trainer.strategy import distributed, note_fates, unwrapped
from lightify.plan.types import (
    Computed,
    FateNote,
    Hook,
    Initial,
    Plan,
)
from lightify.plan.unbound import asks_for_names, catches_unbound, seen_by_functions
from lightify.plan.unread.declared import drop_idle_declarations
from lightify.plan.unread.host import drop_unread_values, read_by_run
from lightify.plan.unread.host_names import drop_unread_names
from lightify.plan.unread.names import without_unread_names
from lightify.plan.unread.values import without_dead_values
from lightify.settings import Settings
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Usage, Variable
from lightify.syntax.parse import Tree


@dataclass(frozen=True)
class _Loops:
    """What the loops say once they are taken apart.

    Attributes:
        step: how the Trainer takes the body's step; a text says why it can't.
        endable: a batch may end the loops.
        source: the iterable for fit in terms of the host; None when the module provides the batches.
        plain: the Trainer's pass over the source is the loop's, batch by batch to its end.
        tests: what the conditions of `while` loops use.
    """

    head: BatchHead
    epochs: EpochHead | None
    step: Automatic | str
    endable: bool
    source: cst.BaseExpression | None
    plain: bool
    tests: Usage

    @property
    def auto(self) -> Automatic | None:
        return self.step if isinstance(self.step, Automatic) else None

    @property
    def counted(self) -> bool:
        """False where there may be no epoch at all."""
        return self.epochs is None or (isinstance(self.epochs.count, cst.Integer) and self.epochs.count.value != "0")


@dataclass(frozen=True)
class _Host:
    """The host around the run: what it hands over, and what is said anew in it.

    Attributes:
        sources: how many iterables it hands to the Trainer in whole.
    """

    captured: tuple[tuple[Variable, str], ...]
    initial: tuple[Initial, ...]
    validation: cst.BaseExpression | None
    after_fit: tuple[str, ...]
    edits: Mapping[cst.CSTNode, cst.CSTNode]
    sources: int


def plan_run(
    tree: Tree, analysis: Analysis, settings: Settings, nest: Nest, bare: Distribution | None
) -> Plan | Flatten:
    """Decides everything about one run whose loops are open, or says why they can't be taken apart like that."""
    draft = _draft(tree, analysis, settings, nest, bare)
    loops = _loops(draft)
    if isinstance(loops, Flatten):
        return loops
    _take_evaluation(draft, loops)
    tested = final_test(draft)
    hooks = _hooks(draft, loops, tested)
    optimizers, schedulers, made = make_optimizers(draft, hooks, loops.auto, loops.plain)
    hooks = drop_scheduler_steps(draft, hooks, schedulers)
    settled = _settled(draft, loops, hooks, made)
    if isinstance(settled, Flatten):
        return settled
    hooks, homes = settled
    host = _host(draft, loops, homes, tested)
    spread = distributed(draft, host.captured, host.sources)
    nest, auto, lightning = draft.nest, loops.auto, on_lightning(draft)
    later = (*draft.around.after, *(tested.steps if tested is not None else ()))
    keeps_gradients = auto is None or auto.zero is not None
    return Plan(
        nest=nest,
        mode="automatic" if auto is not None else "manual",
        keeps_gradients=keeps_gradients or (lightning and leaves_gradients(draft)),
        finds_gradients=lightning and keeps_gradients and finds_gradients(draft),
        own_sigterm=own_sigterm(tree),
        steps_raw=lightning and any(steps_without_closure(draft, one.variable) for one in optimizers),
        reasons=(*nest.notes, loops.step) if isinstance(loops.step, str) else nest.notes,
        hooks=tuple(hook for hook in hooks if hook.steps or hook.first or hook.last or hook.result),
        homes=homes.of,
        captured=host.captured,
        initial=host.initial,
        unset=homes.unset,
        missing=homes.missing,
        results=homes.results,
        optimizers=tuple(optimizers),
        schedulers=tuple(schedulers),
        options=tuple(draft.options),
        train_source=loops.source,
        fates=draft.fates,
        removed=frozenset(draft.removed | draft.around.removed),
        class_name="",
        endable=loops.endable,
        steps_while=loops.head.while_test,
        lazy=draft.lazy,
        sized_lazily=loops.plain
        and lightning
        and starts_late(draft, loops.head.source, nest.batch_frame, later, counted=loops.counted),
        interruptible=interruptible(draft),
        validation_source=host.validation,
        test_source=tested.source if tested is not None else None,
        before_fit=tuple(draft.before_fit),
        after_fit=host.after_fit,
        batch_mover=draft.batch_mover,
        backwards_of_others=backwards_of_others(nest, draft.kinds),
        host_edits=host.edits,
        origins={**nest.origins, **draft.stripped.origins},
        departures=departures(draft),
        epochs_while=loops.epochs.test if loops.epochs is not None else None,
        returns=may_return((*nest.epoch_start, *nest.body, *nest.epoch_end)),
        unbroken=_unbroken(draft, loops.endable),
        distributed=spread,
        prints_everywhere=analysis.accelerated or (spread is not None and bool(spread.group)),
        incomparable=incomparable(draft, host.captured),
        stays=draft.stays,
    )


def _draft(tree: Tree, analysis: Analysis, settings: Settings, nest: Nest, bare: Distribution | None) -> Draft:
    if analysis.accelerated:
        settings = replace(settings, style="faithful")  # what it logs and saves, it does once for all processes
    needless = {
        part for one in needless_closures([nest], tree) for part in (one.statement, tree.parents[one.statement])
    }
    gone = unwrapped(bare) | needless
    nest = without_gone(nest, gone)
    around = surroundings(nest, tree, gone=gone, methods=settings.style == "idiomatic")
    draft = Draft(tree, analysis, settings, nest, Kinds(nest, analysis, tree), around, bare, gone=gone)
    note_fates(draft)
    draft.removed |= needless
    draft.fates.update((node, FateNote(Fate.DROPPED, "", "the function that it makes moved")) for node in needless)
    without_bars(draft)
    without_profiler(draft)
    return draft


def _heads(draft: Draft) -> tuple[BatchHead, EpochHead | None] | Flatten:
    """What the loops' heads say, where the loops hold nothing that a hook can't."""
    nest = draft.nest
    head = batch_head(asking_within(bare_loop(draft, nest.batch_loop, nest.batch_frame)), draft.counted_bars)
    if isinstance(head, str):
        return Flatten(head)
    outer = bare_loop(draft, nest.epoch_loop, nest.host) if nest.epoch_loop is not None else None
    epochs = epoch_head(asking_within(outer), set_once(draft)) if outer is not None else None
    if nest.uncounted:
        epochs = EpochHead(ENDLESS)
    if isinstance(epochs, str):
        whole = isinstance(outer, cst.For) and not outer.orelse
        return Flatten(epochs, uncounted=whole and not goes_over_bar(draft, nest.epoch_loop, nest.host))
    if epochs is not None and changes(draft, epochs):
        return Flatten("the loops change what the epochs count with")
    return (
        unsupported(draft)
        or unreachable_sigterm(draft.tree)
        or asks_for_names(draft)
        or gradients_off(draft)
        or (head, epochs)
    )


def _loops(draft: Draft) -> _Loops | Flatten:
    """Reads the loops, the idiom of the style applied to them."""
    heads = _heads(draft)
    if isinstance(heads, Flatten):
        return heads
    head, epochs = without_missing(draft, heads[0]), heads[1]
    mixed_precision(draft)
    draft.nest = idiom(draft, head)
    step = _step_of(draft, head)
    endable = ends_early(draft, head)
    draft.kept_alive = read_by_closures(draft.whole(), draft.tree)
    nest = draft.nest
    if nest.batch_frame is not nest.host and any(v.frame is nest.batch_frame for v in draft.kept_alive):
        return Flatten("a function made in the batch loop outlives the epoch, and sees its own epoch's names")
    source = batch_source(draft, head)
    plain = source is not None and not draft.lazy and not endable and not nest.skips
    return _Loops(head, epochs, step, endable, source, plain, _tests(head, epochs, nest))


def _take_evaluation(draft: Draft, loops: _Loops) -> None:
    """Leaves the evaluation that ends each epoch to the Trainer, where that changes nothing."""
    auto = loops.auto
    optimizer = auto.optimizer if auto is not None and auto.zero is None else None
    whole = loops.plain or _ends_by_itself(draft, loops)
    found = evaluation_of(draft, whole, optimizer, loops.epochs)
    if isinstance(found, str):
        draft.stays = staying(draft, found)
    else:
        draft.evaluation = found
        # what the evaluation needs from its own function is opened, too
        draft.nest = replace(
            draft.nest,
            opened=(*draft.nest.opened, *found.opened),
            epoch_end=found.rest,
        )
        draft.kinds = Kinds(draft.nest, draft.analysis, draft.tree)
        draft.look_around()


def _ends_by_itself(draft: Draft, loops: _Loops) -> bool:
    """True for passes that the Trainer takes to their own end; Lightning asks beforehand which batch is the last."""
    return not on_lightning(draft) and not loops.endable and not draft.nest.skips


def _hooks(draft: Draft, loops: _Loops, tested: FinalTest | None) -> list[Hook]:
    """All hooks, without what only code that is gone has needed."""
    hooks = make_hooks(draft, loops.head, loops.epochs, loops.auto, loops.endable)
    if tested is not None:
        hooks = [*hooks, *(with_summaries(draft, hook) for hook in tested.hooks)]
    hooks = without_training_calls(draft, hooks)
    if loops.source is None and loops.head.while_test is None:
        hooks.insert(1, Hook("train_batches", (), (), result=(loops.head.source, draft.nest.batch_frame)))
    return told_by_outputs(draft, without_dead_values(draft, hooks, loops.tests), loops.auto)


def _settled(draft: Draft, loops: _Loops, hooks: list[Hook], made: Usage) -> tuple[list[Hook], Homes] | Flatten:
    """The hooks without names that nothing reads, and where each variable that is left lives."""
    while True:
        homes = _homes(draft, loops, hooks, made)
        if isinstance(homes, Flatten):
            return homes
        needed = without_unread_names(draft, hooks, homes.of)
        if needed == hooks:
            return hooks, homes
        hooks = needed


def _homes(draft: Draft, loops: _Loops, hooks: Sequence[Hook], made: Usage) -> Homes | Flatten:
    """Where each variable of the hooks lives.

    Args:
        made: what making the optimizers uses.
    """
    nest = draft.nest
    device = None if draft.analysis.accelerated else device_variable(draft)
    if device is not None and device not in usage([step for hook in hooks for step in hook.steps]).writes:
        draft.forced[device] = Computed("self.device")
    ask_trainer(draft, loops.head)
    apart = Usage()
    apart += made
    apart += loops.tests
    apart.exposed |= {v for v in draft.kept_alive if v.frame is nest.host or v.frame.is_module}
    homes = assign_homes(nest, hooks, draft.forced, draft.around, draft.kinds, apart)
    return (
        assigned_in_expressions(draft, homes)
        or hidden_module(draft, homes)
        or catches_unbound(draft, homes)
        or seen_by_functions(draft, homes)
        or homes
    )


def _host(draft: Draft, loops: _Loops, homes: Homes, tested: FinalTest | None) -> _Host:
    """What becomes of the host's own lines; those that only the loops needed are dropped."""
    again, moves = take_host_moves(draft, homes)
    captured, initial = initial_values(draft, homes)
    trainer_options(draft, loops.epochs, loops.auto)
    validation = validation_source(draft)
    after_fit = (*again, *modes_after_fit(draft), *(tested.modes if tested is not None else ()))
    options = inline_options(draft, moves)
    testing = tested.edits if tested is not None else {}
    merged = draft.distribution.merged if draft.distribution is not None else {}
    edits = {**moves, **options, **testing, **merged}
    handed = tested.source if tested is not None else None
    in_run = filter(None, [loops.source, validation, handed, *(edits[node] for node in testing)])
    reads = read_by_run(draft, homes, captured, in_run, after_fit)
    drop_unread_values(draft, edits, reads)
    drop_unread_names(draft, edits, reads)
    drop_idle_declarations(draft, edits, homes)
    sources = loops.plain + (validation is not None) + (tested is not None)
    return _Host(captured, initial, validation, after_fit, edits, sources)


def _step_of(draft: Draft, head: BatchHead) -> Automatic | str:
    """How the Trainer takes the body's step without another number; a text says why it can't."""
    read = _read_step(draft, head)
    if isinstance(read, Automatic) and on_lightning(draft):
        return own_way_of_stepping(draft, read.optimizer) or read
    if isinstance(read, Automatic) and works_before_closure(draft, read.optimizer):
        return "the script's own optimizer works before it evaluates the closure that a Trainer hands it"
    return read


def _read_step(draft: Draft, head: BatchHead) -> Automatic | str:
    if draft.analysis.accelerated:
        return OWNS_STEPS
    rebound = draft.around.rebound
    read = automatic(draft.nest, draft.kinds, draft.tree, draft.analysis, rebound)
    if isinstance(read, Automatic) and read.leaves and draft.distribution is not None:
        return "the body may be left before the optimizer steps, which processes that train together can't"
    if isinstance(read, Automatic) or draft.nest.conditional:
        return read
    window = accumulated(draft, head)
    if window is not None:
        within = automatic(window.nest, draft.kinds, draft.tree, draft.analysis, rebound)
        if isinstance(within, Automatic) and within.scheduler is None and not within.leaves:
            draft.take(window.nest, window.option, window.fates, window.departures)
            return replace(within, loss=window.loss)
    own = own_step(draft.nest, draft.kinds, draft.tree)
    return own if isinstance(own, Automatic) and not is_rebound(own, rebound) else read


def _tests(head: BatchHead, epochs: EpochHead | None, nest: Nest) -> Usage:
    """What the conditions of `while` loops use."""
    found = Usage()
    if head.while_test is not None:
        found += expression_usage(head.while_test, nest.batch_frame)
    if epochs is not None and epochs.test is not None:
        found += expression_usage(epochs.test, nest.host)
    return found


def _unbroken(draft: Draft, endable: bool) -> str:
    """The flag that tells whether a break has ended the host's loop, where its else needs to know."""
    nest = draft.nest
    if nest.host_loop.orelse is None:
        return ""
    if nest.epoch_loop is None:
        return "pass_ended" if endable else ""
    return "epochs_ended" if breaks_epochs(draft) else ""
