"""Names that the loops count with, and what a batch is called."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.loops.epochs import EpochHead, Value
from lightify.loops.headers import BatchHead
from lightify.plan.draft import Draft
from lightify.plan.types import Computed, Local
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Binding, Expression, Field, Frame, Step, Variable
from lightify.syntax.query import MODULE_SELF, atom, code, dotted, is_constant, small, target_names, walk


def batch_names(
    draft: Draft,
    head: BatchHead,
    frame: Frame,
    loop: cst.CSTNode,
    body: Sequence[Step],
    later: Sequence[Step],
    untold: frozenset[Variable] = frozenset(),
) -> list[Step]:
    """What a loop's head binds, bound at the start of the step.

    Args:
        untold: what hooks read that are not told of the batch.
    """
    first: list[Step] = []
    if head.element is not None:
        first.append(Binding(head.element, frame, cst.Name("batch"), draft.generated, loop))
        if isinstance(head.element, cst.Name) and head.element.value == "batch_idx" and "batch" not in draft.tree.names:
            element = frame.variable("batch_idx")  # as the step calls its number
            if element not in usage(later).exposed | untold | draft.read_elsewhere():
                draft.forced[element] = Local("batch")
    if head.index is None:
        return first
    variable = frame.variable(head.index.value)
    told = _plus("batch_idx", head.start)
    if (
        (variable not in draft.counted_as or draft.counted_as[variable] == told == "batch_idx")
        and variable not in usage(later).exposed | usage((*body, *later)).writes
        and variable not in untold
        and only_read(draft, variable, body)
        and (head.start is None or is_constant(head.start))
    ):
        draft.forced[variable] = Computed(told)
    elif needed(draft, variable, body, later):
        value: cst.BaseExpression = cst.Name("batch_idx")
        if head.start is not None:
            draft.generated.stand_for("first_index", Expression(head.start, frame))
            value = cst.BinaryOperation(value, cst.Add(), cst.Name("first_index"))
        draft.counted_as[variable] = told
        first.append(Binding(head.index, frame, value, draft.generated, loop))
    return first


def epoch_names(draft: Draft, epochs: EpochHead) -> list[Step]:
    """What the epoch loop's head binds, bound at the start of the epoch."""
    nest = draft.nest
    names: list[Step] = []
    whole = draft.whole()
    for target, value in epochs.names:
        variables = [nest.host.variable(name) for name in target_names(target)]
        counts = isinstance(target, cst.Name) and not expression_usage(value, nest.host).reads
        if counts and only_read(draft, variables[0], whole):
            draft.forced[variables[0]] = Computed(code(value).replace(MODULE_SELF, "self"))
        elif any(needed(draft, v, whole, whole) for v in variables) or _stores(target):
            names.append(Binding(target, nest.host, value, nest.host, nest.epoch_loop))  # type: ignore[arg-type]
    return names


def _stores(target: cst.BaseExpression) -> bool:
    """True for `state["epoch"]` and `state.epoch`, which anyone may read."""
    return any(isinstance(node, (cst.Attribute, cst.Subscript)) for node in walk(target))


def set_once(draft: Draft) -> Value:
    """Tells what the host has set a name to, by one plain assignment before the loop."""
    host = draft.nest.host

    def known(name: cst.Name) -> cst.BaseExpression | None:
        variable = host.resolve(name.value)
        found = [item for item in draft.around.before if variable in usage([item]).writes]
        inner = small(found[0].node) if len(found) == 1 else None
        plain = (
            isinstance(inner, cst.Assign) and len(inner.targets) == 1 and dotted(inner.targets[0].target) == name.value
        )
        used = isinstance(variable, Variable) and variable in usage(draft.whole()).reads
        return inner.value if isinstance(inner, cst.Assign) and plain and not used else None

    return known


def changes(draft: Draft, epochs: EpochHead) -> bool:
    """True when the loops assign what the values of the epochs are made from."""
    host = draft.nest.host
    bound = {host.resolve(name) for target, _ in epochs.names for name in target_names(target)}
    return any(
        expression_usage(value, host).reads & bound or draft.may_change(value, host) for _, value in epochs.names
    )


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
    return text if offset is None else f"{text} + {code(atom(offset))}"
