"""Averages that a script keeps by hand become `self.log(..., on_epoch=True)`, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.logs.ends import Ends, prints_of, read_ends
from lightify.plan.logs.means import Mean, Means
from lightify.plan.logs.meters import (
    begun,
    called_on,
    measures_time,
    shown_begun,
)
from lightify.plan.logs.metrics import (
    LOGGED,
    log_statement,
    logs,
    metric_name,
    metrics_of,
    printed,
)
from lightify.plan.logs.numbers import is_number
from lightify.plan.logs.records import read_back
from lightify.plan.logs.sums import Pass, begun_empty, meters_of, sums_of
from lightify.plan.logs.texts import measures, tells_pass
from lightify.plan.types import FateNote, Local
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.query import atom, block, code, module_attribute, small

OVER_PASS = "averages over the pass"
UNTIMED = "how long the batches take is no longer shown"


def log_averages(draft: Draft, one: Pass) -> dict[Step, tuple[Step, ...]]:
    """What takes the place of which statements; empty when nothing but the script's own sums will do."""
    sums = {**sums_of(one), **meters_of(draft, one)}
    if any(True for step in one.body if isinstance(step, Item) for _ in exits_of(step.node)):
        return {}  # some batches may not be counted
    steps = (*one.start, *one.body, *one.after)
    showing = {variable: step for step in one.start for variable in shown_begun(draft, step, steps)}
    known = sums.keys() | showing.keys()
    shown = [step for step in one.body if _shows_sums(draft, step, known, showing)]
    ends = read_ends(draft, one, Means(draft, one, sums, {}), shown, showing)
    quiet = {*shown, *ends.uses, *(total.step for total in sums.values())}
    kept = one.outside.union(*(record.others for record in ends.records))
    for step in steps:
        if step not in quiet or step in ends.left:
            kept |= usage([ends.left.get(step, step)]).reads
    timers = {v for v, total in sums.items() if total.added is not None and measures_time(draft, total.added.value)}
    useful = {variable for _, mean in ends.names.values() for variable in mean.involved}
    gone = (useful | timers | showing.keys()) - kept
    for mean in [*ends.means.held.values(), *(mean for _, mean in ends.names.values())]:
        if mean.total.variable not in timers and not _is_number(draft, one, ends, mean):
            gone -= mean.involved
    for variable in kept & ends.means.held.keys():
        gone -= ends.means.held[variable].involved
    while stuck := [used for used in ends.uses.values() if used - gone and used & gone]:
        gone = gone.difference(*stuck)
    if not any(variable in sums for variable in gone):
        return {}
    return _replacements(draft, one, ends, gone, _named(draft, one, ends, gone - timers), timers)


def _is_number(draft: Draft, one: Pass, ends: Ends, mean: Mean) -> bool:
    """True when a mean is one number: what is logged has to be."""
    total = mean.total
    return total.variable in ends.numbers or is_number(draft, one.body, total.value, total.step.frame)


def replaced(steps: Sequence[Step], new: Mapping[Step, tuple[Step, ...]]) -> tuple[Step, ...]:
    """Steps with what takes their place."""
    return tuple(one for step in steps for one in new.get(step, (step,)))


def _named(draft: Draft, one: Pass, ends: Ends, gone: set[Variable]) -> list[tuple[str, Mean]]:
    """The means to log, each under a name of its own: the script may print a batch's `loss` beside the epoch's."""
    calls = [call for step in one.body if isinstance(step, Item) for call in prints_of(draft, step)]
    metrics = [m for call in calls for m in metrics_of(call, one.frame, draft.kinds)]
    taken = draft.logged | {m.name for m in metrics if m.is_held or not m.variables & gone}
    taken |= set(logs(step for step in draft.nest.body if not usage([step]).reads & gone))
    taken -= draft.monitored
    # a Trainer tells the loaders apart where their steps log under one name, which nothing may ask for then
    taken = taken | one.beside if ends.records else taken - one.beside
    taken |= one.beside & (draft.monitored | draft.read_back)
    found = []
    for (variable, scale), (name, mean) in ends.names.items():
        otherwise = (variable, scale) not in ends.shown and any(v is variable for v, _ in ends.shown)
        if variable in gone and not otherwise:
            further = f"epoch_{name}" if one.training else f"{name}_2" if tells_pass(name) else f"val_{name}"
            own = variable.name if one.training or _tells_more(variable, name) else further
            chosen = next(choice for choice in (name, own, further, f"mean_{name}") if choice not in taken)
            taken.add(chosen)
            found.append((chosen, mean))
    draft.logged |= taken
    return found


def _tells_more(variable: Variable, name: str) -> bool:
    """True for `test_loss` of a `loss`."""
    return bool(measures(variable.name)) and metric_name(variable) != name


def _shows_sums(draft: Draft, step: Step, known: Set[Variable], showing: Mapping[Variable, Step]) -> bool:
    """True for progress that is printed from running sums, now and then."""
    if not isinstance(step, Item) or not usage([step]).reads & known:
        return False
    node = step.node
    guarded = isinstance(node, cst.If) and node.orelse is None
    inside = block(node.body) if guarded else [node]  # type: ignore[attr-defined]
    return all(
        printed(line, step.frame, draft.kinds) is not None or called_on(draft, step, line) in showing for line in inside
    )


def _replacements(
    draft: Draft,
    one: Pass,
    ends: Ends,
    gone: set[Variable],
    logged: Sequence[tuple[str, Mean]],
    timers: set[Variable],
) -> dict[Step, tuple[Step, ...]]:
    sums = ends.means.sums
    new: dict[Step, tuple[Step, ...]] = {}
    names = ", ".join(f'self.log("{name}")' for name, _ in logged)
    for variable in sorted(gone & sums.keys(), key=lambda v: v.order):
        total, each = sums[variable], variable in ends.each
        own = [(name, mean) for name, mean in logged if mean.total is total]
        options = (f"on_step={each}", "on_epoch=True") if one.training else ()
        lines = [line for name, mean in own for line in log_lines(draft, name, mean, *options)]
        new[total.step] = tuple(Item(line, total.step.frame) for line in lines)
        note(draft, total.step, names)
    draft.averaged |= gone | {variable for variable, mean in ends.means.held.items() if mean.involved <= gone}
    monitored = draft.monitored & set(logs(one.after))
    written = [record for record in ends.records if ends.uses[record.step] <= gone]
    new.update(read_back(draft, written, {(mean.total.variable, mean.scale): name for name, mean in logged}))
    asked = {(mean.total.variable, mean.scale) for record in written for mean in record.values.values()}
    draft.read_back |= {name for name, mean in logged if (mean.total.variable, mean.scale) in asked}
    for step, used in ends.uses.items():
        if used <= gone and step not in new:
            call = printed(step.node, step.frame, draft.kinds) if isinstance(step, Item) else None
            if call is not None and isinstance(step, Item):
                draft.steps_away.append(LOGGED)
                draft.no_longer_printed(call, step.frame, metrics_of(call, step.frame, draft.kinds))
            others = metrics_of(call, step.frame, draft.kinds) if call is not None and isinstance(step, Item) else ()
            new[step] = (
                *([ends.left[step]] if step in ends.left else []),
                *(
                    Item(log_statement(m), m.frame)
                    for m in others
                    if not m.variables & draft.averaged and m.name not in monitored
                ),
            )
            note(draft, step, names)
    new = {**without_starts(draft, one, gone, names), **new}
    if gone & timers:
        draft.steps_away.append(UNTIMED)
    draft.steps_away.extend(f"the average {name} is kept by self.log, in single precision" for name, _ in logged)
    return new


def without_starts(
    draft: Draft, one: Pass, gone: Set[Variable], logs: str, why: str = OVER_PASS
) -> dict[Step, tuple[Step, ...]]:
    """What is left of the statements that begin sums and meters, where some are gone."""
    new: dict[Step, tuple[Step, ...]] = {}
    for step in one.start:
        start = {**begun_empty(step), **{v: code(made) for v, made in begun(draft, step).items()}}
        rest = [v for v in sorted(start, key=lambda v: v.order) if v not in gone]
        if len(rest) < len(start) and isinstance(step, Item):
            lines = [cst.parse_statement(f"{v.name} = {start[v]}") for v in rest]
            new[step] = tuple(Item(line, step.frame) for line in lines)  # type: ignore[arg-type]
            draft.stripped.origins.update({small(line): small(step.node) for line in lines})  # type: ignore[misc]
            note(draft, step, logs, why)
    return new


def note(draft: Draft, step: Step, logs: str, why: str = OVER_PASS) -> None:
    """Records that logs have taken a statement's place."""
    if isinstance(step, Item):
        node = small(step.node) or step.node
        draft.fates[draft.stripped.origins.get(node, node)] = FateNote(Fate.REPLACED, logs, why)


def log_lines(draft: Draft, name: str, mean: Mean, *options: str) -> list[cst.BaseStatement]:
    """`self.log("loss", value, on_epoch=True, batch_size=n)`; a long value gets a line of its own."""
    rest = ", ".join([*options, "prog_bar=True", *([f"batch_size={mean.size}"] if mean.size else [])])
    factor = mean.scale.removesuffix(" * ")
    shown = _times(cst.parse_expression(factor), mean.share) if factor else mean.share
    lines: list[cst.BaseStatement] = []
    too_long = len(f'        self.log("{name}", {code(shown)}, {rest})') > draft.settings.line_length
    if too_long and not isinstance(shown, cst.Name):
        free = [one for one in (name, *measures(name)) if one.isidentifier() and _is_free(draft, one)]
        label = cst.Name(_invented(draft, free[0]) if free else mean.total.variable.name)
        lines, shown = [cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(label)], shown)])], label
    call = cst.parse_expression(f'f("{name}", shown, {rest})')
    assert isinstance(call, cst.Call)
    named, _, *others = call.args
    call = call.with_changes(
        func=module_attribute("log"), args=[named, call.args[1].with_changes(value=shown), *others]
    )
    return [*lines, cst.SimpleStatementLine([cst.Expr(call)])]


def _times(factor: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression:
    """`100 * hits / n` for 100 and `hits / n`."""
    product = isinstance(value, cst.BinaryOperation) and isinstance(value.operator, (cst.Multiply, cst.Divide))
    if product and isinstance(value, cst.BinaryOperation) and not value.lpar:
        return value.with_changes(left=_times(factor, value.left))
    return cst.BinaryOperation(factor, cst.Multiply(), atom(value))


def _is_free(draft: Draft, name: str) -> bool:
    """True for a name that neither the script nor what was made of it knows."""
    meaning = draft.nest.module.aliases.get(name)
    return name not in draft.tree.names and (meaning is None or meaning is draft.generated.variable(name))


def _invented(draft: Draft, name: str) -> str:
    """A name that the script does not know, as a local of the hooks."""
    variable = draft.generated.variable(name)
    draft.nest.module.stand_for(name, variable)
    draft.forced[variable] = Local(name)
    return name
