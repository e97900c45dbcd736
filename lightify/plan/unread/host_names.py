"""Names of the host's function that only code which is gone has read: what their values do stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Set

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.types import FateNote
from lightify.plan.unread.host import is_target
from lightify.plan.unread.unwanted import may_go
from lightify.syntax.frames import Variable
from lightify.syntax.names import local_names, read_names, same_scope
from lightify.syntax.query import FieldName, assigned_pairs, block, children, dotted, nodes_of, one_or_tuple, small

_NOTE = FateNote(Fate.DROPPED, "", "only the loop's own code read it")


def drop_unread_names(draft: Draft, edits: dict[cst.CSTNode, cst.CSTNode], reads: Iterable[Variable]) -> None:
    """Takes such names away wherever the host sets them: `out = model(x)` after the run is `model(x)`.

    Args:
        edits: statements of the host made anew; these join them.
        reads: what the run's own lines in the host read.
    """
    host = draft.nest.host
    if host.function is None or draft.distribution is not None:
        return
    by_run = {variable.name for variable in reads if variable.frame is host}
    lines = list(_lines(draft, host.function, edits))
    names = {name for line in lines for name in _names(line)} & local_names(host.function) - by_run
    names = {name for name in names if _was_read(name, host.function, draft)}
    changed = bool(names)
    while changed:
        unread = names - _read(host.function.body, draft, edits)
        done = [_is_without(line, unread, draft, edits) for line in lines if unread & _names(line)]
        changed = any(done)


def _lines(draft: Draft, function: cst.FunctionDef, edits: Container[cst.CSTNode]) -> Iterator[cst.SimpleStatementLine]:
    """The assignments of the host, but for those of loops that may train, too, and where an error is waited for."""
    for node in same_scope(block(function.body)):
        inner = small(node)
        if not isinstance(node, cst.SimpleStatementLine) or not isinstance(inner, cst.Assign) or len(inner.targets) > 1:
            continue
        around = set(draft.tree.ancestors(node))
        kept = not any(isinstance(one, cst.Try) or _may_train(one, draft) for one in around)
        if kept and draft.removed.isdisjoint({node, *around}) and not any(one in edits for one in around):
            yield node


def _may_train(node: cst.CSTNode, draft: Draft) -> bool:
    """True for a loop that takes steps, itself or in what it may call, by the names of functions."""
    if node is draft.nest.host_loop or not isinstance(node, (cst.For, cst.While)):
        return node is draft.nest.host_loop
    defined = defaultdict(list)
    for function in draft.tree.nodes(cst.FunctionDef):
        defined[function.name.value].append(function)
    known = {one.call for one in draft.analysis.backwards} | {one.call for one in draft.analysis.updates}
    seen: set[cst.CSTNode] = set()
    waiting: list[cst.CSTNode] = [node]
    while waiting:
        calls = list(nodes_of(waiting.pop(), cst.Call))
        if not known.isdisjoint(calls):
            return True
        named = {(dotted(call.func) or "").rpartition(".")[2] for call in calls}
        functions = {function for name in named for function in defined.get(name, ())} - seen
        seen |= functions
        waiting += functions
    return False


def _names(line: cst.CSTNode) -> Set[str]:
    """The names that an assignment sets, alone or each to a value of its own; a field is others' to read."""
    inner = small(line)
    pairs = assigned_pairs(inner.targets[0].target, inner.value) if isinstance(inner, cst.Assign) else []
    return {one.value for one, _ in pairs if isinstance(one, cst.Name) and not isinstance(one, FieldName)}


def _was_read(name: str, function: cst.FunctionDef, draft: Draft) -> bool:
    tree = draft.tree
    named = (node for node in tree.mentions.get(name, ()) if function in tree.ancestors(node))
    return any(not is_target(node, tree) for node in named)


def _read(node: cst.CSTNode, draft: Draft, edits: dict[cst.CSTNode, cst.CSTNode]) -> set[str]:
    """What is read in what stays of the host."""
    if node in edits:
        return read_names(edits[node])
    if node is draft.nest.host_loop:
        rest = draft.nest.host_loop.orelse
        return _read(rest, draft, edits) if rest is not None else set()
    if node in draft.removed and not isinstance(node, cst.With):
        return set()
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        return read_names(node)
    if isinstance(node, (cst.BaseCompoundStatement, cst.BaseSuite, cst.Else, cst.ExceptHandler, cst.Finally)):
        return set().union(*(_read(child, draft, edits) for child in children(node)))
    return read_names(node)


def _is_without(
    line: cst.SimpleStatementLine, unread: Set[str], draft: Draft, edits: dict[cst.CSTNode, cst.CSTNode]
) -> bool:
    """Takes what is unread out of a line; False where nothing of it may go."""
    inner = small(line)
    if line in draft.removed or line in edits or not isinstance(inner, cst.Assign):
        return False
    pairs = assigned_pairs(inner.targets[0].target, inner.value)
    host = draft.nest.host
    left = [(one, value) for one, value in pairs if not (_is(one, unread) and may_go(value, host, draft))]  # type: ignore[arg-type]
    if not left:
        draft.removed.add(line)
        draft.fates[inner] = _NOTE
        return True
    if len(pairs) > 1 and len(left) == len(pairs):
        return False
    new: cst.BaseSmallStatement = cst.Expr(inner.value)
    if len(pairs) > 1:
        targets, values = (one_or_tuple(part) for part in zip(*left))
        new = cst.Assign([cst.AssignTarget(targets)], values)  # type: ignore[arg-type]
    edits[line] = line.with_changes(body=[new])
    return True


def _is(target: cst.CSTNode, names: Set[str]) -> bool:
    return isinstance(target, cst.Name) and target.value in names
