"""What a finding is, and how it reads names and literals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from lightify.errors import Diagnostic, Severity

if TYPE_CHECKING:
    from lightify.findings.script import Script


@dataclass(frozen=True)
class Rule:
    """A kind of finding: its code never changes its meaning; texts may hold fields in braces."""

    code: str
    severity: Severity
    message: str
    hint: str

    def at(self, script: Script, node: cst.CSTNode, **fields: object) -> Diagnostic:
        """This finding at a node's statement."""
        message, hint = self.message.format(**fields), self.hint.format(**fields)
        return Diagnostic(self.code, message, script.tree.span(node), hint, self.severity)


#: Gets the script, yields what it finds.
Finding = Callable[["Script"], Iterable[Diagnostic]]


def call_name(call: cst.CSTNode) -> str | None:
    """`c` for a call of `c`, `a.b.c` or `self.c`."""
    func = call.func if isinstance(call, cst.Call) else None
    if isinstance(func, cst.Attribute):
        return func.attr.value
    return func.value.rpartition(".")[2] if isinstance(func, cst.Name) else None


def literal(node: cst.CSTNode | None) -> str | None:
    """The text of a name or plain string: `True` for True, `sum` for "sum"."""
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    return node.value if isinstance(node, (cst.Name, cst.Integer, cst.Float)) else None


def words(name: str) -> set[str]:
    """The words of a name: {"val", "loader"} for `self.val_loader` and `valLoader`."""
    last = name.rpartition(".")[2]
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in last)
    return set(spaced.lower().split())
