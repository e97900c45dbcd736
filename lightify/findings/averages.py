"""Averages over batches that are no averages over samples."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.query import arguments, call_name, dotted, literal, method_call

OF_AVERAGES = Rule(
    "LF421",
    "note",
    "{total} averages the averages of batches: a short last batch would count as much as a full one",
    "kept as it is; weigh each batch by its size, or log it with self.log(..., batch_size=...), which does so",
)
TOO_SMALL = Rule(
    "LF422",
    "warning",
    "{total} sums the averages of batches, but is divided by the number of samples: it is too small by the batch size",
    "kept as it is; divide by the number of batches, or use reduction='sum'",
)
NOT_SEEN = Rule(
    "LF425",
    "warning",
    "{total} is divided by all samples, but {loader} drops the last ones (drop_last=True): the result is too small",
    "kept as it is; divide by the samples that were counted, or leave drop_last out",
)
RULES = (OF_AVERAGES, TOO_SMALL, NOT_SEEN)

_LOSSES = {
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "CrossEntropyLoss",
    "NLLLoss",
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
}


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts `total += criterion(...).item()` and `total / len(loader)` where the criterion surely averages."""
    divisions = _divisions(script)
    yield from _not_seen(script, divisions)
    for node in script.nodes(cst.AugAssign):
        total = dotted(node.target)
        if (
            total is None
            or not isinstance(node.operator, cst.AddAssign)
            or not _is_batch_average(script, node.value, 0)
        ):
            continue
        loop = script.tree.around(node, cst.For, cst.While)
        for divided, divisor in divisions:
            if divided != script.key(node, total):
                continue
            argument = divisor.args[0].value
            if isinstance(argument, cst.Attribute) and argument.attr.value == "dataset":
                if _several_per_batch(script, argument.value):
                    yield TOO_SMALL.at(script, divisor, total=total)
            elif script.kind(argument) is Kind.LOADER and isinstance(loop, cst.For) and _may_be_short(script, argument):
                yield OF_AVERAGES.at(script, divisor, total=total)


def _not_seen(script: Script, divisions: list[tuple[tuple, cst.Call]]) -> Iterator[Diagnostic]:
    sums = {script.key(node, name) for node in script.nodes(cst.AugAssign) if (name := dotted(node.target)) is not None}
    for (scope, total), divisor in divisions:
        counted = divisor.args[0].value
        if (scope, total) in sums and isinstance(counted, cst.Attribute) and counted.attr.value == "dataset":
            call = _loader_call(script, counted.value)
            if call is not None and literal(arguments(call).keyword.get("drop_last")) == "True":
                yield NOT_SEEN.at(script, divisor, total=total, loader=dotted(counted.value))


def _divisions(script: Script) -> list[tuple[tuple, cst.Call]]:
    """Each `total / len(x)` and `total /= len(x)`: (what total is, the call of len)."""
    found = []
    pairs = [
        (node.left, node.right) for node in script.nodes(cst.BinaryOperation) if isinstance(node.operator, cst.Divide)
    ] + [
        (node.target, node.value) for node in script.nodes(cst.AugAssign) if isinstance(node.operator, cst.DivideAssign)
    ]
    for left, right in pairs:
        name = dotted(left)
        if name is not None and isinstance(right, cst.Call) and call_name(right) == "len" and len(right.args) == 1:
            found.append((script.key(left, name), right))
    return found


def _is_batch_average(script: Script, value: cst.BaseExpression | None, depth: int) -> bool:
    """True for a loss of torch with its default reduction, or a name that only ever holds one."""
    used = method_call(value)
    if used is not None and used[1] in ("item", "detach", "cpu"):
        return _is_batch_average(script, used[0], depth)
    if isinstance(value, cst.Attribute) and value.attr.value == "data":
        return _is_batch_average(script, value.value, depth)
    if isinstance(value, cst.Call):
        full = script.qualified(value)
        if full == "float":
            return _is_batch_average(script, arguments(value).get(0, ""), depth)
        if full.startswith("torch.nn.functional."):
            return full.rpartition(".")[2] in _LOSSES and _averages(value)
        made = script.construction(value.func)
        return (
            made is not None
            and script.qualified(made).startswith("torch.nn.")
            and script.qualified(made).rpartition(".")[2] in _LOSSES
            and _averages(made)
        )
    if not isinstance(value, cst.Name) or depth > 2:
        return False
    bindings = script.values(value)
    return bool(bindings) and all(d.index is None and _is_batch_average(script, d.value, depth + 1) for d in bindings)


def _averages(call: cst.Call) -> bool:
    given = arguments(call).keyword
    return (
        not given.keys() & {"size_average", "reduce"}
        and literal(given.get("reduction")) in (None, "mean")
        and ("reduction" not in given or isinstance(given["reduction"], cst.SimpleString))
    )


def _loader_call(script: Script, loader: cst.CSTNode) -> cst.Call | None:
    made = script.construction(loader)
    return made if made is not None and call_name(made) == "DataLoader" else None


def _may_be_short(script: Script, loader: cst.CSTNode) -> bool:
    """True when the loader is seen and may end on a short batch."""
    call = _loader_call(script, loader)
    if call is None:
        return False
    given = arguments(call)
    size = literal(given.get(1, "batch_size"))
    sampled = "batch_sampler" in given.keyword or given.starred
    return (literal(given.keyword.get("drop_last")) in (None, "False") and not sampled and size not in (None, "1")) or (
        not sampled and "drop_last" not in given.keyword and given.get(1, "batch_size") is not None and size != "1"
    )


def _several_per_batch(script: Script, loader: cst.CSTNode) -> bool:
    """True when the loader is seen and its batches hold more than one sample."""
    call = _loader_call(script, loader)
    if call is None:
        return False
    size = arguments(call).get(1, "batch_size")
    return size is not None and literal(size) not in ("1", "None")
