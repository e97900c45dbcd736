"""A function's body without its returns: each way out assigns the result and runs to the end.

`if bad: return 0` before the rest becomes `if bad: result = 0`, with the rest under `else`; a return from a loop
becomes a break, with the rest under the loop's `else`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import libcst as cst

from lightify.syntax.flow import own_exits
from lightify.syntax.query import block, children, code, map_children, small

#: Statements that take the place of `return value`; the value is None where there is none.
Leave = Callable[[cst.BaseExpression | None], list[cst.BaseStatement]]


class Stuck(Exception):
    """The body can't be told without its returns."""


def returns(node: cst.CSTNode) -> bool:
    """True when a `return` of the function around it stands in a node."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, cst.Return):
            return True
        if not isinstance(current, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            stack.extend(children(current))
    return False


@dataclass
class WithoutReturns:
    """Tells a body without its returns.

    Attributes:
        kept: a loop that stays the node it is: its statements are told one by one, by `in_loop`.
        unbroken: true after the kept loop, unless a return has ended it.
        origins: statements made anew, to those of the source.
        ends: the kept loop has returns.
    """

    leave: Leave
    kept: cst.CSTNode | None
    unbroken: cst.BaseExpression
    origins: dict[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    ends: bool = False

    def body(self, statements: Sequence[cst.BaseStatement]) -> list[cst.BaseStatement]:
        """The statements of a function.

        Raises:
            Stuck: they can't be told without its returns.
        """
        for number, node in enumerate(statements):
            if not returns(node):
                continue
            before, after = list(statements[:number]), statements[number + 1 :]
            inner = small(node)
            if isinstance(inner, cst.Return):
                if after:
                    raise Stuck  # nothing reaches it
                return [*before, *self._left(node, inner)]
            if isinstance(node, cst.If):
                return [*before, self._if(node, after)]
            if isinstance(node, (cst.For, cst.While)):
                return [*before, *self._loop(node, after)]
            if isinstance(node, cst.With) and not after:
                return [*before, self._made(node, node.with_changes(body=_suite(self.body(block(node.body)))))]
            raise Stuck
        return [*statements, *self.leave(None)]

    def in_loop(self, node: cst.BaseStatement) -> list[cst.BaseStatement]:
        """A statement of a loop's body, whose returns end the loop.

        Raises:
            Stuck: it can't be told without its returns.
        """
        inner = small(node)
        if not isinstance(inner, cst.Return):
            return [self._ended(node)]  # type: ignore[list-item]
        leave = cst.Break()
        self.origins[leave] = inner
        lines = self._left(node, inner)
        ending = cst.SimpleStatementLine([leave], leading_lines=() if lines else node.leading_lines)  # type: ignore[attr-defined]
        return [*lines, ending]

    def _left(self, node: cst.BaseStatement, inner: cst.Return) -> list[cst.BaseStatement]:
        made = self.leave(inner.value)
        if not made and "#" in code(node):
            made = [cst.SimpleStatementLine([cst.Pass()])]  # holds the comments
        for line in made:
            self.origins[small(line) or line] = inner
        if made:
            made[0] = made[0].with_changes(leading_lines=node.leading_lines)  # type: ignore[attr-defined]
            if isinstance(made[-1], cst.SimpleStatementLine):
                made[-1] = made[-1].with_changes(trailing_whitespace=node.trailing_whitespace)  # type: ignore[attr-defined]
        return made

    def _made(self, old: cst.BaseStatement, new: cst.BaseStatement) -> cst.BaseStatement:
        self.origins[new] = old
        return new

    def _if(self, node: cst.If, after: Sequence[cst.BaseStatement]) -> cst.If:
        orelse = node.orelse
        other: list[cst.BaseStatement] = []
        if orelse is not None:
            other = [orelse] if isinstance(orelse, cst.If) else list(block(orelse.body))
        body = list(block(node.body))
        if not falls_through(body):
            other = [*other, *after]
        elif not falls_through(other):
            body = [*body, *after]
        elif after:
            raise Stuck  # what follows would have to stand in both branches
        body, other = self.body(body), self.body(other)
        chain = other[0] if len(other) == 1 and isinstance(orelse, cst.If) and isinstance(other[0], cst.If) else None
        new_other = chain or (cst.Else(_suite(other)) if other else None)
        return self._made(node, node.with_changes(body=_suite(body), orelse=new_other))  # type: ignore[return-value]

    def _loop(self, node: cst.For | cst.While, after: Sequence[cst.BaseStatement]) -> list[cst.BaseStatement]:
        if node.orelse is not None or any(isinstance(leaving, cst.Break) for leaving in own_exits(node)):
            raise Stuck  # a break goes on with what follows, a return does not
        rest = self.body(after)
        body = [line for part in block(node.body) for line in self.in_loop(part)]
        if node is self.kept:
            self.ends = True
            return [node, cst.If(self.unbroken, _suite(rest))] if rest else [node]
        orelse = cst.Else(_suite(rest)) if rest else None
        return [self._made(node, node.with_changes(body=_suite(body), orelse=orelse))]  # type: ignore[arg-type]

    def _ended(self, node: cst.CSTNode) -> cst.CSTNode:
        """A part of a loop's body in which each return ends the loop."""
        if not returns(node):
            return node
        if isinstance(node, cst.IndentedBlock):
            return node.with_changes(body=[line for part in node.body for line in self.in_loop(part)])
        if not isinstance(node, (cst.If, cst.Else, cst.With)):
            raise Stuck
        new = map_children(node, self._ended)
        if isinstance(node, cst.BaseStatement):
            self.origins[new] = node
        return new


def falls_through(statements: Sequence[cst.BaseStatement]) -> bool:
    """True when a block may be run to its end."""
    last = statements[-1] if statements else None
    inner = small(last) if last is not None else None
    if isinstance(inner, (cst.Return, cst.Raise)):
        return False
    if isinstance(last, cst.If) and last.orelse is not None:
        other = [last.orelse] if isinstance(last.orelse, cst.If) else block(last.orelse.body)
        return falls_through(block(last.body)) or falls_through(other)
    return True


def _suite(statements: Sequence[cst.BaseStatement]) -> cst.IndentedBlock:
    return cst.IndentedBlock(list(statements) or [cst.SimpleStatementLine([cst.Pass()])])
