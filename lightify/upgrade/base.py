"""What every form shares: what it reports, and how it reports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from lightify.errors import Diagnostic, Refusal, SourceSpan
from lightify.syntax.query import children
from lightify.upgraded import Rewrite

if TYPE_CHECKING:
    from lightify.upgrade.script import Script


@dataclass
class Log:
    """Collects what the forms did and could not do; places are those of the source, however often it was edited."""

    path: str
    module: cst.Module  # of the source
    package: str  # what the result imports
    form: str = ""
    rewrites: list[Rewrite] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[Diagnostic] = field(default_factory=list)

    @cached_property
    def places(self) -> Mapping[cst.CSTNode, tuple[int, int]]:
        """Line and column of every node; worked out when the first is asked for."""
        from libcst.metadata import MetadataWrapper, PositionProvider

        found = MetadataWrapper(self.module, unsafe_skip_copy=True).resolve(PositionProvider)
        return {node: (place.start.line, place.start.column) for node, place in found.items()}

    def rewrote(self, node: cst.CSTNode, old: str, new: str) -> None:
        """Notes a rewrite, unless of code that a form has added."""
        place = self._place(node)
        if place is not None:
            self.rewrites.append(Rewrite(self.form, SourceSpan(self.path, *place), old, new))

    def refuse(self, node: cst.CSTNode, reason: str, hint: str, code: str = "LF501") -> None:
        self.refusals.append(Refusal(code, reason, self.span(node), hint))

    def note(self, node: cst.CSTNode, message: str, hint: str, code: str) -> None:
        """Says what was not looked at."""
        self.notes.append(Diagnostic(code, message, self.span(node), hint, "note"))

    def span(self, node: cst.CSTNode) -> SourceSpan:
        return SourceSpan(self.path, *(self._place(node) or (1, 0)))

    def _place(self, node: cst.CSTNode) -> tuple[int, int] | None:
        """The place of a node; of one that was edited, the place of the first part that is the source's."""
        stack = [node]
        while stack:
            current = stack.pop()
            if current in self.places:
                return self.places[current]
            stack.extend(reversed(list(children(current))))
        return None


#: Gets the script as the forms before have left it, returns it rewritten.
Form = Callable[["Script", Log], cst.Module]
