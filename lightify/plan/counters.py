"""Names that the loops count with, and what a batch is called."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.flow import (
    Binding,
    Expression,
    Field,
    Frame,
    Step,
    Variable,
    expression_usage,
    usage,
)
from lightify.plan.draft import Draft
from lightify.plan.headers import BatchHead, EpochHead
from lightify.plan.types import (
    Computed,
    Local,
)
from lightify.query import code, is_constant


def batch_names(
    draft: Draft, head: BatchHead, frame: Frame, loop: cst.CSTNode, body: Sequence[Step], later: Sequence[Step]
) -> list[Step]:
    """What a loop's head binds, bound at the start of the step."""
    first: list[Step] = []
    if head.element is not None:
        first.append(Binding(head.element, frame, cst.Name("batch"), draft.generated, loop))
    if head.index is None:
        return first
    variable = frame.variable(head.index.value)
    if (
        variable not in usage(later).exposed
        and only_read(draft, variable, body)
        and (head.start is None or is_constant(head.start))
    ):
        draft.forced[variable] = Computed(_plus("batch_idx", head.start))
    elif needed(draft, variable, body, later):
        value: cst.BaseExpression = cst.Name("batch_idx")
        if head.start is not None:
            draft.generated.stand_for("first_index", Expression(head.start, frame))
            value = cst.BinaryOperation(value, cst.Add(), cst.Name("first_index"))
        first.append(Binding(head.index, frame, value, draft.generated, loop))
    return first


def epoch_names(draft: Draft, epochs: EpochHead) -> list[Step]:
    nest = draft.nest
    names: list[Step] = []
    whole = draft.whole()
    for target, offset in ((epochs.target, epochs.offset), (epochs.index, epochs.index_offset)):
        if target is None:
            continue
        variable = nest.host.variable(target.value)
        fixed = offset is None or not (expression_usage(offset, nest.host).reads & usage(whole).writes)
        if fixed and only_read(draft, variable, whole) and (offset is None or is_constant(offset)):
            draft.forced[variable] = Computed(_plus("self.current_epoch", offset))
        elif needed(draft, variable, whole, ()):
            value: cst.BaseExpression = cst.Attribute(cst.Name("self"), cst.Name("current_epoch"))
            if offset is None:
                names.append(Binding(target, nest.host, value, draft.generated, nest.epoch_loop))  # type: ignore[arg-type]
            else:
                draft.generated.stand_for("first_epoch", Expression(offset, nest.host))
                total = cst.BinaryOperation(value, cst.Add(), cst.Name("first_epoch"))
                names.append(Binding(target, nest.host, total, draft.generated, nest.epoch_loop))  # type: ignore[arg-type]
    draft.forced[draft.generated.variable("self")] = Local("self")
    return names


def only_read(draft: Draft, variable: Variable, steps: Sequence[Step]) -> bool:
    """True when a loop's counter is not needed anywhere but in the moved code, which never assigns it."""
    nest = draft.nest
    whole = draft.whole()
    if variable in usage(whole).writes or variable in draft.kept_alive or isinstance(variable, Field):
        return False
    if variable.frame.is_module and variable.name in draft.around.kept_reads:
        return False
    if (variable.frame is nest.host or variable.frame.is_module) and variable in usage(draft.around.after).exposed:
        return False
    return variable in usage(steps).reads or variable not in usage(whole).reads


def needed(draft: Draft, variable: Variable, body: Sequence[Step], later: Sequence[Step]) -> bool:
    """True when the value that a loop gives its counter is read by anyone."""
    return (
        isinstance(variable, Field)  # its object's other methods may read it
        or variable in usage(body).reads | draft.kept_alive
        or variable in usage(later).exposed
        or variable in usage(draft.around.after).exposed
        or (variable.frame.is_module and variable.name in draft.around.kept_reads)
    )


def _plus(text: str, offset: cst.BaseExpression | None) -> str:
    return text if offset is None else f"{text} + {code(_grouped(offset))}"


def _grouped(node: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(node, (cst.BinaryOperation, cst.IfExp, cst.Comparison, cst.BooleanOperation)) and not node.lpar:
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node
