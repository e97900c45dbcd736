"""How a run's loops are read, the idiom of the style applied: their heads, their batches, and the step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import libcst as cst

from lightify.loops.epochs import ENDLESS, FIRST, EpochHead, epoch_head, with_first
from lightify.loops.headers import BatchHead, asking_within, batch_head
from lightify.loops.nest import Nest
from lightify.plan.batches import batch_source
from lightify.plan.counters import changes, set_once
from lightify.plan.draft import Draft, Flatten
from lightify.plan.evaluation.gradient_mode import gradients_off
from lightify.plan.exits import ends_early, unsupported
from lightify.plan.idiom.bars import bare_loop, goes_over_bar
from lightify.plan.idiom.precision import mixed_precision
from lightify.plan.idiom.simplify import idiom
from lightify.plan.optimization.automatic import Automatic, is_rebound
from lightify.plan.optimization.closures import read_by_closures
from lightify.plan.optimization.given_back import without_rebinding
from lightify.plan.optimization.missing import without_missing
from lightify.plan.optimization.mode import automatic
from lightify.plan.optimization.own_backward import with_backward_apart
from lightify.plan.optimization.own_optimizers import works_before_closure
from lightify.plan.optimization.own_step import own_step
from lightify.plan.optimization.windows import accumulated
from lightify.plan.trainer.acceleration import OWNS_STEPS
from lightify.plan.trainer.lightning import on_lightning, own_way_of_stepping
from lightify.plan.trainer.signals import unreachable_sigterm
from lightify.plan.unbound import asks_for_names
from lightify.syntax.flow import expression_usage
from lightify.syntax.frames import Usage, Variable


@dataclass(frozen=True)
class Loops:
    """What the loops say once they are taken apart.

    Attributes:
        step: how the Trainer takes the body's step; a text says why it can't.
        endable: a batch may end the loops.
        source: the iterable for fit in terms of the host; None when the module provides the batches.
        plain: the Trainer's pass over the source is the loop's, batch by batch to its end.
        tests: what the conditions of `while` loops use.
    """

    head: BatchHead
    epochs: EpochHead | None
    step: Automatic | str
    endable: bool
    source: cst.BaseExpression | None
    plain: bool
    tests: Usage

    @property
    def auto(self) -> Automatic | None:
        return self.step if isinstance(self.step, Automatic) else None

    @property
    def counted(self) -> bool:
        """False where there may be no epoch at all."""
        return self.epochs is None or (isinstance(self.epochs.count, cst.Integer) and self.epochs.count.value != "0")


def _heads(draft: Draft) -> tuple[BatchHead, EpochHead | None] | Flatten:
    """What the loops' heads say, where the loops hold nothing that a hook can't."""
    nest = draft.nest
    head = batch_head(asking_within(bare_loop(draft, nest.batch_loop, nest.batch_frame)), draft.counted_bars)
    if isinstance(head, str):
        return Flatten(head)
    outer = bare_loop(draft, nest.epoch_loop, nest.host) if nest.epoch_loop is not None else None
    epochs = epoch_head(asking_within(outer), set_once(draft)) if outer is not None else None
    if nest.uncounted:
        epochs = EpochHead(ENDLESS)
    if isinstance(epochs, str):
        whole = isinstance(outer, cst.For) and not outer.orelse
        return Flatten(epochs, uncounted=whole and not goes_over_bar(draft, nest.epoch_loop, nest.host))
    if epochs is not None and changes(draft, epochs):
        epochs = with_first(epochs)
        if epochs is None:
            return Flatten("the loops change what the epochs count with")
        nest.host.outermost.stand_for(FIRST.value, Variable(draft.tree.fresh("first_epoch"), nest.host))
    return (
        unsupported(draft)
        or unreachable_sigterm(draft.tree)
        or asks_for_names(draft)
        or gradients_off(draft)
        or (head, epochs)
    )


def read_loops(draft: Draft) -> Loops | Flatten:
    """Reads the loops, the idiom of the style applied to them."""
    heads = _heads(draft)
    if isinstance(heads, Flatten):
        return heads
    head, epochs = without_missing(draft, heads[0]), heads[1]
    draft.nest = without_rebinding(draft)
    mixed_precision(draft)
    draft.nest = idiom(draft, head)
    step = _step_of(draft, head)
    endable = ends_early(draft, head)
    draft.kept_alive = read_by_closures(draft.whole(), draft.tree)
    nest = draft.nest
    if nest.batch_frame is not nest.host and any(v.frame is nest.batch_frame for v in draft.kept_alive):
        return Flatten("a function made in the batch loop outlives the epoch, and sees its own epoch's names")
    source = batch_source(draft, head)
    plain = source is not None and not draft.lazy and not endable and not nest.skips
    return Loops(head, epochs, step, endable, source, plain, _tests(head, epochs, nest))


def _step_of(draft: Draft, head: BatchHead) -> Automatic | str:
    """How the Trainer takes the body's step without another number; a text says why it can't."""
    read = _read_step(draft, head)
    if isinstance(read, Automatic) and on_lightning(draft):
        return own_way_of_stepping(draft, read.optimizer) or read
    if isinstance(read, Automatic) and works_before_closure(draft, read.optimizer):
        return "the script's own optimizer works before it evaluates the closure that a Trainer hands it"
    return read


def _read_step(draft: Draft, head: BatchHead) -> Automatic | str:
    if draft.analysis.accelerated:
        return OWNS_STEPS
    rebound = draft.around.rebound
    read = automatic(draft.nest, draft.kinds, draft.tree, draft.analysis, rebound)
    if isinstance(read, Automatic) and read.leaves and draft.distribution is not None:
        return "the body may be left before the optimizer steps, which processes that train together can't"
    if isinstance(read, Automatic) or draft.nest.conditional:
        return read
    window = accumulated(draft, head)
    if window is not None:
        within = automatic(window.nest, draft.kinds, draft.tree, draft.analysis, rebound)
        if isinstance(within, Automatic) and within.scheduler is None and not within.leaves:
            draft.take(window.nest, window.option, window.fates, window.departures)
            return replace(within, loss=window.loss)
    apart = with_backward_apart(draft.nest, draft.kinds)
    own = own_step(apart, draft.kinds, draft.tree)
    if not isinstance(own, Automatic) or is_rebound(own, rebound):
        return read
    draft.nest = apart
    return own


def _tests(head: BatchHead, epochs: EpochHead | None, nest: Nest) -> Usage:
    """What the conditions of `while` loops use."""
    found = Usage()
    if head.while_test is not None:
        found += expression_usage(head.while_test, nest.batch_frame)
    if epochs is not None and epochs.test is not None:
        found += expression_usage(epochs.test, nest.host)
    return found
