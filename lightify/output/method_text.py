"""The text of a method's body as it stands in the generated class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

#: The body of a method that does nothing.
EMPTY = "        pass\n"


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
