"""The backward pass as the script takes it: with arguments, through a gradient scaler, one way or the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    block,
    code,
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
    calls = list(_calls(step, nest))
    if not isinstance(step, Item) or not calls or not _is_no_more(step.node, calls):
        return None
    losses = [_loss_of(call, step.frame, kinds) for call in calls]
    if len({code(loss.with_changes(lpar=(), rpar=())) for loss in losses}) > 1:
        return None
    if expression_of(step.node) is calls[0] and not calls[0].args and losses[0] is _receiver(calls[0]):
        return Backward(losses[0], step.frame, None, {step.node: done_by_trainer("backward of the returned loss")})
    told = _with_parameter(step.node, losses)
    if told is None:
        return None
    parts = (part for part in walk(step.node) if isinstance(part, (cst.BaseSmallStatement, cst.BaseCompoundStatement)))
    fates: dict[cst.CSTNode, FateNote] = dict.fromkeys(parts, FateNote(Fate.MOVED, "backward"))
    return Backward(losses[0], step.frame, Item(told, step.frame.with_own([LOSS])), fates)


def with_backward_apart(nest: Nest) -> Nest:
    """The loops with `if amp: <backward>; <step> else: <backward>; <step>` as two conditions."""
    for number, step in enumerate(nest.body):
        node = step.node if isinstance(step, Item) else None
        if not isinstance(step, Item) or not isinstance(node, cst.If) or not isinstance(node.orelse, cst.Else):
            continue
        ways = [block(node.body), block(node.orelse.body)]
        if any(isinstance(part, cst.Call) for part in walk(node.test)):
            continue
        if not all(len(way) > 1 and _is_call(way[0], nest) and not _holds_call(way[1:], nest) for way in ways):
            continue
        first = node.with_changes(
            body=node.body.with_changes(body=ways[0][:1]),
            orelse=node.orelse.with_changes(body=node.orelse.body.with_changes(body=ways[1][:1])),
        )
        rest = node.with_changes(
            leading_lines=[],
            body=node.body.with_changes(body=ways[0][1:]),
            orelse=node.orelse.with_changes(body=node.orelse.body.with_changes(body=ways[1][1:])),
        )
        parts = (Item(first, step.frame), Item(rest, step.frame))
        body = (*nest.body[:number], *parts, *nest.body[number + 1 :])
        return replace(nest, body=body, origins={**nest.origins, rest: node})
    return nest


def hands_to_scaler(call: cst.CSTNode | None, frame: Frame, kinds: Kinds) -> bool:
    """True for `scaler.step(optimizer)` and `scaler.unscale_(optimizer)`."""
    used = method_call(call)
    return used is not None and used[1] in ("step", "unscale_") and kinds.kind(used[0], frame) is Kind.SCALER


def _calls(step: Step, nest: Nest) -> Iterator[cst.Call]:
    for node in walk(step.node) if isinstance(step, Item) else ():
        if isinstance(node, cst.Call) and node in nest.sites and method_name(node) == "backward":
            yield node


def _is_call(statement: cst.BaseStatement, nest: Nest) -> bool:
    call = expression_of(statement)
    return call in nest.sites and method_name(call) == "backward"


def _holds_call(statements: Sequence[cst.BaseStatement], nest: Nest) -> bool:
    return any(node in nest.sites and method_name(node) == "backward" for one in statements for node in walk(one))


def _is_no_more(node: cst.CSTNode, calls: list[cst.Call]) -> bool:
    """True for a statement that only takes the backward pass, whichever way it goes."""
    if isinstance(node, (cst.If, cst.Else)):
        other = node.orelse if isinstance(node, cst.If) else None
        whole = all(_is_no_more(one, calls) for one in block(node.body))
        if isinstance(node, cst.If) and (other is None or any(isinstance(part, cst.Call) for part in walk(node.test))):
            return False
        return whole and (other is None or _is_no_more(other, calls))
    call = expression_of(node)
    return (
        isinstance(call, cst.Call)
        and call in calls
        and all(arg.keyword is not None and is_constant(arg.value) for arg in call.args)
    )


def _receiver(call: cst.Call) -> cst.BaseExpression:
    used = method_call(call)
    assert used is not None
    return used[0]


def _loss_of(call: cst.Call, frame: Frame, kinds: Kinds) -> cst.BaseExpression:
    """The loss itself, where a scaler scales it."""
    receiver = _receiver(call)
    used = method_call(receiver)
    if used is None or used[1] != "scale" or kinds.kind(used[0], frame) is not Kind.SCALER:
        return receiver
    given = receiver.args  # type: ignore[attr-defined]
    return given[0].value if len(given) == 1 and given[0].keyword is None and not given[0].star else receiver


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
