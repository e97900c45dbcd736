"""Gradients clipped while scaled, before they exist, or after they were used."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import CLIPS, Script
from lightify.syntax.query import arguments, dotted, method_call

SCALED = Rule(
    "LF405",
    "warning",
    "gradients are clipped while still multiplied by the scaler: the bound means something else in each step",
    "kept as it is; call {scaler}.unscale_(optimizer) first, or use Trainer(precision=..., gradient_clip_val=...)",
)
NO_EFFECT = Rule(
    "LF406",
    "warning",
    "gradients are clipped {when}: the step uses them unclipped",
    "kept as it is; clip between backward() and step(), as Trainer(gradient_clip_val=...) does",
)
USED_UP = Rule(
    "LF407",
    "warning",
    "{name} is a generator of parameters that {place} has used up: here it is empty",
    "kept as it is; make it a list: {name} = list(...)",
)
RULES = (SCALED, NO_EFFECT, USED_UP)


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts clipping in the batch body; order is judged only where one backward, clip and step always run."""
    clips = [moment for moment in script.moments if moment.method in CLIPS]
    steps = [moment for moment in script.moments if script.updates_parameters(moment)]
    backwards = [moment for moment in script.moments if moment.method == "backward"]
    for clip in clips:
        scaled = [m for m in steps if script.kind(method_call(m.call)[0]) is Kind.SCALER]  # type: ignore[index]
        if scaled and not script.called("unscale_"):
            scaler = dotted(method_call(scaled[0].call)[0])  # type: ignore[index]
            yield SCALED.at(script, clip.call, scaler=scaler)
    if len(clips) == len(steps) == len(backwards) == 1 and all(m.always for m in (*clips, *steps, *backwards)):
        backward, clipped, step = backwards[0].position, clips[0].position, steps[0].position
        if clipped < backward < step:
            yield NO_EFFECT.at(script, clips[0].call, when="before backward()")
        elif backward < step < clipped:
            yield NO_EFFECT.at(script, clips[0].call, when="after step()")
    yield from _used_up(script)


def _used_up(script: Script) -> Iterator[Diagnostic]:
    """`params = net.parameters()` read by an optimizer and then again."""
    for (scope, name), definitions in list(script.definitions.items()):
        value = definitions[0].value
        if len(definitions) != 1 or definitions[0].index is not None or not _is_generator(script, value):
            continue
        if name.startswith("self."):
            continue
        uses = [
            call
            for kind in (*CLIPS, *_CONSUMERS)
            for call in script.calls(kind)
            if (first := arguments(call).get(0, "params") or arguments(call).get(0, "parameters")) is not None
            and dotted(first) == name
            and script.key(call, name)[0] is scope
        ]
        uses.sort(key=script.place)
        if len(uses) > 1 and not any(_branches(script, use, definitions[0].node) for use in uses):
            yield USED_UP.at(script, uses[1], name=name, place=script.tree.line_of(uses[0]))


_CONSUMERS = (
    "Adam",
    "AdamW",
    "SGD",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "NAdam",
    "RAdam",
    "LBFGS",
    "sum",
    "list",
)


def _is_generator(script: Script, value: cst.BaseExpression | None) -> bool:
    if isinstance(value, cst.GeneratorExp):
        return False
    if not isinstance(value, cst.Call):
        return False
    used = method_call(value)
    if used is not None and used[1] == "parameters":
        return script.kind(used[0]) is Kind.MODULE
    if script.qualified(value) == "filter" and len(value.args) == 2:
        return _is_generator(script, value.args[1].value)
    return False


def _branches(script: Script, node: cst.CSTNode, definition: cst.CSTNode) -> bool:
    """True when a use may run without the other ones, or the definition again before it."""
    around = set(script.tree.ancestors(definition))
    return any(
        isinstance(a, (cst.If, cst.Try, cst.IfExp, cst.Match)) and a not in around for a in script.tree.ancestors(node)
    )
