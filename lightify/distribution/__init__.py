"""Takes the wrapper for several devices out of a script: what is left is a network that a Trainer can distribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import libcst as cst

from lightify.distribution.buffers import needs_sync, without_gradients
from lightify.distribution.holders import Holders, Unclear, follow, trains
from lightify.distribution.launch import Launch, launch_of
from lightify.distribution.mentions import Holder
from lightify.distribution.own_processes import Processes, own_processes
from lightify.distribution.wrapping import Wrapping, find_wrapping, is_repeatable
from lightify.errors import SourceSpan
from lightify.syntax.parse import Tree, edited
from lightify.syntax.query import block, code, small, walk


@dataclass(frozen=True, eq=False)
class Distribution:
    """A script without its wrapper, and what a strategy must know to take its place.

    Attributes:
        wrapper: its name, `DistributedDataParallel` or `DataParallel`.
        tree: the script; its statements are those of the source, one for one.
        gone: statements that did nothing but wrap.
        changed: statements that say now without a wrapper what they said with one.
        holders: the names that held the wrapper.
        inside: names that held the network inside it.
        function: where the network was wrapped; None for the module.
        place: of the first statement that wrapped it.
        condition: when it was wrapped; None for always.
        arguments: of the wrapper, as text.
        launch: how the processes are started; None for a wrapper that splits batches in one process.
        syncs_buffers: evaluation reads statistics that the wrapper kept equal.
        processes: what the Trainer does instead of the script's own processes; None where they stay.
        merged: tests whose branches are the same without those, and that branch.
        note: why they stay.
    """

    wrapper: str
    tree: Tree
    gone: frozenset[cst.CSTNode]
    changed: frozenset[cst.CSTNode]
    holders: frozenset[Holder]
    inside: frozenset[Holder]
    function: cst.FunctionDef | None
    place: SourceSpan
    condition: cst.BaseExpression | None
    arguments: tuple[tuple[str, str], ...]
    launch: Launch | None
    syncs_buffers: bool
    processes: Processes | None = None
    merged: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    note: str = ""

    def kept(self, reason: str) -> str:
        """The sentence that says why the script keeps its wrapper."""
        return _kept(self.wrapper, reason)


def distribution(tree: Tree, *, identical: bool, alone: str = "") -> Distribution | str | None:
    """The script without its wrapper; a text says why it keeps it, None that it has none.

    Args:
        identical: no number may change (DataParallel splits each batch, which no strategy does), and the script
            starts its processes itself.
        alone: why it starts them itself where that is known already.
    """
    if "DataParallel" not in tree.text:
        return None
    for wrapper in ("DistributedDataParallel", "DataParallel"):
        wrapping = find_wrapping(tree, wrapper)
        if wrapping is None:
            continue
        if wrapper == "DataParallel" and identical:
            return _kept(
                wrapper, "it splits batches in one process, no strategy does (--style idiomatic starts several)"
            )
        bare = _bare(tree, wrapper, wrapping, identical, alone) if isinstance(wrapping, Wrapping) else wrapping
        return _kept(wrapper, bare) if isinstance(bare, str) else bare
    return None


def _kept(wrapper: str, reason: str) -> str:
    return f"the script keeps its own {wrapper}: {reason}"


def _bare(tree: Tree, wrapper: str, wrapping: Wrapping, identical: bool, alone: str) -> Distribution | str:
    """The script without the wrapper; a text says why it needs it."""
    launch = launch_of(tree) if wrapper == "DistributedDataParallel" else None
    if isinstance(launch, str):
        return launch
    own, note = None, alone
    if launch is not None and not identical and not alone:
        try:
            own = own_processes(tree, wrapping, launch)
        except Unclear as reason:
            note = str(reason)
    try:
        found = follow(tree, wrapping, prefixed=own is None)
    except Unclear as reason:
        return str(reason)
    if any(tree.linked(node) is not None for node in found.edits):
        return "another file knows of the wrapper"
    syncs = needs_sync(tree, found) if launch is not None else False
    problem = _trains_apart(tree, found) or _condition_changes(tree, wrapping) or (syncs if syncs is not True else "")
    if problem:
        return problem
    edits = {**(own.edits if own is not None else {}), **found.edits}
    bare = edited(tree, edits)
    successor = dict(zip(tree.spans, bare.spans))
    changed = frozenset(new for old, new in successor.items() if _was_edited(old, edits))
    gone = _gone(bare, {successor[_statement(call, tree)] for call in wrapping.calls})
    return Distribution(
        wrapper=wrapper,
        tree=bare,
        gone=gone | {successor[node] for node in (own.gone if own is not None else ())},  # type: ignore[index]
        changed=changed,
        holders=_renewed(found.names, successor),
        inside=_renewed(found.inside, successor),
        function=successor.get(wrapping.function) if wrapping.function is not None else None,  # type: ignore[arg-type]
        place=min(tree.span(call) for call in wrapping.calls),
        condition=wrapping.condition,
        arguments=wrapping.arguments,
        launch=launch,
        syncs_buffers=syncs is True,
        processes=own,
        merged=_merged(bare, changed) if own is not None else {},
        note=f"the script starts its processes itself: {note}" if note else "",
    )


def _merged(tree: Tree, changed: frozenset[cst.CSTNode]) -> dict[cst.CSTNode, cst.CSTNode]:
    """`main()` for a test whose branches both say that now."""
    found: dict[cst.CSTNode, cst.CSTNode] = {}
    for node in tree.spans:
        if not isinstance(node, cst.If) or not isinstance(node.orelse, cst.Else) or not is_repeatable(node.test):
            continue
        lines = (*block(node.body), *block(node.orelse.body))
        inner = [line for one in lines if (line := small(one)) is not None]
        if len(inner) == len(lines) == 2 and inner[0] in changed and code(inner[0]) == code(inner[1]):
            leading = [*node.leading_lines, *lines[0].leading_lines]  # type: ignore[attr-defined]
            found[node] = lines[0].with_changes(leading_lines=leading)
    return found


def _renewed(holders: Iterable[Holder], successor: Mapping[cst.CSTNode, cst.CSTNode]) -> frozenset[Holder]:
    return frozenset(
        (successor.get(owner, owner) if owner is not None else None, name)  # type: ignore[misc]
        for owner, name in holders
    )


def _trains_apart(tree: Tree, found: Holders) -> str:
    """Why the network is not trained through the wrapper alone; empty when it is."""
    for call in found.raw_forwards:
        around = tree.function_of(call)
        if trains(tree.module if around is None else around) and not without_gradients(call, tree):
            return f"`{code(call.func)}` runs beside the wrapper, where gradients are not averaged"
    return ""


def _condition_changes(tree: Tree, wrapping: Wrapping) -> str:
    """Why the condition can't be asked again where the Trainer is made; empty when it can."""
    if wrapping.condition is None:
        return ""
    names = {code(node) for node in walk(wrapping.condition) if isinstance(node, (cst.Name, cst.Attribute))}
    last = max(tree.span(call).line for call in wrapping.calls)
    for node in tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign):
        if tree.function_of(node) is wrapping.function and tree.span(node).line > last:
            target = code(node.target)  # type: ignore[attr-defined]
            if target in names:
                return f"`{target}` changes after it decided about the wrapper"
    return ""


def _statement(node: cst.CSTNode, tree: Tree) -> cst.CSTNode:
    return next(a for a in tree.ancestors(node) if a in tree.spans)


def _was_edited(statement: cst.CSTNode, edits: Mapping[cst.CSTNode, object]) -> bool:
    parts = (statement,) if isinstance(statement, cst.BaseSmallStatement) else ()
    return any(node in edits for part in parts for node in walk(part))


def _gone(tree: Tree, wrapped: set[cst.CSTNode]) -> frozenset[cst.CSTNode]:
    """What wrapped and now says `model = model`, with tests that decide about nothing else."""
    gone: set[cst.CSTNode] = set()
    for statement in wrapped:
        itself = isinstance(statement, cst.Assign) and all(
            code(target.target) == code(statement.value) for target in statement.targets
        )
        if itself or _is_said_before(statement, tree):
            gone.add(statement)
    for statement in tuple(gone):
        for ancestor in tree.ancestors(statement):
            if isinstance(ancestor, cst.FunctionDef):
                break
            if isinstance(ancestor, cst.If) and is_repeatable(ancestor.test) and _is_empty(ancestor, gone):
                gone.add(ancestor)
    return frozenset(gone)


def _is_said_before(statement: cst.CSTNode, tree: Tree) -> bool:
    """True for `self.model = model` in a block that says so already."""
    line = tree.parents[statement]
    around = tree.parents[line]
    lines = block(around) if isinstance(around, (cst.IndentedBlock, cst.Module)) else ()
    earlier = lines[: lines.index(line)] if line in lines else ()  # type: ignore[arg-type]
    return any(code(inner) == code(statement) for each in earlier if (inner := small(each)) is not None)


def _is_empty(node: cst.If, gone: set[cst.CSTNode]) -> bool:
    other = node.orelse
    nothing_else = other is None or other in gone or (isinstance(other, cst.Else) and _all_gone(other.body, gone))
    return nothing_else and _all_gone(node.body, gone)


def _all_gone(suite: cst.BaseSuite, gone: set[cst.CSTNode]) -> bool:
    return all(node in gone or small(node) in gone for node in block(suite))
