"""Silencing a finding by a comment."""

from __future__ import annotations

import pytest

from lightify.errors import Diagnostic, SourceSpan
from lightify.ignore import unknown_codes, without_ignored

KEPT = [
    "x",
    "x  # ignore",
    "x  # lightify: ignore[LF401]",
    "x  # lightify: ignore[]",
    "# lightify: ignore[LF401]\nx",
    "y  # lightify: ignore[LF402]\nx",
    "# lightify: ignore[LF402]\n\nx",
]
SILENCED = [
    "x  # lightify: ignore",
    "x  #lightify:ignore[LF402]",
    "x  # noqa  # lightify: ignore[LF401, LF402] since",
    "# lightify: ignore[LF402]\nx",
    "    # lightify: ignore\n    x",
    "x(\n)  # lightify: ignore[LF402]",
]


@pytest.mark.parametrize("lines", KEPT)
def test_kept(lines: str) -> None:
    finding = finding_at(lines)
    assert without_ignored([finding], lines) == (finding,)


@pytest.mark.parametrize("lines", SILENCED)
def test_silenced(lines: str) -> None:
    assert without_ignored([finding_at(lines), Diagnostic("LF402", "elsewhere")], lines) == (
        Diagnostic("LF402", "elsewhere"),
    )


def test_a_code_that_no_finding_has_is_reported() -> None:
    text = "x  # lightify: ignore[LF401, LF4O2]\ny  # lightify: ignore\n"
    (problem,) = unknown_codes(text, "x.py", {"LF401", "LF402"})
    assert (problem.code, problem.severity, str(problem.span)) == ("LF499", "warning", "x.py:1:4")
    assert "LF4O2" in problem.message


def finding_at(lines: str) -> Diagnostic:
    numbered = [number for number, line in enumerate(lines.splitlines(), start=1) if line.strip().startswith("x")]
    span = SourceSpan("x.py", numbered[0], 0, len(lines.splitlines()), 1)
    return Diagnostic("LF402", "no zero_grad", span, severity="warning")
