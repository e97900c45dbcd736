"""Learning-rate schedules that run early or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script, unwrapped
from lightify.syntax.query import (
    FieldName,
    arguments,
    call_name,
    code,
    dotted,
    expression_of,
    literal,
    method_call,
    words,
)

TOO_EARLY = Rule(
    "LF450",
    "warning",
    "{name}.step() runs before the first optimizer.step(): the schedule's first learning rate is never used",
    "kept as it is; step the scheduler after the optimizer, as a Trainer does with what configure_optimizers returns",
)
NEVER = Rule(
    "LF451",
    "warning",
    "{name} is built but never stepped: the learning rate stays what building it made it",
    "kept as it is; return it from configure_optimizers, or call {name}.step() after each epoch",
)
EPOCHS_AS_STEPS = Rule(
    "LF452",
    "warning",
    "{name} is built for {length} epochs and steps in each batch: it is through after {length} batches",
    "kept as it is; step it after each epoch, or build it for {length} * len(loader) steps",
)
STEPS_AS_EPOCHS = Rule(
    "LF453",
    "warning",
    "{name} counts batches and steps once per epoch: it goes through a small part of its course",
    "kept as it is; step it in each batch, or build it for the number of epochs",
)
OTHER_WAY = Rule(
    "LF454",
    "warning",
    "{name} has mode='{mode}' and is told {value}: it lowers the learning rate while the model gets better",
    "kept as it is; pass mode='{other}'",
)
RULES = (TOO_EARLY, NEVER, EPOCHS_AS_STEPS, STEPS_AS_EPOCHS, OTHER_WAY)

#: Schedulers that have a length, and its name; it is their second argument.
_LENGTHS = {"CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters"}
_RISING = {
    "acc",
    "accuracy",
    "accuracies",
    "auc",
    "f1",
    "iou",
    "miou",
    "map",
    "dice",
    "psnr",
    "ssim",
    "bleu",
    "precision",
    "recall",
}
_FALLING = {"loss", "losses", "error", "err", "mse", "rmse", "mae", "perplexity", "ppl"}
_HARMLESS = {"get_last_lr", "get_lr", "state_dict", "load_state_dict", "last_epoch", "base_lrs"}


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts schedulers of torch.optim.lr_scheduler; `step(epoch)` says which epoch it means and is silent."""
    for node in script.epoch_start:
        call = expression_of(node)
        if isinstance(call, cst.Call) and _steps_scheduler(script, call):
            yield TOO_EARLY.at(script, call, name=dotted(call.func.value))  # type: ignore[attr-defined]
    moments = [m for m in script.moments if m.always and m.method == "step"]
    updates = [m.position for m in script.moments if script.updates_parameters(m)]
    for moment in moments:
        if updates and moment.position < updates[0] and _steps_scheduler(script, moment.call):
            yield TOO_EARLY.at(script, moment.call, name=dotted(moment.call.func.value))  # type: ignore[attr-defined]
    yield from _never(script)
    for call in script.calls("step"):
        used = method_call(call)
        made = script.construction(used[0]) if used is not None and script.kind(used[0]) is Kind.SCHEDULER else None
        if used is not None and made is not None:
            yield from _too_fast(script, call, made, dotted(used[0]))
            yield from _too_slow(script, call, made, dotted(used[0]))
            yield from _direction(script, call, made, dotted(used[0]))


def _steps_scheduler(script: Script, call: cst.Call) -> bool:
    used = method_call(call)
    return used is not None and used[1] == "step" and not call.args and script.kind(used[0]) is Kind.SCHEDULER


def _too_slow(script: Script, step: cst.Call, made: cst.Call, name: str | None) -> Iterator[Diagnostic]:
    """`OneCycleLR(steps_per_epoch=len(loader))`, stepped once per epoch."""
    each = arguments(made).keyword.get("steps_per_epoch")
    if call_name(made) != "OneCycleLR" or each is None or literal(each) == "1":
        return
    if script.in_run(step) and not script.in_batches(step) and not _in_loop_of_its_own(script, step):
        yield STEPS_AS_EPOCHS.at(script, step, name=name)


def _too_fast(script: Script, step: cst.Call, made: cst.Call, name: str | None) -> Iterator[Diagnostic]:
    """`CosineAnnealingLR(optimizer, epochs)`, stepped in each batch."""
    built = call_name(made) or ""
    length, epochs = arguments(made).get(1, _LENGTHS.get(built, "")), _epochs(script)
    in_each_batch = any(moment.call is step and moment.always for moment in script.moments)
    if built not in _LENGTHS or length is None or epochs is None or not in_each_batch or step.args:
        return
    if length.deep_equals(epochs) or script.origins(length) & script.origins(epochs):
        yield EPOCHS_AS_STEPS.at(script, step, name=name, length=code(length).strip())


def _in_loop_of_its_own(script: Script, step: cst.Call) -> bool:
    loop = script.tree.around(step, cst.For, cst.While)
    return loop is not None and loop is not script.nest.epoch_loop


def _epochs(script: Script) -> cst.BaseExpression | None:
    """What the epochs count to: `n` of `for epoch in range(n)` and `range(start, n)`."""
    loop = script.nest.epoch_loop
    source = unwrapped(loop.iter) if isinstance(loop, cst.For) else None
    if not isinstance(source, cst.Call) or call_name(source) not in ("range", "trange") or len(source.args) > 2:
        return None
    return source.args[-1].value if source.args else None


def _direction(script: Script, step: cst.Call, made: cst.Call, name: str | None) -> Iterator[Diagnostic]:
    """`ReduceLROnPlateau` for a minimum that is told an accuracy, or for a maximum that is told a loss."""
    value, given = dotted(arguments(step).get(0, "metrics")), arguments(made)
    if call_name(made) != "ReduceLROnPlateau" or value is None or given.starred:
        return
    node = given.get(1, "mode")
    mode = "min" if node is None else literal(node)
    rises, falls = bool(words(value) & _RISING), bool(words(value) & _FALLING)
    if rises != falls and mode in ("min", "max") and (mode == "min") is rises:
        yield OTHER_WAY.at(script, step, name=name, value=value, mode=mode, other="max" if rises else "min")


def _never(script: Script) -> Iterator[Diagnostic]:
    for fact in script.analysis.named:
        if (
            fact.kind is not Kind.SCHEDULER
            or not isinstance(fact.node, cst.Assign)
            or fact.name.count(".") > ("self" in fact.name)
        ):
            continue
        last = fact.name.rpartition(".")[2]
        if not any(_is_used(script, node) for node in _mentions(script, last)):
            yield NEVER.at(script, fact.node, name=fact.name)


def _mentions(script: Script, last: str) -> Iterator[cst.CSTNode]:
    for node in script.nodes(cst.Name):
        if node.value == last:
            parent = script.tree.parents.get(node)
            yield parent if isinstance(parent, cst.Attribute) and parent.attr is node else node
    yield from (node for node in script.nodes(FieldName) if node.value.rpartition(".")[2] == last)


def _is_used(script: Script, node: cst.CSTNode) -> bool:
    parent = script.tree.parents.get(node)
    if isinstance(parent, cst.AssignTarget):
        return False
    return not (isinstance(parent, cst.Attribute) and parent.value is node and parent.attr.value in _HARMLESS)
