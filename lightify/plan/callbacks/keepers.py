"""The best weights so far and the patience with a metric become the Trainer's callbacks, in the idiomatic style."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.callbacks.best_flag import Flagged, flagged, with_patience, with_singles
from lightify.plan.callbacks.best_saves import place_of, saved_at
from lightify.plan.callbacks.comparisons import Best, best_at, shown_in_batches
from lightify.plan.callbacks.patience import patience_of
from lightify.plan.callbacks.saves import saving_call
from lightify.plan.callbacks.starts import infinite, start_of, starts_below
from lightify.plan.callbacks.stoppers import Stopped, stopped
from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import Metric, log_statement
from lightify.plan.naming import runtime_alias
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.optimization.mode import automatic
from lightify.plan.types import FateNote, TrainerOption
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.query import block, small, walk


def keep_best(draft: Draft, nest: Nest) -> Nest:
    """The loops without the saves of the best weights and the patience that the Trainer's callbacks stand for."""
    exact = isinstance(automatic(nest, draft.kinds, draft.tree, draft.analysis), Automatic)
    leaves = any(True for step in nest.body if isinstance(step, Item) for _ in exits_of(step.node))
    if not isinstance(nest.epoch_loop, cst.For) or nest.epoch_loop.orelse is not None or leaves or not exact:
        return nest
    ends = stopped(draft, nest)
    if ends is not None and not shown_in_batches(draft, nest, ends.metric.name):
        nest = _stops(draft, ends)
    flag = flagged(draft, nest)
    new = _kept(draft, flag.nest, flag) if flag is not None else None
    for reading in (nest, with_singles(nest)) if new is None else ():
        patient = with_patience(reading) if reading is not None else None
        new = new or (_kept(draft, patient, None, asks=True) if patient is not None else None)
        new = new or (_kept(draft, reading, None) if reading is not None else None)
    return new or nest


def _stops(draft: Draft, ends: Stopped) -> Nest:
    """The loops that EarlyStopping ends, with the metric logged that it asks for."""
    name, mode = ends.metric.name, ends.mode
    text = f'EarlyStopping(monitor="{name}", mode="{mode}", {ends.arguments}, check_finite=False)'
    draft.steps_away.append(f"an epoch whose {name} equals the best one counts as no better")
    callback = f"{runtime_alias(draft.tree)}.callbacks.{text}"
    log = _monitored(draft, Metric.held(ends.metric, draft.kinds, name), ends.frame, [callback])
    return replace(ends.nest, epoch_end=(*ends.nest.epoch_end, *log))


def _monitored(draft: Draft, metric: Metric, frame: Frame, callbacks: list[str]) -> list[Step]:
    """Gives the Trainer callbacks; the log that they ask for, unless it is there already."""
    draft.steps_away.append(f"{metric.name} is compared with its best in single precision")
    known = [option for option in draft.options if option.name == "callbacks"]
    texts = [*(str(option.value)[1:-1] for option in known), *callbacks]
    draft.options[:] = [option for option in draft.options if option not in known]
    draft.options.append(TrainerOption("callbacks", f"[{', '.join(texts)}]"))
    logged = metric.name in draft.monitored
    draft.monitored.add(metric.name)
    return [] if logged else [Item(log_statement(metric), frame)]


def _kept(draft: Draft, nest: Nest, flag: Flagged | None, *, asks: bool = False) -> Nest | None:
    """The loops with callbacks for the first comparison that they stand for; None when there is none.

    Args:
        asks: the last comparison's other branch asks for the patience, which it does for EarlyStopping alone.
    """
    for number, step in enumerate(nest.epoch_end):
        found = best_at(draft, nest, step)
        if found is not None:
            last = number == len(nest.epoch_end) - 1
            new = _replaced(draft, nest, found, number, flag, stops=asks and last)
            if new is not None:
                return replace(nest, epoch_end=(*nest.epoch_end[:number], *new, *nest.epoch_end[number + 1 :]))
        if isinstance(step, Item) and any(True for _ in exits_of(step.node)):
            break  # what follows may be left out in some epochs
    return None


def _replaced(
    draft: Draft, nest: Nest, found: Best, number: int, flag: Flagged | None, *, stops: bool
) -> list[Step] | None:
    """What takes the place of the comparison; None when it stays as it is."""
    start = start_of(draft, found.best)
    frame, later = found.step.frame, nest.epoch_end[number + 1 :]
    where_from = f"{runtime_alias(draft.tree)}.callbacks"
    callbacks: list[str] = []
    gone: list[cst.BaseStatement] = []
    monitor = f'monitor="{found.metric.name}", mode="{found.mode}"'
    call = flag.call if flag is not None else None
    saves = [line for line in found.kept if saving_call(draft, line) is not None or line is call]
    saved = flag.saved if flag is not None and saves == [call] else saved_at(draft, found, saves[0]) if saves else None
    where = place_of(draft, nest, found, saved, later) if len(saves) == 1 else None
    if not starts_below(start, found.mode):
        where = None
    if flag is not None and (where is None or small(found.update) not in nest.origins):
        return None
    patience = patience_of(draft, nest, found, later) if starts_below(start, found.mode) and not found.ties else None
    if stops and patience is None:
        return None
    if where is not None:
        callbacks.append(f"{where_from}.ModelCheckpoint({where[0]}{monitor})")
        gone.append(saves[0])
        both = "the best and the last" if saved is not None and saved.last else "the best"
        draft.steps_away.append(f"{both} weights are in a Lightning checkpoint, not in {where[1]}")
        if found.ties:
            draft.steps_away.append(f"of epochs with the same {found.metric.name} the first one counts as the best")
    if patience is not None:
        limit, reset = patience
        if start not in infinite(found.mode):
            draft.steps_away.append(f"the first epoch counts as better than none, whatever its {found.metric.name}")
        callbacks.append(f"{where_from}.EarlyStopping({monitor}, patience={limit}, check_finite=False)")
        gone.append(reset)
    if not callbacks:
        return None
    if flag is not None:
        draft.fates[small(flag.flag) or flag.flag] = FateNote(Fate.REPLACED, "ModelCheckpoint")
    log = _monitored(draft, Metric.held(found.metric, draft.kinds), frame, callbacks)
    target = " and ".join(text.removeprefix(f"{where_from}.").partition("(")[0] for text in callbacks)
    orelse = None if patience is not None else found.node.orelse
    rest = [line for line in found.kept if line not in gone]
    others = usage([one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not found.step]).reads
    wanted = found.best in others | draft.read_elsewhere()
    if not rest and orelse is None and not wanted:
        for line in (found.node, *_statements(found.node)):
            draft.fates[line] = FateNote(Fate.REPLACED, target)
        return log
    lost = [*gone, *(_statements(found.node.orelse) if found.node.orelse is not None and orelse is None else ())]
    for line in lost:
        draft.fates[small(line) or line] = FateNote(Fate.REPLACED, target)
    body = [line for line in block(found.node.body) if line not in gone]
    new = found.node.with_changes(body=found.node.body.with_changes(body=body), orelse=orelse)
    draft.stripped.origins[new] = found.node
    return [*log, Item(new, frame)]


def _statements(node: cst.CSTNode) -> list[cst.CSTNode]:
    """All statements in a node, as the ledger counts them."""
    return [part for part in walk(node) if part is not node and isinstance(part, (cst.BaseSmallStatement, cst.If))]
