"""Takes device moves and progress prints out; the Trainer moves and shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.loops.nest import Nest
from lightify.plan.batches import batch_parts, batch_variables, in_host
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.evaluation.ending import uses_modules
from lightify.plan.homes import Homes
from lightify.plan.idiom.averages import log_averages, replaced
from lightify.plan.idiom.devices import host_moves, moved_parts, strip_moves
from lightify.plan.idiom.keepers import keep_best
from lightify.plan.idiom.meters import called_on
from lightify.plan.idiom.metrics import LOGGED, PROGRESS, Metric, log_statement, logs, metrics_of, printed, unlogged
from lightify.plan.idiom.sums import Pass
from lightify.plan.trainer import acceleration
from lightify.plan.trainer.device import device_text
from lightify.plan.trainer.lightning import makes_own_batches, on_lightning
from lightify.plan.types import (
    FateNote,
    Hook,
    TrainerOption,
)
from lightify.syntax.comments import in_place_of
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable, constant
from lightify.syntax.query import block, children, dotted, method_call, small, target_names, walk

#: What wants its argument on the CPU.
_ON_CPU = ("pack_padded_sequence", "from_numpy")


def idiom(draft: Draft, head: BatchHead) -> Nest:
    """Takes moves between devices and progress prints out of the batch loop."""
    nest = draft.nest
    batch = batch_variables(draft, head, nest.batch_frame)
    if draft.settings.style == "idiomatic":
        draft.nest = keep_best(draft, nest)
        nest = averaged(draft, head, batch)
    body = nest.body
    own = on_lightning(draft) and not counts(head) and makes_own_batches(draft, head.source, nest.batch_frame)
    if draft.analysis.accelerated:
        draft.batch_mover = "accelerate has moved what it prepared"
    elif strippable(draft, body, batch, alike=not own):
        body = strip_moves(body, batch, draft.kinds, draft.stripped)
        draft.fates.update(draft.stripped.fates)
    elif batch and uses_devices(draft) and not counts(head):
        draft.batch_mover = "the step moves what has to move"
    elif own:
        draft.batch_mover = "a batch of the script's own making stays the object that it is"
    later = (*nest.epoch_end, *nest.epoch_start, *nest.body)
    body = logged(draft, body, head, nest.batch_frame, batch, later)
    if draft.settings.style == "idiomatic":
        nest = replace(nest, epoch_start=without_numbers(draft, nest))
    return replace(nest, body=body)


def without_numbers(draft: Draft, nest: Nest) -> tuple[Step, ...]:
    """What starts an epoch without the prints that only tell its number, and lines that they draw."""
    counted = target_names(nest.epoch_loop.target) if isinstance(nest.epoch_loop, cst.For) else []
    known = {nest.host.resolve(name) for name in counted}
    made = usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
    gone: list[Item] = []
    telling = False
    for step in nest.epoch_start:
        call = printed(step.node, step.frame, draft.kinds) if isinstance(step, Item) else None
        if not isinstance(step, Item) or call is None:
            continue
        reads = expression_usage(call, step.frame).reads
        calls = [part for part in walk(call) if isinstance(part, cst.Call) and part is not call]
        if not reads & made and all((method_call(part) or ("", ""))[1] == "format" for part in calls):
            gone.append(step)
            telling |= bool(reads & known)
    if not telling:
        return nest.epoch_start
    draft.steps_away.append(PROGRESS)
    draft.fates.update({small(one.node): FateNote(Fate.REPLACED, "Trainer: shows the epoch") for one in gone})  # type: ignore[misc]
    return tuple(step for step in nest.epoch_start if step not in gone)


def averaged(draft: Draft, head: BatchHead, batch: set[Variable]) -> Nest:
    """The loops without the averages that they keep by hand."""
    nest = draft.nest
    index = nest.batch_frame.variable(head.index.value) if head.index is not None and head.start is None else None
    outside = draft.read_elsewhere()
    one = Pass(
        nest.epoch_start,
        nest.body,
        nest.epoch_end,
        head.source,
        nest.batch_frame,
        batch,
        batch_parts(head, nest.batch_frame),
        index,
        outside,
        training=True,
    )
    new = log_averages(draft, one)
    return replace(
        nest,
        epoch_start=replaced(nest.epoch_start, new),
        body=replaced(nest.body, new),
        epoch_end=replaced(nest.epoch_end, new),
    )


def strippable(draft: Draft, body: Sequence[Step], batch: set[Variable], alike: bool = True) -> bool:
    """True when the Trainer may move the batch: the script moves everything that it uses of it.

    The idiomatic style leaves to the Trainer what the script leaves on the CPU, too, where nothing needs it there.

    Args:
        alike: the Trainer hands on a batch that is like the one it got.
    """
    moved = moved_parts(body, batch, draft.kinds)
    used = batch & usage(body).reads
    if moved and moved == used:
        return True
    if draft.settings.style == "faithful" or not used or not alike or stays_on_cpu(body, batch, draft):
        return False
    if device_text(draft) != '"cpu"':
        draft.steps_away.append("the Trainer moves whole batches to its device")
    return True


def stays_on_cpu(body: Sequence[Step], batch: set[Variable], draft: Draft) -> bool:
    """True when numpy, or what counts lengths, takes something of the batch."""
    items = [step for step in body if isinstance(step, Item)]
    for step in items:
        for node in walk(step.node):
            if not isinstance(node, cst.Call):
                continue
            full, used = draft.tree.qualified(node.func) or "", method_call(node)
            takes = full.startswith(("numpy.", "PIL.", "matplotlib.")) or full.endswith(_ON_CPU)
            if (takes or (used is not None and used[1] == "numpy")) and hands_over(node, step.frame, batch):
                return True
    return False


def hands_over(node: cst.CSTNode, frame: Frame, batch: set[Variable]) -> bool:
    """True when a name of the batch stands in a node, for more than its shape."""
    if isinstance(node, cst.Attribute) and node.attr.value in ("shape", "size", "device", "dtype"):
        return False
    if isinstance(node, cst.Call) and (dotted(node.func) == "len" or (method_call(node) or ("", ""))[1] == "cpu"):
        return False
    if isinstance(node, cst.Name):
        return frame.resolve(node.value) in batch
    return any(hands_over(child, frame, batch) for child in children(node))


def counts(head: BatchHead) -> bool:
    """True for a loop over numbers: there is nothing to move."""
    source = head.source
    return isinstance(source, cst.Call) and dotted(source.func) in ("range", "count", "itertools.count")


def uses_devices(draft: Draft) -> bool:
    text = draft.tree.text
    return any(word in text for word in (".cuda", ".to(", "device"))


def logged(
    draft: Draft, body: Sequence[Step], head: BatchHead, frame: Frame, batch: set[Variable], later: Sequence[Step]
) -> tuple[Step, ...]:
    """Progress prints become `self.log`, in their place.

    Args:
        later: what runs after the body, until it has run again.
    """
    index = frame.variable(head.index.value) if head.index is not None else None
    written = usage(body).writes - batch
    result: list[Step] = []
    for number, step in enumerate(body):
        if isinstance(step, Item):
            sure = usage(result).must or set()
            nodes = in_place(draft, step, index, written, sure)
            new = [Item(node, step.frame) for node in nodes]
            needed = usage((*body[number + 1 :], *later)).exposed | draft.read_elsewhere()
            result.extend(item for item in new if item.node is step.node or not idle(draft, item, needed))
        else:
            result.append(step)
    return tuple(result)


def idle(draft: Draft, item: Item, needed: set[Variable]) -> bool:
    """True for what is left of `if i % k == 0: shown = loss.item(); print(shown)`: nothing needs what it computes."""
    if draft.settings.style == "faithful" or not isinstance(item.node, cst.If) or usage([item]).writes & needed:
        return False
    lines = [small(line) for line in block(item.node.body)]
    values = [line.value for line in lines if isinstance(line, cst.Assign) and all(map(_names, line.targets))]
    plain = len(values) == len(lines) and item.node.orelse is None
    parts = (*values, item.node.test)
    gone = plain and all(only_computes(one, item.frame, draft.tree, lambda _: False) for one in parts)
    if gone:
        note = FateNote(Fate.REPLACED, "self.log", "the progress bar shows it")
        draft.fates.update(dict.fromkeys((item.node, *filter(None, lines)), note))
    return gone


def _names(target: cst.AssignTarget) -> bool:
    """True for a target that is a name, or names."""
    parts = target.target.elements if isinstance(target.target, cst.Tuple) else [target]
    return len(target_names(target.target)) == len(parts)


def in_place(
    draft: Draft, step: Item, index: Variable | None, written: set[Variable], sure: set[Variable]
) -> list[cst.BaseStatement]:
    """The statements that take a step's place: itself, logs, or itself with logs for prints."""
    guard = step.node if isinstance(step.node, cst.If) and step.node.orelse is None else None
    if guard is not None and constant(guard.test, step.frame) is not None:
        guard = None
    inside = list(block(guard.body)) if guard is not None else [step.node]
    new: list[cst.BaseStatement] = []
    logged = False
    for node in inside:
        call = printed(node, step.frame, draft.kinds)
        metrics = metrics_of(call, step.frame, draft.kinds) if call is not None else ()
        metrics = tuple(m for m in metrics if m.variable not in draft.averaged)
        gone = call is not None and bool(expression_usage(call, step.frame).reads & draft.averaged)
        gone |= called_on(draft, step, node) in draft.averaged  # what showed averages
        plain = call is not None and metrics and shows_only(draft, call, step.frame, metrics, written, index)
        if not gone and not plain:
            new.append(node)
            continue
        logged = True
        draft.fates[small(node)] = FateNote(  # type: ignore[index]
            Fate.REPLACED,
            ", ".join(f'self.log("{m.name}")' for m in metrics) or "self.log",
            "the progress bar shows it",
        )
        if call is not None:
            draft.no_longer_printed(call, step.frame, metrics)
        new.extend(in_place_of(node, [log_statement(m) for m in metrics]))
    if not logged:
        return [step.node]
    draft.steps_away.append(PROGRESS)
    logs = [node for node in new if node not in inside]
    rest = [node for node in new if node in inside]
    values = {v for node in logs for v in usage([Item(node, step.frame)]).reads if v in written}
    if guard is None:
        return new
    asks = only_computes(guard.test, step.frame, draft.tree, lambda _: False)
    free = values <= sure and asks  # there in every batch, and nobody misses the question
    if free and (not rest or draft.settings.style == "idiomatic"):
        logs = in_place_of(guard, logs)
        logs_every(draft, guard.test, step.frame, index)
        if rest:
            guard = guard.with_changes(body=guard.body.with_changes(body=rest))
            draft.stripped.origins[guard] = step.node
            return [*logs, guard]
        draft.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: shows progress on a clock")
        return logs
    changed = guard.with_changes(body=guard.body.with_changes(body=new))
    draft.stripped.origins[changed] = step.node
    return [changed]


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
    shown = {m.variable for m in metrics}
    lost = list(unlogged(call, frame, shown, written - {index} if index is not None else written))
    return not lost and not (expression_usage(call, frame).reads & written) - shown - {index}


def take_host_moves(draft: Draft, homes: Homes) -> tuple[tuple[str, ...], dict[cst.CSTNode, cst.CSTNode]]:
    """Takes `model.to(device)` out of the host; says again after fit what is needed there."""
    handed = {v for v, _ in homes.captured if draft.kinds.of(v) is Kind.MODULE}
    if draft.analysis.accelerated:
        return acceleration.back_on_device(draft, handed), {}
    running = [usage([item]).reads for item in draft.around.after if uses_modules(item, draft.kinds)]
    later = {v for v in handed if any(v in reads for reads in running)}
    ran = [item for item in draft.around.before if runs_network(draft, item, handed)]
    if ran or device_text(draft) is None:
        return (), {}
    moves = host_moves(draft.around.before, later, handed, draft.kinds, draft.tree)
    for node in moves.removed:
        draft.removed.add(node)
        draft.fates[node] = FateNote(Fate.REPLACED, "Trainer(accelerator=...)", "the Trainer moves the network")
    return moves.again, moves.edits


def runs_network(draft: Draft, item: Item, handed: set[Variable]) -> bool:
    """True when a statement before the run calls a network or hands it on to unknown code."""
    for node in walk(item.node):
        if isinstance(node, cst.Call):
            if isinstance(node.func, cst.Name) and draft.kinds.variable(node.func, item.frame) in handed:
                return True
            full = draft.tree.qualified(node.func) or ""
            if full in ("print", "len"):
                continue
            if any(draft.kinds.variable(a.value, item.frame) in handed for a in node.args):
                return True
    return False


def with_summaries(draft: Draft, hook: Hook) -> Hook:
    """An epoch's printed numbers are logged, too; the idiomatic style logs them instead."""
    steps: list[Step] = []
    names: set[str] = set()
    logged = draft.monitored & set(logs(hook.steps))
    for step in hook.steps:
        shows = isinstance(step, Item) and draft.nest.epoch_loop is not None
        call = printed(step.node, step.frame, draft.kinds) if shows else None  # type: ignore[union-attr]
        metrics = metrics_of(call, step.frame, draft.kinds) if call is not None and isinstance(step, Item) else ()
        metrics = tuple(m for m in metrics if m.name not in names)
        if not (metrics and draft.settings.style == "idiomatic"):
            steps.append(step)
        elif isinstance(step, Item):
            draft.steps_away.append(LOGGED)
            draft.no_longer_printed(call, step.frame, metrics)  # type: ignore[arg-type]
            draft.fates[small(step.node)] = FateNote(Fate.REPLACED, ", ".join(f'self.log("{m.name}")' for m in metrics))  # type: ignore[index]
        metrics = tuple(m for m in metrics if m.name not in logged)
        names |= {m.name for m in metrics}
        steps.extend(Item(log_statement(m), m.variable.frame) for m in metrics)
    return replace(hook, steps=tuple(steps))
