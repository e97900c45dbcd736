"""In which order a script runs what names the wrapper: before it is made, after it, or in another branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import libcst as cst

from lightify.syntax.parse import Tree

Place = tuple[int, int]

#: Where a name gets the wrapper: the function, and the place in it.
Binding = tuple[cst.FunctionDef | None, Place]


@dataclass(frozen=True, eq=False)
class Order:
    """Compares places of a script; `wraps` are the constructions of the wrapper."""

    tree: Tree
    calls: Mapping[cst.FunctionDef, Sequence[cst.Call]]
    wraps: Sequence[cst.Call]

    def is_reached(self, node: cst.CSTNode, bindings: Sequence[Binding]) -> bool:
        """False for a mention that runs before the name holds the wrapper, or where it never does."""
        function, place = self.tree.function_of(node), self.place(node)
        within = [(f, where) for f, where in bindings if f is function]
        if within:
            if not any(where < place for _, where in within):
                return False
            return not any(self._excluded(node, call) for call in self.wraps)
        return not any(function in self._run_before(f, where) for f, where in bindings)

    def _excluded(self, node: cst.CSTNode, call: cst.Call) -> bool:
        """True when a test sends a run either to one node or to the other."""
        around = {a: below for below, a in _steps(call, self.tree)}
        for below, ancestor in _steps(node, self.tree):
            if isinstance(ancestor, (cst.If, cst.IfExp)) and ancestor in around:
                sides = (ancestor.body, ancestor.orelse)
                if below in sides and around[ancestor] in sides and below is not around[ancestor]:
                    return True
        return False

    def _run_before(self, function: cst.FunctionDef | None, place: Place) -> set[cst.FunctionDef]:
        """Functions that only run before a place: they are called before it, and nowhere after."""
        early: set[cst.FunctionDef] = set()
        late: set[cst.FunctionDef] = set()
        for called, sites in self.calls.items():
            for call in sites:
                before = self.tree.function_of(call) is function and self.place(call) < place
                (early if before else late).add(called)
        return early - late

    def place(self, node: cst.CSTNode) -> Place:
        span = self.tree.span(node)
        return span.line, span.column


def _steps(node: cst.CSTNode, tree: Tree) -> list[tuple[cst.CSTNode, cst.CSTNode]]:
    """(node, the node around it) on the way up."""
    around = [node, *tree.ancestors(node)]
    return list(pairwise(around))
