"""Analysis + Settings -> Plan: which statement goes to which hook."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.distribution import Distribution
from lightify.errors import Diagnostic, Refusal
from lightify.facts import Analysis
from lightify.loops.condition import laid_open
from lightify.loops.libraries import trained_by_library
from lightify.loops.nest import Nest, open_nest
from lightify.loops.runs import Loop, Run, find_runs
from lightify.loops.surroundings import removed_functions
from lightify.loops.walrus import with_assignments
from lightify.plan.adoption import adopted, unreached
from lightify.plan.draft import Flatten
from lightify.plan.naming import class_names
from lightify.plan.one_run import plan_run
from lightify.plan.trainer.strategy import unwrapped
from lightify.plan.types import (
    Plan,
    Plans,
    Stays,
)
from lightify.settings import Settings
from lightify.syntax.parse import Tree


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
        return trained_by_library(tree) or runs
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
    inline = tuple(_stays(plan.stays, tree) for plan in named if plan.stays is not None)
    statements = {
        node
        for plan in named
        for node in plan.removed
        if tree.function_of(node) is plan.nest.host.function and not isinstance(node, cst.FunctionDef)
    }
    taken = (adopted(plan.nest, tree) for plan in named)
    kept = dict.fromkeys(one for definitions in taken if not isinstance(definitions, Refusal) for one in definitions)
    methods = settings.style == "idiomatic"
    removed = removed_functions([plan.nest for plan in named], tree, methods=methods) | statements | unwrapped(bare)
    return Plans(named, removed, left, inline, tuple(kept))


def _stays(found: Stays, tree: Tree) -> Diagnostic:
    message = f"the evaluation stays in {found.place}: {found.reason}"
    return Diagnostic("LF222", message, tree.span(found.node), "", "note")


def _plan_of(run: Run, tree: Tree, analysis: Analysis, settings: Settings, bare: Distribution | None) -> Plan | Refusal:
    plan = _plan_apart(run, tree, analysis, settings, bare, uncounted=False)
    if isinstance(plan, Flatten) and plan.uncounted:
        other = _plan_apart(run, tree, analysis, settings, bare, uncounted=True)
        plan = other if isinstance(other, Plan) else plan
    if isinstance(plan, Flatten):
        nest = open_nest(run, tree, analysis, flat=plan.reason)
        plan = plan_run(tree, analysis, settings, nest, bare)
        if isinstance(plan, Flatten):
            hint = plan.hint or "write it as `for epoch in range(epochs)` around `for batch in loader`"
            return Refusal("LF220", plan.reason, plan.span or tree.span(nest.host_loop), hint)
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
    plan = plan_run(tree, analysis, settings, nest, bare)
    if isinstance(plan, Flatten) and plan.assigned:
        return plan_run(tree, analysis, settings, with_assignments(nest, plan.assigned) or nest, bare)
    return plan
