"""An evaluation under a condition.

Every k epochs: `if (epoch + 1) % k == 0:` is the Trainer's `check_val_every_n_epoch`. What the loops do not change,
`if val_loader is not None:`, is asked before them: the Trainer is handed data to validate on, or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.opening import live
from lightify.facts import Kind
from lightify.loops.epochs import EpochHead
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.evaluation.between import keeps_apart, only_names
from lightify.plan.evaluation.parts import Asked
from lightify.plan.evaluation.seen import first_evaluation
from lightify.plan.touched import Touched
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Frame, Item, Step
from lightify.syntax.query import block, code, dotted, module_attribute, walk
from lightify.syntax.substitute import substitute

#: Calls of a condition that ask an object, and nothing else.
_ASKS = ("len", "bool", "isinstance", "hasattr")


@dataclass(frozen=True)
class Periodic:
    """The end of an epoch that evaluates under a condition.

    Attributes:
        guard: the statement that asks; asked: what for; inside: what it runs.
        apart: what each epoch runs beside it.
    """

    guard: Item
    asked: Asked
    inside: tuple[Step, ...]
    apart: tuple[Step, ...]


def guarded_evaluation(draft: Draft, steps: Sequence[Step]) -> Item | None:
    """The `if` around the evaluation of an epoch's end, where there is no other."""
    if first_evaluation(steps, draft.nest, draft.analysis, draft.tree) is not None:
        return None
    for step in steps:
        if isinstance(step, Item) and isinstance(step.node, cst.If):
            inside = live([Item(node, step.frame) for node in block(step.node.body)], draft.tree)
            if first_evaluation(inside, draft.nest, draft.analysis, draft.tree) is not None:
                return step
    return None


def periodic(draft: Draft, guard: Item, epochs: EpochHead | None) -> Periodic | str:
    """Reads what asks whether to evaluate; a text says why the Trainer can't ask in its place."""
    node = guard.node
    assert isinstance(node, cst.If)
    asked = _asked(draft, node.test, guard.frame, epochs) if node.orelse is None else None
    if asked is None:
        return "not every epoch has one, and those that do are not every k-th, the k-th first"
    end = draft.nest.epoch_end
    place = end.index(guard)
    inside = live([Item(part, guard.frame) for part in block(node.body)], draft.tree)
    if asked == Asked():
        return Periodic(guard, asked, (*end[:place], *inside, *end[place + 1 :]), ())
    apart, first = list(end[place + 1 :]), list[Step]()
    for number, step in reversed(list(enumerate(end[:place]))):
        problem = keeps_apart(step, [*first, guard], draft.kinds)
        if problem and _only_there(step, (*end[:number], *apart), draft):
            first.insert(0, step)
        elif problem:
            return f"not every epoch has one, and {problem}"
        else:
            apart.insert(0, step)
    return Periodic(guard, asked, (*first, *inside), tuple(apart))


def _only_there(step: Step, others: Sequence[Step], draft: Draft) -> bool:
    """True for a value that nothing needs where the evaluation does not run: it is computed with it."""
    if not only_names(step, draft.kinds):
        return False
    beside = Touched.by((*draft.nest.epoch_start, *draft.nest.body, *others), draft.kinds)
    own = usage([step]).writes
    return not own & (beside.reads | beside.changes | draft.read_elsewhere()) and not any(
        isinstance(v, Field) for v in own
    )


def _asked(draft: Draft, test: cst.BaseExpression, frame: Frame, epochs: EpochHead | None) -> Asked | None:
    """The parts of a condition; None where the Trainer can't ask one of them."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        left, right = (_asked(draft, part, frame, epochs) for part in (test.left, test.right))
        if left is None or right is None or (left.every is not None and right.every is not None):
            return None
        both = left.when is not None and right.when is not None
        when = test.with_changes(left=left.when, right=right.when) if both else left.when or right.when
        return Asked(left.every or right.every, when)
    if _always(test, epochs):
        return Asked()
    every = _every(draft, test, frame, epochs)
    when = _settled(draft, test, frame) if every is None else None
    return Asked(every, when) if every is not None or when is not None else None


def _always(test: cst.BaseExpression, epochs: EpochHead | None) -> bool:
    """True for `True`, and for `epoch % 1 == 0`."""
    counted = test.left if isinstance(test, cst.Comparison) else None
    if not isinstance(counted, cst.BinaryOperation) or not code(test).endswith("% 1 == 0") or epochs is None:
        return code(test) == "True"
    return isinstance(counted.operator, cst.Modulo) and _count(counted.left, epochs) is not None


def _settled(draft: Draft, test: cst.BaseExpression, frame: Frame) -> cst.BaseExpression | None:
    """A condition in terms of the host, where it is the same before the loops as after each epoch."""
    if any(isinstance(node, cst.Call) and dotted(node.func) not in _ASKS for node in walk(test)):
        return None
    reads = {variable for variable in expression_usage(test, frame).reads if variable.name not in _ASKS}
    if draft.distribution is not None or any(draft.kinds.of(variable) is Kind.MODULE for variable in reads):
        return None
    whole = draft.whole()
    own = (step for step in whole if isinstance(step, Item))
    called = {draft.kinds.variable(n.func, s.frame) for s in own for n in walk(s.node) if isinstance(n, cst.Call)}
    if draft.may_change(test, frame) or reads & (Touched.by(whole, draft.kinds).changes | called):
        return None
    return in_host(draft, test, frame)


def _every(draft: Draft, test: cst.BaseExpression, frame: Frame, epochs: EpochHead | None) -> cst.BaseExpression | None:
    """k of `(epoch + 1) % k == 0`, where that counts from one as the Trainer does."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        asked: cst.BaseExpression = test.expression
    elif isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        target = test.comparisons[0]
        if not isinstance(target.operator, cst.Equal) or code(target.comparator) != "0":
            return None
        asked = test.left
    else:
        return None
    if not (isinstance(asked, cst.BinaryOperation) and isinstance(asked.operator, cst.Modulo)) or epochs is None:
        return None
    if frame is not draft.nest.host or _count(asked.left, epochs) != 1:
        return None
    k = asked.right
    settled = dotted(k) is not None or (isinstance(k, cst.Integer) and k.evaluated_value > 0)
    if not settled or draft.may_change(k, frame) or in_host(draft, k, frame) is None:
        return None
    return k


def _count(node: cst.BaseExpression, epochs: EpochHead) -> int | None:
    """What an expression is in the first epoch, where it counts the epochs by one."""
    values = {target.value: value for target, value in epochs.names if isinstance(target, cst.Name)}
    told = substitute(node, lambda name: values.get(name))
    return _ahead(told)


def _ahead(node: cst.CSTNode) -> int | None:
    if code(node) == code(module_attribute("current_epoch")):
        return 0
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(other, cst.Integer) and (start := _ahead(one)) is not None:
                return start + other.evaluated_value
    return None


def handed_when(test: cst.BaseExpression | None, source: cst.BaseExpression) -> cst.BaseExpression:
    """`source if test else None`; the source alone where the condition asks whether there is one."""
    if test is None or code(test) == f"{code(source)} is not None":
        return source
    return cst.IfExp(test, source, cst.Name("None"))
