"""What `lightify upgrade` did to one script; apart from the forms, which only upgrading loads."""

from __future__ import annotations

from dataclasses import dataclass

from lightify.errors import Diagnostic, Refusal, SourceSpan
from lightify.sources import Source


@dataclass(frozen=True)
class Rewrite:
    """One place that was rewritten.

    Attributes:
        form: the file of `lightify/upgrade/` that did it.
    """

    form: str
    span: SourceSpan
    old: str
    new: str


@dataclass(frozen=True)
class Upgrade:
    """The result of upgrading one script; `text` is None when it is refused, the source's own when nothing is old."""

    source: Source
    text: str | None
    rewrites: tuple[Rewrite, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
