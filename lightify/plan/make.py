"""Analysis + Settings -> Plan: which statement goes to which hook."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.analyze import scope_of
from lightify.distribution import Distribution
from lightify.errors import Diagnostic, Refusal
from lightify.facts import Analysis
from lightify.flow import expression_usage, usage
from lightify.frames import Usage
from lightify.parse import Tree
from lightify.plan.acceleration import OWNS_STEPS, backwards_of_others
from lightify.plan.adoption import adopted, unreached
from lightify.plan.bars import bare_loop, goes_over_bar, without_bars
from lightify.plan.batches import batch_source, in_host, interruptible
from lightify.plan.closures import read_by_closures
from lightify.plan.condition import laid_open
from lightify.plan.counters import changes, set_once
from lightify.plan.draft import Draft, Flatten
from lightify.plan.epochs import ENDLESS, EpochHead, epoch_head
from lightify.plan.exits import (
    assigned_in_expressions,
    breaks_epochs,
    ends_early,
    hidden_module,
    may_return,
    unsupported,
)
from lightify.plan.final_test import final_test
from lightify.plan.gradient_mode import gradients_off
from lightify.plan.headers import BatchHead, asking_within, batch_head
from lightify.plan.homes import assign_homes
from lightify.plan.hooks import make_hooks, without_dead_values
from lightify.plan.idiom import idiom, take_host_moves, with_summaries
from lightify.plan.initial import incomparable, initial_values
from lightify.plan.kinds import Kinds
from lightify.plan.leftovers import drop_unread_values, read_by_run
from lightify.plan.lightning import (
    finds_gradients,
    leaves_gradients,
    on_lightning,
    own_way_of_stepping,
    starts_late,
)
from lightify.plan.loader_options import inline_options
from lightify.plan.missing import without_missing
from lightify.plan.mode import Automatic, automatic, is_rebound
from lightify.plan.naming import class_names
from lightify.plan.nest import Nest, open_nest
from lightify.plan.optimizers import drop_scheduler_steps, make_optimizers
from lightify.plan.options import departures, device_variable, trainer_options
from lightify.plan.own_optimizers import steps_without_closure, works_before_closure
from lightify.plan.own_step import own_step
from lightify.plan.precision import mixed_precision
from lightify.plan.processes import ask_trainer, without_gone
from lightify.plan.runs import Loop, Run, find_runs
from lightify.plan.strategy import distributed, note_fates, unwrapped
from lightify.plan.surroundings import removed_functions, surroundings
from lightify.plan.training_mode import without_training_calls
from lightify.plan.types import (
    Computed,
    Hook,
    Plan,
    Plans,
)
from lightify.plan.unbound import asks_for_names, catches_unbound, seen_by_functions
from lightify.plan.validation import evaluation_of, modes_after_fit
from lightify.plan.walrus import with_assignments
from lightify.plan.windows import accumulated
from lightify.settings import Settings


def make_plans(tree: Tree, analysis: Analysis, settings: Settings, bare: Distribution | None = None) -> Plans | Refusal:
    """Decides everything, or refuses; of several runs those that can't be converted stay as they are.

    Args:
        bare: where the tree comes from, when the script's own distributed wrapper was taken out of it.
    """
    if analysis.foreign:
        found = analysis.foreign[0]
        return Refusal(found.code, found.reason, tree.span(found.node), found.hint)
    runs = find_runs(tree, analysis)
    if isinstance(runs, Refusal):
        return runs
    plans: dict[Loop, Plan] = {}  # a function that several loops call holds one run
    refusals: list[tuple[Run, Refusal]] = []
    for run in runs:
        plan = _plan_of(run, tree, analysis, settings, bare)
        if isinstance(plan, Refusal):
            refusals.append((run, plan))
        else:
            plans.setdefault(plan.nest.host_loop, plan)
    if not plans:
        return max(refusals, key=lambda refused: len(refused[0].loops))[1]
    names = class_names(tuple(plans.values()), tree, analysis)
    named = tuple(replace(plan, class_name=name) for plan, name in zip(plans.values(), names))
    left = tuple(
        Diagnostic(
            "LF221",
            f"this loop trains, too, and stays as it is: {refusal.message}",
            tree.span(run.loops[0]),
            refusal.hint,
            "note",
        )
        for run, refusal in refusals
    )
    statements = {
        node
        for plan in named
        for node in plan.removed
        if scope_of(node, tree) is plan.nest.host.function and not isinstance(node, cst.FunctionDef)
    }
    taken = (adopted(plan.nest, tree) for plan in named)
    kept = dict.fromkeys(one for definitions in taken if not isinstance(definitions, Refusal) for one in definitions)
    methods = settings.style == "idiomatic"
    removed = removed_functions([plan.nest for plan in named], tree, methods=methods) | statements | unwrapped(bare)
    return Plans(named, removed, left, tuple(kept))


def _plan_of(run: Run, tree: Tree, analysis: Analysis, settings: Settings, bare: Distribution | None) -> Plan | Refusal:
    plan = _plan_apart(run, tree, analysis, settings, bare, uncounted=False)
    if isinstance(plan, Flatten) and plan.uncounted:
        other = _plan_apart(run, tree, analysis, settings, bare, uncounted=True)
        plan = other if isinstance(other, Plan) else plan
    if isinstance(plan, Flatten):
        nest = open_nest(run, tree, analysis, flat=plan.reason)
        plan = _plan(tree, analysis, settings, nest, bare)
        if isinstance(plan, Flatten):
            return Refusal("LF220", plan.reason, plan.span or tree.span(nest.host_loop), plan.hint)
    taken = adopted(plan.nest, tree)
    if isinstance(taken, Refusal):
        return taken
    return unreached(plan.nest, taken, tree) or plan


def _plan_apart(
    run: Run, tree: Tree, analysis: Analysis, settings: Settings, bare: Distribution | None, *, uncounted: bool
) -> Plan | Flatten:
    """The plan with epochs and batches taken apart: with the step laid open where that makes it the Trainer's."""
    conditional = None
    if not analysis.accelerated and bare is None:
        conditional = laid_open(open_nest(run, tree, analysis, uncounted=uncounted), tree)
    if conditional is not None:
        plan = _plan_assigning(tree, analysis, settings, conditional, bare)
        if isinstance(plan, Plan) and plan.mode == "automatic":
            return plan
    return _plan_assigning(tree, analysis, settings, open_nest(run, tree, analysis, uncounted=uncounted), bare)


def _plan_assigning(
    tree: Tree, analysis: Analysis, settings: Settings, nest: Nest, bare: Distribution | None
) -> Plan | Flatten:
    """The plan, with names that an expression assigns assigned before it where they outlive the batch."""
    plan = _plan(tree, analysis, settings, nest, bare)
    if isinstance(plan, Flatten) and plan.assigned:
        return _plan(tree, analysis, settings, with_assignments(nest, plan.assigned) or nest, bare)
    return plan


def _plan(tree: Tree, analysis: Analysis, settings: Settings, nest: Nest, bare: Distribution | None) -> Plan | Flatten:
    if analysis.accelerated:
        settings = replace(settings, style="faithful")  # what it logs and saves, it does once for all processes
    gone = unwrapped(bare)
    nest = without_gone(nest, gone)
    around = surroundings(nest, tree, gone=gone, methods=settings.style == "idiomatic")
    draft = Draft(tree, analysis, settings, nest, Kinds(nest, analysis, tree), around, bare, gone=gone)
    note_fates(draft)
    without_bars(draft)
    nest = draft.nest
    head = batch_head(asking_within(bare_loop(draft, nest.batch_loop, nest.batch_frame)))
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
    problem = unsupported(draft) or asks_for_names(draft) or gradients_off(draft)
    if problem is not None:
        return problem
    head = without_missing(draft, head)
    mixed_precision(draft)
    draft.nest = idiom(draft, head)
    read = _step_of(draft, head)
    nest = draft.nest
    auto = read if isinstance(read, Automatic) else None
    reasons = (*nest.notes, read) if isinstance(read, str) else nest.notes
    endable = ends_early(draft, head)
    draft.kept_alive = read_by_closures(draft.whole(), tree)
    if nest.batch_frame is not nest.host and any(v.frame is nest.batch_frame for v in draft.kept_alive):
        return Flatten("a function made in the batch loop outlives the epoch, and sees its own epoch's names")
    source = batch_source(draft, head)
    counted = epochs is None or (isinstance(epochs.count, cst.Integer) and epochs.count.value != "0")
    plain = source is not None and not draft.lazy and not endable and not nest.skips
    draft.evaluation = evaluation_of(draft, plain, auto.optimizer if auto is not None and auto.zero is None else None)
    if draft.evaluation is not None:
        # what the evaluation needs from its own function is opened, too
        draft.nest = nest = replace(
            nest, opened=(*nest.opened, *draft.evaluation.opened), epoch_end=draft.evaluation.rest
        )
        draft.kinds = Kinds(nest, draft.analysis, tree)
        draft.look_around()
    tested = final_test(draft)
    nest = draft.nest
    hooks = make_hooks(draft, head, epochs, auto, endable)
    if tested is not None:
        hooks += [with_summaries(draft, hook) for hook in tested.hooks]
    hooks = without_training_calls(draft, hooks)
    if source is None and head.while_test is None:
        hooks.insert(1, Hook("train_batches", (), (), result=(head.source, nest.batch_frame)))
    tests = _tests(head, epochs, nest)
    hooks = [without_dead_values(draft, hook, hooks, tests) for hook in hooks]
    optimizers, schedulers, extra = make_optimizers(draft, hooks, auto, plain)
    hooks = drop_scheduler_steps(draft, hooks, schedulers)
    device = None if draft.analysis.accelerated else device_variable(draft)
    if device is not None and device not in usage([step for hook in hooks for step in hook.steps]).writes:
        draft.forced[device] = Computed("self.device")
    ask_trainer(draft, head)
    extra += tests
    extra.exposed |= {v for v in draft.kept_alive if v.frame is nest.host or v.frame.is_module}
    homes = assign_homes(nest, hooks, draft.forced, draft.around, draft.kinds, tree, extra)
    problem = (
        assigned_in_expressions(draft, homes)
        or hidden_module(draft, homes)
        or catches_unbound(draft, homes)
        or seen_by_functions(draft, homes)
    )
    if problem is not None:
        return problem
    again, host_edits = take_host_moves(draft, homes)
    captured, initial = initial_values(draft, homes)
    trainer_options(draft, epochs, auto)
    validation = in_host(draft, draft.evaluation.head.source, draft.evaluation.frame) if draft.evaluation else None
    after_fit = (*again, *modes_after_fit(draft))
    options = inline_options(draft, host_edits)
    edits = {
        **host_edits,
        **options,
        **(tested.edits if tested is not None else {}),
        **(bare.merged if bare is not None else {}),
    }
    in_run = [source, validation, *(edits[node] for node in (tested.edits if tested is not None else ()))]
    drop_unread_values(draft, edits, read_by_run(draft, homes, captured, [*filter(None, in_run)], after_fit))
    shared = plain + (validation is not None) + (tested is not None)
    spread = distributed(draft, captured, shared)
    keeps_gradients = auto is None or auto.zero is not None
    return Plan(
        nest=nest,
        mode="automatic" if auto is not None else "manual",
        keeps_gradients=keeps_gradients or (on_lightning(draft) and leaves_gradients(draft)),
        finds_gradients=on_lightning(draft) and keeps_gradients and finds_gradients(draft),
        steps_raw=on_lightning(draft) and any(steps_without_closure(draft, one.variable) for one in optimizers),
        reasons=reasons,
        hooks=tuple(hook for hook in hooks if hook.steps or hook.first or hook.last or hook.result),
        homes=homes.of,
        captured=captured,
        initial=initial,
        unset=homes.unset,
        results=homes.results,
        optimizers=tuple(optimizers),
        schedulers=tuple(schedulers),
        options=tuple(draft.options),
        train_source=source,
        fates=draft.fates,
        removed=frozenset(draft.removed | draft.around.removed),
        class_name="",
        endable=endable,
        steps_while=head.while_test,
        lazy=draft.lazy,
        sized_lazily=plain and on_lightning(draft) and starts_late(draft, head.source, nest.batch_frame, counted),
        interruptible=interruptible(draft),
        validation_source=validation,
        after_fit=after_fit,
        batch_mover=draft.batch_mover,
        backwards_of_others=backwards_of_others(nest, draft.kinds),
        host_edits=edits,
        origins={**nest.origins, **draft.stripped.origins},
        departures=departures(draft, hooks),
        epochs_while=epochs.test if epochs is not None else None,
        returns=may_return((*nest.epoch_start, *nest.body, *nest.epoch_end)),
        unbroken=_unbroken(draft, endable),
        distributed=spread,
        prints_everywhere=analysis.accelerated or (spread is not None and bool(spread.group)),
        incomparable=incomparable(draft, captured),
    )


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
