"""Gradients that are never zeroed, zeroed too rarely, or zeroed before they are used."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.index import Key
from lightify.findings.script import Script
from lightify.syntax.query import arguments, dotted, method_call, walk

NEVER = Rule(
    "LF401",
    "warning",
    "nothing zeroes gradients: each step uses the sum over all batches so far",
    "kept as it is; for one batch per step call {optimizer}.zero_grad() before the backward pass",
)
RARELY = Rule(
    "LF402",
    "warning",
    "gradients are zeroed outside the batch loop only: each step uses the sum over the batches so far",
    "kept as it is; move zero_grad() into the batch loop, or the step out of it",
)
TOO_EARLY = Rule(
    "LF403",
    "warning",
    "gradients are zeroed between backward() and step(): this step changes nothing",
    "kept as it is; zero them before backward() or after step()",
)
THROWN_AWAY = Rule(
    "LF404",
    "warning",
    "the step is taken in some batches only, but gradients are zeroed in every one: those in between are thrown away",
    "kept as it is; Trainer(accumulate_grad_batches=k) accumulates",
)
SUMMED = Rule(
    "LF408",
    "note",
    "gradients of several batches are added up, not averaged: the step grows with their number",
    "kept as it is; divide the loss by the number of batches in a step, as Trainer(accumulate_grad_batches=k) does",
)
RULES = (NEVER, RARELY, TOO_EARLY, THROWN_AWAY, SUMMED)


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts a loop of backward() and optimizer.step(); silent when something unseen may zero gradients."""
    steps = [moment for moment in script.moments if script.updates_parameters(moment)]
    backwards = [moment for moment in script.moments if moment.method == "backward"]
    if not steps or not backwards:
        return
    zeroes = script.calls("zero_grad")
    if not zeroes:
        if not _zeroed_by_hand(script) and not _optimizer_is_handed_on(script):
            receiver, _ = method_call(steps[0].call)  # type: ignore[misc]
            yield NEVER.at(script, steps[0].call, optimizer=cst.Module([]).code_for_node(receiver))
        return
    if not any(script.in_batches(call) for call in zeroes) and not _zeroed_by_hand(script):
        if (
            steps[0].always
            and backwards[0].always
            and any(script.in_run(call) or _same_host(script, call) for call in zeroes)
        ):
            yield RARELY.at(script, next((call for call in zeroes if script.in_run(call)), zeroes[0]))
        return
    yield from _order(script)


def _order(script: Script) -> Iterator[Diagnostic]:
    always = [m for m in script.moments if m.always and m.method in ("backward", "zero_grad", "step")]
    always = [m for m in always if m.method != "step" or script.updates_parameters(m)]
    if [m.method for m in script.moments if m.method == "backward"] != ["backward"]:
        return
    if sum(script.updates_parameters(m) for m in script.moments) != 1:
        return
    names = [m.method for m in always]
    optimizer = next(m for m in script.moments if script.updates_parameters(m))
    same = [m for m in always if m.method == "zero_grad" and _zeroes_all(script, m.call, optimizer.call)]
    if "backward" in names and "step" in names:
        start, end = always[names.index("backward")].position, always[names.index("step")].position
        for zero in same:
            if start < zero.position < end:
                yield TOO_EARLY.at(script, zero.call)
    elif (
        "backward" in names
        and same
        and optimizer.tests
        and _counts(optimizer.tests)
        and not _in_loop(script, optimizer.call)
    ):
        yield THROWN_AWAY.at(script, same[0].call)
    elif "backward" in names and not same and optimizer.tests and _counts(optimizer.tests) and _averages(script):
        yield SUMMED.at(script, optimizer.call)


def _averages(script: Script) -> bool:
    """True when what gets a backward() is one batch's average, as far as it is seen: nothing divides or scales it."""
    losses = [fact.loss for fact in script.analysis.backwards if fact.loss is not None and script.in_batches(fact.loss)]
    scaled = (cst.Divide, cst.DivideAssign, cst.Multiply, cst.MultiplyAssign)
    keys = {script.key(loss, name) for loss in losses if (name := dotted(loss)) is not None}
    if len(losses) != 1 or not keys:
        return False
    operations: list[cst.BinaryOperation | cst.AugAssign] = [*script.nodes(cst.BinaryOperation)]
    operations += script.nodes(cst.AugAssign)
    return not any(
        isinstance(node.operator, scaled) and script.in_batches(node) and _is_about(script, node, keys)
        for node in operations
    )


def _is_about(script: Script, node: cst.CSTNode, keys: set[Key]) -> bool:
    """True when an operation reads one of these names, or makes what is assigned to one."""
    statement = script.statement(node)
    targets = [target.target for target in statement.targets] if isinstance(statement, cst.Assign) else []
    return any(
        (name := dotted(part)) is not None and script.key(part, name) in keys for part in (*walk(node), *targets)
    )


def _zeroes_all(script: Script, zero: cst.Call, step: cst.Call) -> bool:
    """True when the call zeroes what the step updates: the same optimizer, or a whole module."""
    receiver = method_call(zero)[0]  # type: ignore[index]
    if script.kind(receiver) is Kind.MODULE:
        return True
    stepped, _ = method_call(step)  # type: ignore[misc]
    if script.kind(stepped) is Kind.SCALER:
        stepped = arguments(step).get(0, "optimizer")
    origins = script.origins(receiver)
    return bool(origins) and origins == script.origins(stepped)


def _counts(tests: tuple[cst.BaseExpression, ...]) -> bool:
    """True when the innermost test divides a counter: `(i + 1) % k == 0`."""
    return any(
        isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Modulo) for node in walk(tests[-1])
    )


def _in_loop(script: Script, node: cst.CSTNode) -> bool:
    for ancestor in script.tree.ancestors(node):
        if ancestor is script.nest.batch_loop:
            return False
        if isinstance(ancestor, (cst.For, cst.While)):
            return True
    return False


def _zeroed_by_hand(script: Script) -> bool:
    """`p.grad = None`, `p.grad.zero_()`, `p.grad[:] = 0`, `p.grad.data.fill_(0)`."""
    return any(
        isinstance(node, cst.Attribute) and node.attr.value == "grad" for node in script.nodes(cst.Attribute)
    ) and (
        script.called("zero_", "fill_", "set_to_none", "mul_")
        or any(
            isinstance(part, cst.Attribute) and part.attr.value == "grad"
            for node in script.nodes(cst.Assign)
            for target in node.targets
            for part in walk(target.target)
        )
    )


def _optimizer_is_handed_on(script: Script) -> bool:
    """True when code that is not seen gets the optimizer or the network and might zero its gradients."""
    for call in script.nodes(cst.Call):
        if script.targets(call) or not script.in_run(call) or script.qualified(call).startswith("torch."):
            continue
        if method_call(call) is not None and script.kind(method_call(call)[0]) is not None:  # type: ignore[index]
            continue
        for arg in call.args:
            if script.kind(arg.value) is Kind.OPTIMIZER:
                return True
    return False


def _same_host(script: Script, call: cst.Call) -> bool:
    return script.function(call) is script.function(script.nest.host_loop)
