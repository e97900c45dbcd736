"""Turns the evaluation that ends each epoch into the Trainer's validation, where that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import libcst as cst

from lightify.analysis.opening import live
from lightify.facts import Analysis
from lightify.ledger import Fate
from lightify.loops.headers import batch_head
from lightify.loops.nest import Nest
from lightify.plan.evaluation.between import parted
from lightify.plan.evaluation.held_bars import entered_bars, held_bar, over_bars
from lightify.plan.evaluation.obstacles import problem
from lightify.plan.evaluation.own_modes import EVALUATES, without_eval_calls, without_train_calls
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.evaluation.seen import call_opened, evaluates, first_evaluation, goes_over_data, holds_loop
from lightify.plan.evaluation.without_gradients import WITHOUT_GRADIENTS, laid_flat, without_gradients
from lightify.plan.kinds import Kinds
from lightify.plan.types import Bar, FateNote
from lightify.syntax.flow import exits_of, own_exits
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, walk


def find_evaluation(
    nest: Nest,
    end: Sequence[Step],
    kinds: Kinds,
    analysis: Analysis,
    tree: Tree,
    *,
    bars: Tree | None,
    final: bool = False,
    several: bool = False,
    begun: bool = True,
) -> Evaluation | str:
    """Reads the end of an epoch, or of the training, as one evaluation; a text says why it stays as it is.

    Args:
        bars: what tells the bars that are more than bars.
        several: passes that follow one another are read as one.
        begun: the Trainer begins its pass over the data, which draws a seed, before anything else of an evaluation.
    """
    if nest.epoch_loop is None and not final:
        return "there are no epochs"
    found = _taken_apart(end, nest, analysis, tree, bars)
    if not isinstance(found, str) and not final:
        found = _joined(found, nest, kinds, analysis, tree, bars, several)
    if not isinstance(found, str):
        found = without_eval_calls(found, nest, kinds, begun)
    if not isinstance(found, str):
        found = without_train_calls(found, nest, kinds, analysis, final)
    if isinstance(found, str):
        return found
    found = without_gradients(found, tree)
    return problem(found, nest, kinds) or found


def _taken_apart(
    end: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree, bars: Tree | None
) -> Evaluation | str:
    """Finds the loop over evaluation data, what stands around it, and what its own function does not do."""
    fates: dict[cst.CSTNode, FateNote] = {}
    without: set[Step] = set()
    end = laid_flat(end, partial(evaluates, nest=nest, analysis=analysis, tree=tree), tree, fates, without)
    own, opened, others = call_opened(end, nest, analysis, tree)
    for call in opened:
        without.update(call.steps if call.function.decorators else ())
        if call.context is not None:
            fates[call.context] = WITHOUT_GRADIENTS
            inner = block(call.context.body)
            without.update(step for step in call.steps if isinstance(step, Item) and step.node in inner)
    holds = partial(holds_loop, analysis=analysis)
    entered: dict[Variable, Bar] = {}

    def opened_up(steps: Sequence[Step]) -> list[Step]:
        inner, found = entered_bars(laid_flat(steps, holds, tree, fates, without), holds, tree, bars)
        entered.update(found)
        return laid_flat(inner, holds, tree, fates, without) if found else inner

    own, others = opened_up(own), opened_up(others)
    flat = [*own, *others]
    loops = ((n, s.node, s.frame) for n, s in enumerate(flat) if isinstance(s, Item) and isinstance(s.node, cst.For))
    over_data = next((found for found in loops if goes_over_data(found[1], found[2], analysis)), None)
    if over_data is None:
        return "no loop over evaluation data stands at the epoch's end"
    place, loop, frame = over_data
    held = held_bar(loop, frame, flat[:place], tree, bars)
    head = batch_head(over_bars(loop, frame, entered) if held is None else held.loop, bars)
    if isinstance(head, str):
        return head
    if loop.orelse is not None:
        return "the evaluation has an else"
    leaving = [e for e in own_exits(loop) if isinstance(e, (cst.Break, cst.Return))]
    at_its_end = set(walk(_last(loop.body)))
    if any(isinstance(e, cst.Return) or e not in at_its_end for e in leaving):
        return "the evaluation may be left early"
    if any(True for s in flat[:place] if isinstance(s, Item) for _ in exits_of(s.node)):
        return "the epoch may be left before its evaluation"
    end_of_own = max(place + 1, len(own))
    body = live([Item(node, frame) for node in block(loop.body)], tree)
    without.update(body if flat[place] in without else ())
    return Evaluation(
        loop=loop,
        frame=frame,
        head=head,
        before=tuple(step for step in flat[:place] if held is None or step is not held.bar.made),
        body=tuple(body),
        after=tuple(flat[place + 1 : end_of_own]),
        rest=tuple(flat[end_of_own:]),
        modules=frozenset(),
        trains_again=False,
        opened=opened,
        fates=fates,
        without=frozenset(without),
        breaks=bool(leaving),
        bars={**entered, **({held.variable: held.bar} if held is not None else {})},
    )


def _joined(
    found: Evaluation, nest: Nest, kinds: Kinds, analysis: Analysis, tree: Tree, bars: Tree | None, several: bool
) -> Evaluation:
    """The evaluation with the passes that follow it, as far as nothing between them is in the way."""
    while True:
        if first_evaluation(found.later, nest, analysis, tree) is None:
            return found
        following = _taken_apart(found.later, nest, analysis, tree, bars)
        if isinstance(following, str):
            return replace(found, apart=following)
        if found.breaks or following.breaks:
            return replace(found, apart="one of them may be left early")
        passed = [Item(turn.loop, turn.frame) for turn in found.turns]
        between = parted(following.before, passed, Item(following.loop, following.frame), found.before, kinds)
        if isinstance(between, str):
            return replace(found, apart=between)
        if not several:
            return found
        gone = FateNote(Fate.REPLACED, EVALUATES[1])
        found = replace(
            found,
            before=(*found.before, *between.early),
            after=(*between.late, *following.after),
            rest=following.rest,
            opened=(*found.opened, *following.opened),
            fates={**found.fates, **following.fates, **{step.node: gone for step in between.gone}},
            without=found.without | following.without,
            others=(*found.others, following.turns[0]),
            bars={**found.bars, **following.bars},
        )


def _last(suite: cst.BaseSuite) -> cst.BaseStatement:
    """The last statement of a batch, which may stand under `torch.no_grad()`."""
    last = block(suite)[-1]
    return _last(last.body) if isinstance(last, cst.With) else last
