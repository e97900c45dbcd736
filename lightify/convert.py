"""The pipeline: one direction, each stage a value; no disk, no print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightify.accounts import account
from lightify.analyze import analyze
from lightify.errors import Diagnostic, LightifyError, Refusal
from lightify.findings import find
from lightify.inventory import Found, inventory
from lightify.ledger import Ledger
from lightify.parse import parse
from lightify.plan.make import make_plan
from lightify.render import render
from lightify.rewrite import rewrite
from lightify.selfcheck import self_check
from lightify.settings import Settings
from lightify.sources import Source


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


def convert(source: Source, settings: Settings) -> Conversion:
    """Converts one script.

    Raises:
        LightifyError: the text does not parse, or the result fails our own check (a fault of ours).
    """
    tree = parse(source)
    analysis = analyze(tree)
    plan = make_plan(tree, analysis, settings)
    if isinstance(plan, Refusal):
        return Conversion(source, text=None, refusals=(plan,))
    pieces = rewrite(tree, plan, settings)
    text = render(pieces, settings.runtime_module(source.neighbours), settings.line_length)
    problems = self_check(text, source.text, source.path)
    for problem in problems:
        if problem.severity == "error":
            raise LightifyError(problem)
    ledger = account(tree, plan, pieces.dropped_imports)
    return Conversion(
        source,
        text,
        plan.mode,
        plan.reasons,
        found=inventory(tree, analysis, plan),
        ledger=ledger,
        findings=(*find(tree, analysis, plan), *problems),
        departures=plan.departures,
    )
