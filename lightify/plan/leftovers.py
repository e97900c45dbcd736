"""Values of the host that only code which is gone has read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.homes import Homes
from lightify.plan.types import FateNote, Global
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Variable
from lightify.syntax.names import read_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import children, method_call, small, walk

_PURE = {
    "len",
    "int",
    "float",
    "str",
    "bool",
    "min",
    "max",
    "torch.device",
    "torch.cuda.is_available",
    "torch.cuda.device_count",
    "torch.accelerator.is_available",
    "torch.backends.mps.is_available",
}


def read_by_run(
    draft: Draft,
    homes: Homes,
    captured: Iterable[tuple[Variable, str]],
    sources: Iterable[cst.CSTNode],
    after_fit: Iterable[str],
) -> set[Variable]:
    """What a run reads of the host: globals in its hooks, arguments of the module, of the Trainer and of fit."""
    host = draft.nest.host
    reads = {variable for variable, home in homes.of.items() if isinstance(home, Global)}
    reads |= {owner for variable, _ in captured for owner in (variable, getattr(variable, "owner", variable))}
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
    """Drops the host's `name = ...` and `a = b = ...` before the run whose value nothing reads any more.

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
        if isinstance(inner, cst.Assign) and _may_go(draft, item, inner.value):
            names = [target.target.value for target in inner.targets if isinstance(target.target, cst.Name)]
            meant = {item.frame.resolve(name) for name in names}
            unread = len(names) == len(inner.targets) and not meant & needed
            unread = unread and not any(isinstance(variable, Field) for variable in meant)
            if unread and all(_was_read(name, draft.tree) for name in names):
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
        for part in children(outer):
            if not isinstance(part, (cst.BaseSuite, cst.BaseStatement, cst.Else)):
                reads |= expression_usage(part, draft.nest.host).reads
    return reads


def _may_go(draft: Draft, item: Item, value: cst.BaseExpression) -> bool:
    """True for what may be left out once its value is not wanted; the idiomatic style leaves out more."""
    computes = draft.settings.style == "idiomatic" and only_computes(value, item.frame, draft.tree, lambda _: False)
    return computes or _is_pure(value, draft.tree)


def _is_pure(value: cst.BaseExpression, tree: Tree) -> bool:
    """True for what may be left out if nobody wants its value."""
    for node in walk(value):
        if isinstance(node, cst.Call) and tree.qualified(node.func) not in _PURE:
            used = method_call(node)
            if used is None or used[1] not in ("size", "dim", "item"):
                return False
        elif isinstance(node, (cst.Await, cst.Yield, cst.NamedExpr, cst.Subscript)):
            return False
    return True


def _was_read(name: str, tree: Tree) -> bool:
    """True when the script mentions a name outside the targets of assignments."""
    return any(not isinstance(tree.parents[node], cst.AssignTarget) for node in tree.mentions.get(name, ()))
