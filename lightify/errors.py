"""Places, messages and refusals; imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, order=True)
class SourceSpan:
    """A stretch of a source file; lines count from 1, columns from 0, the end column is exclusive.

    Attributes:
        cell: the cell of a notebook that the lines count in; 0 in a script, and in a notebook read as one script.
    """

    path: str
    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    cell: int = 0

    def __str__(self) -> str:
        cell = f"cell {self.cell}:" if self.cell else ""
        return f"{self.path}:{cell}{self.line}:{self.column + 1}"

    @property
    def where(self) -> str:
        """The line in words."""
        return f"line {self.line} of cell {self.cell}" if self.cell else f"line {self.line}"


@dataclass(frozen=True)
class Diagnostic:
    """One message with a stable code, a place and the next action."""

    code: str
    message: str
    span: SourceSpan | None = None
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.span}: " if self.span else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.code} {self.message}{hint}"


@dataclass(frozen=True)
class Refusal(Diagnostic):
    """Why a script is not converted."""


class LightifyError(Exception):
    """An unreadable file, a syntax error, a bad setting or a fault of ours; printed in one place, `cli.py`."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic

    @classmethod
    def at(cls, path: str | Path, code: str, message: str, hint: str, line: int = 1) -> LightifyError:
        """What is wrong with a file."""
        return cls(Diagnostic(code, message, SourceSpan(str(path), line), hint))
