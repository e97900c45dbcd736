"""Turns the evaluation that ends each epoch into the Trainer's validation, where that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.opening import Opened, gradients, live, open_call
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.headers import BatchHead, batch_head
from lightify.loops.nest import Nest
from lightify.loops.runs import is_over_data
from lightify.plan.effects import may_draw
from lightify.plan.evaluation.afterwards import obstacle
from lightify.plan.evaluation.between import parted
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.evaluation.wants_gradients import computes_faster_without, wants_gradients
from lightify.plan.kinds import Kinds
from lightify.plan.logs.dictionaries import without_dictionary
from lightify.plan.types import FateNote
from lightify.syntax.flow import exits_of, own_exits, usage
from lightify.syntax.frames import Frame, Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, walk

EVALUATES = ("Trainer: evaluation mode", "Trainer: back to training mode")
_WITHOUT_GRADIENTS = FateNote(Fate.REPLACED, "Trainer: evaluates without gradients")


@dataclass(frozen=True, eq=False)
class Turn:
    """A further pass of an evaluation: over the next of its loaders."""

    loop: cst.For
    frame: Frame
    head: BatchHead
    body: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation pass taken apart.

    Attributes:
        before: runs before its first batch, after the last training batch.
        body: one batch; after: what ends it; rest: what the epoch does next.
        modules: networks that it puts into evaluation mode; empty when it evaluates as it trains.
        trains_again: it ends by putting them back itself.
        without: what the script itself runs without gradients.
        breaks: its last statement may end it.
        others: passes over other loaders that follow it at once.
        apart: why those that follow are no part of it.
        every: it runs once in so many epochs; None for each.
    """

    loop: cst.For
    frame: Frame
    head: BatchHead
    before: tuple[Step, ...]
    body: tuple[Step, ...]
    after: tuple[Step, ...]
    rest: tuple[Step, ...]
    modules: frozenset[Variable]
    trains_again: bool
    opened: tuple[Opened, ...]
    fates: Mapping[cst.CSTNode, FateNote]
    without: frozenset[Step]
    breaks: bool
    others: tuple[Turn, ...] = ()
    apart: str = ""
    every: cst.BaseExpression | None = None

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All of its passes, in order."""
        return (Turn(self.loop, self.frame, self.head, self.body), *self.others)

    @property
    def batches(self) -> tuple[Step, ...]:
        """What its batches do, loader by loader."""
        return tuple(step for turn in self.turns for step in turn.body)

    def with_bodies(self, change: Callable[[Turn], tuple[Step, ...]]) -> Evaluation:
        """The same with other batches."""
        first, *others = (replace(turn, body=change(turn)) for turn in self.turns)
        return replace(self, body=first.body, others=tuple(others))


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
        found = _without_eval_calls(found, kinds, tree, begun)
    if not isinstance(found, str):
        found = _without_train_calls(found, nest, kinds, analysis, final)
    if isinstance(found, str):
        return found
    found = _without_gradients(found, tree)
    return _problem(found, nest, kinds) or found


def _taken_apart(
    end: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree, bars: Tree | None
) -> Evaluation | str:
    """Finds the loop over evaluation data, what stands around it, and what its own function does not do."""
    fates: dict[cst.CSTNode, FateNote] = {}
    own, opened, others = _call_opened(end, nest, analysis, tree)
    without = {step for call in opened if call.function.decorators for step in call.steps}
    holds = partial(holds_loop, analysis=analysis)
    own, others = (_laid_flat(part, holds, tree, fates, without) for part in (own, others))
    flat = [*own, *others]
    loops = ((n, s.node, s.frame) for n, s in enumerate(flat) if isinstance(s, Item) and isinstance(s.node, cst.For))
    over_data = next((found for found in loops if is_over_data(found[1], analysis)), None)
    if over_data is None:
        return "no loop over evaluation data stands at the epoch's end"
    place, loop, frame = over_data
    head = batch_head(loop, bars)
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
        before=tuple(flat[:place]),
        body=tuple(body),
        after=tuple(flat[place + 1 : end_of_own]),
        rest=tuple(flat[end_of_own:]),
        modules=frozenset(),
        trains_again=False,
        opened=opened,
        fates=fates,
        without=frozenset(without),
        breaks=bool(leaving),
    )


def _joined(
    found: Evaluation, nest: Nest, kinds: Kinds, analysis: Analysis, tree: Tree, bars: Tree | None, several: bool
) -> Evaluation:
    """The evaluation with the passes that follow it, as far as nothing between them is in the way."""
    while True:
        later = (*found.after, *found.rest)
        if first_evaluation(later, nest, analysis, tree) is None:
            return found
        following = _taken_apart(later, nest, analysis, tree, bars)
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
        )


def _last(suite: cst.BaseSuite) -> cst.BaseStatement:
    """The last statement of a batch, which may stand under `torch.no_grad()`."""
    last = block(suite)[-1]
    return _last(last.body) if isinstance(last, cst.With) else last


def _call_opened(
    end: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree
) -> tuple[Sequence[Step], tuple[Opened, ...], Sequence[Step]]:
    """The steps up to the end of a function that evaluates, its call, and the steps that follow."""
    for number, step in enumerate(end):
        if not isinstance(step, Item):
            continue
        inner = evaluating_call(step, nest, analysis, tree)
        if inner is not None:
            own, others = without_dictionary(inner.steps, end[number + 1 :])
            return (*end[:number], *own), (inner,), others
        if holds_loop(step, analysis):
            break
    return (), (), end


def _laid_flat(
    steps: Sequence[Step],
    wanted: Callable[[Item], bool],
    tree: Tree,
    fates: dict[cst.CSTNode, FateNote],
    without: set[Step],
) -> list[Step]:
    """Steps with those that are wanted taken out of their `with torch.no_grad()`."""
    flat: list[Step] = []
    for step in steps:
        inner = _under_no_grad(step, tree) if isinstance(step, Item) and wanted(step) else None
        if inner is not None:
            fates[step.node] = _WITHOUT_GRADIENTS  # type: ignore[union-attr]
            without.update(inner)
        flat.extend(inner or [step])
    return flat


def _under_no_grad(step: Item, tree: Tree) -> list[Step] | None:
    """The statements of a `with torch.no_grad()`."""
    if not isinstance(step.node, cst.With) or gradients(step.node, step.frame, tree) is not False:
        return None
    return [Item(node, step.frame) for node in block(step.node.body)]


def _without_eval_calls(found: Evaluation, kinds: Kinds, tree: Tree, begun: bool) -> Evaluation | str:
    """The evaluation without what puts networks into its mode."""
    modules: set[Variable] = set()
    fates = dict(found.fates)
    kept: list[Step] = []
    for step in found.before:
        variable = mode_call(step, kinds, "eval")
        if isinstance(step, Item) and variable is not None:
            modules.add(variable)
            fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[0])
        elif uses_modules(step, kinds):
            return "what runs before the evaluation may notice its mode"
        elif begun and may_draw(step, tree):
            return "what runs before the evaluation may draw random numbers, and lightning begins the pass before that"
        else:
            kept.append(step)
    return replace(found, before=tuple(kept), modules=frozenset(modules), fates=fates)


def _without_train_calls(
    found: Evaluation, nest: Nest, kinds: Kinds, analysis: Analysis, final: bool
) -> Evaluation | str:
    """The evaluation without what puts its networks back into training mode; it ends with the last use before that."""
    again: set[Variable] = set()
    fates = dict(found.fates)
    gone: set[Step] = set()
    later = (*found.after, *found.rest)
    used, trains = 0, len(later)
    for number, step in enumerate(later, 1):
        variable = mode_call(step, kinds, "train")
        if isinstance(step, Item) and variable is not None and variable in found.modules:
            again.add(variable)
            gone.add(step)
            fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[1])
        elif found.modules and uses_modules(step, kinds, asking=True):
            if again and found.modules - again:
                return "one network is in training mode again while another is used in evaluation mode"
            used, trains = (used, min(trains, number - 1)) if again else (number, trains)
    starts = {v for step in (*nest.epoch_start, *nest.body[:3]) if (v := mode_call(step, kinds, "train")) is not None}
    if found.modules - again - starts and not final:
        return "the network is never put back into training mode"
    end = min(max(used, len(found.after)), trains)
    if any(isinstance(step, Item) and _evaluates(step, nest, analysis, kinds.tree) for step in later[:end]):
        return f"several evaluations end the epoch{found.apart and f', and {found.apart}'}"
    without = set(found.without)
    flat = _laid_flat(later[:used], lambda step: True, kinds.tree, fates, without)
    if problem := obstacle(flat, found.modules, without, nest, kinds):
        return problem
    return replace(
        found,
        after=tuple(step for step in (*flat, *later[used:end]) if step not in gone),
        rest=tuple(step for step in later[end:] if step not in gone),
        trains_again=bool(found.modules) and found.modules <= again,
        fates=fates,
        without=frozenset(without),
    )


def _without_gradients(found: Evaluation, tree: Tree) -> Evaluation:
    """The evaluation whose batches need no `with torch.no_grad()`."""
    fates = dict(found.fates)
    without = set(found.without)

    def opened(turn: Turn) -> tuple[Step, ...]:
        body: list[Step] = []
        for step in turn.body:
            inner = _under_no_grad(step, tree) if isinstance(step, Item) else None
            lines = [step] if inner is None else live(inner, tree)
            if inner is not None:
                fates[step.node] = _WITHOUT_GRADIENTS  # type: ignore[union-attr]
                without.update(lines)
            body.extend(lines)
        return tuple(body)

    found = found.with_bodies(opened)
    return replace(found, fates=fates, without=frozenset(without))


def _problem(found: Evaluation, nest: Nest, kinds: Kinds) -> str:
    """Why a Trainer's validation would not be the same."""
    called = {v for turn in found.turns for v in _called_modules(Item(turn.loop, turn.frame), kinds)}
    if found.modules and any(not kinds.is_loss(v) for v in called - found.modules):
        return "not every network is put into evaluation mode"
    for step in found.batches:
        assert isinstance(step, Item)
        if any(mode_call(Item(s, step.frame), kinds, m) for s in _lines(step.node) for m in ("eval", "train")):
            return "the mode changes inside the evaluation"
        if any(isinstance(n, cst.Attribute) and n.attr.value == "backward" for n in live_nodes(step.node, step.frame)):
            return "the evaluation takes gradients"
    graded = [step for step in (*found.before, *found.batches, *found.after) if step not in found.without]
    if any(_wants_gradients(step, kinds) for step in graded):
        return "the evaluation takes gradients, or asks for them"
    runs = any(step in graded and uses_modules(step, kinds) for step in (*found.batches, *found.after))
    if found.modules and runs and computes_faster_without(kinds.tree):
        return "the network computes otherwise without gradients"
    if not found.modules and called and called.isdisjoint(usage(nest.body).reads):
        return "the evaluation is of another network"
    return ""


def _wants_gradients(step: Step, kinds: Kinds) -> bool:
    return isinstance(step, Item) and wants_gradients(step, kinds.tree, network=uses_modules(step, kinds))


def _lines(node: cst.CSTNode) -> list[cst.SimpleStatementLine]:
    return [part for part in walk(node) if isinstance(part, cst.SimpleStatementLine)]


def evaluating_call(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> Opened | None:
    """The opened call of a function that holds a loop over evaluation data."""
    found = called_statement(step.node)
    if found is None or callee(found[0], step.frame, tree) is None:
        return None
    inner = open_call(step, tree, nest.module, evaluating=True)
    if isinstance(inner, str):
        return None
    return inner if any(isinstance(s, Item) and holds_loop(s, analysis) for s in inner.body) else None


def first_evaluation(steps: Sequence[Step], nest: Nest, analysis: Analysis, tree: Tree) -> Item | None:
    """The first statement that goes over evaluation data."""
    items = (step for step in steps if isinstance(step, Item))
    return next((step for step in items if _evaluates(step, nest, analysis, tree)), None)


def _evaluates(step: Item, nest: Nest, analysis: Analysis, tree: Tree) -> bool:
    return holds_loop(step, analysis) or evaluating_call(step, nest, analysis, tree) is not None


def holds_loop(step: Item, analysis: Analysis) -> bool:
    """True for a loop over data, perhaps under `torch.no_grad()`."""
    if isinstance(step.node, cst.For):
        return is_over_data(step.node, analysis)
    if isinstance(step.node, cst.With):
        return any(isinstance(node, cst.For) and is_over_data(node, analysis) for node in block(step.node.body))
    return False


def _called_modules(step: Item, kinds: Kinds) -> set[Variable]:
    found = set()
    for node in walk(step.node):
        if isinstance(node, cst.Name) and kinds.kind(node, step.frame) is Kind.MODULE:
            variable = kinds.variable(node, step.frame)
            if variable is not None:
                found.add(variable)
    return found
