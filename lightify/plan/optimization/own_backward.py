"""The backward pass as the script takes it: with arguments, through a gradient scaler, one way or the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.automatic import done_by_trainer
from lightify.plan.types import FateNote
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.query import (
    arguments,
    block,
    code,
    dotted,
    expression_of,
    is_constant,
    map_children,
    method_call,
    method_name,
    nodes_of,
    walk,
)

LOSS = "loss"


@dataclass(frozen=True)
class Backward:
    """One backward pass of a loss.

    Attributes:
        step: what `backward(self, loss)` does; None where it is `loss.backward()`.
        fates: those of the statements that it is made of.
    """

    loss: cst.BaseExpression
    frame: Frame
    step: Item | None
    fates: Mapping[cst.CSTNode, FateNote]


def read_backward(step: Step, nest: Nest, kinds: Kinds) -> Backward | None:
    """Reads `loss.backward()` and `scaler.scale(loss).backward()`, perhaps one or the other under a condition."""
    if not isinstance(step, Item):
        return None
    losses = _losses(step.node, step.frame, nest, kinds)
    if not losses or len({code(loss.with_changes(lpar=(), rpar=())) for loss in losses}) > 1:
        return None
    call = expression_of(step.node)
    used = method_call(call)
    if isinstance(call, cst.Call) and not call.args and used is not None and used[0] is losses[0]:
        return Backward(losses[0], step.frame, None, {step.node: done_by_trainer("backward of the returned loss")})
    told = _with_parameter(step.node, losses)
    if told is None:
        return None
    parts = (part for part in walk(step.node) if isinstance(part, (cst.BaseSmallStatement, cst.BaseCompoundStatement)))
    fates: dict[cst.CSTNode, FateNote] = dict.fromkeys(parts, FateNote(Fate.MOVED, "backward"))
    return Backward(losses[0], step.frame, Item(told, step.frame.with_own([LOSS])), fates)


def with_backward_apart(nest: Nest, kinds: Kinds) -> Nest:
    """The loops with `if amp: <backward>; <step> else: <backward>; <step>` as two conditions."""
    for number, step in enumerate(nest.body):
        node = step.node if isinstance(step, Item) else None
        if not isinstance(step, Item) or not isinstance(node, cst.If) or not isinstance(node.orelse, cst.Else):
            continue
        ways = [block(node.body), block(node.orelse.body)]
        first, rest = (_with_ways(node, [way[part] for way in ways]) for part in (slice(1), slice(1, None)))
        later = (part for way in ways for line in way[1:] for part in walk(line))
        more = any(part in nest.sites and method_name(part) == "backward" for part in later)
        asks = any(one.attr.value == "grad" for one in nodes_of(node.test, cst.Attribute))  # it is asked twice
        if more or asks or min(map(len, ways)) < 2 or not _losses(first, step.frame, nest, kinds):
            continue
        parts = (Item(first, step.frame), Item(rest.with_changes(leading_lines=[]), step.frame))
        body = (*nest.body[:number], *parts, *nest.body[number + 1 :])
        return replace(nest, body=body, origins={**nest.origins, parts[1].node: node})
    return nest


def needs_optimizer_itself(node: cst.CSTNode | None, frame: Frame, kinds: Kinds) -> bool:
    """True for `scaler.step(optimizer)`, `scaler.unscale_(optimizer)` and what apex's amp is handed."""
    used = method_call(node)
    if used is None or not isinstance(node, cst.Call):
        return False
    known = used[1] in ("step", "unscale_") and kinds.kind(used[0], frame) is Kind.SCALER
    return known or (kinds.tree.qualified(node.func) or "").startswith("apex.amp.")


def _with_ways(node: cst.If, ways: Sequence[Sequence[cst.BaseStatement]]) -> cst.If:
    assert isinstance(node.orelse, cst.Else)
    orelse = node.orelse.with_changes(body=node.orelse.body.with_changes(body=ways[1]))
    return node.with_changes(body=node.body.with_changes(body=ways[0]), orelse=orelse)


def _losses(node: cst.CSTNode, frame: Frame, nest: Nest, kinds: Kinds) -> list[cst.BaseExpression] | None:
    """The losses of a statement that only takes the backward pass, whichever way it goes; None for any other."""
    if isinstance(node, (cst.If, cst.Else)):
        ways = list(block(node.body))
        if isinstance(node, cst.If):
            if node.orelse is None or any(isinstance(part, cst.Call) for part in walk(node.test)):
                return None
            ways.append(node.orelse)  # type: ignore[arg-type]
        found = [_losses(way, frame, nest, kinds) for way in ways]
        return None if None in found else [loss for losses in found if losses for loss in losses]
    if isinstance(node, cst.With):
        return _scaled_by_apex(node, frame, nest, kinds)
    call = expression_of(node)
    if not isinstance(call, cst.Call) or call not in nest.sites or method_name(call) != "backward":
        return None
    plain = all(arg.keyword is not None and is_constant(arg.value) for arg in call.args)
    return [_unscaled(call.func.value, frame, kinds)] if plain else None  # type: ignore[attr-defined]


def _unscaled(node: cst.BaseExpression, frame: Frame, kinds: Kinds) -> cst.BaseExpression:
    """`loss` for `scaler.scale(loss)`."""
    used = method_call(node)
    if used is None or used[1] != "scale" or kinds.kind(used[0], frame) is not Kind.SCALER:
        return node
    given = arguments(node)  # type: ignore[arg-type]
    alone = len(given.positional) == 1 and not given.keyword and not given.starred
    return given.positional[0] if alone else node


def _scaled_by_apex(node: cst.With, frame: Frame, nest: Nest, kinds: Kinds) -> list[cst.BaseExpression] | None:
    """The loss of `with amp.scale_loss(loss, optimizer) as scaled: scaled.backward()`."""
    item, lines = node.items[0], block(node.body)
    call, name = item.item, item.asname.name if item.asname is not None else None
    known = isinstance(call, cst.Call) and kinds.tree.qualified(call.func) == "apex.amp.scale_loss"
    if not known or len(node.items) > 1 or len(lines) > 1 or not isinstance(name, cst.Name):
        return None
    inner, given = _losses(lines[0], frame, nest, kinds), arguments(call)  # type: ignore[arg-type]
    alike = inner is not None and len(inner) == 1 and dotted(inner[0]) == name.value
    return list(given.positional[:1]) if alike and given.positional and not given.starred else None


def _with_parameter(node: cst.BaseStatement, losses: Sequence[cst.BaseExpression]) -> cst.BaseStatement | None:
    """A statement about the hook's parameter in place of the loss; None where its name means something else there."""
    parameters: set[cst.CSTNode] = set()

    def change(part: cst.CSTNode) -> cst.CSTNode:
        if part in losses:
            parameters.add(parameter := cst.Name(LOSS))
            return parameter
        return map_children(part, change)  # type: ignore[arg-type]

    told = change(node)
    others = (part for part in nodes_of(told, cst.Name) if part.value == LOSS and part not in parameters)
    return told if not any(True for _ in others) else None  # type: ignore[return-value]
