"""One run of the loops -> Plan: which statement goes to which hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.distribution import Distribution
from lightify.facts import Analysis
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.loops.surroundings import needless_closures, surroundings
from lightify.plan.batches import interruptible
from lightify.plan.draft import Draft, Flatten
from lightify.plan.evaluation.testing import FinalTest, final_test
from lightify.plan.evaluation.training_mode import without_training_calls
from lightify.plan.evaluation.unseen import staying
from lightify.plan.evaluation.validation import evaluation_of, modes_after_fit, validation_source
from lightify.plan.exits import (
    assigned_in_expressions,
    breaks_epochs,
    hidden_module,
    may_return,
)
from lightify.plan.homes import Homes, assign_homes
from lightify.plan.hooks import make_hooks
from lightify.plan.idiom.bars import without_bars
from lightify.plan.idiom.loader_options import inline_options
from lightify.plan.idiom.profilers import without_profiler
from lightify.plan.idiom.simplify import take_host_moves
from lightify.plan.initial import incomparable, initial_values
from lightify.plan.kinds import Kinds
from lightify.plan.logs.summaries import with_summaries
from lightify.plan.optimization.optimizers import drop_scheduler_steps, make_optimizers
from lightify.plan.optimization.own_optimizers import steps_without_closure
from lightify.plan.outputs import told_by_outputs
from lightify.plan.reading import Loops, read_loops
from lightify.plan.trainer.acceleration import backwards_of_others
from lightify.plan.trainer.device import device_variable
from lightify.plan.trainer.lightning import (
    finds_gradients,
    leaves_gradients,
    on_lightning,
    starts_late,
)
from lightify.plan.trainer.options import departures, trainer_options
from lightify.plan.trainer.processes import ask_trainer, without_gone
from lightify.plan.trainer.signals import own_sigterm
from lightify.plan.trainer.strategy import distributed, note_fates, unwrapped
from lightify.plan.types import (
    Computed,
    FateNote,
    Hook,
    Initial,
    Plan,
)
from lightify.plan.unbound import catches_unbound, seen_by_functions
from lightify.plan.unread.declared import drop_idle_declarations
from lightify.plan.unread.host import drop_unread_values, read_by_run
from lightify.plan.unread.host_names import drop_unread_names
from lightify.plan.unread.names import without_unread_names
from lightify.plan.unread.values import without_dead_values
from lightify.settings import Settings
from lightify.syntax.flow import usage
from lightify.syntax.frames import Usage, Variable
from lightify.syntax.parse import Tree


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
    loops = read_loops(draft)
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


def _take_evaluation(draft: Draft, loops: Loops) -> None:
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


def _ends_by_itself(draft: Draft, loops: Loops) -> bool:
    """True for passes that the Trainer takes to their own end; Lightning asks beforehand which batch is the last."""
    return not on_lightning(draft) and not loops.endable and not draft.nest.skips


def _hooks(draft: Draft, loops: Loops, tested: FinalTest | None) -> list[Hook]:
    """All hooks, without what only code that is gone has needed."""
    hooks = make_hooks(draft, loops.head, loops.epochs, loops.auto, loops.endable)
    if tested is not None:
        hooks = [*hooks, *(with_summaries(draft, hook) for hook in tested.hooks)]
    hooks = without_training_calls(draft, hooks)
    if loops.source is None and loops.head.while_test is None:
        hooks.insert(1, Hook("train_batches", (), (), result=(loops.head.source, draft.nest.batch_frame)))
    return told_by_outputs(draft, without_dead_values(draft, hooks, loops.tests), loops.auto)


def _settled(draft: Draft, loops: Loops, hooks: list[Hook], made: Usage) -> tuple[list[Hook], Homes] | Flatten:
    """The hooks without names that nothing reads, and where each variable that is left lives."""
    while True:
        homes = _homes(draft, loops, hooks, made)
        if isinstance(homes, Flatten):
            return homes
        needed = without_unread_names(draft, hooks, homes.of)
        if needed == hooks:
            return hooks, homes
        hooks = needed


def _homes(draft: Draft, loops: Loops, hooks: Sequence[Hook], made: Usage) -> Homes | Flatten:
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


def _host(draft: Draft, loops: Loops, homes: Homes, tested: FinalTest | None) -> _Host:
    """What becomes of the host's own lines; those that only the loops needed are dropped."""
    again, moves = take_host_moves(draft, homes)
    trainer_options(draft, loops.epochs, loops.auto)
    validation = validation_source(draft)
    after_fit = (*again, *modes_after_fit(draft), *(tested.modes if tested is not None else ()))
    options = inline_options(draft, moves)
    testing = tested.edits if tested is not None else {}
    merged = draft.distribution.merged if draft.distribution is not None else {}
    edits = {**moves, **options, **testing, **merged}
    handed = tested.source if tested is not None else None
    in_run = filter(None, [loops.source, validation, handed, *(edits[node] for node in testing)])
    reads = read_by_run(draft, homes, in_run, after_fit)
    captured, initial = initial_values(draft, homes, reads)
    reads |= {owner for variable, _ in captured for owner in (variable, getattr(variable, "owner", variable))}
    drop_unread_values(draft, edits, reads)
    drop_unread_names(draft, edits, reads)
    drop_idle_declarations(draft, edits, homes)
    sources = loops.plain + (validation is not None) + (tested is not None)
    return _Host(captured, initial, validation, after_fit, edits, sources)


def _unbroken(draft: Draft, endable: bool) -> str:
    """The flag that tells whether a break has ended the host's loop, where its else needs to know."""
    nest = draft.nest
    if nest.host_loop.orelse is None:
        return ""
    if nest.epoch_loop is None:
        return "pass_ended" if endable else ""
    return "epochs_ended" if breaks_epochs(draft) else ""
