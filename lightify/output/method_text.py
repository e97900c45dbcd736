"""The text of a method's body as it stands in the generated class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

from lightify.syntax.query import block, small

#: The body of a method that does nothing.
EMPTY = "        pass\n"


def without_last_return(statements: list[cst.BaseStatement]) -> list[cst.BaseStatement]:
    """A method's statements without the bare `return` of a branch after which the method ends anyway."""
    if not statements:
        return statements
    *first, last = statements
    inner = small(last)
    if first and isinstance(inner, cst.Return) and inner.value is None:
        return statements if _has_comment(last) else first
    return [*first, _ends(last)] if isinstance(last, cst.If) else statements


def _has_comment(line: cst.BaseStatement) -> bool:
    after = line.trailing_whitespace.comment if isinstance(line, cst.SimpleStatementLine) else None
    return after is not None or any(one.comment is not None for one in line.leading_lines)  # type: ignore[attr-defined]


def _ends(branch: cst.If) -> cst.If:
    other = branch.orelse
    if isinstance(other, cst.If):
        other = _ends(other)
    elif other is not None:
        other = other.with_changes(body=_suite(other.body))
    return branch.with_changes(body=_suite(branch.body), orelse=other)


def _suite(suite: cst.BaseSuite) -> cst.BaseSuite:
    return suite.with_changes(body=without_last_return(list(block(suite))))


def body_text(statements: Iterable[cst.BaseStatement], footer: Sequence[cst.EmptyLine] = ()) -> str:
    """The text of statements, indented; strings over several lines stay as they are."""
    body = list(statements)
    if not body:
        return EMPTY
    leading = list(body[0].leading_lines)  # type: ignore[attr-defined]
    while leading and leading[0].comment is None:
        del leading[0]
    body[0] = body[0].with_changes(leading_lines=leading)
    suite = cst.IndentedBlock(body, indent="    ", footer=footer)
    wrapped = cst.If(cst.Name("a"), cst.IndentedBlock([cst.If(cst.Name("b"), suite)], indent="    "))
    text = cst.Module([wrapped]).code
    return text.split("\n", 2)[2]
