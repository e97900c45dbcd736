"""Statements without effect: a call without its parentheses, a result that is thrown away."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.query import arguments, code, dotted, is_constant, method_call, target_names

NOT_CALLED = Rule(
    "LF470",
    "warning",
    "`{text}` without parentheses does nothing",
    "kept as it is; call it: {text}()",
)
THROWN_AWAY = Rule(
    "LF471",
    "warning",
    "`{text}` returns its result and changes nothing here",
    "kept as it is; {advice}",
)
RULES = (NOT_CALLED, THROWN_AWAY)

_ACTIONS = {
    "zero_grad",
    "step",
    "backward",
    "eval",
    "train",
    "cuda",
    "detach_",
    "zero_",
    "update",
    "set_epoch",
    "unscale_",
}
_SWITCHES = ("torch.no_grad", "torch.enable_grad", "torch.inference_mode", "torch.autograd.set_detect_anomaly_")


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts expression statements only."""
    batch = _batch_names(script)
    for node in script.nodes(cst.Expr):
        value = node.value
        if isinstance(value, cst.Attribute) and value.attr.value in _ACTIONS and dotted(value) is not None:
            yield NOT_CALLED.at(script, node, text=code(value))
        elif isinstance(value, cst.Call):
            if script.qualified(value) in _SWITCHES:
                yield THROWN_AWAY.at(
                    script, node, text=code(value), advice=f"write `with {code(value)}:` around what it is for"
                )
            elif (used := method_call(value)) is not None and used[1] in ("detach", "to", "cuda", "cpu"):
                name = dotted(used[0])
                if name is None or script.kind(used[0]) is not None:
                    continue
                key = script.key(node, name)
                if key in batch or (used[1] == "detach" and key in script.loss_names and not arguments(value).starred):
                    yield THROWN_AWAY.at(script, node, text=code(value), advice=f"assign it: {name} = {code(value)}")


def _batch_names(script: Script) -> set[tuple]:
    """The names that the batch loop's header binds to parts of a tuple: tensors of a loader."""
    loop = script.nest.batch_loop
    if not isinstance(loop, cst.For) or not _from_tensor_loader(script, loop):
        return set()
    target = loop.target
    if (
        isinstance(loop.iter, cst.Call)
        and dotted(loop.iter.func) == "enumerate"
        and isinstance(target, cst.Tuple)
        and len(target.elements) == 2
    ):
        target = target.elements[1].value  # type: ignore[assignment]
    return {script.key(loop, name) for name in target_names(target)} if isinstance(target, cst.Tuple) else set()


def _from_tensor_loader(script: Script, loop: cst.For) -> bool:
    iterable: cst.BaseExpression | None = loop.iter
    if isinstance(iterable, cst.Call) and dotted(iterable.func) in ("enumerate", "tqdm"):
        iterable = arguments(iterable).get(0, "iterable")
    made = script.construction(iterable)
    if script.kind(iterable) is not Kind.LOADER or made is None:
        return False
    collate = arguments(made).get(6, "collate_fn")
    return collate is None or is_constant(collate)
