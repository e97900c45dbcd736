"""Automatic optimization whose step the script takes in its own way: now and then, twice, by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.calls import callee
from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.kinds import Kinds
from lightify.plan.logs.metrics import log_name
from lightify.plan.optimization.automatic import Automatic, done_by_trainer, is_made_anew
from lightify.plan.optimization.gradients import (
    call_of,
    is_zeroed_by,
    reads_gradients,
    takes_gradients,
    zeroes_gradients,
)
from lightify.plan.optimization.own_backward import Backward, needs_optimizer_itself, read_backward
from lightify.plan.optimization.weights import may_come_early
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Item, Step, Variable, live_nodes
from lightify.syntax.names import bound_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    block,
    expression_of,
    is_docstring,
    method_call,
    method_name,
    nodes_of,
    walk,
)

#: Parameters of the hooks; the script must not mean something else by these names.
_GIVEN = {"optimizer", "optimizer_closure", "batch_idx"}


@dataclass(frozen=True)
class _Update:
    """What steps after the one backward pass of a body.

    Attributes:
        last: the place of the last statement that belongs to it.
        optimizer: None where the script updates by hand, or something that wraps an optimizer steps it.
        unseen: such a wrapper steps, in its own way.
    """

    last: int
    optimizer: Variable | None
    unseen: bool


def own_step(nest: Nest, kinds: Kinds, tree: Tree) -> Automatic | str:
    """Reads a body with one backward pass as hooks around it; a text says why it is not that.

    What stands between the backward pass and the last step, or the last use of gradients where none steps, becomes
    `optimizer_step`, as it is.
    """
    steps = nest.body
    found = _only_backward(nest, kinds, tree)
    if isinstance(found, str):
        return found
    backward, taken = found
    update = _update_after(backward, nest, kinds, tree)
    if isinstance(update, str):
        return update
    optimizer = update.optimizer
    region, after = steps[backward + 1 : update.last + 1], steps[update.last + 1 :]
    zero = _zeroing(steps[:backward], optimizer, region, kinds, tree)
    if isinstance(zero, str):
        return zero
    problem = _problem(nest, steps[: update.last + 1], after, (*region, *(zero or ())), optimizer, kinds)
    if problem:
        return problem
    fates = dict(taken.fates)
    early, calm = list(steps[:backward]), may_come_early(steps[: backward + 1], kinds, tree)
    if zero is None:
        plain = next(step for step in early if _zeroes(step))
        fates[_node(plain)] = done_by_trainer("zeroes gradients")
        early.remove(plain)
    moved = list(takewhile(calm, region)) if not update.unseen else []
    own = _without_logs(region[len(moved) :], None if update.unseen else calm)
    if own is None:
        return "the step logs what it changes"
    logs, kept = own
    early += [*moved, *logs]
    middle: Sequence[Step] = ()
    whole = (*kept, taken.step) if taken.step is not None else kept
    itself = optimizer is not None and any(_hands_optimizer_on(step, kinds) for step in whole)
    if (
        optimizer is not None
        and not itself
        and _is_plain_step(kept[-1], nest)
        and not any(True for step in kept[:-1] for _ in _sites(step, nest, kinds))
    ):
        fates[_node(kept[-1])] = done_by_trainer("steps the optimizer")
        kept, middle = [], kept[:-1]
    return Automatic(
        before=tuple(step for step in early if step not in (zero or ())),
        loss=taken.loss,
        loss_frame=taken.frame,
        middle=tuple(middle),
        after=tuple(after),
        optimizer=optimizer,
        fates=fates,
        zero=tuple(zero) if zero is not None else None,
        step=tuple(kept),
        backward=taken.step,
        itself=itself,
        unseen=update.unseen,
    )


def _only_backward(nest: Nest, kinds: Kinds, tree: Tree) -> tuple[int, Backward] | str:
    """The one backward pass with its place; a text says why there is none that the Trainer can make."""
    steps = nest.body
    read = {n: one for n, step in enumerate(steps) if (one := read_backward(step, nest, kinds)) is not None}
    if len(read) != 1:
        return f"{len(read)} backward passes in the loop's own body"
    found = [site for step in steps for site in _sites(step, nest, kinds)]
    others = (site for n, step in enumerate(steps) if n not in read for site in _sites(step, nest, kinds))
    if any(_is_elsewhere(site, found, nest, tree) for site in nest.sites) or any(
        method_name(site) != "step" for site in others
    ):
        return "the step is taken in a function that is not opened"
    if any(takes_gradients(step, tree) for step in steps):
        return "gradients are taken by torch.autograd.grad"
    return next(iter(read.items()))


def _update_after(backward: int, nest: Nest, kinds: Kinds, tree: Tree) -> _Update | str:
    """What steps after the backward pass; a text where that is not known to be one optimizer."""
    steps = nest.body
    later = range(backward + 1, len(steps))
    stepping = [n for n in later if _is_of_step(steps[n], nest, kinds)]
    last = max(stepping or [n for n in later if reads_gradients([steps[n]], tree)], default=-1)
    sites = [(site, step) for n, step in enumerate(steps) if n != backward for site in _sites(step, nest, kinds)]
    stepped = {_receiver(site, step, kinds) for site, step in sites}
    optimizer = next(iter(stepped), None)
    if optimizer is not None and kinds.of(optimizer) is not Kind.OPTIMIZER:
        optimizer = None
    unseen = [site for site, _ in sites] if optimizer is None else []
    if last < 0 or len(stepped) > 1 or len(unseen) > 1 or any(site.args for site in unseen):
        return "what steps is not known to be one optimizer"
    return _Update(last, optimizer, bool(unseen))


def _without_logs(region: Sequence[Step], calm: Callable[[Step], bool] | None) -> tuple[list[Step], list[Step]] | None:
    """(Logs of a step that may come early, the rest); None where one may not: a Trainer takes none from a step.

    Args:
        calm: true for what may come before the backward pass; None: nothing may.
    """
    logs: list[Step] = []
    kept: list[Step] = []
    for step in region:
        if not _logs(step):
            kept.append(step)
        elif calm is not None and calm(step) and _is_apart(step, kept):
            logs.append(step)
        else:
            return None
    return logs, kept


def _is_elsewhere(site: cst.Call, found: Sequence[cst.Call], nest: Nest, tree: Tree) -> bool:
    """True for an update that is taken neither in the body itself nor within one that is."""
    if site in found or any(site is one.call for one in nest.opened):
        return False
    around = tree.around(site, cst.FunctionDef)
    return around is None or not any(call in found for call in callers(tree).get(around, ()))


def _logs(step: Step) -> bool:
    return isinstance(step, Item) and any(
        isinstance(node, cst.Call) and log_name(node) is not None for node in walk(step.node)
    )


def _is_apart(step: Step, others: Sequence[Step]) -> bool:
    """True when a statement may as well run before others."""
    own, theirs = usage([step]), usage(others)
    return not (own.reads & theirs.writes or own.writes & (theirs.reads | theirs.writes))


def _node(step: Step) -> cst.CSTNode:
    assert isinstance(step, Item)
    return step.node


def _is_plain_step(step: Step, nest: Nest) -> bool:
    call = call_of(step)
    return call is not None and call in nest.sites and not call.args


def _problem(
    nest: Nest,
    until: Sequence[Step],
    after: Sequence[Step],
    own: Sequence[Step],
    optimizer: Variable | None,
    kinds: Kinds,
) -> str:
    """Why hooks would not do the same."""
    if any(True for step in until if isinstance(step, Item) for _ in exits_of(step.node)):
        return "the body may be left before the optimizer steps"
    if any(isinstance(e, cst.Continue) for step in after if isinstance(step, Item) for e in exits_of(step.node)):
        return "the body may be left before its end"
    if is_made_anew(optimizer, nest):
        return "the optimizer is made anew in the loop"
    if reads_gradients(nest.epoch_end, kinds.tree):
        return "gradients are read or written by the script itself"
    batch = {nest.batch_frame.variable(name) for name in bound_names([_head_of(nest)])}
    counters = {nest.batch_frame.variable(name) for name in _counters(nest)}
    used = (usage(own).reads | usage(own).writes) - counters
    if used & batch:
        return "the step reads the batch"
    given = _GIVEN if optimizer is not None else _GIVEN - {"optimizer"}
    if any(variable.name in given and variable is not optimizer for variable in used):
        return "the step has names of its own for what the Trainer hands over"
    if not all(_only_stepped(step, optimizer, kinds) for step in own):
        return "the step hands the optimizer on"
    return ""


def _head_of(nest: Nest) -> cst.CSTNode:
    loop = nest.batch_loop
    empty = cst.IndentedBlock([])
    return loop.with_changes(body=empty, orelse=None)


def _counters(nest: Nest) -> list[str]:
    """The batch's number, which the hooks are given, too."""
    target = nest.batch_loop.target if isinstance(nest.batch_loop, cst.For) else None
    if isinstance(target, cst.Tuple) and isinstance(target.elements[0].value, cst.Name):
        return [target.elements[0].value.value]
    return []


def _sites(step: Step, nest: Nest, kinds: Kinds) -> Iterator[cst.Call]:
    if not isinstance(step, Item):
        return
    for node in live_nodes(step.node, step.frame):
        if isinstance(node, cst.Call):
            scaled = method_name(node) == "step" and needs_optimizer_itself(node, step.frame, kinds)
            if scaled or node in nest.sites:
                yield node


def _hands_optimizer_on(step: Step, kinds: Kinds) -> bool:
    """True for a statement that hands the optimizer to a gradient scaler."""
    return isinstance(step, Item) and any(needs_optimizer_itself(node, step.frame, kinds) for node in walk(step.node))


def _receiver(site: cst.Call, step: Step, kinds: Kinds) -> Variable | None:
    """The optimizer of `optimizer.step()` and `scaler.step(optimizer)`."""
    used = method_call(site)
    if used is None or not isinstance(step, Item):
        return None
    if needs_optimizer_itself(site, step.frame, kinds) and len(site.args) == 1:
        return kinds.variable(site.args[0].value, step.frame)
    return kinds.variable(used[0], step.frame) if not site.args else None


def _zeroes(step: Step) -> bool:
    return isinstance(step, Item) and any(
        method_name(node) == "zero_grad" for node in live_nodes(step.node, step.frame)
    )


def _is_of_step(step: Step, nest: Nest, kinds: Kinds) -> bool:
    """True when a statement steps, zeroes, or asks something of a scaler."""
    if any(True for _ in _sites(step, nest, kinds)) or zeroes_gradients([step]):
        return True
    return isinstance(step, Item) and any(
        used is not None and kinds.kind(used[0], step.frame) is Kind.SCALER
        for used in map(method_call, walk(step.node))
    )


def _zeroing(
    early: Sequence[Step], optimizer: Variable | None, region: Sequence[Step], kinds: Kinds, tree: Tree
) -> list[Step] | str | None:
    """Statements for `optimizer_zero_grad`; None for the Trainer's own, a text when it can't be a hook's."""
    places = [number for number, step in enumerate(early) if _zeroes(step)]
    if len(places) > 1:
        return "gradients are zeroed more than once"
    if reads_gradients(early, tree):
        return "gradients are read or written by the script itself"
    if not places:
        return []
    step, between = early[places[0]], early[places[0] + 1 :]
    if not isinstance(step, Item) or not _only_zeroes(step.node):
        return "zero_grad stands inside another statement"
    if not any(_zeroes(later) for later in region) and is_zeroed_by(step, optimizer, kinds, tree):
        return None
    if usage([step]).reads & usage(between).writes:
        return "zero_grad stands under a condition that changes"
    calls = list(nodes_of(step.node, cst.Call))
    if not all(_zeroes_alone(call, step, kinds, unknown=optimizer is not None) for call in calls):
        return []  # it keeps its place, before the forward pass
    return [step]


def _zeroes_alone(call: cst.Call, step: Item, kinds: Kinds, *, unknown: bool) -> bool:
    """True for what zeroes gradients and does no more; `unknown` where that can't be read."""
    used = method_call(call)
    if used is not None and kinds.kind(used[0], step.frame) in (Kind.MODULE, Kind.OPTIMIZER):
        return True
    found = callee(call, step.frame, kinds.tree)
    if found is None:
        return unknown
    return all(_only_zeroes(node) for node in block(found[0].body) if not is_docstring(node))


def _only_zeroes(node: cst.CSTNode) -> bool:
    """True for `zero_grad()`, perhaps one or the other under a condition."""
    if isinstance(node, (cst.If, cst.Else)):
        other = getattr(node, "orelse", None)
        return all(map(_only_zeroes, block(node.body))) and (other is None or _only_zeroes(other))
    return method_name(expression_of(node)) == "zero_grad"


def _only_stepped(step: Step, optimizer: Variable | None, kinds: Kinds) -> bool:
    if not isinstance(step, Item) or optimizer is None:
        return True
    for node in live_nodes(step.node, step.frame):
        if isinstance(node, cst.Name) and kinds.variable(node, step.frame) is optimizer:
            parent = kinds.tree.parents.get(node)
            if isinstance(parent, cst.Arg) and needs_optimizer_itself(
                kinds.tree.parents.get(parent), step.frame, kinds
            ):
                continue
            if not (isinstance(parent, cst.Attribute) and parent.attr.value in ("step", "zero_grad", "param_groups")):
                return False
    return True
