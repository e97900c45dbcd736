"""Statements that share a line, each a node of its own: `if x: y` and `a; b`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from libcst._nodes.internal import CodegenState


class OneLine(cst.IndentedBlock):
    """A suite that is written on the line of its head while it fits there."""

    def _codegen_impl(self, state: CodegenState) -> None:
        lines = [line for line in self.body if isinstance(line, cst.SimpleStatementLine)]
        plain = len(lines) == len(self.body) and not any(line.leading_lines for line in lines)
        if not lines or not plain or any(line.trailing_whitespace.comment for line in lines[:-1]) or self.footer:
            super()._codegen_impl(state)
            return
        parts = [part for line in lines for part in line.body]
        cst.SimpleStatementSuite(parts, trailing_whitespace=lines[-1].trailing_whitespace)._codegen(state)


class Continued(cst.SimpleStatementLine):
    """A statement that the next one follows on its line."""


def on_their_lines(
    body: Iterable[cst.BaseStatement], before: Sequence[cst.BaseStatement]
) -> Iterator[cst.BaseStatement]:
    """The statements of a suite, those on one line that were there and still follow one another.

    Args:
        before: the suite as it was.
    """
    previous = {following: one for one, following in pairwise(before) if isinstance(one, Continued)}
    lines: list[list[cst.BaseStatement]] = []
    for statement in body:
        if lines and previous.get(statement) is lines[-1][-1]:  # type: ignore[call-overload]
            lines[-1].append(statement)
        else:
            lines.append([statement])
    for line in lines:
        first, last = line[0], line[-1]
        if isinstance(first, Continued) and isinstance(last, cst.SimpleStatementLine) and first is not last:
            parts = [part for one in line for part in one.body]  # type: ignore[attr-defined]
            yield last.with_changes(body=parts, leading_lines=first.leading_lines)
        else:
            yield first
