"""What became of every statement of the source: exactly one fate each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from lightify.errors import SourceSpan


class Fate(Enum):
    KEPT = "kept"
    MOVED = "moved"
    REPLACED = "replaced"
    DROPPED = "dropped"


@dataclass(frozen=True)
class LedgerEntry:
    """One source statement.

    Attributes:
        span: the statement without its body, if it has one.
        text: its first line.
        fate: what became of it.
        target: the hook, Trainer option or function that it went to; empty when kept in place.
        reason: why it was replaced or dropped.
    """

    span: SourceSpan
    text: str
    fate: Fate
    target: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Ledger:
    entries: tuple[LedgerEntry, ...] = ()

    def count(self) -> dict[str, int]:
        """Number of statements by fate."""
        return {fate.value: sum(entry.fate is fate for entry in self.entries) for fate in Fate}


def missing_and_double(ledger: Ledger, statements: Iterable[SourceSpan]) -> tuple[list[SourceSpan], list[SourceSpan]]:
    """Returns the statements without a fate and those with more than one; both empty when the fates partition."""
    seen: dict[SourceSpan, int] = {}
    for entry in ledger.entries:
        seen[entry.span] = seen.get(entry.span, 0) + 1
    expected = set(statements)
    missing = sorted(expected - seen.keys())
    double = sorted(span for span, times in seen.items() if times > 1 or span not in expected)
    return missing, double
