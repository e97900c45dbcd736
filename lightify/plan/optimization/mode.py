"""Automatic or manual optimization: can the Trainer's own step reproduce the body's numbers exactly?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.calls import callees
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest, trains
from lightify.loops.reachable import contains
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.automatic import Automatic, Clip, done_by_trainer, is_made_anew, is_rebound
from lightify.plan.optimization.gradients import (
    call_of,
    is_autograd,
    is_zeroed_by,
    may_leave_gradients,
    names_gradients,
    owns_all,
    reads_gradients,
)
from lightify.plan.optimization.handed_closure import handed_closure
from lightify.plan.optimization.weights import may_come_early
from lightify.plan.steady import may_change
from lightify.plan.types import FateNote
from lightify.syntax.flow import exits_of
from lightify.syntax.frames import Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, dotted, literal, method_call, nodes_of, walk


@dataclass(frozen=True)
class _Body:
    """A body with one zero_grad, one backward and one step, by their places in it.

    Attributes:
        again: zeroes the same gradients once more, before the backward pass.
    """

    steps: tuple[Step, ...]
    zero: int
    backward: int
    update: int
    again: tuple[int, ...] = ()

    @property
    def zeroes_last(self) -> bool:
        return self.zero > self.update

    @property
    def middle(self) -> tuple[Step, ...]:
        return self.steps[self.backward + 1 : self.update]

    @property
    def after(self) -> tuple[Step, ...]:
        return self.steps[self.update + 1 :]

    def item(self, place: int) -> Item:
        """The statement at one of the three places."""
        found = self.steps[place]
        assert isinstance(found, Item)
        return found

    def receiver(self, place: int) -> cst.BaseExpression:
        """What the method at one of the three places is called on."""
        used = method_call(call_of(self.steps[place]))
        assert used is not None
        return used[0]

    def without_zero(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        zeros = [self.steps[place] for place in (self.zero, *self.again)]
        return tuple(step for step in steps if step not in zeros)


def automatic(
    nest: Nest, kinds: Kinds, tree: Tree, analysis: Analysis, rebound: frozenset[str] = frozenset()
) -> Automatic | str:
    """Reads the body as one zero_grad, one backward and one step; a text says why it is not that.

    Args:
        rebound: globals that functions which stay bind anew.
    """
    read = _automatic(nest, kinds, tree, analysis)
    if isinstance(read, str):
        return _what_trains(nest, kinds) or read
    return "the optimizer is made anew by a function that the loop calls" if is_rebound(read, rebound) else read


def _what_trains(nest: Nest, kinds: Kinds) -> str:
    """What a reader should know first: a scaler of gradients, or several optimizers."""
    stepped: set[Variable] = set()
    for step in (step for step in nest.body if isinstance(step, Item)):
        for node in live_nodes(step.node, step.frame):
            used = method_call(node)
            variable = kinds.variable(used[0], step.frame) if used is not None and used[1] == "step" else None
            kind = kinds.of(variable) if variable is not None else None
            if kind is Kind.SCALER:
                return "a gradient scaler of the script's own scales the loss and takes the step"
            if variable is not None and kind is Kind.OPTIMIZER:
                stepped.add(variable)
    return f"{len(stepped)} optimizers step in the batch loop" if len(stepped) > 1 else ""


def _automatic(nest: Nest, kinds: Kinds, tree: Tree, analysis: Analysis) -> Automatic | str:
    closure = handed_closure(nest, kinds)
    if closure is not None:
        return closure
    steps, always = _parted(nest)
    body = _taken_apart(steps, always, nest, kinds)
    if isinstance(body, str):
        return body
    optimizer = _stepped(body, nest, kinds)
    if isinstance(optimizer, str):
        return optimizer
    others = _other_backwards(steps, nest, analysis)
    problem = _problem(body, optimizer, others, nest, kinds, tree)
    if problem:
        return problem
    leaves = _may_be_left(steps[: body.backward])
    early_enough = may_come_early(steps[: body.backward + 1], kinds, tree)
    clip, early, middle, fates = _between(body.middle, optimizer, early_enough, nest, kinds)
    for place in (body.zero, *body.again):
        fates[body.item(place).node] = done_by_trainer("zeroes gradients")
    fates[body.item(body.backward).node] = done_by_trainer("backward of the returned loss")
    fates[body.item(body.update).node] = done_by_trainer("steps the optimizer")
    noticed = body.zeroes_last and (others or _runs_elsewhere(nest, tree) or names_gradients(tree.scope, tree))
    return Automatic(
        before=body.without_zero(steps[: body.backward]),
        loss=body.receiver(body.backward),
        loss_frame=body.item(body.backward).frame,
        early=early,
        middle=middle,
        after=body.without_zero(body.after),
        optimizer=optimizer,
        clip=clip,
        scheduler=_scheduler(body.after, kinds) if not leaves else None,
        fates=fates,
        end=(steps[body.zero],) if noticed else (),
        leaves=leaves,
        always=always,
    )


def _taken_apart(steps: tuple[Step, ...], always: Sequence[Step], nest: Nest, kinds: Kinds) -> _Body | str:
    """Finds the one zero_grad, backward and step, where nothing else takes gradients or steps."""
    tree = kinds.tree
    places: dict[str, list[int]] = {"zero_grad": [], "backward": [], "step": []}
    for number, step in enumerate(steps):
        role = _role(step, nest)
        if role is not None:
            places[role].append(number)
        elif reason := _hides_training(step, nest, tree):
            return reason
    if hidden := next(filter(None, (_hides_training(step, nest, tree) for step in always)), ""):
        return hidden
    zeros, backwards, updates = places.values()
    if len(backwards) != 1:
        none = "backward() is not called in the loop's own body"
        return f"{len(backwards)} backward passes in the batch loop" if backwards else none
    if len(updates) != 1:
        none = "no optimizer steps in the loop's own body"
        return f"{len(updates)} optimizer steps in the batch loop" if updates else none
    if not zeros:
        return "gradients are not zeroed in the batch loop"
    main, again = _parted_zeros(zeros, steps, backwards[0], updates[0], kinds)
    if main is None:
        return "gradients are zeroed more than once"
    body = _Body(steps, main, backwards[0], updates[0], again)
    if not body.backward < body.update or body.backward < body.zero < body.update:
        return "the order is not zero_grad, backward, step"
    return body


def _parted_zeros(
    zeros: Sequence[int], steps: Sequence[Step], backward: int, update: int, kinds: Kinds
) -> tuple[int | None, tuple[int, ...]]:
    """The zero_grad that the Trainer's stands for, and those that it makes needless; None where there is no such one.

    Before the backward pass a second one of a network or of the optimizer, `model.zero_grad(); optimizer.zero_grad()`,
    leaves the gradients as the Trainer does; what it zeroes beyond the optimizer's weights, it goes on to zero itself.
    """
    if len(zeros) == 1:
        return zeros[0], ()
    stepped = _receiver(steps[update], kinds)
    mains = [place for place in zeros if is_zeroed_by(steps[place], stepped, kinds, kinds.tree)]
    known = all(
        (variable := _receiver(steps[place], kinds)) is not None
        and kinds.of(variable) in (Kind.MODULE, Kind.OPTIMIZER)
        and place < backward
        for place in zeros
    )
    return (mains[0], tuple(mains[1:])) if mains and known else (None, ())


def _receiver(step: Step, kinds: Kinds) -> Variable | None:
    """What the method that a statement calls is called on."""
    used = method_call(call_of(step))
    return kinds.variable(used[0], step.frame) if used is not None and isinstance(step, Item) else None


def _stepped(body: _Body, nest: Nest, kinds: Kinds) -> Variable | str:
    """The optimizer that steps."""
    update = body.item(body.update)
    call = call_of(update)
    optimizer = kinds.variable(body.receiver(body.update), update.frame)
    if optimizer is None or kinds.of(optimizer) is not Kind.OPTIMIZER:
        return "what steps is not known to be an optimizer"
    if call is not None and call.args:
        return "the optimizer steps with a closure or an argument"
    if is_made_anew(optimizer, nest):
        return "the optimizer is made anew in the loop"
    return optimizer


def _other_backwards(steps: Sequence[Step], nest: Nest, analysis: Analysis) -> list[cst.Call]:
    """Backward passes outside the run."""
    run = (*nest.epoch_start, *steps, *nest.epoch_end)
    own = {part for step in run if isinstance(step, Item) for part in walk(step.node)}
    own |= {part for one in own & nest.origins.keys() for part in walk(nest.origins[one])}
    return [fact.call for fact in analysis.backwards if fact.call not in own]


def _problem(body: _Body, optimizer: Variable, others: Sequence[cst.Call], nest: Nest, kinds: Kinds, tree: Tree) -> str:
    """Why the Trainer's step would not do the same.

    Args:
        others: backward passes outside the run.
    """
    steps, backward, update = body.steps, body.backward, body.update
    if not is_zeroed_by(steps[body.zero], optimizer, kinds, tree):
        return "gradients are zeroed on something else than the optimizer"
    read = (*steps, *nest.epoch_end) if body.zeroes_last else steps[: backward + 1]
    if reads_gradients((*nest.epoch_start, *read), tree):
        return "gradients are read or written by the script itself"
    if body.zeroes_last and (left := [call for call in others if may_leave_gradients(call, nest.host_loop, tree)]):
        line = tree.line_of(left[0])
        return f"gradients are zeroed after the step, and may be left from another backward pass ({line})"
    own_gradients = [step.node for step in steps[backward : update + 1] if isinstance(step, Item)]
    if _may_be_left(steps[backward : update + 1]) or (
        _may_be_left(steps[:backward]) and names_gradients(tree.scope, tree, own_gradients)
    ):
        return "the body may be left before the optimizer steps"
    exits = (e for step in body.after if isinstance(step, Item) for e in exits_of(step.node))
    return "the body may be left before its end" if any(isinstance(e, cst.Continue) for e in exits) else ""


def _scheduler(after: Sequence[Step], kinds: Kinds) -> Variable | None:
    """The scheduler that steps right after the optimizer."""
    first = after[0] if after else None
    call = call_of(first) if first is not None else None
    used = method_call(call)
    if not isinstance(first, Item) or call is None or used is None or used[1] != "step" or call.args:
        return None
    variable = kinds.variable(used[0], first.frame)
    return variable if variable is not None and kinds.of(variable) is Kind.SCHEDULER else None


def _runs_elsewhere(nest: Nest, tree: Tree) -> bool:
    """True when a function whose body moved has calls that are not open: it finds what gradients there are."""
    open_calls = {opened.call for opened in nest.opened}
    found = callers(tree)
    return any(call not in open_calls for opened in nest.opened for call in found.get(opened.function, ()))


def _parted(nest: Nest) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The body up to where batches without a step join it again, and the rest."""
    for number, step in enumerate(nest.body):
        if isinstance(step, Item) and step.node is nest.joint:
            return nest.body[:number], nest.body[number + 1 :]
    return nest.body, ()


def _may_be_left(steps: Sequence[Step]) -> bool:
    return any(True for step in steps if isinstance(step, Item) for _ in exits_of(step.node))


def _between(
    steps: tuple[Step, ...], optimizer: Variable, early: Callable[[Step], bool], nest: Nest, kinds: Kinds
) -> tuple[Clip | None, tuple[Step, ...], tuple[Step, ...], dict[cst.CSTNode, FateNote]]:
    """What stands between backward and step: (clipping, what may run early, what runs before the step, fates).

    Where one statement may touch gradients, all of them run right before the step.
    """
    clip = None
    calm: list[Step] = []
    fates: dict[cst.CSTNode, FateNote] = {}
    for step in steps:
        clipped = _clip(step, optimizer, nest, kinds)
        if isinstance(step, Item) and clipped is not None and clip is None:
            clip = clipped
            fates[step.node] = FateNote(
                Fate.REPLACED, "Trainer(gradient_clip_val=...)", "clipped between backward and step"
            )
        elif early(step):
            calm.append(step)
        else:
            return None, (), steps, {}
    return clip, tuple(calm), (), fates


def _role(step: Step, nest: Nest) -> str | None:
    """Which part of the optimization a statement is: the name of the method that it calls."""
    call = call_of(step)
    used = method_call(call)
    if call is None or used is None or not isinstance(step, Item):
        return None
    if used[1] == "zero_grad":
        return used[1]
    plain = used[1] == "step" or (used[1] == "backward" and not call.args)
    return used[1] if plain and call in nest.sites else None


def _hides_training(step: Step, nest: Nest, tree: Tree) -> str:
    if not isinstance(step, Item):
        return ""
    for node in live_nodes(step.node, step.frame):
        if isinstance(node, cst.Call):
            used = method_call(node)
            if node in nest.sites or (used is not None and used[1] == "zero_grad"):
                line = tree.line_of(node)
                what = used[1] if used is not None else "step"
                if node in nest.sites and what == "backward" and node.args:
                    return f"backward has arguments ({line})"
                return f"{what} stands inside another statement ({line})"
            if is_autograd(node, tree):
                return f"gradients are taken by {dotted(node.func)} ({tree.line_of(node)})"
    for node in live_nodes(step.node, step.frame):
        if isinstance(node, cst.Call):
            found = [one for one in callees(node, step.frame, tree) if contains(one, nest.sites, tree)]
            if found and trains(step, nest.sites, tree):
                return f"the step is taken in {dotted(node.func) or found[0].name.value}(), which is not opened"
    return ""


def _clip(step: Step, optimizer: Variable, nest: Nest, kinds: Kinds) -> Clip | None:
    call, tree = call_of(step), kinds.tree
    if call is None or not isinstance(step, Item):
        return None
    name = (tree.qualified(call.func) or "").rpartition(".")[2]
    given = arguments(call)
    if name not in ("clip_grad_norm_", "clip_grad_norm", "clip_grad_value_") or len(given) != 2 or given.starred:
        return None
    params = method_call(given.get(0, "parameters"))
    module = kinds.variable(params[0], step.frame) if params is not None and params[1] == "parameters" else None
    if module is None or not owns_all(optimizer, module, kinds, tree):
        return None
    value = given.get(1, "max_norm") or given.get(1, "clip_value")
    if value is None or (literal(value) or "1").strip("0.") == "":  # a Trainer clips nothing at 0
        return None
    whole = (*nest.epoch_start, *nest.body, *nest.epoch_end)
    asked = any(dotted(part.func) not in ("float", "int") for part in nodes_of(value, cst.Call))
    if asked or may_change(nest, whole, tree, value, step.frame):  # a Trainer is told once
        return None
    return value, step.frame, "value" if "value" in name else "norm"
