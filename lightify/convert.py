"""The pipeline: one direction, each stage a value; no disk, no print."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lightify.analysis.analyze import analyze
from lightify.distribution import Distribution, distribution
from lightify.errors import Diagnostic, LightifyError, Refusal
from lightify.facts import Analysis
from lightify.findings import find, find_refused
from lightify.ledger import Ledger
from lightify.loops.once import all_run, with_rounds
from lightify.output.accounts import account
from lightify.output.inventory import Found, inventory
from lightify.output.render import render
from lightify.output.rewrite import rewrite
from lightify.output.selfcheck import self_check
from lightify.plan.adoption import Moved, moved_by_file, starts_itself
from lightify.plan.make import make_plans
from lightify.plan.trainer.strategy import undistributed
from lightify.plan.types import Plans
from lightify.recognisers.foreign import framework
from lightify.repository.aliases import with_aliases
from lightify.repository.link import link
from lightify.settings import Settings
from lightify.sources import Source
from lightify.syntax.parse import Tree, parse


@dataclass(frozen=True)
class Conversion:
    """The result of converting one script; `text` is None when it is refused."""

    source: Source
    text: str | None
    mode: Literal["automatic", "manual"] | None = None
    reasons: tuple[str, ...] = ()  # why the mode is not a better one
    found: tuple[Found, ...] = ()
    ledger: Ledger = Ledger()
    refusals: tuple[Refusal, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    departures: tuple[str, ...] = ()  # steps away from identity that the style asked for
    elsewhere: tuple[Moved, ...] = ()  # code of other files that the result holds
    starts: bool = True  # the script itself starts the training: it is no library


def convert(source: Source, settings: Settings) -> Conversion:
    """Converts one script.

    Raises:
        LightifyError: the text does not parse, or the result fails our own check (a fault of ours).
    """
    if not source.notebook:
        return _convert(source, settings)
    try:
        done = _convert(source, settings)
    except LightifyError as error:
        raise LightifyError(_in_cell(error.diagnostic, source)) from None
    refusals = tuple(replace(refusal, span=source.in_cell(refusal.span)) for refusal in done.refusals if refusal.span)
    return replace(done, refusals=refusals, findings=tuple(_in_cell(found, source) for found in done.findings))


def _convert(source: Source, settings: Settings) -> Conversion:
    script = parse(source)
    # the code of a framework that stands beside the script (in its own repository) is not the script's
    linked = with_aliases(link(script) if framework(script) is None else script)
    tree, analysis, plans = _planned_with_rounds(linked, settings)
    if isinstance(plans, Refusal):
        return Conversion(source, text=None, refusals=(plans,), findings=find_refused(tree, analysis, plans))
    pieces = rewrite(tree, plans, settings)
    text = render(pieces, settings.runtime_module(source.neighbours), settings.line_length)
    elsewhere = moved_by_file(plans, tree)
    problems = self_check(text, source.text, source.path, (moved.text for moved in elsewhere))
    for problem in problems:
        if problem.severity == "error":
            raise LightifyError(problem)
    return Conversion(
        source,
        text,
        "automatic" if all(plan.mode == "automatic" for plan in plans.runs) else "manual",
        _reasons(tree, plans),
        found=inventory(tree, analysis, plans),
        ledger=account(tree, plans, pieces.dropped),
        findings=(*plans.left, *plans.inline, *find(tree, analysis, plans), *problems),
        elsewhere=elsewhere,
        starts=any(starts_itself(plan.nest, tree) for plan in plans.runs),
        departures=tuple(dict.fromkeys(departure for plan in plans.runs for departure in plan.departures)),
    )


#: Its sampler shuffles whatever the script's did, and "auto" is one process where there is no accelerator.
_ALWAYS_SHUFFLES = "the lightning package shuffles all training data that it shares out to processes"


def _planned_with_rounds(script: Tree, settings: Settings) -> tuple[Tree, Analysis, Plans | Refusal]:
    """Plans the script with loops of one round around steps that no loop repeats, if each gives way to a Trainer."""
    rounds = with_rounds(script)
    read = tree, _, plans = _planned(rounds, settings)
    if rounds is script or (isinstance(plans, Plans) and all_run(tree, [plan.nest.host_loop for plan in plans.runs])):
        return read
    other = _planned(script, settings)
    return other if isinstance(other[2], Plans) or isinstance(plans, Plans) else read


def _planned(tree: Tree, settings: Settings) -> tuple[Tree, Analysis, Plans | Refusal]:
    """Plans the script without its own wrapper for several devices, or as it is where no strategy does the same."""
    identical = settings.style == "faithful"
    bare = distribution(tree, identical=identical, alone=_ALWAYS_SHUFFLES if settings.runtime == "lightning" else "")
    reason = bare if isinstance(bare, str) else ""
    while isinstance(bare, Distribution):
        analysis = analyze(bare.tree)
        plans = make_plans(bare.tree, analysis, settings, bare)
        reason = undistributed(plans)
        if isinstance(plans, Plans) and not reason:
            return bare.tree, analysis, _noted(plans, bare.note)
        if bare.processes is None:
            reason = bare.kept(reason)
            break
        bare = distribution(tree, identical=identical, alone=reason)
    analysis = analyze(tree)
    plans = make_plans(tree, analysis, settings)
    return tree, analysis, _noted(plans, reason) if isinstance(plans, Plans) else plans


def _noted(plans: Plans, reason: str) -> Plans:
    """The plans with one more reason why they are not better ones."""
    if not reason:
        return plans
    return replace(plans, runs=tuple(replace(plan, reasons=(*plan.reasons, reason)) for plan in plans.runs))


def _reasons(tree: Tree, plans: Plans) -> tuple[str, ...]:
    """Why each run is not converted in a better way; of several runs, with the line of the loop."""
    if len(plans.runs) == 1:
        return plans.runs[0].reasons
    found = ((tree.line_of(plan.nest.host_loop), reason) for plan in plans.runs for reason in plan.reasons)
    return tuple(f"{reason} (loop in {place})" for place, reason in found)


def _in_cell(diagnostic: Diagnostic, source: Source) -> Diagnostic:
    return replace(diagnostic, span=source.in_cell(diagnostic.span)) if diagnostic.span is not None else diagnostic
