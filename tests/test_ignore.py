"""Silencing a finding by a comment on its line."""

from __future__ import annotations

import pytest

from lightify.errors import Diagnostic, SourceSpan
from lightify.ignore import without_ignored

KEPT = ["x", "x  # ignore", "x  # lightify: ignore[LF401]", "x  # lightify: ignore[]"]
SILENCED = ["x  # lightify: ignore", "x  #lightify:ignore[LF402]", "x  # noqa  # lightify: ignore[LF401, LF402] since"]


@pytest.mark.parametrize("line", KEPT)
def test_kept(line: str) -> None:
    assert without_ignored([finding(2)], f"pass\n{line}\n") == (finding(2),)


@pytest.mark.parametrize("line", SILENCED)
def test_silenced(line: str) -> None:
    assert without_ignored([finding(2), finding(1)], f"pass\n{line}\n") == (finding(1),)


def finding(line: int) -> Diagnostic:
    return Diagnostic("LF402", "no zero_grad", SourceSpan("x.py", line), severity="warning")
