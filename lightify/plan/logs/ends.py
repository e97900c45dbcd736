"""What the end of a pass does with its sums: the means that it makes, prints and writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.logs.means import Mean, Means
from lightify.plan.logs.meters import called_on, label_of, shows_numbers
from lightify.plan.logs.metrics import labels, log_call, metric_name, of_pass, printed, shown_pass
from lightify.plan.logs.records import Record, records
from lightify.plan.logs.sums import Pass
from lightify.plan.logs.texts import formatted, measures, slots_in, slots_of, tells_pass
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Field, Frame, Item, Step, Variable
from lightify.syntax.query import assigned_pairs, children, small, walk


@dataclass
class Ends:
    """What the end of a pass does with its sums.

    Attributes:
        means: reads them; names: what each is logged as; shown: those that are printed.
        numbers: sums whose means are shown as one number.
        each: sums that are shown within the pass, too; records: what only writes means down.
        uses: the statements that only make or show means, and the sums that they need.
        left: what some of these assign beside.
    """

    means: Means
    names: dict[tuple[Variable, str], tuple[str, Mean]] = field(default_factory=dict)
    shown: set[tuple[Variable, str]] = field(default_factory=set)
    uses: dict[Step, set[Variable]] = field(default_factory=dict)
    left: dict[Step, Binding] = field(default_factory=dict)
    numbers: set[Variable] = field(default_factory=set)
    each: set[Variable] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)


def read_ends(draft: Draft, one: Pass, means: Means, shown: Sequence[Step], showing: Mapping[Variable, Step]) -> Ends:
    """Reads what a pass does with its sums.

    Args:
        shown: the steps of the body that print running sums; showing: what shows meters, and where it is made.
    """
    ends = Ends(means)
    for step in one.after:
        held = dict(means.held)
        _read(draft, ends, step)
        _forget(ends, {v for v in usage([step]).writes & held.keys() if means.held[v] is held[v]})
    _read_records(draft, one, ends)
    for step in shown:
        _read_progress(draft, ends, step)
    for variable, step in showing.items():
        _read_display(ends, step, variable)
        ends.uses.update({call: {variable} for call in one.after if _is_call_on(draft, call, variable)})
    return ends


def prints_of(draft: Draft, step: Item) -> list[cst.Call]:
    lines = [node for node in walk(step.node) if isinstance(node, cst.SimpleStatementLine)]
    return [call for line in lines if (call := printed(line, step.frame, draft.kinds)) is not None]


def _read(draft: Draft, ends: Ends, step: Step) -> None:
    """Notes a step that makes means or prints some."""
    if isinstance(step, Binding):
        target, value, place, frame = step.target, step.value, step.target_frame, step.value_frame
    else:
        inner, place, frame = small(step.node), step.frame, step.frame
        call = printed(step.node, frame, draft.kinds) or log_call(step.node)
        if call is not None:
            _read_print(draft, ends, step, call)
            return
        if isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.DivideAssign):
            target, value = inner.target, cst.BinaryOperation(inner.target, cst.Divide(), inner.value)  # type: ignore[arg-type]
        elif isinstance(inner, cst.Assign) and len(inner.targets) == 1:
            target, value = inner.targets[0].target, inner.value
        else:
            return
    made: dict[Variable, Mean] = {}
    others: list[tuple[cst.CSTNode, cst.CSTNode]] = []
    for name, part in assigned_pairs(target, value):
        mean = ends.means.of(part, frame)
        variable = place.resolve(name.value) if isinstance(name, cst.Name) else None
        if mean is None or not isinstance(variable, Variable) or isinstance(variable, Field):
            others.append((name, part))
        else:
            made[variable] = mean
    if not made or (others and not isinstance(step, Binding)):
        return
    if others and isinstance(step, Binding):
        ends.left[step] = replace(
            step, target=_joined([one for one, _ in others]), value=_joined([one for _, one in others])
        )
    ends.means.held.update(made)
    ends.uses[step] = {variable for mean in made.values() for variable in mean.involved}
    for variable, mean in made.items():
        key = (mean.total.variable, mean.scale)
        if isinstance(step, Binding) and measures(variable.name):
            ends.names[key] = (variable.name, mean)  # who called the pass knows what it is of
        ends.names.setdefault(key, (variable.name, mean))


def _forget(ends: Ends, variables: Set[Variable]) -> None:
    """Variables that held means hold something else now, whose name it is."""
    for variable in variables:
        former = ends.means.held.pop(variable)
        for key, (name, mean) in list(ends.names.items()):
            if name == variable.name and mean is former:
                ends.names[key] = (metric_name(mean.total.variable), mean)


def _read_progress(draft: Draft, ends: Ends, step: Step) -> None:
    """Notes which means are shown within the pass."""
    if not isinstance(step, Item):
        return
    for call in prints_of(draft, step):
        known = labels(call)
        for node in formatted(call):
            mean = ends.means.of(node, step.frame)
            ends.numbers |= {mean.total.variable} if mean is not None else set()
        for node in slots_of(call):
            mean = ends.means.of(node, step.frame)
            if mean is not None:
                name = known.get(node) or metric_name(mean.total.variable)
                ends.names.setdefault((mean.total.variable, mean.scale), (name, mean))
                ends.each.add(mean.total.variable)


def _read_records(draft: Draft, one: Pass, ends: Ends) -> None:
    """Notes which means are written down after the pass."""

    def mean(node: cst.CSTNode, frame: Frame) -> Mean | None:
        made = ends.means.of(node, frame)
        return made if made is not None and not made.floored else None

    ends.records = [record for record in records(draft, one.after, one.training, mean) if record.step not in ends.uses]
    for record in ends.records:
        for value, made in record.values.items():
            holder = draft.kinds.variable(value, record.step.frame)
            name = record.named or metric_name(holder if holder in ends.means.held else made.total.variable)  # type: ignore[arg-type]
            key = (made.total.variable, made.scale)
            ends.names.setdefault(key, (name, made))
            ends.shown.add(key)
        ends.uses[record.step] = {variable for made in record.values.values() for variable in made.involved}


def _read_display(ends: Ends, step: Step, variable: Variable) -> None:
    """Notes which means an object shows that was made with their meters."""
    shown = {v for v in usage([step]).reads if v in ends.means.sums and ends.means.sums[v].added is not None}
    ends.uses[step] = shown | {variable}
    for meter in sorted(shown, key=lambda v: v.order):
        total = ends.means.sums[meter]
        assert total.added is not None and total.made is not None
        if shows_numbers(total.made):
            ends.numbers.add(meter)
        name = label_of(total.made) or metric_name(meter)
        ends.names.setdefault((meter, ""), (name, ends.means.of_sum(total, total.added.size, {meter})))
        ends.each.add(meter)


def _read_print(draft: Draft, ends: Ends, step: Item, call: cst.Call) -> None:
    used: set[Variable] = set()
    known, stage = labels(call), shown_pass(call, step.frame)
    numbers = [*formatted(call), *(call.args[1].value for _ in filter(None, [log_call(step.node)]))]
    shown = (ends.means.of(node, step.frame) for node in numbers)
    ends.numbers |= {mean.total.variable for mean in shown if mean is not None}
    stack: list[cst.CSTNode] = [call]
    while stack:
        node = stack.pop()
        mean = ends.means.of(node, step.frame) if isinstance(node, cst.BaseExpression) else None
        if mean is not None and not (mean.floored and log_call(step.node) is not None):
            used |= mean.involved
            name = _told_by_caller(ends, mean) or known.get(node) or metric_name(mean.total.variable)
            key = (mean.total.variable, mean.scale)
            if stage:
                ends.names[key] = (of_pass(stage, ends.names.get(key, (name, mean))[0]), mean)
            if name in draft.monitored and log_call(step.node) is not None:
                ends.names[key] = (name, mean)  # a callback asks for this one
            ends.names.setdefault(key, (name, mean))
            ends.shown.add(key)
        else:
            stack.extend(reversed([*slots_in(node), *children(node)]))
    used |= usage([step]).reads & ends.means.sums.keys()
    if used:
        ends.uses[step] = used


def _told_by_caller(ends: Ends, mean: Mean) -> str:
    """The name that the caller of a pass gave a mean that is shown in percent: `valid_acc` for `valid_acc * 100`."""
    name, plain = ends.names.get((mean.total.variable, ""), ("", mean))
    return name if mean.scale and plain.total is mean.total and tells_pass(name) else ""


def _joined(parts: Sequence[cst.CSTNode]) -> cst.BaseExpression:
    """`a` of one, `a, b` of two."""
    one: cst.BaseExpression = parts[0]  # type: ignore[assignment]
    return one if len(parts) == 1 else cst.Tuple([cst.Element(part) for part in parts], lpar=[], rpar=[])  # type: ignore[arg-type]


def _is_call_on(draft: Draft, step: Step, variable: Variable) -> bool:
    return isinstance(step, Item) and called_on(draft, step, step.node) is variable
