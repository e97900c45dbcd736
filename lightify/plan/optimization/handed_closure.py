"""A step that is handed its closure: `def closure(): zero_grad, loss, backward, return loss`, then `step(closure)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.automatic import Automatic, done_by_trainer
from lightify.plan.optimization.gradients import call_of, drops_gradients
from lightify.plan.optimization.weights import may_come_early
from lightify.plan.types import FateNote
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import block, dotted, method_call, small


@dataclass(frozen=True)
class _Closure:
    """What a closure does, taken apart."""

    function: cst.FunctionDef
    frame: Frame
    zero: Item
    backward: Item
    result: cst.Return
    loss: cst.BaseExpression
    others: tuple[Step, ...]


def handed_closure(nest: Nest, kinds: Kinds) -> Automatic | None:
    """Reads the body as the definition of a closure and a step with it; None where it is anything else."""
    for number, step in enumerate(nest.body):
        call = call_of(step)
        used = method_call(call)
        if not isinstance(step, Item) or call is None or used is None or used[1] != "step":
            continue
        if call in nest.sites and len(call.args) == 1:
            return _stepped(number, step, call, kinds.variable(used[0], step.frame), nest, kinds)
    return None


def _stepped(
    number: int, step: Item, call: cst.Call, optimizer: Variable | None, nest: Nest, kinds: Kinds
) -> Automatic | None:
    """The body whose statement of that number steps."""
    definition = _definition(dotted(call.args[0].value), nest.body[:number])
    if definition is None or optimizer is None or kinds.of(optimizer) is not Kind.OPTIMIZER:
        return None
    closure = _closure(definition, optimizer, kinds)
    if closure is None or any(site is not call and site is not call_of(closure.backward) for site in nest.sites):
        return None
    around = [other for other in nest.body if other is not definition]
    if usage(closure.others).writes & usage(around).reads:
        return None
    start = tuple(other for other in nest.body[:number] if other is not definition)
    if any(True for other in start if isinstance(other, Item) for _ in exits_of(other.node)):
        return None
    done = done_by_trainer("steps the optimizer with the training step as closure")
    return Automatic(
        before=closure.others,
        loss=closure.loss,
        loss_frame=closure.frame,
        after=nest.body[number + 1 :],
        optimizer=optimizer,
        fates={
            **dict.fromkeys((closure.zero.node, closure.backward.node, step.node), done),
            closure.result: FateNote(Fate.MOVED, "training_step"),
        },
        start=start,
        closure=closure.function,
    )


def _definition(name: str | None, steps: Sequence[Step]) -> Item | None:
    """The only definition of a function among some statements."""
    definitions = (step for step in steps if isinstance(step, Item) and isinstance(step.node, cst.FunctionDef))
    found = [step for step in definitions if step.node.name.value == name]  # type: ignore[attr-defined]
    return found[0] if len(found) == 1 else None


def _closure(definition: Item, optimizer: Variable, kinds: Kinds) -> _Closure | None:
    """Reads a function that zeroes the optimizer's gradients, takes them anew, and returns the loss.

    What stands after the backward pass must be as good before it.
    """
    function = definition.node
    assert isinstance(function, cst.FunctionDef)
    frame = Frame(function.name.value, function, definition.frame)
    *steps, last = [Item(node, frame) for node in block(function.body)]
    result = small(last.node)
    zeros = [step for step in steps if _called_on(step, "zero_grad") is not None]
    backwards = [step for step in steps if _called_on(step, "backward") is not None]
    if len(zeros) != 1 or len(backwards) != 1 or not isinstance(result, cst.Return) or result.value is None:
        return None
    zero, backward = zeros[0], backwards[0]
    zeroed, loss = _called_on(zero, "zero_grad"), _called_on(backward, "backward")
    zero_call, backward_call = call_of(zero), call_of(backward)
    assert zeroed is not None and loss is not None and zero_call is not None and backward_call is not None
    place = steps.index(backward)
    calm = may_come_early(steps[: place + 1], kinds, kinds.tree)
    if zero not in steps[:place] or not all(calm(step) for step in steps[place + 1 :]):
        return None
    if kinds.variable(zeroed, frame) is not optimizer or not drops_gradients(zero_call):
        return None
    if backward_call.args or dotted(loss) is None or dotted(result.value) != dotted(loss):
        return None
    others = tuple(step for step in steps if step is not zero and step is not backward)
    return _Closure(function, frame, zero, backward, result, loss, others)


def _called_on(step: Step, method: str) -> cst.BaseExpression | None:
    """What a statement that only calls a method calls it on."""
    used = method_call(call_of(step))
    return used[0] if used is not None and used[1] == method else None
