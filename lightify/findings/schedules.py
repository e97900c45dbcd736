"""Learning-rate schedules that run early or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.query import FieldName, dotted, expression_of, method_call

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
RULES = (TOO_EARLY, NEVER)

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


def _steps_scheduler(script: Script, call: cst.Call) -> bool:
    used = method_call(call)
    return used is not None and used[1] == "step" and not call.args and script.kind(used[0]) is Kind.SCHEDULER


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
