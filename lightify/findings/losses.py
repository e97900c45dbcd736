"""Losses kept with their graph, overwritten before use, or only shown."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.names import read_names
from lightify.syntax.query import call_name, dotted, method_call, method_name, target_names, walk, words

KEEPS_GRAPH = Rule(
    "LF420",
    "warning",
    "{total} collects {loss} with its graph: memory grows with each batch",
    "kept as it is; use {loss}.item() or {loss}.detach(), or self.log, which detaches",
)
OVERWRITTEN = Rule(
    "LF423",
    "warning",
    "{name} is computed here and overwritten in {place} before anything reads it",
    "kept as it is, its random draws and running statistics count; remove it or add it to the loss",
)
ONLY_SHOWN = Rule(
    "LF424",
    "note",
    "{name} is shown but no backward() depends on it: it trains nothing",
    "kept as it is; if it should train, add it to what gets the backward()",
)
RULES = (KEEPS_GRAPH, OVERWRITTEN, ONLY_SHOWN)


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts names that get a backward(), and names with the word loss in the batch body."""
    yield from _keeps_graph(script)
    yield from _overwritten(script)
    yield from _only_shown(script)


def _keeps_graph(script: Script) -> Iterator[Diagnostic]:
    for node in script.nodes(cst.AugAssign):
        loss = _bare_loss(script, node.value)
        total = dotted(node.target)
        if loss is None or total is None or not isinstance(node.operator, cst.AddAssign) or not script.in_batches(node):
            continue
        if _outlives_batch(script, node, total):
            yield KEEPS_GRAPH.at(script, node, total=total, loss=loss)
    for call in script.calls("append"):
        used = method_call(call)
        total = dotted(used[0]) if used is not None else None
        if total is None or len(call.args) != 1 or not script.in_batches(call):
            continue
        value = call.args[0].value
        loss = _bare_loss(script, value) if dotted(value) is not None else None
        if loss is not None and _outlives_batch(script, call, total):
            yield KEEPS_GRAPH.at(script, call, total=total, loss=loss)


def _bare_loss(script: Script, value: cst.BaseExpression) -> str | None:
    """`loss` for `loss`, `loss * n` and `loss / n` when loss gets a backward() in this function."""
    if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, (cst.Multiply, cst.Divide)):
        value = value.left
    name = dotted(value)
    if name is None or script.key(value, name) not in script.loss_names or script.without_gradients(value):
        return None
    detached = [d for d in script.definitions.get(script.key(value, name), ()) if _is_number(d.value)]
    return None if detached else name


def _is_number(value: cst.BaseExpression | None) -> bool:
    return method_name(value) in ("item", "detach", "tolist") or call_name(value) == "float"  # type: ignore[arg-type]


def _outlives_batch(script: Script, node: cst.CSTNode, total: str) -> bool:
    """True when the total is started outside the innermost loop and is no loss itself."""
    key = script.key(node, total)
    loop = script.tree.around(node, cst.For, cst.While, cst.FunctionDef)
    if key in script.loss_names or loop is None or isinstance(loop, cst.FunctionDef):
        return False
    starts = [d for d in script.definitions.get(key, ()) if not isinstance(d.node, cst.AugAssign)]
    if not starts or any(d.value is None or _starts_each(script, d.node, loop) for d in starts):
        return False
    return not any(
        d.value is not None and total in read_names(d.value)
        for loss_key in script.loss_names
        for d in script.definitions.get(loss_key, ())
    )


def _starts_each(script: Script, node: cst.CSTNode, loop: cst.CSTNode) -> bool:
    """True when a statement runs in each round of a loop."""
    for ancestor in script.tree.ancestors(node):
        if ancestor is loop:
            return True
        if isinstance(ancestor, cst.If):
            return False
    return False


def _overwritten(script: Script) -> Iterator[Diagnostic]:
    """`loss = f(...)` and later `loss = g(...)` in a batch, with no reader in between."""
    if not any("loss" in name and len(found) > 1 for (_, name), found in script.definitions.items()):
        return
    blocks: dict[cst.CSTNode, None] = {
        script.tree.parents[node]: None for node in script.straight if node in script.tree.parents
    }
    lines = [parent for parent in blocks if isinstance(parent, cst.SimpleStatementLine)]
    bodies = dict.fromkeys(script.tree.parents[line] for line in lines if line in script.tree.parents)
    for body in bodies:
        pending: dict[str, cst.Assign] = {}
        for line in getattr(body, "body", ()):
            reads = read_names(line)
            pending = {name: node for name, node in pending.items() if name not in reads}
            small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
            if isinstance(small, cst.Assign):
                for name in [name for target in small.targets for name in target_names(target.target)]:
                    if name in pending:
                        yield OVERWRITTEN.at(script, pending.pop(name), name=name, place=script.tree.line_of(small))
                pending |= _computed_losses(small)
            elif isinstance(line, cst.If):
                inner = [_computed_losses(part) for part in walk(line) if isinstance(part, cst.Assign)]
                pending |= {name: node for found in inner for name, node in found.items() if name not in reads}
            elif small is None:
                pending.clear()


def _computed_losses(node: cst.Assign) -> dict[str, cst.Assign]:
    target = node.targets[0].target
    if (
        len(node.targets) == 1
        and isinstance(target, cst.Name)
        and "loss" in words(target.value)
        and _computes(node.value)
    ):
        return {target.value: node}
    return {}


def _computes(value: cst.BaseExpression) -> bool:
    return any(isinstance(node, cst.Call) for node in walk(value))


def _only_shown(script: Script) -> Iterator[Diagnostic]:
    assigned: dict[str, cst.Assign] = {}
    for small in script.straight:
        if isinstance(small, cst.Assign) and len(small.targets) == 1 and isinstance(small.targets[0].target, cst.Name):
            name = small.targets[0].target.value
            if "loss" in words(name) and not _is_number(small.value) and _optimizes_beside(script, name):
                assigned.setdefault(name, small)
    for name, node in assigned.items():
        key = script.key(node, name)
        if key in script.loss_names or script.without_gradients(node) or "." in name:
            continue
        if not isinstance(node.value, cst.Call) and not isinstance(node.value, cst.BinaryOperation):
            continue
        if _trains(script, node.value, 0):
            continue
        uses = [n for n in script.nodes(cst.Name) if n.value == name and not _is_target(script, n)]
        if uses and all(_is_display(script, use) for use in uses) and read_names(node.value):
            yield ONLY_SHOWN.at(script, node, name=name)


def _trains(script: Script, value: cst.BaseExpression, depth: int) -> bool:
    """True when something that a value is made of gets a backward() of its own."""
    for name in read_names(value):
        key = script.key(value, name)
        if key in script.loss_names:
            return True
        if depth < 4 and any(
            d.value is not None and _trains(script, d.value, depth + 1)
            for d in script.definitions.get(key, ())
            if "loss" in words(name)
        ):
            return True
    return False


def _optimizes_beside(script: Script, name: str) -> bool:
    """True when the script steps an optimizer of the same first word: `d_loss` and `optimizer_D`."""
    first = min(words(name) - {"loss"}, default="", key=len)
    if len(words(name) - {"loss"}) != 1:
        return False
    for moment in script.moments:
        if script.updates_parameters(moment):
            receiver = method_call(moment.call)[0]  # type: ignore[index]
            if first in words(dotted(receiver) or ""):
                return True
    return False


def _is_target(script: Script, node: cst.CSTNode) -> bool:
    return isinstance(script.tree.parents.get(node), (cst.AssignTarget, cst.Attribute)) and not (
        isinstance(script.tree.parents.get(node), cst.Attribute) and script.tree.parents[node].value is node  # type: ignore[attr-defined]
    )


def _is_display(script: Script, node: cst.CSTNode) -> bool:
    """True for `x.item()`, `x.data`, `float(x)` and parts of print."""
    parent = script.tree.parents.get(node)
    if isinstance(parent, cst.Attribute) and parent.value is node:
        return parent.attr.value in ("item", "data", "detach")
    return any(
        isinstance(a, cst.Call) and call_name(a) in ("print", "float", "write", "add_scalar", "set_postfix", "format")
        for a in script.tree.ancestors(node)
    )
