"""A loss that gets another kind of output than it expects."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.query import arguments, block, dotted, is_constant, method_call, walk

SOFTMAX_TWICE = Rule(
    "LF430",
    "warning",
    "{loss} applies log_softmax itself, and its input went through softmax already: gradients shrink",
    "kept as it is; hand over the raw scores, and keep softmax for reading predictions",
)
LOG_SOFTMAX_TWICE = Rule(
    "LF431",
    "note",
    "{loss} applies log_softmax itself, and its input went through log_softmax already: the second has no effect",
    "kept as it is; hand over the raw scores, or use nll_loss",
)
NO_LOG = Rule(
    "LF432",
    "warning",
    "{loss} expects log-probabilities, but gets {given}",
    "kept as it is; end the network with log_softmax, or use cross_entropy on raw scores",
)
RAW = Rule(
    "LF433",
    "warning",
    "{loss} expects probabilities, but gets the output of a linear layer",
    "kept as it is; end the network with a sigmoid, or use binary_cross_entropy_with_logits",
)
SIGMOID_TWICE = Rule(
    "LF434",
    "warning",
    "{loss} applies a sigmoid itself, and its input went through one already",
    "kept as it is; hand over the raw scores, or use binary_cross_entropy",
)
RULES = (SOFTMAX_TWICE, LOG_SOFTMAX_TWICE, NO_LOG, RAW, SIGMOID_TWICE)

_LOSSES = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
}
_LAYERS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "Linear": "linear",
    "Softmax2d": "softmax",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "linear": "linear",
}
_SHAPE_ONLY = {"view", "squeeze", "unsqueeze", "reshape", "flatten", "contiguous", "float", "to", "cuda", "transpose"}
_GIVEN = {"softmax": "probabilities", "linear": "the output of a linear layer", "sigmoid": "the output of a sigmoid"}

Output = str | tuple["Output | None", ...] | None


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts calls of torch's losses on the output of a network of the file, when each way gives the same kind."""
    for call in script.nodes(cst.Call):
        loss = _loss(script, call)
        if loss is None:
            continue
        given = _output(script, arguments(call).get(0, "input"), 0)
        if not isinstance(given, str):
            continue
        if loss == "cross_entropy" and given == "softmax":
            yield SOFTMAX_TWICE.at(script, call, loss=loss)
        elif loss == "cross_entropy" and given == "log_softmax":
            yield LOG_SOFTMAX_TWICE.at(script, call, loss=loss)
        elif loss == "nll_loss" and given in _GIVEN:
            yield NO_LOG.at(script, call, loss=loss, given=_GIVEN[given])
        elif loss == "binary_cross_entropy" and given == "linear":
            yield RAW.at(script, call, loss=loss)
        elif loss == "binary_cross_entropy_with_logits" and given == "sigmoid":
            yield SIGMOID_TWICE.at(script, call, loss=loss)


def _loss(script: Script, call: cst.Call) -> str | None:
    if len(call.args) < 2:
        return None
    full = script.qualified(call)
    if full.startswith("torch.nn.functional."):
        name = full.rpartition(".")[2]
        return name if name in _LOSSES.values() else None
    if full.startswith(("torch.", "np.", "numpy.")) or (dotted(call.func) or "(") in script.tree.functions:
        return None
    made = script.construction(call.func)
    full = script.qualified(made) if made is not None else ""
    return _LOSSES.get(full.rpartition(".")[2]) if full.startswith("torch.nn.") else None


def _output(script: Script, node: cst.CSTNode | None, depth: int) -> Output:
    """What the last operation on a value was; None when it is not known or not always the same."""
    if node is None or depth > 8:
        return None
    if isinstance(node, cst.Call):
        return _output_of_call(script, node, depth)
    if isinstance(node, cst.Tuple):
        return tuple(_output(script, element.value, depth + 1) for element in node.elements)
    if not isinstance(node, cst.Name):
        return None
    binding = _latest(script, node)
    if binding is None:
        return None
    found = _output(script, binding[0], depth + 1)
    index = binding[1]
    if index is None:
        return found
    return found[index] if isinstance(found, tuple) and index < len(found) else None


def _latest(script: Script, name: cst.Name) -> tuple[cst.BaseExpression, int | None] | None:
    """The assignment in effect at a name: the last one above it, in its block or one around it."""
    key = script.key(name, name.value)
    own = script.statement(name)
    before = [
        d for d in script.definitions.get(key, ()) if d.node is not own and script.place(d.node) < script.place(name)
    ]
    if not before or before[-1].value is None:
        return None
    last = before[-1]
    line = script.tree.parents[last.node]
    around = set(script.tree.ancestors(name))
    if script.tree.parents.get(line) not in around:
        return None  # it stands in a branch or loop of its own
    return last.value, last.index  # type: ignore[return-value]


def _output_of_call(script: Script, call: cst.Call, depth: int) -> Output:
    full = script.qualified(call)
    if full.startswith("torch.") and full != "torch.nn.Sequential":
        name = full.rpartition(".")[2]
        if name in ("flatten", "squeeze", "unsqueeze", "reshape"):
            return _output(script, arguments(call).get(0, "input"), depth + 1)
        return _LAYERS.get(name) if name.islower() else None
    used = method_call(call)
    if used is not None and used[1] in _SHAPE_ONLY:
        return _output(script, used[0], depth + 1)
    if used is not None and used[1] in ("softmax", "log_softmax", "sigmoid") and not used[1].startswith("self."):
        return used[1]
    if full.rpartition(".")[2] == "Variable":
        return _output(script, arguments(call).get(0, "data"), depth + 1)
    if isinstance(call.func, cst.Attribute) and used is not None and dotted(used[0]) != "self":
        return None
    layer = script.construction(call.func)
    return _output_of_layer(script, layer, depth + 1) if layer is not None else None


def _output_of_layer(script: Script, layer: cst.Call, depth: int) -> Output:
    """What a module that is built by a call returns."""
    full = script.qualified(layer)
    if full == "torch.nn.Sequential":
        if not layer.args or any(arg.star for arg in layer.args):
            return None
        last = layer.args[-1].value
        return _output_of_layer(script, last, depth + 1) if isinstance(last, cst.Call) and depth < 8 else None
    if full.startswith("torch.nn."):
        return _LAYERS.get(full.rpartition(".")[2])
    definition = script.tree.classes.get(dotted(layer.func) or "")
    if definition is None or depth > 8:
        return None
    return _output_of_class(script, definition, depth + 1)


def _output_of_class(script: Script, definition: cst.ClassDef, depth: int) -> Output:
    forward = next(
        (s for s in block(definition.body) if isinstance(s, cst.FunctionDef) and s.name.value == "forward"), None
    )
    if forward is None:
        return None
    found: list[Output] = []
    for node in walk(forward):
        if isinstance(node, cst.Return) and (node.value is None or not is_constant(node.value)):
            found.append(_output(script, node.value, depth + 1))
    return found[0] if found and all(output == found[0] for output in found) else None
