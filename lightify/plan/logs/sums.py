"""Sums that a script keeps over a pass, and the means that it makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.loops.headers import BatchHead
from lightify.plan.batches import batch_parts
from lightify.plan.draft import Draft
from lightify.plan.logs.lists import meant_list
from lightify.plan.logs.meters import Added, added, begun, meters_begun
from lightify.plan.logs.samples import batch_size, counts_batches, counts_samples, counts_whole_batch, never_zero
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.query import assigned_pairs, code, dotted, expression_of, method_call, small


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over data: what starts it, one batch, what ends it.

    Attributes:
        outside: variables that others read.
        training: the Trainer logs each batch of it, unless it is told otherwise.
        window: how many batches a sum goes over that starts anew within the pass, as text.
    """

    start: Sequence[Step]
    body: Sequence[Step]
    after: Sequence[Step]
    head: BatchHead
    frame: Frame
    batch: set[Variable]
    outside: set[Variable]
    training: bool
    window: str = ""

    @property
    def source(self) -> cst.BaseExpression:
        return self.head.source

    @property
    def parts(self) -> Sequence[Variable]:
        """The parts of a batch, in order."""
        return batch_parts(self.head, self.frame)

    @property
    def index(self) -> Variable | None:
        """The name that counts its batches, from 0."""
        named = self.head.index is not None and self.head.start is None
        return self.frame.variable(self.head.index.value) if named else None  # type: ignore[union-attr]


@dataclass(frozen=True, eq=False)
class Sum:
    """`variable += value` or `variable.append(value)` once a batch, from nothing; or what a meter is given.

    Attributes:
        listed: the values are kept in a list.
        added: what a meter is given, which knows the size of a batch and its own mean.
        made: what makes the meter.
    """

    variable: Variable
    step: Item
    value: cst.BaseExpression
    listed: bool = False
    added: Added | None = None
    made: cst.Call | None = None


@dataclass(frozen=True, eq=False)
class Mean:
    """`scale * total / count`.

    Attributes:
        size: a batch's share of the count, as text; empty for the number of samples that it has.
        share: the mean of one batch.
        involved: the sums that it is made of.
        floored: it is rounded down, which no average can be.
    """

    total: Sum
    size: str
    share: str
    involved: frozenset[Variable]
    scale: str = ""
    floored: bool = False


def sums_of(one: Pass) -> dict[Variable, Sum]:
    started = {variable: start for step in one.start for variable, start in begun_empty(step).items()}
    found: dict[Variable, Sum] = {}
    for step in one.body:
        total = _grows(step) if isinstance(step, Item) else None
        if total is not None and started.get(total.variable) == ("[]" if total.listed else "0"):
            found[total.variable] = total
    again = [v for step in one.body for v in usage([step]).writes if v in found and found[v].step is not step]
    return {v: total for v, total in found.items() if v not in again}


def _grows(step: Item) -> Sum | None:
    """Reads `total += value` and `values.append(value)`."""
    inner, call = small(step.node), expression_of(step.node)
    used = method_call(call)
    if isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.AddAssign):
        target, value, listed = inner.target, inner.value, False
    elif used is not None and used[1] == "append" and isinstance(call, cst.Call) and len(call.args) == 1:
        target, value, listed = used[0], call.args[0].value, True  # type: ignore[assignment]
    else:
        return None
    variable = step.frame.resolve(target.value) if isinstance(target, cst.Name) else None
    plain = isinstance(variable, Variable) and not isinstance(variable, Field)
    return Sum(variable, step, value, listed) if plain else None  # type: ignore[arg-type]


def meters_of(draft: Draft, one: Pass) -> dict[Variable, Sum]:
    """The meters that a pass starts and that each batch adds to once."""
    known = {v: meter for step in one.start for v, meter in meters_begun(draft, step).items()}
    made = {v: call for step in one.start for v, call in begun(draft, step).items()}
    found: dict[Variable, list[Sum]] = {}
    for step in one.body:
        inner = added(draft, step, known)
        if inner is not None and isinstance(step, Item):
            total = Sum(inner.variable, step, inner.weighted, added=inner, made=made[inner.variable])
            found.setdefault(inner.variable, []).append(total)
    writes = [v for step in one.body for v in usage([step]).writes]
    return {v: totals[0] for v, totals in found.items() if len(totals) == 1 and v not in writes}


def begun_empty(step: Step) -> dict[Variable, str]:
    """The variables that a statement sets to `0` or to `[]`, where it does nothing else."""
    inner = small(step.node) if isinstance(step, Item) else None
    if not isinstance(step, Item) or not isinstance(inner, cst.Assign):
        return {}
    found: dict[Variable, str] = {}
    for target in inner.targets:
        for name, value in assigned_pairs(target.target, inner.value):
            variable = step.frame.resolve(name.value) if isinstance(name, cst.Name) else None
            start = _nothing(value)
            if not start or not isinstance(variable, Variable) or (start == "[]" and len(inner.targets) > 1):
                return {}
            found[variable] = start
    return found


def _nothing(value: cst.CSTNode) -> str:
    """`0` for zero, `[]` for an empty list; empty for anything else."""
    if isinstance(value, (cst.Integer, cst.Float)):
        return "0" if float(value.value) == 0 else ""
    return "[]" if code(value) in ("[]", "list()") else ""


def zeroed(step: Step) -> set[Variable]:
    """The variables that a statement sets to zero, and nothing else."""
    begun_at = begun_empty(step)
    return set(begun_at) if set(begun_at.values()) == {"0"} else set()


def mean_of(
    draft: Draft,
    one: Pass,
    sums: Mapping[Variable, Sum],
    means: Mapping[Variable, Mean],
    node: cst.CSTNode,
    frame: Frame,
) -> Mean | None:
    """Reads `total / count`, `100. * total / count` and names of such."""
    node = plain(node)
    if isinstance(node, cst.Name):
        variable = draft.kinds.variable(node, frame)
        return means.get(variable) if variable is not None else None
    if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
        variable = draft.kinds.variable(node.value, frame)
        total = sums.get(variable) if variable is not None else None
        if total is None or total.added is None or node.attr.value not in total.added.meter.means:
            return None
        known = total.added.size == "1" or _known_at(one, total, total.added.size)
        return mean_with(draft, one, total, total.added.size, {total.variable}) if known else None
    values = draft.kinds.variable(meant_list(node, draft.tree), frame)
    if values is not None and values in sums and sums[values].listed:
        return mean_with(draft, one, sums[values], "1", {values})
    if not isinstance(node, cst.BinaryOperation):
        return None
    if isinstance(node.operator, cst.Multiply):
        for factor, rest in ((node.left, node.right), (node.right, node.left)):
            if isinstance(factor, (cst.Integer, cst.Float)):
                mean = mean_of(draft, one, sums, means, rest, frame)
                if mean is not None and not mean.scale:
                    return replace(mean, scale=f"{factor.value} * ")
        return None
    if not isinstance(node.operator, (cst.Divide, cst.FloorDivide)):
        return None
    scale, top = "", plain(node.left)
    if isinstance(top, cst.BinaryOperation) and isinstance(top.operator, cst.Multiply):
        for factor, rest in ((top.left, top.right), (top.right, top.left)):
            if isinstance(factor, (cst.Integer, cst.Float)):
                scale, top = f"{factor.value} * ", plain(rest)
                break
    if isinstance(node.operator, cst.FloorDivide) and not scale:
        return None  # no share in percent
    summed = (
        top.args[0].value if isinstance(top, cst.Call) and dotted(top.func) == "sum" and len(top.args) == 1 else top
    )
    variable = draft.kinds.variable(summed, frame)
    if variable is None or variable not in sums or variable in means or sums[variable].listed is (summed is top):
        return None
    total, (count, place) = sums[variable], _meant(draft, one, plain(node.right), frame)
    counter = draft.kinds.variable(count, frame)
    if counter is not None and counter in sums and counter is not variable:
        size, involved = code(sums[counter].value), {variable, counter}
        if sums[counter].step.frame is not total.step.frame:
            return None
    elif one.window and code(plain(node.right)) == one.window:
        size, involved = "1", {variable}
    elif one.window:
        return None
    elif (sums[variable].listed and code(plain(node.right)) == f"len({code(summed)})") or counts_batches(
        draft, count, place, one.source, one.frame, one.index
    ):
        size, involved = "1", {variable}
    elif counts_samples(draft, count, place, one.source, one.frame):
        size, involved = batch_size(draft, one.body, one.batch, total.step.frame), {variable}
    else:
        return None
    if not size or not _known_at(one, total, size):
        return None
    mean = mean_with(draft, one, total, size, involved)
    weighted = mean.share == code(plain(getattr(plain(total.value), "left", total.value)))
    if not weighted and not never_zero(one.body, cst.parse_expression(size), total.step.frame):
        return None  # a batch without samples has no mean
    return replace(mean, scale=scale, floored=isinstance(node.operator, cst.FloorDivide))


def _meant(draft: Draft, one: Pass, node: cst.CSTNode, frame: Frame) -> tuple[cst.CSTNode, Frame]:
    """A count, or what a name was given for it before the pass: `size = len(loader.dataset)`."""
    variable = draft.kinds.variable(node, frame) if isinstance(node, cst.Name) else None
    if variable is None:
        return node, frame
    steps = [*draft.around.before, *one.start, *one.body, *one.after]
    writes = [step for step in steps if variable in usage([step]).writes]
    inner = small(writes[0].node) if len(writes) == 1 and isinstance(writes[0], Item) else None
    named = isinstance(inner, cst.Assign) and isinstance(inner.targets[0].target, cst.Name)
    return (inner.value, writes[0].frame) if named and writes[0] not in one.body else (node, frame)  # type: ignore[union-attr]


def mean_with(draft: Draft, one: Pass, total: Sum, size: str, involved: set[Variable]) -> Mean:
    """The mean of a sum, with what one batch gives it."""

    def counts_all(node: cst.BaseExpression) -> bool:
        return counts_whole_batch(draft, one.body, one.parts, one.source, one.frame, node, total.step.frame)

    value = plain(total.value)
    whole = size != "1" and counts_all(cst.parse_expression(size))
    multiplies = isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Multiply)
    if total.added is not None:
        share = code(plain(total.added.value))
    elif size == "1":
        share = code(value)
    elif multiplies and (code(value.right) == size or (whole and counts_all(value.right))):  # type: ignore[attr-defined]
        share = code(plain(value.left))  # type: ignore[attr-defined]
    else:
        share = f"{operand(value)} / {size}"
    return Mean(total, "" if whole else size, share, frozenset(involved))


def _known_at(one: Pass, total: Sum, size: str) -> bool:
    """True when what a batch's size is read from is there when the sum grows."""
    reads = expression_usage(cst.parse_expression(size), total.step.frame).reads
    number = next(n for n, step in enumerate(one.body) if step is total.step)
    return not reads & usage(one.body[number:]).writes - one.batch


def plain(node: cst.CSTNode) -> cst.CSTNode:
    """`x` for `float(x)` and `x.item()`."""
    while isinstance(node, cst.Call):
        used = method_call(node)
        if dotted(node.func) in ("float", "int") and len(node.args) == 1:
            node = node.args[0].value
        elif used is not None and used[1] in ("item", "float", "double", "cpu") and not node.args:
            node = used[0]
        else:
            break
    return node


def operand(value: cst.CSTNode) -> str:
    """An expression as a factor."""
    loose = isinstance(value, (cst.BinaryOperation, cst.IfExp, cst.Comparison)) and not value.lpar
    return f"({code(value)})" if loose else code(value)
