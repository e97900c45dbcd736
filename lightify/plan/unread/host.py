"""Values of the host that only code which is gone has read."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

import libcst as cst

from lightify.distribution import Distribution
from lightify.ledger import Fate
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.homes import Homes
from lightify.plan.types import FateNote, Global
from lightify.plan.unread.unwanted import may_go
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Variable
from lightify.syntax.names import read_names
from lightify.syntax.parse import Tree, syntax_of
from lightify.syntax.query import assigned_pairs, children, small


def read_by_run(draft: Draft, homes: Homes, sources: Iterable[cst.CSTNode], after_fit: Iterable[str]) -> set[Variable]:
    """What a run reads of the host: globals in its hooks, arguments of the Trainer and of fit."""
    host = draft.nest.host
    reads = {variable for variable, home in homes.of.items() if isinstance(home, Global)}
    texts = [option.value for option in draft.options if isinstance(option.value, str)]
    nodes: list[cst.CSTNode] = [*sources, *(cst.parse_expression(text) for text in texts)]
    nodes.append(cst.parse_module("\n".join([*draft.before_fit, *after_fit]) + "\n"))
    for option in draft.options:
        if option.frame is not None:
            nodes.append(in_host(draft, option.value, option.frame) or option.value)  # type: ignore[arg-type]
    names = {name for node in nodes for name in read_names(node)}
    meanings = [host.resolve(name) for name in names]
    return reads | {meaning for meaning in meanings if isinstance(meaning, Variable)}


def drop_unread_values(draft: Draft, edits: Mapping[cst.CSTNode, cst.CSTNode], reads: Iterable[Variable]) -> None:
    """Drops the host's `name = ...`, `a = b = ...` and `a, b = ...` before the run whose value nothing reads any more.

    A field stays: whoever holds the object may read it.

    Args:
        edits: statements of the host made anew.
        reads: what the run's own lines in the host read.
    """
    needed = draft.read_elsewhere() | set(reads) | _read_around(draft)
    for item in reversed(draft.around.before):
        if item.node in draft.removed:
            continue
        inner = small(item.node)
        if isinstance(inner, cst.Assign) and may_go(inner.value, item.frame, draft):
            targets = [one for target in inner.targets for one, _ in assigned_pairs(target.target, inner.value)]
            names = [target.value for target in targets if isinstance(target, cst.Name)]
            meant = {item.frame.resolve(name) for name in names}
            unread = len(names) == len(targets) and not meant & needed
            unread = unread and not any(isinstance(variable, Field) for variable in meant)
            if unread and all(_was_read(name, draft.tree, draft.distribution) for name in names):
                draft.removed.add(item.node)
                draft.fates[inner] = FateNote(Fate.DROPPED, "", "only the loop's own code read it")
                continue
        node = edits.get(item.node, item.node)
        needed |= usage([Item(node, item.frame)]).reads  # type: ignore[arg-type]


def _read_around(draft: Draft) -> set[Variable]:
    """What the heads of the statements around the run read: an outer loop's iterable, a test, a context."""
    reads: set[Variable] = set()
    for outer in draft.tree.ancestors(draft.nest.host_loop):
        if isinstance(outer, cst.FunctionDef):
            break
        for part in children(outer) if outer not in draft.removed else ():
            if not isinstance(part, (cst.BaseSuite, cst.BaseStatement, cst.Else)):
                reads |= expression_usage(part, draft.nest.host).reads
    return reads


def _was_read(name: str, tree: Tree, bare: Distribution | None) -> bool:
    """True when the script, its own wrapper included, mentions a name outside the targets of assignments."""
    if any(not is_target(node, tree) for node in tree.mentions.get(name, ())):
        return True
    named = (one for one in ast.walk(syntax_of(tree.source.text)) if isinstance(one, ast.Name) and one.id == name)
    return bare is not None and any(isinstance(one.ctx, ast.Load) for one in named)


def is_target(node: cst.CSTNode, tree: Tree) -> bool:
    """True for a name that is assigned, alone or within a tuple."""
    parent = tree.parents[node]
    while isinstance(parent, (cst.Element, cst.Tuple)):
        parent = tree.parents[parent]
    return isinstance(parent, cst.AssignTarget)
