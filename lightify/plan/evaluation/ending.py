"""Turns the evaluation that ends each epoch into the Trainer's validation, where that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.opening import Opened, gradients, live, open_call
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.headers import BatchHead, batch_head
from lightify.loops.nest import Nest
from lightify.loops.runs import is_over_data
from lightify.plan.effects import may_draw
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote
from lightify.syntax.flow import exits_of, own_exits, usage
from lightify.syntax.frames import Frame, Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, dotted, expression_of, method_call, walk

EVALUATES = ("Trainer: evaluation mode", "Trainer: back to training mode")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation pass taken apart.

    Attributes:
        before: runs before its first batch, after the last training batch.
        body: one batch; after: what ends it; rest: what the epoch does next.
        modules: networks that it puts into evaluation mode; empty when it evaluates as it trains.
        trains_again: it ends by putting them back itself.
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


def find_evaluation(
    nest: Nest, end: Sequence[Step], kinds: Kinds, analysis: Analysis, tree: Tree, *, final: bool = False
) -> Evaluation | str:
    """Reads the end of an epoch, or of the training, as one evaluation; a text says why it stays as it is."""
    if nest.epoch_loop is None and not final:
        return "there are no epochs"
    steps = list(end)
    fates: dict[cst.CSTNode, FateNote] = {}
    opened: list[Opened] = []
    own_end = None
    for number, step in enumerate(steps):
        if not isinstance(step, Item):
            continue
        inner = evaluating_call(step, nest, analysis, tree)
        if inner is not None:
            opened.append(inner)
            steps[number : number + 1] = inner.steps
            own_end = number + len(inner.steps)
            break
        if holds_loop(step, analysis):
            break
    flat: list[Step] = []
    for number, step in enumerate(steps):
        if own_end is not None and number == own_end:
            own_end = len(flat)
        if (
            isinstance(step, Item)
            and isinstance(step.node, cst.With)
            and holds_loop(step, analysis)
            and (gradients(step.node, step.frame, tree) is False)
        ):
            fates[step.node] = FateNote(Fate.REPLACED, "Trainer: evaluates without gradients")
            flat.extend(Item(node, step.frame) for node in block(step.node.body))
        else:
            flat.append(step)
    if opened and (own_end is None or own_end > len(flat) or own_end == len(steps)):
        own_end = len(flat)
    place = next(
        (
            n
            for n, s in enumerate(flat)
            if isinstance(s, Item) and isinstance(s.node, cst.For) and is_over_data(s.node, analysis)
        ),
        None,
    )
    if place is None:
        return "no loop over evaluation data stands at the epoch's end"
    loop_step = flat[place]
    assert isinstance(loop_step, Item) and isinstance(loop_step.node, cst.For)
    head = batch_head(loop_step.node)
    if isinstance(head, str):
        return head
    if loop_step.node.orelse is not None:
        return "the evaluation has an else"
    if any(isinstance(e, (cst.Break, cst.Return)) for e in own_exits(loop_step.node)):
        return "the evaluation may be left early"
    before, after = flat[:place], flat[place + 1 :]
    if any(True for s in before if isinstance(s, Item) for _ in exits_of(s.node)):
        return "the epoch may be left before its evaluation"
    rest: list[Step] = []
    if own_end is not None:
        own_end = max(own_end, place + 1)
        after, rest = flat[place + 1 : own_end], flat[own_end:]
    else:
        after, rest = [], after
    return _checked(nest, kinds, tree, loop_step, head, before, after, rest, opened, fates, final)


def _checked(
    nest: Nest,
    kinds: Kinds,
    tree: Tree,
    loop_step: Item,
    head: BatchHead,
    before: Sequence[Step],
    after: Sequence[Step],
    rest: Sequence[Step],
    opened: Sequence[Opened],
    fates: dict[cst.CSTNode, FateNote],
    final: bool,
) -> Evaluation | str:
    loop = loop_step.node
    assert isinstance(loop, cst.For)
    modules: set[Variable] = set()
    kept_before: list[Step] = []
    for step in before:
        variable = mode_call(step, kinds, "eval")
        if isinstance(step, Item) and variable is not None:
            modules.add(variable)
            fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[0])
            continue
        if uses_modules(step, kinds) or may_draw(step, tree):
            return "what runs before the evaluation may notice its mode"
        kept_before.append(step)
    again: set[Variable] = set()
    kept_after: list[list[Step]] = [[], []]
    for number, part in enumerate((after, rest)):
        for step in part:
            variable = mode_call(step, kinds, "train")
            if isinstance(step, Item) and variable is not None and variable in modules:
                again.add(variable)
                fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[1])
                continue
            if modules - again and uses_modules(step, kinds, asking=True):
                return "what follows the evaluation uses the network in evaluation mode"
            kept_after[number].append(step)
    starts = {v for step in (*nest.epoch_start, *nest.body[:3]) if (v := mode_call(step, kinds, "train")) is not None}
    if modules - again - starts and not final:
        return "the network is never put back into training mode"
    called = _called_modules(loop_step, kinds)
    body: list[Step] = []
    for step in live([Item(node, loop_step.frame) for node in block(loop.body)], tree):
        within = step.node if isinstance(step, Item) and isinstance(step.node, cst.With) else None
        if isinstance(step, Item) and within is not None and gradients(within, step.frame, tree) is False:
            fates[step.node] = FateNote(Fate.REPLACED, "Trainer: evaluates without gradients")
            body.extend(live([Item(node, step.frame) for node in block(within.body)], tree))
        else:
            body.append(step)
    if modules and any(not kinds.is_loss(v) for v in called - modules):
        return "not every network is put into evaluation mode"
    for step in body:
        assert isinstance(step, Item)
        if any(mode_call(Item(s, step.frame), kinds, m) for s in _lines(step.node) for m in ("eval", "train")):
            return "the mode changes inside the evaluation"
        if any(isinstance(n, cst.Attribute) and n.attr.value == "backward" for n in live_nodes(step.node, step.frame)):
            return "the evaluation takes gradients"
    if not modules and any(v in usage(nest.body).reads for v in called) is False and called:
        return "the evaluation is of another network"
    return Evaluation(
        loop,
        loop_step.frame,
        head,
        tuple(kept_before),
        tuple(body),
        tuple(kept_after[0]),
        tuple(kept_after[1]),
        frozenset(modules),
        bool(modules) and modules <= again,
        tuple(opened),
        fates,
    )


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


def holds_loop(step: Item, analysis: Analysis) -> bool:
    """True for a loop over data, perhaps under `torch.no_grad()`."""
    if isinstance(step.node, cst.For):
        return is_over_data(step.node, analysis)
    if isinstance(step.node, cst.With):
        return any(isinstance(node, cst.For) and is_over_data(node, analysis) for node in block(step.node.body))
    return False


def mode_call(step: Step, kinds: Kinds, mode: str) -> Variable | None:
    """The network that `net.eval()` or `net.train()` is called on, as a statement of its own."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    used = method_call(call)
    if not isinstance(step, Item) or not isinstance(call, cst.Call) or used is None:
        return None
    argument = dotted(call.args[0].value) if len(call.args) == 1 else None
    fits = {"eval": (("eval", None), ("train", "False")), "train": (("train", None), ("train", "True"))}[mode]
    if not any(used[1] == name and argument == value and (value is not None or not call.args) for name, value in fits):
        return None
    variable = kinds.variable(used[0], step.frame)
    return variable if variable is not None and kinds.of(variable) is Kind.MODULE else None


def _called_modules(step: Item, kinds: Kinds) -> set[Variable]:
    found = set()
    for node in walk(step.node):
        if isinstance(node, cst.Name) and kinds.kind(node, step.frame) is Kind.MODULE:
            variable = kinds.variable(node, step.frame)
            if variable is not None:
                found.add(variable)
    return found
