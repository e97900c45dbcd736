"""Layers that the optimizer or the network does not know about."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.analysis.calls import class_of
from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.recognisers.base import is_module_class
from lightify.recognisers.modules import builds_module
from lightify.syntax.query import call_name, dotted, method_call, walk

IN_LIST = Rule(
    "LF460",
    "warning",
    "{name} holds layers in a plain {container}: nothing trains, moves or saves their parameters",
    "kept as it is; use nn.ModuleList or nn.ModuleDict",
)
IN_FORWARD = Rule(
    "LF461",
    "warning",
    "forward() builds this layer anew in each call: its weights are random each time and never trained",
    "kept as it is; build it in __init__",
)
REPLACED = Rule(
    "LF462",
    "warning",
    "{name} is replaced after the optimizer of {place} took its parameters: the new ones are not trained",
    "kept as it is; build the optimizer after the network is complete",
)
NO_PARAMETER = Rule(
    "LF464",
    "warning",
    "{name} is what {method}() makes of a parameter, a plain tensor once it moves: nothing trains or saves it",
    "kept as it is; wrap last: nn.Parameter(tensor.{method}...), or move the whole network",
)
RULES = (IN_LIST, IN_FORWARD, REPLACED, NO_PARAMETER)

_WITH_WEIGHTS = ("Linear", "Conv", "BatchNorm", "LayerNorm", "GroupNorm", "Embedding", "LSTM", "GRU", "RNN", "Bilinear")


_MAKES_TENSORS = ("to", "cuda", "half", "double", "float", "bfloat16", "mul", "div", "clone", "view", "reshape", "t")


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts classes of nn.Module in the file, and optimizers built in the same block as what is replaced."""
    yield from _in_list(script)
    yield from _in_forward(script)
    yield from _replaced(script)
    yield from _no_parameter(script)


def _module_class(script: Script, node: cst.CSTNode) -> cst.ClassDef | None:
    definition = class_of(node, script.tree)
    return definition if definition is not None and is_module_class(definition, script.tree) else None


def _in_list(script: Script) -> Iterator[Diagnostic]:
    for node in script.nodes(cst.Assign):
        if len(node.targets) != 1 or type(node.value) not in (cst.List, cst.Tuple, cst.Dict, cst.ListComp):
            continue
        name = dotted(node.targets[0].target)
        if name is None or not name.startswith("self.") or name.count(".") != 1:
            continue
        if isinstance(node.value, (cst.List, cst.Tuple)):
            parts, container = [e.value for e in node.value.elements], "list"
        elif isinstance(node.value, cst.Dict):
            parts, container = [e.value for e in node.value.elements], "dict"
        elif isinstance(node.value, cst.ListComp):
            parts, container = [node.value.elt], "list"
        else:
            continue
        if not parts or not all(builds_module(part, script.tree) and _has_weights(script, part) for part in parts):
            continue
        definition = _module_class(script, node)
        if definition is not None and not _registered(script, definition, name):
            yield IN_LIST.at(script, node, name=name, container=container)


def _has_weights(script: Script, value: cst.BaseExpression) -> bool:
    name = script.tree.qualified(value.func) if isinstance(value, cst.Call) else None
    return name is not None and (name in script.tree.classes or name.rpartition(".")[2].startswith(_WITH_WEIGHTS))


def _registered(script: Script, definition: cst.ClassDef, name: str) -> bool:
    """True when the class hands the list on: to a container, add_module, setattr, or an optimizer's arguments."""
    for node in walk(definition):
        if isinstance(node, cst.Arg) and any(dotted(part) == name for part in walk(node.value)):
            call = script.tree.parents[node]
            if call_name(call) in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "extend", "chain"):
                return True
        if call_name(node) in ("add_module", "register_module", "setattr", "parameters"):
            return True
    return any(
        isinstance(a, cst.Attribute) and a.attr.value == name[5:] and dotted(a.value) not in ("self", None)
        for a in script.nodes(cst.Attribute)
    )


def _in_forward(script: Script) -> Iterator[Diagnostic]:
    for call in script.nodes(cst.Call):
        if not isinstance(call.func, cst.Call):
            continue
        full = script.qualified(call.func)
        if full.startswith("torch.nn.") and full.rpartition(".")[2].startswith(_WITH_WEIGHTS):
            function = script.function(call)
            if function is not None and function.name.value == "forward" and _module_class(script, call) is not None:
                yield IN_FORWARD.at(script, call)


def _no_parameter(script: Script) -> Iterator[Diagnostic]:
    """`self.scale = nn.Parameter(torch.ones(3)).to(device)`."""
    for call in script.calls("Parameter"):
        outer = script.tree.parents[script.tree.parents[call]]
        used = method_call(outer)
        statement = script.tree.parents[outer]
        if (
            used is None
            or used[0] is not call
            or used[1] not in _MAKES_TENSORS
            or not isinstance(statement, cst.Assign)
        ):
            continue
        name = dotted(statement.targets[0].target) or ""
        if name.startswith("self.") and _module_class(script, statement) is not None:
            yield NO_PARAMETER.at(script, statement, name=name, method=used[1])


def _replaced(script: Script) -> Iterator[Diagnostic]:
    """`opt = SGD(net.parameters())`, then `net.fc = nn.Linear(...)` or `net = Net()` further down the same block."""
    owned: dict[tuple, tuple[cst.CSTNode, str, cst.CSTNode]] = {}
    for call in script.calls("parameters"):
        used = method_call(call)
        statement = script.statement(call)
        inside = any(isinstance(a, cst.Call) and ".optim." in script.qualified(a) for a in script.tree.ancestors(call))
        if used is not None and inside and isinstance(statement, cst.Assign) and dotted(used[0]) is not None:
            name = dotted(used[0]) or ""
            block = script.tree.parents[script.tree.parents[statement]]
            owned.setdefault(script.key(call, name), (block, name, statement))
    optimizers = [f for f in script.analysis.named if f.kind is Kind.OPTIMIZER]
    for node in script.nodes(cst.Assign):
        if len(node.targets) != 1 or not builds_module(node.value, script.tree):
            continue
        target = dotted(node.targets[0].target)
        for block, name, statement in owned.values():
            if target != name and not (target or "").startswith(f"{name}."):
                continue
            here = script.tree.parents[script.tree.parents[node]]
            last = max(map(script.place, (statement, *(f.node for f in optimizers))))
            reads = any(dotted(part) == name for part in walk(node.value))
            if here is block and script.place(node) > last and not reads:
                yield REPLACED.at(script, node, name=target, place=script.tree.line_of(statement))
