"""What a finding is."""

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
