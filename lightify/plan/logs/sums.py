"""Sums and lists that a script keeps over a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.loops.headers import BatchHead
from lightify.plan.batches import batch_parts
from lightify.plan.draft import Draft
from lightify.plan.logs.meters import Added, added, begun, meters_begun
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.query import assigned_pairs, code, expression_of, method_call, small


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over data: what starts it, one batch, what ends it.

    Attributes:
        outside: variables that others read.
        training: the Trainer logs each batch of it, unless it is told otherwise.
        window: how many batches a sum goes over that starts anew within the pass, as text.
        beside: names that passes of the same step log under, over other loaders.
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
    beside: frozenset[str] = frozenset()

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
