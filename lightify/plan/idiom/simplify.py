"""Takes device moves and progress prints out; the Trainer moves and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.loops.nest import Nest
from lightify.plan.batches import batch_variables
from lightify.plan.callbacks.keepers import keep_best
from lightify.plan.draft import Draft
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.homes import Homes
from lightify.plan.idiom.autograd_variables import without_variables
from lightify.plan.idiom.devices import host_moves, moved, moved_parts, strip_moves, unpacked
from lightify.plan.idiom.dictionaries import with_named_parts
from lightify.plan.idiom.handed_on import under_one_name
from lightify.plan.kinds import Kinds
from lightify.plan.logs.averages import log_averages, replaced
from lightify.plan.logs.metrics import PROGRESS, printed
from lightify.plan.logs.progress import logged
from lightify.plan.logs.running import log_running_means
from lightify.plan.logs.sums import Pass
from lightify.plan.trainer import acceleration
from lightify.plan.trainer.device import device_text, places_network
from lightify.plan.trainer.lightning import makes_own_batches, on_lightning
from lightify.plan.trainer.places import moves_nothing
from lightify.plan.types import (
    FateNote,
)
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import children, dotted, method_call, method_name, small, target_names, walk

#: What wants its argument on the CPU.
_ON_CPU = ("pack_padded_sequence", "from_numpy")


def idiom(draft: Draft, head: BatchHead) -> Nest:
    """Takes moves between devices and progress prints out of the batch loop."""
    nest = draft.nest
    batch = batch_variables(head, nest.batch_frame)
    if draft.settings.style == "idiomatic":
        draft.nest = keep_best(draft, with_named_parts(draft, nest))
        nest = averaged(draft, head, batch)
    beyond = usage((*nest.epoch_start, *nest.epoch_end))
    outside = draft.read_elsewhere() | beyond.reads | beyond.writes
    body = under_one_name(draft, nest.body, batch, outside)
    own = on_lightning(draft) and not counts(head) and makes_own_batches(draft, head.source, nest.batch_frame)
    if draft.analysis.accelerated:
        draft.batch_mover = "accelerate has moved what it prepared"
    elif strippable(draft, body, batch, head, alike=not own):
        body = under_one_name(draft, body, batch, outside, partial(moved, kinds=draft.kinds))
        batch = batch_variables(head, nest.batch_frame)
        body = strip_moves(body, batch, draft.kinds, draft.stripped)
    elif batch and not moves_nothing(draft.tree) and not counts(head):
        draft.batch_mover = "the step moves what has to move"
    elif own:
        draft.batch_mover = "a batch of the script's own making stays the object that it is"
    body = without_variables(draft, body, head, nest.batch_frame, outside)
    draft.fates.update(draft.stripped.fates)
    nest = with_new_sites(nest, body, draft.stripped.origins)
    later = (*nest.epoch_end, *nest.epoch_start, *nest.body)
    body = logged(draft, body, head, nest.batch_frame, batch, later)
    if draft.settings.style == "idiomatic":
        nest = replace(nest, epoch_start=without_numbers(draft, nest))
    return replace(nest, body=body)


def with_new_sites(nest: Nest, body: Sequence[Step], origins: Mapping[cst.CSTNode, cst.CSTNode]) -> Nest:
    """The loops whose backward passes are those of statements made anew: `criterion(model(x), y).backward()`."""
    new: dict[cst.CSTNode, cst.Call] = {}
    for step in body:
        inner = small(step.node) if isinstance(step, Item) else None
        origin = origins.get(inner) if inner is not None else None
        if isinstance(inner, cst.Expr) and isinstance(origin, cst.Expr) and isinstance(inner.value, cst.Call):
            new[origin.value] = inner.value
    return replace(nest, sites=tuple(new.get(site, site) for site in nest.sites), origins={**nest.origins, **origins})


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
        if not reads & made and all(method_name(part) == "format" for part in calls):
            gone.append(step)
            telling |= bool(reads & known)
    if not telling:
        return nest.epoch_start
    draft.steps_away.append(PROGRESS)
    draft.fates.update({small(one.node): FateNote(Fate.REPLACED, "Trainer: shows the epoch") for one in gone})  # type: ignore[misc]
    return tuple(step for step in nest.epoch_start if step not in gone)


def averaged(draft: Draft, head: BatchHead, batch: set[Variable]) -> Nest:
    """The loops without the averages that they keep by hand, over the last batches and over the pass."""
    nest = draft.nest
    outside = draft.read_elsewhere()
    for log in (log_running_means, log_averages):
        parts = nest.epoch_start, nest.body, nest.epoch_end
        one = Pass(*parts, head, nest.batch_frame, batch, outside, training=True)
        new = log(draft, one)
        nest = replace(
            nest,
            epoch_start=replaced(nest.epoch_start, new),
            body=replaced(nest.body, new),
            epoch_end=replaced(nest.epoch_end, new),
        )
    return nest


def strippable(
    draft: Draft, body: Sequence[Step], batch: set[Variable], head: BatchHead, *, alike: bool = True
) -> bool:
    """True when the Trainer may move the batch: the script moves everything that it uses of it.

    The idiomatic style leaves it to the Trainer where nothing needs the CPU, too: the script moves it in its own way.

    Args:
        alike: the Trainer hands on a batch that is like the one it got.
    """
    batch = unpacked(body, batch)
    moved = moved_parts(body, batch, draft.kinds)
    used = batch & usage(body).reads
    if moved and used_before_moved(body, moved, draft.kinds):
        return False
    if moved and moved == used:
        return True
    if draft.settings.style == "faithful" or not used or not alike or stays_on_cpu(body, batch, draft):
        return False
    if moved and _is_used(body, used - moved):
        return False  # with others of the CPU, perhaps
    if device_text(draft) != '"cpu"' and not counts(head):
        draft.steps_away.append("the Trainer moves whole batches to its device")
    return True


def used_before_moved(body: Sequence[Step], moved: set[Variable], kinds: Kinds) -> bool:
    """True when a part of the batch is used before the script moves it, with others of the CPU perhaps."""
    waiting = set(moved)
    for step in body:
        waiting -= moved_parts([step], waiting, kinds)
        if _is_used([step], waiting):
            return True
    return False


def _is_used(steps: Sequence[Step], parts: Set[Variable]) -> bool:
    """True when steps read parts of the batch, for more than their shape."""
    for step in steps:
        node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
        if hands_over(node, frame, parts & usage([step]).reads):
            return True
    return False


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


def hands_over(node: cst.CSTNode, frame: Frame, batch: Set[Variable]) -> bool:
    """True when a name of the batch stands in a node, for more than its shape."""
    if isinstance(node, cst.Attribute) and node.attr.value in ("shape", "size", "device", "dtype"):
        return False
    if isinstance(node, cst.Call) and (dotted(node.func) == "len" or method_name(node) == "cpu"):
        return False
    if isinstance(node, cst.Name):
        return frame.resolve(node.value) in batch
    return any(hands_over(child, frame, batch) for child in children(node))


def counts(head: BatchHead) -> bool:
    """True for a loop over numbers: there is nothing to move."""
    source = head.source
    return isinstance(source, cst.Call) and dotted(source.func) in ("range", "count", "itertools.count")


def take_host_moves(draft: Draft, homes: Homes) -> tuple[tuple[str, ...], dict[cst.CSTNode, cst.CSTNode]]:
    """Takes `model.to(device)` out of the host; says again after fit what is needed there."""
    handed = {v for v, _ in homes.captured if draft.kinds.of(v) is Kind.MODULE}
    if draft.analysis.accelerated:
        return acceleration.back_on_device(draft, handed), {}
    running = [usage([item]).reads for item in draft.around.after if uses_modules(item, draft.kinds)]
    later = {v for v in handed if any(v in reads for reads in running)}
    ran = [item for item in draft.around.before if runs_network(draft, item, handed)]
    if ran or not places_network(draft):
        return (), {}
    moves = host_moves(draft.around.before, later, handed, draft.kinds)
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
