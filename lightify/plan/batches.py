"""Where the batches come from, in terms of the host."""

from __future__ import annotations

from collections.abc import Collection

import libcst as cst

from lightify.analysis.changes import changes_of, may_run
from lightify.facts import Kind
from lightify.loops.headers import BatchHead
from lightify.plan.draft import Draft
from lightify.plan.trainer.lightning import is_steady, on_lightning
from lightify.plan.trainer.samplers import train_order_changes
from lightify.recognisers import kind_of_value
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Expression, Frame, Item, Variable
from lightify.syntax.query import block, dotted, method_call, method_name, path_node, root_name, target_names, walk
from lightify.syntax.substitute import substitute

_RESIZES = ("append", "extend", "insert", "pop", "remove", "clear", "resize_", "set_")
_READING = ("get", "items", "keys", "values", "copy")


def batch_parts(head: BatchHead, frame: Frame) -> list[Variable]:
    """The names of a batch's parts, in order."""
    return [frame.variable(name) for name in target_names(head.element)] if head.element is not None else []


def batch_variables(head: BatchHead, frame: Frame) -> set[Variable]:
    return {variable for variable in batch_parts(head, frame) if variable.name != "_"}


def batch_source(draft: Draft, head: BatchHead) -> cst.BaseExpression | None:
    """The iterable for fit, in terms of the host; None when the module provides it."""
    nest = draft.nest
    if head.while_test is not None:
        return None
    reads = expression_usage(head.source, nest.batch_frame).reads
    known = is_loader(draft, head.source, nest.batch_frame)
    plain = known and not any(
        isinstance(n, cst.Call) and dotted(n.func) != "range" and dotted(n.func) != "len" and not _is_size(n)
        for n in walk(head.source)
    )
    written = usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
    counters = target_names(nest.epoch_loop.target) if isinstance(nest.epoch_loop, cst.For) else ()
    heads = {nest.host.variable(name) for name in counters}
    settled = not (reads & (written | heads))
    host = in_host(draft, head.source, nest.batch_frame) if settled else None
    item = draft.kinds.expression(head.source, nest.batch_frame)
    remade = not plain and not (known and nest.epoch_loop is None)
    remade |= isinstance(item[0], cst.Subscript) and draft.may_change(*item)
    # the last batch of a prepared loader runs code of its own after it, which Lightning does not wait for
    unfinished = on_lightning(draft) and (
        draft.analysis.accelerated or not is_steady(draft, head.source, nest.batch_frame)
    )
    if host is not None and (remade or unfinished or train_order_changes(draft)):
        draft.lazy = True
    return host


def is_loader(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True for loaders and ranges; a Trainer takes a list or dict for a collection of loaders."""
    inner, within = draft.kinds.expression(source, frame)
    if isinstance(inner, cst.Subscript):
        source, frame = inner, within
    if isinstance(source, cst.Call):
        return dotted(source.func) == "range" or (draft.tree.qualified(source.func) or "").endswith("DataLoader")
    kind = draft.kinds.kind(source, frame)
    if kind in (Kind.LOADER, Kind.COLLECTION):
        return kind is Kind.LOADER
    if isinstance(source, cst.Subscript):
        held = _held_kinds(draft, source.value, frame)
        made = held == {Kind.LOADER} and not _may_get_others(draft, source, frame)
        return made or ("load" in (root_name(source) or "").lower() and Kind.COLLECTION not in held)
    name = (dotted(source) or "").rpartition(".")[2]
    if any(held is Kind.COLLECTION and at[1] == name for at, held in draft.analysis.kinds.items()):
        return False  # it may be that list
    last = name.lower()
    return ("loader" in last or last.endswith(("dl", "load"))) and not last.endswith("s")


def _may_get_others(draft: Draft, item: cst.Subscript, frame: Frame) -> bool:
    """True when the script may put something else into what holds a loader, wherever that is."""
    holder, tree = root_name(item), draft.tree
    if draft.may_change(item, frame):
        return True
    for node in tree.nodes(cst.AssignTarget, cst.AugAssign, cst.Del, cst.Call):
        if isinstance(node, cst.Call):
            used = method_call(node)
            if used is not None and dotted(used[0]) == holder and used[1] not in _READING:
                return True
            given = any(dotted(arg.value) == holder for arg in node.args) and dotted(node.func) not in ("len", "print")
            functions = may_run(node, tree) if given else []
            if given and (not functions or any(changes_of(function, tree).items for function in functions)):
                return True
        elif any(isinstance(part, cst.Subscript) and root_name(part) == holder for part in walk(node.target)):  # type: ignore[attr-defined]
            return True
    return False


def _held_kinds(draft: Draft, holder: cst.BaseExpression, frame: Frame) -> set[Kind | None]:
    """What can be taken out of `{"train": list(...)}`."""
    variable = draft.kinds.variable(holder, frame)
    parts: list[cst.BaseExpression] = []
    for value in draft.kinds.values(variable) if variable is not None else ():
        if isinstance(value, (cst.Dict, cst.List, cst.Tuple)):
            parts += [element.value for element in value.elements]
        elif isinstance(value, cst.DictComp):
            parts.append(value.value)
    return {kind_of_value(part, draft.tree) or draft.kinds.kind(part, frame) for part in parts}


def in_host(
    draft: Draft, node: cst.BaseExpression, frame: Frame, along: Collection[Variable] = ()
) -> cst.BaseExpression | None:
    """An expression of a moved body in terms of the host's names; None when it needs others.

    Args:
        along: variables that the host gets, under their names.
    """
    failed = False

    def replace_name(name: str) -> cst.BaseExpression | None:
        nonlocal failed
        meaning = frame.resolve(name)
        if isinstance(meaning, Expression):
            inner = in_host(draft, meaning.node, meaning.frame, along)
            failed |= inner is None
            return inner
        if meaning in along:
            return None
        if meaning.frame.is_module or meaning.frame is draft.nest.host or _lexical(meaning.frame, draft.nest.host):
            return path_node(meaning.path) if meaning.path != name else None
        failed = True
        return None

    result = substitute(node, replace_name)
    return None if failed else result  # type: ignore[return-value]


def interruptible(draft: Draft) -> bool:
    """True when the script goes on after an exception in the loop: Ctrl-C, or one that it raises itself."""
    for outer in draft.tree.ancestors(draft.nest.host_loop):
        if isinstance(outer, cst.FunctionDef):
            return False
        if isinstance(outer, (cst.Try, cst.TryStar)) and _catches(outer, draft):
            return True
    return False


def _catches(outer: cst.Try | cst.TryStar, draft: Draft) -> bool:
    """True when what follows an exception reads what the loop has set until then; handlers that leave need not."""
    ways = [usage([Item(node, draft.nest.host) for node in block(one.body)]) for one in outer.handlers]
    left = [way for way in ways if way.must is None and not way.reads & usage(draft.whole()).writes]
    return outer.finalbody is not None or len(left) < len(ways)


def settled_range(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True for `range(0, len(data), size)` that is the same before the loops as after each epoch."""
    if any(
        isinstance(n, cst.Call) and dotted(n.func) not in ("range", "len") and not _is_size(n) for n in walk(source)
    ):
        return False
    grown = (
        draft.kinds.variable(used[0], step.frame)
        for step in draft.whole()
        if isinstance(step, Item)
        for node in walk(step.node)
        if (used := method_call(node)) is not None and used[1] in _RESIZES
    )
    return not draft.may_change(source, frame) and expression_usage(source, frame).reads.isdisjoint(grown)


def _is_size(call: cst.Call) -> bool:
    return method_name(call) in ("size", "keys", "items", "values")


def _lexical(frame: Frame, host: Frame) -> bool:
    current: Frame | None = host
    while current is not None:
        if current is frame:
            return True
        current = current.outer
    return False
