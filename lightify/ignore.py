"""`# lightify: ignore[CODE]` at the end of a line: the user has seen that finding and wants no more of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightify.errors import Diagnostic

_COMMENT = re.compile(r"#\s*lightify:\s*ignore\b(?:\[(?P<codes>[\w\s,]*)\])?")


def without_ignored(findings: Iterable[Diagnostic], text: str) -> tuple[Diagnostic, ...]:
    """The findings whose source line does not silence them; without codes a comment silences all."""
    if "lightify:" not in text:
        return tuple(findings)
    lines = text.splitlines()

    def is_silenced(finding: Diagnostic) -> bool:
        line = finding.span.line if finding.span else 0
        comment = _COMMENT.search(lines[line - 1]) if 0 < line <= len(lines) else None
        if comment is None:
            return False
        return comment["codes"] is None or finding.code in re.findall(r"\w+", comment["codes"])

    return tuple(finding for finding in findings if not is_silenced(finding))
