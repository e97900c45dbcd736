"""What a loop prints becomes `self.log`: its progress, in the place of the prints; its summaries, beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

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
    PROGRESS,
    Metric,
    log_call,
    log_calls,
    log_statement,
    log_text,
    metrics_of,
    printed,
    unlogged,
)
from lightify.plan.logs.numbers import is_number, is_one_number, losses
from lightify.plan.logs.texts import is_rule, measures
from lightify.plan.types import FateNote, TrainerOption
from lightify.syntax.comments import in_place_of
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Usage, Variable, constant
from lightify.syntax.query import (
    arguments,
    assigned_pairs,
    block,
    code,
    dotted,
    expression_of,
    method_name,
    module_attribute,
    nodes_of,
    small,
    target_names,
    walk,
)


@dataclass(frozen=True)
class _Batches:
    """What the prints of a pass are read by.

    Attributes:
        index: the batch's number.
        written: what a batch assigns.
        sums: what no log takes, since the Trainer keeps its mean.
        shown: the numbers that each batch logs beside their mean.
        names: what is logged already; a print that tells more than its numbers stays, and logs them once.
    """

    index: Variable | None
    written: set[Variable]
    sums: set[Variable]
    shown: frozenset[str]
    names: set[str] = field(default_factory=set)


def logged(
    draft: Draft,
    body: Sequence[Step],
    head: BatchHead,
    frame: Frame,
    batch: set[Variable],
    later: Sequence[Step],
    *,
    training: bool = True,
) -> tuple[Step, ...]:
    """Progress prints become `self.log`, in their place.

    Args:
        later: what runs after the body, until it has run again.
        training: it is no validation step, of whose logs the Trainer keeps the mean.
    """
    index = frame.variable(head.index.value) if head.index is not None else None
    written = usage(body).writes - batch
    means = ((call, arguments(call).keyword.get("on_step")) for step in body for call in log_calls(step))
    shown = frozenset(code(call.args[1].value) for call, each in means if each is not None and code(each) == "True")
    batches = _Batches(index, written, set() if training else sums_of(body) - batch, shown)
    result: list[Step] = []
    for number, step in enumerate(body):
        if isinstance(step, Item):
            nodes = in_place(draft, step, batches, usage(result))
            new = [Item(node, step.frame) for node in nodes]
            needed = usage((*body[number + 1 :], *later)).exposed | draft.read_elsewhere()
            kept = (item for item in new if item.node is step.node or not idle(draft, item, needed))
            result.extend(item for item in kept if not _says_again(item, result))
        else:
            result.append(step)
    if draft.settings.style == "idiomatic" and PROGRESS in draft.steps_away:
        return tuple(step for step in result if not _ends_line(draft, step))
    return tuple(result)


def _ends_line(draft: Draft, step: Step) -> bool:
    """True for `print()`, which ends a line that others have begun."""
    if not isinstance(step, Item) or not is_rule(printed(step.node, step.frame, draft.kinds)):
        return False
    draft.fates[small(step.node)] = FateNote(Fate.REPLACED, "self.log", "the progress bar shows it")  # type: ignore[index]
    return True


def _says_again(item: Item, before: Sequence[Step]) -> bool:
    """True for a log of what was logged the same way, and has not changed since."""
    if log_call(item.node) is None:
        return False
    text, reads = code(item.node).strip(), usage([item]).reads
    for step in reversed(before):
        if isinstance(step, Item) and log_call(step.node) is not None and code(step.node).strip() == text:
            return step.frame is item.frame
        if usage([step]).writes & reads:
            break
    return False


def sums_of(body: Sequence[Step]) -> set[Variable]:
    """What a batch goes on with: a mean of such over the batches says nothing."""
    used = usage(body)
    return used.exposed & used.writes


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


def in_place(draft: Draft, step: Item, batches: _Batches, done: Usage) -> list[cst.BaseStatement]:
    """The statements that take a step's place: itself, logs, or itself with logs for prints.

    Args:
        done: what the batch did before the step.
    """
    if isinstance(step.node, cst.With):
        return [_within(draft, step, batches, done)]
    index, written, names = batches.index, batches.written, batches.names
    guard = step.node if isinstance(step.node, cst.If) and step.node.orelse is None else None
    if guard is not None and constant(guard.test, step.frame) is not None:
        guard = None
    inside = list(block(guard.body)) if guard is not None else [step.node]
    new: list[cst.BaseStatement] = []
    logs: dict[cst.BaseStatement, Metric] = {}
    for node in inside:
        if guard is not None and isinstance(node, cst.If):  # another test around what it prints
            new += in_place(draft, Item(node, step.frame), batches, done)
            continue
        call = printed(node, step.frame, draft.kinds)
        metrics = metrics_shown(draft, call, step.frame) if call is not None else ()
        metrics = tuple(m for m in metrics if not m.variables & draft.averaged)
        gone = call is not None and bool(expression_usage(call, step.frame).reads & draft.averaged)
        gone |= called_on(draft, step, node) in draft.averaged  # what showed averages
        metrics = tuple(m for m in metrics if not m.variables & batches.sums and code(m.value) not in batches.shown)
        summary = call is not None and sums_up_epoch(draft, call)
        if call is not None and metrics and not gone and not summary and not _is_kept(draft, call, step.frame):
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
        if summary and not gone:
            node = _by_module(draft, node)
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


def _within(draft: Draft, step: Item, batches: _Batches, done: Usage) -> cst.BaseStatement:
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
        lines += in_place(draft, inner, batches, before)
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
    metrics = [metric for call in calls for metric in metrics_shown(draft, call, frame)]
    return any(metric.variables & own and metric.name in measures(metric.name) for metric in metrics)


def metrics_shown(draft: Draft, call: cst.Call, frame: Frame) -> tuple[Metric, ...]:
    """The numbers of a print, those without a format included that the loops tell to be such."""
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


def sums_up_epoch(draft: Draft, call: cst.Call) -> bool:
    """True where the step is a whole epoch, on all data, by the script's own word for it; what it prints stays then."""
    nest = draft.nest
    if draft.settings.style == "idiomatic" or nest.epoch_loop is not None or not isinstance(nest.batch_loop, cst.For):
        return False
    words = [*target_names(nest.batch_loop.target), *map(code, nodes_of(call, *_TEXTS))]
    return any("epoch" in word.lower() for word in words)


_TEXTS = (cst.SimpleString, cst.FormattedStringText)


def _by_module(draft: Draft, node: cst.BaseStatement) -> cst.BaseStatement:
    """`self.print(...)`, which a progress bar makes room for, in one process as in several."""
    call = expression_of(node)
    if not isinstance(call, cst.Call) or dotted(call.func) != "print" or draft.distribution:
        return node
    if any(arg.keyword is not None for arg in call.args):
        return node
    shown = cst.Expr(call.with_changes(func=module_attribute("print")))
    draft.stripped.origins[shown] = draft.stripped.origins.get(small(node), small(node))  # type: ignore[arg-type,assignment]
    return node.with_changes(body=[shown])


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
    return any(method_name(part) == "item" for part in walk(value))


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
