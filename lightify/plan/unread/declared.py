"""Names that the host declares `global`, and that only the hooks assign now: these declare them themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.homes import Homes
from lightify.plan.types import FateNote, Global
from lightify.syntax.names import bound_by, same_scope
from lightify.syntax.query import block, children, small


def drop_idle_declarations(draft: Draft, edits: dict[cst.CSTNode, cst.CSTNode], homes: Homes) -> None:
    """Takes such names out of the host's `global` statements.

    Args:
        edits: statements of the host made anew; these join them.
    """
    function = draft.nest.host.function
    if function is None:
        return
    taken = {v.name for v, home in homes.of.items() if isinstance(home, Global) and v.frame.is_module}
    taken &= {name for node in same_scope(block(draft.nest.host_loop.body)) for name in bound_by(node)}
    idle = taken - {name for node in _left(function.body, draft, edits) for name in bound_by(node)}
    for line in same_scope(block(function.body)):
        inner = small(line)
        if not isinstance(line, cst.SimpleStatementLine) or not isinstance(inner, cst.Global) or line in draft.removed:
            continue
        names = [item for item in inner.names if item.name.value not in idle]
        if not names:
            draft.removed.add(line)
            draft.fates[inner] = FateNote(Fate.DROPPED, "", "only the hooks assign these names")
        elif len(names) < len(inner.names):
            names[-1] = names[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            edits[line] = line.with_changes(body=[inner.with_changes(names=names)])


def _left(node: cst.CSTNode, draft: Draft, edits: Mapping[cst.CSTNode, cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """What stays of the host's function."""
    if node in edits:
        yield from same_scope((edits[node],))
    elif node is draft.nest.host_loop:
        yield from same_scope(filter(None, (draft.nest.host_loop.orelse,)))
    elif node not in draft.removed or isinstance(node, cst.With):
        yield node
        if not isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            for child in children(node):
                yield from _left(child, draft, edits)
