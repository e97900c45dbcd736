"""Analysis + Plan -> what was found, for the reader of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from lightify.errors import SourceSpan
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.plan.adoption import concerned, moved_from_elsewhere
from lightify.plan.types import Plan, Plans
from lightify.syntax.parse import Tree


@dataclass(frozen=True)
class Found:
    """Something recognised: kind is "model", "optimizer", "batch loop", ..."""

    kind: str
    name: str
    span: SourceSpan | None = None
    detail: str = ""


def inventory(tree: Tree, analysis: Analysis, plans: Plans) -> tuple[Found, ...]:
    """Lists models, optimizers, loaders and loops in source order."""

    def place(found: Found) -> tuple[bool, SourceSpan]:
        span = found.span or SourceSpan("", 0)
        return span.path not in ("", tree.source.path), span

    return tuple(sorted(_found(tree, analysis, plans), key=place))


def _found(tree: Tree, analysis: Analysis, plans: Plans) -> Iterator[Found]:
    seen: set[tuple[str, str, SourceSpan]] = set()
    places = {tree.spans[node] for node in concerned(moved_from_elsewhere(plans, tree), tree)}
    for fact in analysis.named:
        span = tree.span(fact.node)
        if span not in places:
            continue
        if fact.kind is Kind.COLLECTION or (fact.name.startswith("self.") and fact.kind is Kind.MODULE):
            continue  # a network's own layers; what is only told apart from a loader
        if (fact.kind.value, fact.name, span) not in seen:
            seen.add((fact.kind.value, fact.name, span))
            yield Found(fact.kind.value, fact.name, span)
    for plan in plans.runs:
        yield from _found_in(tree, plan)
    for backward in analysis.backwards:
        if (span := tree.span(backward.call)) in places:
            yield Found("backward", "", span)
    for update in analysis.updates:
        if (span := tree.span(update.call)) in places:
            yield Found("optimizer step", "", span)


def _found_in(tree: Tree, plan: Plan) -> Iterator[Found]:
    nest = plan.nest
    if nest.epoch_loop is not None:
        yield Found("epoch loop", nest.host.name or "script", tree.span(nest.epoch_loop))
    yield Found("batch loop", nest.batch_frame.name or "script", tree.span(nest.batch_loop))
    for opened in nest.opened:
        yield Found("opened call", opened.function.name.value, tree.span(opened.call), "its body runs in the hooks")
    for node, fate in plan.fates.items():
        if isinstance(node, cst.For) and fate.fate is Fate.REPLACED:
            yield Found("validation loop", "", tree.span(node))
