"""`# lightify: ignore[CODE]`: the user has seen that finding and wants no more of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from lightify.errors import Diagnostic, SourceSpan

_COMMENT = re.compile(r"#\s*lightify:\s*ignore\b(?:\[(?P<codes>[\w\s,]*)\])?")


def without_ignored(findings: Iterable[Diagnostic], text: str) -> tuple[Diagnostic, ...]:
    """The findings that no comment silences; without codes a comment silences all.

    A comment counts on the first or last line of the finding's statement, and on a line of its own right above.
    """
    if "lightify:" not in text:
        return tuple(findings)
    lines = text.splitlines()

    def is_silenced(finding: Diagnostic) -> bool:
        if finding.span is None:
            return False
        numbers = [finding.span.line, finding.span.end_line]
        if 1 < finding.span.line <= len(lines) + 1 and lines[finding.span.line - 2].lstrip().startswith("#"):
            numbers.append(finding.span.line - 1)
        comments = [_COMMENT.search(lines[number - 1]) for number in numbers if 0 < number <= len(lines)]
        return any(
            comment["codes"] is None or finding.code in _codes(comment) for comment in comments if comment is not None
        )

    return tuple(finding for finding in findings if not is_silenced(finding))


def unknown_codes(text: str, path: str, known: Collection[str]) -> Iterator[Diagnostic]:
    """Reports each code in a comment that no finding has: it silences nothing."""
    if "lightify:" not in text:
        return
    for number, line in enumerate(text.splitlines(), start=1):
        comment = _COMMENT.search(line)
        for code in _codes(comment) if comment is not None else ():
            if code not in known:
                yield Diagnostic(
                    "LF499",
                    f"no finding has the code {code}: the comment silences nothing",
                    SourceSpan(path, number, line.index("#")),
                    "codes are listed in docs/findings.md",
                    "warning",
                )


def _codes(comment: re.Match[str]) -> list[str]:
    return re.findall(r"\w+", comment["codes"] or "")
