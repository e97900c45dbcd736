"""What looks like a mistake of the old loop; its behaviour is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from lightify.errors import Diagnostic, Refusal, SourceSpan
from lightify.facts import Analysis
from lightify.findings import (
    averages,
    clipping,
    gradients,
    graphs,
    habits,
    loaders,
    losses,
    modes,
    obsolete,
    outputs,
    references,
    registration,
    schedules,
    statements,
)
from lightify.findings.base import Finding, Rule
from lightify.findings.script import Script
from lightify.ignore import unknown_codes, without_ignored
from lightify.loops.nest import open_nest
from lightify.loops.runs import find_runs
from lightify.plan.adoption import concerned, moved_from_elsewhere
from lightify.plan.types import Plans
from lightify.sources import Source
from lightify.syntax.parse import Tree

_FAMILIES = (
    gradients,
    clipping,
    modes,
    losses,
    averages,
    outputs,
    loaders,
    schedules,
    registration,
    references,
    statements,
    obsolete,
    graphs,
    habits,
)

#: One entry for each file of this folder.
REGISTRY: tuple[Finding, ...] = tuple(family.find for family in _FAMILIES)
RULES: dict[str, Rule] = {rule.code: rule for family in _FAMILIES for rule in family.RULES}


def find(tree: Tree, analysis: Analysis, plans: Plans) -> tuple[Diagnostic, ...]:
    """Returns the findings of a script in the order of its lines, without those that a comment silences."""
    places = {tree.spans[node] for node in concerned(moved_from_elsewhere(plans, tree), tree)}
    nests = [plan.nest for plan in plans.runs]
    return _found([Script(tree, analysis, plan.nest, plan.origins, nests) for plan in plans.runs], tree, places)


def find_refused(tree: Tree, analysis: Analysis, refusal: Refusal) -> tuple[Diagnostic, ...]:
    """Returns the findings of a script that is refused; none when another library drives its loop, or none is there."""
    if any(fact.code == refusal.code and fact.code != "LF215" for fact in analysis.foreign):
        return ()
    runs = find_runs(tree, analysis)
    if isinstance(runs, Refusal):
        return ()
    nests = [open_nest(run, tree, analysis) for run in runs]
    return _found([Script(tree, analysis, nest, others=nests) for nest in nests], tree, set())


def _found(scripts: Sequence[Script], tree: Tree, places: Collection[SourceSpan]) -> tuple[Diagnostic, ...]:
    """The findings in the script itself and at some places elsewhere."""
    text = tree.source.text
    found = {
        diagnostic: None
        for script in scripts
        for finding in REGISTRY
        for diagnostic in finding(script)
        if diagnostic.span is None or diagnostic.span in places or diagnostic.span.path == tree.source.path
    }
    ordered = sorted(found, key=lambda diagnostic: (diagnostic.span or tree.span(tree.module), diagnostic.code))
    merged = _merged(without_ignored(ordered, text), tree.source)
    return (*merged, *unknown_codes(text, tree.source.path, RULES))


def _merged(found: Iterable[Diagnostic], source: Source) -> Iterator[Diagnostic]:
    """One finding for the same words on several lines, at the first of them."""
    places: dict[tuple[str, str], list[Diagnostic]] = {}
    for diagnostic in found:
        places.setdefault((diagnostic.code, diagnostic.message), []).append(diagnostic)
    for same in places.values():
        others = list(dict.fromkeys(source.in_cell(d.span).where for d in same[1:] if d.span is not None))
        if len(others) > 1 and not source.notebook:
            others = [f"lines {', '.join(other.removeprefix('line ') for other in others)}"]
        more = f" (also in {', '.join(others)})" if others else ""
        yield replace(same[0], message=same[0].message + more)
