"""What looks like a mistake of the old loop; its behaviour is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lightify.errors import Diagnostic
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
    registration,
    schedules,
    statements,
)
from lightify.findings.base import Finding, Rule
from lightify.findings.script import Script
from lightify.ignore import unknown_codes, without_ignored
from lightify.parse import Tree
from lightify.plan.adoption import concerned, moved_from_elsewhere
from lightify.plan.types import Plans

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
    scripts = [Script(tree, analysis, plan) for plan in plans.runs]
    text = tree.source.text
    places = {tree.spans[node] for node in concerned(moved_from_elsewhere(plans, tree), tree)}
    found = {
        diagnostic: None
        for script in scripts
        for finding in REGISTRY
        for diagnostic in finding(script)
        if diagnostic.span is None or diagnostic.span in places or diagnostic.span.path == tree.source.path
    }
    ordered = sorted(found, key=lambda diagnostic: (diagnostic.span or tree.span(tree.module), diagnostic.code))
    return (*_merged(without_ignored(ordered, text)), *unknown_codes(text, tree.source.path, RULES))


def _merged(found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """One finding for the same words on several lines, at the first of them."""
    places: dict[tuple[str, str], list[Diagnostic]] = {}
    for diagnostic in found:
        places.setdefault((diagnostic.code, diagnostic.message), []).append(diagnostic)
    for same in places.values():
        lines = list(dict.fromkeys(str(d.span.line) for d in same[1:] if d.span is not None))
        more = f" (also in line{'s' if len(lines) > 1 else ''} {', '.join(lines)})" if lines else ""
        yield replace(same[0], message=same[0].message + more)
