"""What a loop prints becomes `self.log`: its progress, in the place of the prints; its summaries, beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.logs.loggers import is_record
from lightify.plan.logs.means import plain
from lightify.plan.logs.meters import called_on
from lightify.plan.logs.metrics import (
    LOGGED,
    PROGRESS,
    Metric,
    labels,
    log_statement,
    log_text,
    logs,
    metrics_of,
    printed,
    unlogged,
)
from lightify.plan.logs.names import Names
from lightify.plan.logs.samples import is_number, is_one_number, losses
from lightify.plan.logs.texts import measures
from lightify.plan.types import FateNote, Hook, TrainerOption
from lightify.syntax.comments import in_place_of
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Usage, Variable, constant
from lightify.syntax.query import (
    assigned_pairs,
    block,
    code,
    dotted,
    expression_of,
    method_call,
    small,
    target_names,
    walk,
)


def logged(
    draft: Draft, body: Sequence[Step], head: BatchHead, frame: Frame, batch: set[Variable], later: Sequence[Step]
) -> tuple[Step, ...]:
    """Progress prints become `self.log`, in their place.

    Args:
        later: what runs after the body, until it has run again.
    """
    index = frame.variable(head.index.value) if head.index is not None else None
    written = usage(body).writes - batch
    names: set[str] = set()
    result: list[Step] = []
    for number, step in enumerate(body):
        if isinstance(step, Item):
            nodes = in_place(draft, step, index, written, usage(result), names)
            new = [Item(node, step.frame) for node in nodes]
            needed = usage((*body[number + 1 :], *later)).exposed | draft.read_elsewhere()
            result.extend(item for item in new if item.node is step.node or not idle(draft, item, needed))
        else:
            result.append(step)
    if draft.settings.style == "idiomatic" and PROGRESS in draft.steps_away:
        return tuple(step for step in result if not _ends_line(draft, step))
    return tuple(result)


def _ends_line(draft: Draft, step: Step) -> bool:
    """True for `print()`, which ends a line that others have begun."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    if not isinstance(call, cst.Call) or dotted(call.func) != "print" or call.args:
        return False
    draft.fates[small(step.node)] = FateNote(Fate.REPLACED, "self.log", "the progress bar shows it")  # type: ignore[index, union-attr]
    return True


def idle(draft: Draft, item: Item, needed: set[Variable]) -> bool:
    """True for what is left of `if i % k == 0: shown = loss.item(); print(shown)`: nothing needs what it computes."""
    if draft.settings.style == "faithful" or not isinstance(item.node, cst.If) or usage([item]).writes & needed:
        return False
    lines = [small(line) for line in block(item.node.body)]
    values = [line.value for line in lines if isinstance(line, cst.Assign) and all(map(_names, line.targets))]
    assigns = len(values) == len(lines) and item.node.orelse is None
    parts = (*values, item.node.test)
    gone = assigns and all(only_computes(one, item.frame, draft.tree, lambda _: False) for one in parts)
    if gone:
        note = FateNote(Fate.REPLACED, "self.log", "the progress bar shows it")
        draft.fates.update(dict.fromkeys((item.node, *filter(None, lines)), note))
    return gone


def _names(target: cst.AssignTarget) -> bool:
    """True for a target that is a name, or names."""
    parts = target.target.elements if isinstance(target.target, cst.Tuple) else [target]
    return len(target_names(target.target)) == len(parts)


def in_place(
    draft: Draft, step: Item, index: Variable | None, written: set[Variable], done: Usage, names: set[str]
) -> list[cst.BaseStatement]:
    """The statements that take a step's place: itself, logs, or itself with logs for prints.

    Args:
        written: what a batch assigns; done: what the batch did before the step.
        names: what is logged already; a print that tells more than its numbers stays, and logs them once.
    """
    if isinstance(step.node, cst.With):
        return [_within(draft, step, index, written, done, names)]
    guard = step.node if isinstance(step.node, cst.If) and step.node.orelse is None else None
    if guard is not None and constant(guard.test, step.frame) is not None:
        guard = None
    inside = list(block(guard.body)) if guard is not None else [step.node]
    new: list[cst.BaseStatement] = []
    logs: dict[cst.BaseStatement, Metric] = {}
    for node in inside:
        call = printed(node, step.frame, draft.kinds)
        metrics = _metrics_of(draft, call, step.frame) if call is not None else ()
        metrics = tuple(m for m in metrics if not m.variables & draft.averaged)
        gone = call is not None and bool(expression_usage(call, step.frame).reads & draft.averaged)
        gone |= called_on(draft, step, node) in draft.averaged  # what showed averages
        if call is not None and metrics and not gone and not _is_kept(draft, call, step.frame):
            gone = shows_only(draft, call, step.frame, metrics, written, index)
        metrics = tuple(m for m in metrics if gone or m.name not in names)
        names |= {m.name for m in metrics}
        lines: list[cst.BaseStatement] = [log_statement(m) for m in metrics]
        if gone:
            draft.steps_away.append(PROGRESS)
            note = FateNote(Fate.REPLACED, ", ".join(map(log_text, metrics)) or "self.log", "the progress bar shows it")
            draft.fates[small(node)] = note  # type: ignore[index]
            if call is not None:
                draft.no_longer_printed(call, step.frame, metrics)
        lines = in_place_of(node, lines) if gone else lines
        logs.update(zip(lines, metrics))
        new += [*([] if gone else [node]), *lines]
    if new == inside:
        return [step.node]
    if guard is None:
        return new
    rest = [node for node in new if node not in logs]
    if rest and len(rest) < len(inside) and draft.settings.style == "faithful":
        early: list[cst.BaseStatement] = []
    else:
        changed = usage([Item(node, step.frame) for node in rest]).writes - _restated(rest, step.frame)
        asked = expression_usage(guard.test, step.frame).reads
        early = [line for line, metric in logs.items() if is_of_each_batch(metric, written, done, asked, changed)]
    if not only_computes(guard.test, step.frame, draft.tree, lambda _: False):
        early = []  # somebody may miss the question
    if len(early) == len(logs) and len(rest) < len(inside):
        logs_every(draft, guard.test, step.frame, index)
    later = [node for node in new if node not in early]
    if not later:
        draft.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: shows progress on a clock")
        return in_place_of(guard, early)
    if later == inside:
        return [*early, guard]
    body = guard.with_changes(body=guard.body.with_changes(body=later))
    draft.stripped.origins[body] = step.node
    return [*early, body]


def _within(
    draft: Draft, step: Item, index: Variable | None, written: set[Variable], done: Usage, names: set[str]
) -> cst.BaseStatement:
    """A `with` whose prints are logs."""
    node = step.node
    assert isinstance(node, cst.With)
    if _renews(draft, node, step.frame):
        return node
    lines: list[cst.BaseStatement] = []
    before = Usage()
    before += done
    for line in block(node.body):
        inner = Item(line, step.frame)
        lines += in_place(draft, inner, index, written, before, names)
        before += usage([inner])
    if not lines or lines == list(block(node.body)):
        return node
    new = node.with_changes(body=node.body.with_changes(body=lines))
    draft.stripped.origins[new] = node
    return new


def _renews(draft: Draft, node: cst.With, frame: Frame) -> bool:
    """True for what sets a `loss` of its own and prints it, which may be that of a test: such a log would mislead."""
    own = usage([Item(line, frame) for line in block(node.body)]).writes
    lines = [part for part in walk(node.body) if isinstance(part, cst.SimpleStatementLine)]
    calls = [call for line in lines if (call := printed(line, frame, draft.kinds)) is not None]
    metrics = [metric for call in calls for metric in _metrics_of(draft, call, frame)]
    return any(metric.variables & own and metric.name in measures(metric.name) for metric in metrics)


def _metrics_of(draft: Draft, call: cst.Call, frame: Frame) -> tuple[Metric, ...]:
    lines = list(_lines(draft.whole()))

    def number(value: cst.BaseExpression, place: Frame) -> bool:
        ratio = isinstance(value, cst.BinaryOperation)  # which has no name but that of the text
        name = value.value if isinstance(value, cst.Name) else ""
        measured = ratio or measures(name) or draft.kinds.variable(value, place) in losses(lines)
        return bool(measured) and (is_number(draft, lines, value, place) or is_one_number(value, place, draft))

    return metrics_of(call, frame, draft.kinds, number)


def _lines(steps: Iterable[Step]) -> Iterator[Step]:
    """Steps with those within a `with` one by one."""
    for step in steps:
        if isinstance(step, Item) and isinstance(step.node, cst.With):
            yield from _lines(Item(line, step.frame) for line in block(step.node.body))
        else:
            yield step


def _is_kept(draft: Draft, call: cst.Call, frame: Frame) -> bool:
    """True for a record that may go to a file of the script's."""
    return draft.settings.style == "faithful" and is_record(call, frame, draft.kinds)


def is_of_each_batch(
    metric: Metric, written: set[Variable], done: Usage, asked: set[Variable], changed: Set[Variable] = frozenset()
) -> bool:
    """True for a number that each batch has, and has of its own: no sum over the last k, which an `if` asks for.

    Args:
        written: what a batch assigns; done: what it did before.
        asked: what the `if` around the print reads, which may keep it from dividing by nothing.
        changed: what stands beside the print assigns.
    """
    values = metric.variables & written
    if not values <= (done.must or set()) or values & changed:
        return False
    own = values == metric.variables and not values & (done.exposed | asked)
    return metric.is_held or (own and not _waits(metric.value))


def _restated(lines: Sequence[cst.BaseStatement], frame: Frame) -> set[Variable]:
    """The variables that `loss = loss.item()` and its like set to the number that they hold."""
    found: set[Variable] = set()
    for inner in map(small, lines):
        pairs = assigned_pairs(inner.targets[0].target, inner.value) if isinstance(inner, cst.Assign) else []
        same = (name.value for name, value in pairs if isinstance(name, cst.Name) and code(plain(value)) == name.value)
        found |= {meaning for name in same if isinstance(meaning := frame.resolve(name), Variable)}
    return found


def _waits(value: cst.BaseExpression) -> bool:
    """True for `math.exp(loss.item())`: the device is waited for."""
    return any((method_call(part) or ("", ""))[1] == "item" for part in walk(value))


def logs_every(draft: Draft, test: cst.BaseExpression, frame: Frame, index: Variable | None) -> None:
    """`if i % k == 0:` around a log is the Trainer's `log_every_n_steps=k`, where there is a logger."""
    left = test.left if isinstance(test, cst.Comparison) else None
    if draft.settings.style == "faithful" or any(o.name == "log_every_n_steps" for o in draft.options):
        return
    if not isinstance(left, cst.BinaryOperation) or not isinstance(left.operator, cst.Modulo):
        return
    nest = draft.nest
    reads = expression_usage(left.right, frame).reads
    changes = reads & usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
    counts = index in expression_usage(left.left, frame).reads and is_whole(draft, left.right, frame)
    if counts and not changes and in_host(draft, left.right, frame):
        draft.options.append(TrainerOption("log_every_n_steps", left.right, frame))


def is_whole(draft: Draft, node: cst.CSTNode, frame: Frame, depth: int = 0) -> bool:
    """False for what divides, or has a part that may be no whole number, as far as the host's assignments tell."""
    if any(isinstance(part, (cst.Float, cst.Divide)) for part in walk(node)):
        return False
    values = [
        inner.value
        for item in draft.around.before
        if usage([item]).writes & expression_usage(node, frame).reads
        and isinstance(inner := small(item.node), cst.Assign)
        and not isinstance(inner.value, cst.Call)
    ]
    return depth > 3 or all(is_whole(draft, value, draft.nest.host, depth + 1) for value in values)


def shows_only(
    draft: Draft,
    call: cst.Call,
    frame: Frame,
    metrics: Sequence[Metric],
    written: set[Variable],
    index: Variable | None,
) -> bool:
    """True when a print shows nothing that was computed in the body but the metrics and the batch's number."""
    if draft.settings.style == "idiomatic":
        return True
    return not any(unlogged(call, frame, metrics, set(), written - {index} if index is not None else written))


def with_summaries(draft: Draft, hook: Hook) -> Hook:
    """An epoch's printed numbers are logged, too; the idiomatic style logs them instead."""
    steps: list[Step] = []
    names = Names(draft, hook)
    logged = draft.monitored & set(logs(hook.steps))
    for step in hook.steps:
        if not isinstance(step, Item) or draft.nest.epoch_loop is None:
            steps.extend(names.renamed(step))
        elif isinstance(step.node, cst.If) and _asks_for_no_result(draft, step.node, step.frame):
            steps.extend(_logged_within(draft, one, names, logged) for one in names.renamed(step))
        else:
            steps.extend(_summed_up(draft, step, names, logged))
        names.pass_by(step)
    return replace(hook, steps=tuple(steps))


def _summed_up(draft: Draft, step: Item, names: Names, logged: Set[str]) -> Iterator[Step]:
    """A step with logs of the numbers that it prints.

    Args:
        logged: what a callback asks for, where the hook logs it already.
    """
    call = printed(step.node, step.frame, draft.kinds)
    metrics = _metrics_of(draft, call, step.frame) if call is not None else ()
    metrics = tuple(m if m.name in logged else names.given(m, metrics) for m in metrics if not names.has(m))
    stays = draft.settings.style == "faithful" or (call is not None and _tells_more(call, step.frame, metrics))
    if call is None or not metrics or stays:
        yield from names.renamed(step)
    else:
        draft.steps_away.append(LOGGED)
        draft.no_longer_printed(call, step.frame, metrics)
        draft.fates[small(step.node)] = FateNote(Fate.REPLACED, ", ".join(map(log_text, metrics)))  # type: ignore[index]
    yield from (Item(log_statement(m), m.frame) for m in metrics if m.name not in logged)


def _tells_more(call: cst.Call, frame: Frame, metrics: Iterable[Metric]) -> bool:
    """True for a print that has a word for a measure which no log tells."""
    told = {variable for metric in metrics for variable in metric.variables}
    reads = (expression_usage(value, frame).reads for value in labels(call))
    return any(part and not part & told for part in reads)


def _asks_for_no_result(draft: Draft, guard: cst.If, frame: Frame) -> bool:
    """True for `if verbose:` and `if epoch % 10 == 0:`, which ask for nothing that the loops have found out."""
    asked = expression_usage(guard.test, frame).reads
    plain = only_computes(guard.test, frame, draft.tree, lambda _: False)
    return guard.orelse is None and plain and draft.distribution is None and not asked & usage(draft.whole()).writes


def _logged_within(draft: Draft, step: Step, names: Names, logged: Set[str]) -> Step:
    """A guarded print with logs beside it, or in its place."""
    if not isinstance(step, Item) or not isinstance(step.node, cst.If):
        return step
    lines = list(block(step.node.body))
    new = [
        one.node
        for line in lines
        for one in _summed_up(draft, Item(line, step.frame), names, logged)
        if isinstance(one, Item)
    ]
    if new == lines:
        return step
    guard = step.node.with_changes(body=step.node.body.with_changes(body=new))
    draft.stripped.origins[guard] = draft.stripped.origins.get(step.node, step.node)
    return replace(step, node=guard)
