"""Averages that a script keeps by hand become `self.log(..., on_epoch=True)`, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst

from lightify.flow import exits_of, expression_usage, usage
from lightify.frames import Binding, Field, Frame, Item, Step, Variable
from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.metrics import LOGGED, formatted, labels, log_call, log_statement, logs, metrics_of, printed
from lightify.plan.samples import batch_size, counts_batches, counts_samples, is_number, never_zero
from lightify.plan.types import FateNote, Local
from lightify.query import block, children, code, dotted, method_call, module_attribute, small, target_names, walk


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over data: what starts it, one batch, what ends it.

    Attributes:
        index: the name that counts its batches.
        outside: variables that others read.
        training: the Trainer logs each batch of it, unless it is told otherwise.
    """

    start: Sequence[Step]
    body: Sequence[Step]
    after: Sequence[Step]
    source: cst.BaseExpression
    frame: Frame
    batch: set[Variable]
    index: Variable | None
    outside: set[Variable]
    training: bool


@dataclass(frozen=True, eq=False)
class _Sum:
    """`variable += value` once a batch, from 0."""

    variable: Variable
    step: Item
    value: cst.BaseExpression


@dataclass(frozen=True, eq=False)
class _Mean:
    """`scale * total / count`.

    Attributes:
        size: a batch's share of the count, as text.
        involved: the sums that it is made of.
    """

    total: _Sum
    size: str
    scale: str
    involved: frozenset[Variable]


@dataclass
class _Ends:
    """What the end of a pass does with its sums.

    Attributes:
        means: variables that hold one; names: what each is logged as.
        numbers: sums whose means are shown as one number.
        uses: the statements that only make or show means, and the sums that they need.
    """

    means: dict[Variable, _Mean] = field(default_factory=dict)
    names: dict[tuple[Variable, str], tuple[str, _Mean]] = field(default_factory=dict)
    uses: dict[Step, set[Variable]] = field(default_factory=dict)
    numbers: set[Variable] = field(default_factory=set)


def log_averages(draft: Draft, one: Pass) -> dict[Step, tuple[Step, ...]]:
    """What takes the place of which statements; empty when nothing but the script's own sums will do."""
    sums = _sums(one)
    if any(True for step in one.body if isinstance(step, Item) for _ in exits_of(step.node)):
        return {}  # some batches may not be counted
    shown = [step for step in one.body if _shows_sums(draft, step, sums)]
    ends = _Ends()
    for step in one.after:
        _read(draft, one, sums, ends, step)
    quiet = {*shown, *ends.uses, *(total.step for total in sums.values())}
    kept = set(one.outside)
    for step in (*one.start, *one.body, *one.after):
        if step not in quiet:
            kept |= usage([step]).reads
    useful = {variable for _, mean in ends.names.values() for variable in mean.involved}
    gone = useful - kept
    for mean in [*ends.means.values(), *(mean for _, mean in ends.names.values())]:
        if not _is_number(draft, one, ends, mean):
            gone -= mean.involved
    for variable in kept & ends.means.keys():
        gone -= ends.means[variable].involved
    while stuck := [used for used in ends.uses.values() if used - gone and used & gone]:
        gone = gone.difference(*stuck)
    logged = _named(draft, one, ends, gone)
    return _replacements(draft, one, sums, ends, gone, logged) if logged else {}


def _is_number(draft: Draft, one: Pass, ends: _Ends, mean: _Mean) -> bool:
    """True when a mean is one number: what is logged has to be."""
    total = mean.total
    return total.variable in ends.numbers or is_number(draft, one.body, total.value, total.step.frame)


def replaced(steps: Sequence[Step], new: Mapping[Step, tuple[Step, ...]]) -> tuple[Step, ...]:
    """Steps with what takes their place."""
    return tuple(one for step in steps for one in new.get(step, (step,)))


def _named(draft: Draft, one: Pass, ends: _Ends, gone: set[Variable]) -> list[tuple[str, _Mean]]:
    """The means to log, each under a name of its own: the script may print a batch's `loss` beside the epoch's."""
    calls = [call for step in one.body if isinstance(step, Item) for call in _prints(draft, step)]
    taken = draft.logged | {m.name for call in calls for m in metrics_of(call, one.frame, draft.kinds)}
    taken -= draft.monitored
    found = []
    for (variable, _), (name, mean) in ends.names.items():
        if variable in gone:
            choices = (name, variable.name, f"epoch_{name}" if one.training else f"val_{name}")
            chosen = next(choice for choice in (*choices, f"mean_{name}") if choice not in taken)
            taken.add(chosen)
            found.append((chosen, mean))
    draft.logged |= taken
    return found


def _prints(draft: Draft, step: Item) -> list[cst.Call]:
    lines = [node for node in walk(step.node) if isinstance(node, cst.SimpleStatementLine)]
    return [call for line in lines if (call := printed(line, step.frame, draft.kinds)) is not None]


def _sums(one: Pass) -> dict[Variable, _Sum]:
    zeroed = {variable for step in one.start for variable in _zeroed(step)}
    found: dict[Variable, _Sum] = {}
    for step in one.body:
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(step, Item) and isinstance(inner, cst.AugAssign) and isinstance(inner.target, cst.Name):
            variable = step.frame.resolve(inner.target.value)
            fits = isinstance(inner.operator, cst.AddAssign) and variable in zeroed and not isinstance(variable, Field)
            if isinstance(variable, Variable) and fits:
                found[variable] = _Sum(variable, step, inner.value)
    again = [v for step in one.body for v in usage([step]).writes if v in found and found[v].step is not step]
    return {v: total for v, total in found.items() if v not in again}


def _zeroed(step: Step) -> set[Variable]:
    """The variables that a statement sets to zero, and nothing else."""
    inner = small(step.node) if isinstance(step, Item) else None
    if not isinstance(step, Item) or not isinstance(inner, cst.Assign):
        return set()
    values = [e.value for e in inner.value.elements] if isinstance(inner.value, cst.Tuple) else [inner.value]
    if not all(isinstance(v, (cst.Integer, cst.Float)) and float(v.value) == 0 for v in values):
        return set()
    names = [name for target in inner.targets for name in target_names(target.target)]
    return {v for name in names if isinstance(v := step.frame.resolve(name), Variable)}


def _shows_sums(draft: Draft, step: Step, sums: dict[Variable, _Sum]) -> bool:
    """True for progress that is printed from running sums, now and then."""
    if not isinstance(step, Item) or not usage([step]).reads & sums.keys():
        return False
    node = step.node
    guarded = isinstance(node, cst.If) and node.orelse is None
    inside = block(node.body) if guarded else [node]  # type: ignore[attr-defined]
    return all(printed(line, step.frame, draft.kinds) is not None for line in inside)


# -- what the end of a pass does ----------------------------------------------------------------------------------


def _read(draft: Draft, one: Pass, sums: dict[Variable, _Sum], ends: _Ends, step: Step) -> None:
    """Notes a step that makes a mean or prints some."""
    if isinstance(step, Binding):
        target, value, frame, inner = step.target, step.value, step.value_frame, None
    else:
        inner, frame = small(step.node), step.frame
        call = printed(step.node, frame, draft.kinds) or log_call(step.node)
        if call is not None:
            _read_print(draft, one, sums, ends, step, call)
            return
        if isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.DivideAssign):
            target, value = inner.target, cst.BinaryOperation(inner.target, cst.Divide(), inner.value)  # type: ignore[arg-type]
        elif isinstance(inner, cst.Assign) and len(inner.targets) == 1:
            target, value = inner.targets[0].target, inner.value
        else:
            return
    mean = _mean(draft, one, sums, ends, value, frame)
    if mean is None or not isinstance(target, cst.Name):
        return
    place = step.target_frame if isinstance(step, Binding) else frame
    variable = place.resolve(target.value)
    if isinstance(variable, Variable) and not isinstance(variable, Field):
        ends.means[variable] = mean
        ends.uses[step] = set(mean.involved)
        ends.names.setdefault((mean.total.variable, mean.scale), (variable.name, mean))


def _read_print(draft: Draft, one: Pass, sums: dict[Variable, _Sum], ends: _Ends, step: Item, call: cst.Call) -> None:
    used: set[Variable] = set()
    known = labels(call)
    numbers = [*formatted(call), *(call.args[1].value for _ in filter(None, [log_call(step.node)]))]
    shown = (_mean(draft, one, sums, ends, node, step.frame) for node in numbers)
    ends.numbers |= {mean.total.variable for mean in shown if mean is not None}
    stack: list[cst.CSTNode] = [call]
    while stack:
        node = stack.pop()
        mean = _mean(draft, one, sums, ends, node, step.frame) if isinstance(node, cst.BaseExpression) else None
        if mean is not None:
            used |= mean.involved
            name = known.get(node) or mean.total.variable.name
            key = (mean.total.variable, mean.scale)
            if name in draft.monitored and log_call(step.node) is not None:
                ends.names[key] = (name, mean)  # a callback asks for this one
            ends.names.setdefault(key, (name, mean))
        else:
            stack.extend(reversed(list(children(node))))
    used |= usage([step]).reads & sums.keys()
    if used:
        ends.uses[step] = used


def _mean(
    draft: Draft, one: Pass, sums: dict[Variable, _Sum], ends: _Ends, node: cst.CSTNode, frame: Frame
) -> _Mean | None:
    """Reads `total / count`, `100. * total / count` and names of such."""
    node = _plain(node)
    if isinstance(node, cst.Name):
        variable = draft.kinds.variable(node, frame)
        return ends.means.get(variable) if variable is not None else None
    if not isinstance(node, cst.BinaryOperation):
        return None
    if isinstance(node.operator, cst.Multiply):
        for factor, rest in ((node.left, node.right), (node.right, node.left)):
            if isinstance(factor, (cst.Integer, cst.Float)):
                mean = _mean(draft, one, sums, ends, rest, frame)
                if mean is not None and not mean.scale:
                    return _Mean(mean.total, mean.size, f"{factor.value} * ", mean.involved)
        return None
    if not isinstance(node.operator, cst.Divide):
        return None
    scale, top = "", _plain(node.left)
    if isinstance(top, cst.BinaryOperation) and isinstance(top.operator, cst.Multiply):
        for factor, rest in ((top.left, top.right), (top.right, top.left)):
            if isinstance(factor, (cst.Integer, cst.Float)):
                scale, top = f"{factor.value} * ", _plain(rest)
                break
    variable = draft.kinds.variable(top, frame)
    if variable is None or variable not in sums or variable in ends.means:
        return None
    total, count = sums[variable], _plain(node.right)
    counter = draft.kinds.variable(count, frame)
    if counter is not None and counter in sums and counter is not variable:
        size, involved = code(sums[counter].value), {variable, counter}
        if sums[counter].step.frame is not total.step.frame:
            return None
    elif counts_batches(draft, count, frame, one.source, one.frame, one.index):
        size, involved = "1", {variable}
    elif counts_samples(draft, count, frame, one.source, one.frame):
        size, involved = batch_size(draft, one.body, one.batch, total.step.frame), {variable}
    else:
        return None
    if not size or not _known_at(one, total, size):
        return None
    if not (_weighted(total.value, size) or never_zero(one.body, cst.parse_expression(size), total.step.frame)):
        return None  # a batch without samples has no mean
    return _Mean(total, size, scale, frozenset(involved))


def _known_at(one: Pass, total: _Sum, size: str) -> bool:
    """True when what a batch's size is read from is there when the sum grows."""
    reads = expression_usage(cst.parse_expression(size), total.step.frame).reads
    number = next(n for n, step in enumerate(one.body) if step is total.step)
    return not reads & usage(one.body[number:]).writes - one.batch


def _plain(node: cst.CSTNode) -> cst.CSTNode:
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


# -- what comes instead -------------------------------------------------------------------------------------------


def _replacements(
    draft: Draft,
    one: Pass,
    sums: dict[Variable, _Sum],
    ends: _Ends,
    gone: set[Variable],
    logged: Sequence[tuple[str, _Mean]],
) -> dict[Step, tuple[Step, ...]]:
    new: dict[Step, tuple[Step, ...]] = {}
    names = ", ".join(f'self.log("{name}")' for name, _ in logged)
    for variable in sorted(gone, key=lambda v: v.name):
        total = sums[variable]
        lines = [line for name, mean in logged if mean.total is total for line in _log(draft, name, mean, one.training)]
        new[total.step] = tuple(Item(line, total.step.frame) for line in lines)
        _note(draft, total.step, names)
    draft.averaged |= gone | {variable for variable, mean in ends.means.items() if mean.involved <= gone}
    monitored = draft.monitored & set(logs(one.after))
    for step, used in ends.uses.items():
        if used <= gone:
            call = printed(step.node, step.frame, draft.kinds) if isinstance(step, Item) else None
            if call is not None and isinstance(step, Item):
                draft.steps_away.append(LOGGED)
                draft.no_longer_printed(call, step.frame, metrics_of(call, step.frame, draft.kinds))
            others = metrics_of(call, step.frame, draft.kinds) if call is not None and isinstance(step, Item) else ()
            new[step] = tuple(
                Item(log_statement(m), m.variable.frame)
                for m in others
                if m.variable not in draft.averaged and m.name not in monitored
            )
            _note(draft, step, names)
    for step in one.start:
        if _zeroed(step) and isinstance(step, Item):
            rest = [v for v in sorted(_zeroed(step), key=lambda v: v.name) if v not in gone]
            if len(rest) < len(_zeroed(step)):
                lines = [cst.parse_statement(f"{v.name} = 0") for v in rest]
                new[step] = tuple(Item(line, step.frame) for line in lines)  # type: ignore[arg-type]
                draft.stripped.origins.update({small(line): small(step.node) for line in lines})  # type: ignore[misc]
                _note(draft, step, names)
    draft.steps_away.extend(f"the average {name} is kept by self.log, in single precision" for name, _ in logged)
    return new


def _note(draft: Draft, step: Step, target: str) -> None:
    if isinstance(step, Item):
        node = small(step.node) or step.node
        draft.fates[draft.stripped.origins.get(node, node)] = FateNote(Fate.REPLACED, target, "averages over the pass")


def _log(draft: Draft, name: str, mean: _Mean, training: bool) -> list[cst.BaseStatement]:
    """`self.log("loss", value, on_epoch=True, batch_size=n)`; a long value gets a line of its own."""
    value, size = _plain(mean.total.value), mean.size
    if size == "1":
        shown = _operand(value) if mean.scale else code(value)
    elif _weighted(value, size):
        shown = code(_plain(value.left))  # type: ignore[attr-defined]
    else:
        shown = f"{_operand(value)} / {size}"
    options = "on_step=False, on_epoch=True, " if training else ""
    rest = f"{options}prog_bar=True, batch_size={size}"
    shown = f"{mean.scale}{shown}"
    lines: list[cst.BaseStatement] = []
    if len(f'        self.log("{name}", {shown}, {rest})') > draft.settings.line_length:
        own = mean.total.variable.name
        label = _invented(draft, name) if name.isidentifier() and name not in draft.tree.names else own
        lines, shown = [cst.parse_statement(f"{label} = {shown}")], label  # type: ignore[list-item]
    call = cst.parse_expression(f'f("{name}", {shown}, {rest})')
    assert isinstance(call, cst.Call)
    return [*lines, cst.SimpleStatementLine([cst.Expr(call.with_changes(func=module_attribute("log")))])]


def _weighted(value: cst.CSTNode, size: str) -> bool:
    """True for `mean * size`."""
    value = _plain(value)
    multiplies = isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Multiply)
    return multiplies and code(value.right) == size  # type: ignore[attr-defined]


def _invented(draft: Draft, name: str) -> str:
    """A name that the script does not know, as a local of the hooks."""
    variable = draft.generated.variable(name)
    draft.nest.module.stand_for(name, variable)
    draft.forced[variable] = Local(name)
    return name


def _operand(value: cst.CSTNode) -> str:
    """An expression as a factor."""
    loose = isinstance(value, (cst.BinaryOperation, cst.IfExp, cst.Comparison)) and not value.lpar
    return f"({code(value)})" if loose else code(value)
