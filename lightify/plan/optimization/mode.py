"""Automatic or manual optimization: can the Trainer's own step reproduce the body's numbers exactly?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.calls import callee
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest, trains
from lightify.loops.reachable import contains
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.gradients import (
    call_of,
    drops_gradients,
    is_autograd,
    is_zeroed_by,
    may_leave_gradients,
    names_gradients,
    owns_all,
    reads_gradients,
)
from lightify.plan.optimization.weights import may_come_early
from lightify.plan.types import FateNote
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    block,
    dotted,
    literal,
    method_call,
    small,
    walk,
)

Clip = tuple[cst.BaseExpression, Frame, str]


@dataclass(frozen=True, eq=False)
class Automatic:
    """The body of a batch loop as the Trainer runs it.

    Attributes:
        before: up to the loss; early: what stood after backward and may run before it.
        middle: what runs between backward and step; after: what followed the step.
        clip: (value, frame, "norm" or "value").
        scheduler: stepped right after the optimizer, each batch.
    """

    before: tuple[Step, ...]
    loss: cst.BaseExpression
    loss_frame: Frame
    early: tuple[Step, ...]
    middle: tuple[Step, ...]
    after: tuple[Step, ...]
    optimizer: Variable | None
    clip: Clip | None
    scheduler: Variable | None
    fates: Mapping[cst.CSTNode, FateNote] = field(default_factory=dict)
    start: tuple[Step, ...] = ()  # with a closure: what runs once a batch, before the step
    closure: cst.FunctionDef | None = None
    end: tuple[Step, ...] = ()  # what leaves no gradients behind, where someone may notice
    step: tuple[Step, ...] = ()  # between backward and the last use of gradients, when the script steps in its own way
    zero: tuple[Step, ...] | None = None  # the script's own zeroing, none where it has none; None: the Trainer zeroes
    backward: tuple[cst.Arg, ...] = ()  # what backward is called with
    leaves: bool = False  # a batch may be left before its step
    always: tuple[Step, ...] = ()  # what runs at the end of such a batch, too


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


def is_made_anew(optimizer: Variable | None, nest: Nest) -> bool:
    """True when the loops bind the optimizer's name, or that of the object which holds it."""
    anew = usage(nest.body + nest.epoch_start + nest.epoch_end).writes | nest.taken
    return optimizer in anew or (isinstance(optimizer, Field) and optimizer.owner in anew)


def is_rebound(read: Automatic, rebound: frozenset[str]) -> bool:
    """True when functions which stay bind the optimizer's name anew."""
    optimizer = read.optimizer
    if isinstance(optimizer, Field):
        return f".{optimizer.name}" in rebound
    return optimizer is not None and optimizer.frame.is_module and optimizer.name in rebound


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
    closure = _closure(nest, kinds)
    if closure is not None:
        return closure
    steps, always = _parted(nest)
    zeros, backwards, updates = [], [], []
    for number, step in enumerate(steps):
        call = call_of(step)
        role = _role(call, step, kinds, nest)
        if role == "zero":
            zeros.append(number)
        elif role == "backward":
            backwards.append(number)
        elif role == "update":
            updates.append(number)
        elif reason := _hides_training(step, nest, tree):
            return reason
    if hidden := next(filter(None, (_hides_training(step, nest, tree) for step in always)), ""):
        return hidden
    if len(backwards) != 1:
        none = "backward() is not called in the loop's own body"
        return f"{len(backwards)} backward passes in the batch loop" if backwards else none
    if len(updates) != 1:
        none = "no optimizer steps in the loop's own body"
        return f"{len(updates)} optimizer steps in the batch loop" if updates else none
    if len(zeros) != 1:
        return "gradients are zeroed more than once" if zeros else "gradients are not zeroed in the batch loop"
    zero, backward, update = zeros[0], backwards[0], updates[0]
    if not backward < update or backward < zero < update:
        return "the order is not zero_grad, backward, step"
    step_call = call_of(steps[update])
    assert step_call is not None
    update_frame = steps[update].frame  # type: ignore[union-attr]
    optimizer = kinds.variable(method_call(step_call)[0], update_frame)  # type: ignore[index]
    if optimizer is None or kinds.of(optimizer) is not Kind.OPTIMIZER:
        return "what steps is not known to be an optimizer"
    if step_call.args:
        return "the optimizer steps with a closure or an argument"
    if is_made_anew(optimizer, nest):
        return "the optimizer is made anew in the loop"
    if not is_zeroed_by(steps[zero], optimizer, kinds, tree):
        return "gradients are zeroed on something else than the optimizer"
    early_reads = (*nest.epoch_start, *steps[: backward + 1])
    if reads_gradients(steps if zero > update else early_reads, tree) or reads_gradients(nest.epoch_end, tree):
        return "gradients are read or written by the script itself"
    run = (*nest.epoch_start, *steps, *nest.epoch_end)
    own = {part for step in run if isinstance(step, Item) for part in walk(step.node)}
    others = [fact.call for fact in analysis.backwards if fact.call not in own]
    if zero > update and (left := [call for call in others if may_leave_gradients(call, nest.host_loop, tree)]):
        line = tree.line_of(left[0])
        return f"gradients are zeroed after the step, and may be left from another backward pass ({line})"
    leaves = _may_be_left(steps[:backward])
    own_gradients = [step.node for step in steps[backward : update + 1] if isinstance(step, Item)]
    if _may_be_left(steps[backward : update + 1]) or (leaves and names_gradients(tree.scope, tree, own_gradients)):
        return "the body may be left before the optimizer steps"
    for step in steps[update + 1 :]:
        if isinstance(step, Item) and any(isinstance(e, cst.Continue) for e in exits_of(step.node)):
            return "the body may be left before its end"
    middle = list(steps[backward + 1 : update])
    early_enough = may_come_early(steps[: backward + 1], kinds, tree)
    clip, calm, fates = _between(middle, optimizer, early_enough, kinds, tree)
    after = list(steps[update + 1 :])
    if calm is not None:
        early, middle = calm, []
    else:
        early, clip, fates = [], None, {}
    scheduler = None
    if after and not leaves:
        call = call_of(after[0])
        used = method_call(call)
        if used is not None and used[1] == "step" and not call.args:  # type: ignore[union-attr]
            variable = kinds.variable(used[0], after[0].frame)  # type: ignore[union-attr]
            if variable is not None and kinds.of(variable) is Kind.SCHEDULER:
                scheduler = variable
    loss_step = steps[backward]
    loss = method_call(call_of(loss_step))
    assert isinstance(loss_step, Item) and loss is not None
    for number, target in (
        (zero, "Trainer: zeroes gradients"),
        (backward, "Trainer: backward of the returned loss"),
        (update, "Trainer: steps the optimizer"),
    ):
        replaced = steps[number]
        assert isinstance(replaced, Item)
        fates[replaced.node] = FateNote(Fate.REPLACED, target, "automatic optimization")
    before = tuple(step for number, step in enumerate(steps[:backward]) if number != zero)
    after = [step for step in after if step is not steps[zero]]
    return Automatic(
        before,
        loss[0],
        loss_step.frame,
        tuple(early),
        tuple(middle),
        tuple(after),
        optimizer,
        clip,
        scheduler,
        fates,
        end=(steps[zero],)
        if zero > update and (others or _runs_elsewhere(nest, tree) or names_gradients(tree.scope, tree))
        else (),
        leaves=leaves,
        always=always,
    )


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


def _closure(nest: Nest, kinds: Kinds) -> Automatic | None:
    """Reads `def closure(): zero_grad, loss, backward, return loss` and `optimizer.step(closure)`."""
    steps = nest.body
    for number, step in enumerate(steps):
        call = call_of(step)
        used = method_call(call)
        if used is None or call not in nest.sites or used[1] != "step" or len(call.args) != 1:
            continue
        name = dotted(call.args[0].value)
        found = [
            s
            for s in steps[:number]
            if isinstance(s, Item) and isinstance(s.node, cst.FunctionDef) and s.node.name.value == name
        ]
        optimizer = kinds.variable(used[0], step.frame)  # type: ignore[union-attr]
        if len(found) != 1 or optimizer is None or kinds.of(optimizer) is not Kind.OPTIMIZER:
            return None
        function = found[0].node
        assert isinstance(function, cst.FunctionDef)
        frame = Frame(function.name.value, function, found[0].frame)
        inside = [Item(node, frame) for node in block(function.body)]
        calls = [method_call(call_of(s)) for s in inside]
        roles = [used[1] if used is not None else "" for used in calls]
        result = small(inside[-1].node) if inside else None
        if roles.count("zero_grad") != 1 or roles.count("backward") != 1 or not isinstance(result, cst.Return):
            return None
        zero, backward = roles.index("zero_grad"), roles.index("backward")
        loss = calls[backward][0]  # type: ignore[index]
        others = [s for n, s in enumerate(inside) if n not in (zero, backward, len(inside) - 1)]
        if (
            kinds.variable(calls[zero][0], frame) is not optimizer  # type: ignore[index]
            or call_of(inside[backward]).args  # type: ignore[index,union-attr]
            or not drops_gradients(call_of(inside[zero]))  # type: ignore[arg-type]
            or backward < zero
            or any(n > backward for n in range(len(inside) - 1) if n not in (zero, backward))
            or result.value is None
            or dotted(result.value) != dotted(loss)
            or dotted(loss) is None
            or any(site is not call and site is not call_of(inside[backward]) for site in nest.sites)
            or usage(others).writes & usage([s for s in steps if s is not found[0]]).reads
        ):
            return None
        replaced = FateNote(
            Fate.REPLACED, "Trainer: steps the optimizer with the training step as closure", "automatic optimization"
        )
        assert isinstance(step, Item)
        fates: dict[cst.CSTNode, FateNote] = {}
        fates.update(dict.fromkeys((inside[zero].node, inside[backward].node, step.node), replaced))
        fates[result] = FateNote(Fate.MOVED, "training_step")
        before = tuple(s for s in steps[:number] if s is not found[0])
        if any(True for s in before if isinstance(s, Item) for _ in exits_of(s.node)):
            return None
        return Automatic(
            tuple(others),
            loss,
            frame,
            (),
            (),
            tuple(steps[number + 1 :]),
            optimizer,
            None,
            None,
            fates,
            start=before,
            closure=function,
        )
    return None


def _between(
    steps: Sequence[Step], optimizer: Variable, early: Callable[[Step], bool], kinds: Kinds, tree: Tree
) -> tuple[Clip | None, list[Step] | None, dict[cst.CSTNode, FateNote]]:
    """What stands between backward and step: (clipping, statements that gradients don't concern, fates).

    The statements are None when one of them may touch gradients: then all run right before the step.
    """
    clip = None
    calm: list[Step] = []
    fates: dict[cst.CSTNode, FateNote] = {}
    for step in steps:
        clipped = _clip(step, optimizer, kinds, tree)
        if isinstance(step, Item) and clipped is not None and clip is None:
            clip = clipped
            fates[step.node] = FateNote(
                Fate.REPLACED, "Trainer(gradient_clip_val=...)", "clipped between backward and step"
            )
        elif early(step):
            calm.append(step)
        else:
            return None, None, {}
    return clip, calm, fates


def _role(call: cst.Call | None, step: Step, kinds: Kinds, nest: Nest) -> str | None:
    used = method_call(call)
    if call is None or used is None or not isinstance(step, Item):
        return None
    if used[1] == "zero_grad":
        return "zero"
    if used[1] == "backward" and not call.args and call in nest.sites:
        return "backward"
    if used[1] == "step" and call in nest.sites:
        return "update"
    return None


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
            found = callee(node, step.frame, tree)
            if found is not None and contains(found[0], nest.sites, tree) and trains(step, nest.sites, tree):
                return f"the step is taken in {dotted(node.func) or found[0].name.value}(), which is not opened"
    return ""


def _clip(step: Step, optimizer: Variable, kinds: Kinds, tree: Tree) -> Clip | None:
    call = call_of(step)
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
    return value, step.frame, "value" if "value" in name else "norm"
