"""Backward passes that autograd refuses: weights changed in between, state that keeps its history."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.index import Key
from lightify.findings.script import Script
from lightify.syntax.names import bound_names
from lightify.syntax.query import arguments, block, call_name, children, method_call, target_names, walk

CHANGED = Rule(
    "LF482",
    "warning",
    "the original does not run as published: this backward() needs {model} as it was before the step in {place}",
    "kept as it is; detach what was computed before, or compute it again after the step",
)
HISTORY = Rule(
    "LF483",
    "warning",
    "the original does not run as published: {name} keeps the graph of the batch before, which its backward() freed",
    "kept as it is; detach {name} before each batch",
)
RULES = (CHANGED, HISTORY)

#: Calls and attributes whose result has no history.
_CUTS = {
    "detach",
    "item",
    "size",
    "numpy",
    "tolist",
    "argmax",
    "len",
    "range",
    "int",
    "float",
    "str",
    "print",
    "format",
    "max",
    "topk",
    "sort",
    "eq",
    "round",
    "sign",
    "new_tensor",
    "new_zeros",
    "new_ones",
    "zeros_like",
    "ones_like",
    "rand_like",
    "randn_like",
    "full_like",
    "tensor",
    "Tensor",
}
_CUT_ATTRIBUTES = {"data", "shape", "dtype", "device", "grad", "grad_fn"}

Trace = frozenset[tuple[Key, int]]
_NOTHING: Trace = frozenset()


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts statements that run in each batch; silent when requires_grad is switched."""
    if not script.called("requires_grad_", "set_requires_grad"):
        assigned = {
            part.target.attr.value for part in script.nodes(cst.AssignTarget) if isinstance(part.target, cst.Attribute)
        }
        if "requires_grad" not in assigned:
            yield from _changed(script)
        if not _retains(script):
            yield from _history(script)


def _retains(script: Script) -> bool:
    return any("retain_graph" in arguments(fact.call).keyword for fact in script.analysis.backwards)


def _changed(script: Script) -> Iterator[Diagnostic]:
    if sum(moment.method == "backward" for moment in script.moments) < 2:
        return
    walker = _Walk(script)
    for node in script.body:
        walker.run(node)
    yield from walker.found


class _Walk:
    """Follows, statement by statement, which forward passes a value depends on.

    Attributes:
        traces: name to the (network, time) of the forward passes behind it.
        stepped: network to the (time, line) of its last parameter update.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.time = 0
        self.traces: dict[Key, Trace] = {}
        self.stepped: dict[Key, tuple[int, str]] = {}
        self.found: list[Diagnostic] = []
        self._owned: dict[cst.Call, frozenset[Key]] = {}

    def run(self, node: cst.CSTNode) -> None:
        self.time += 1
        if isinstance(node, cst.SimpleStatementLine):
            for small in node.body:
                self._small(small)
        elif isinstance(node, cst.With):
            for inner in block(node.body):
                self.run(inner)
        else:  # what runs under conditions is not followed: forget what it binds
            for name in bound_names([node]):
                self.traces.pop(self.script.key(node, name), None)

    def _small(self, node: cst.CSTNode) -> None:
        if isinstance(node, cst.Assign):
            trace = self._trace(node.value)
            for target in node.targets:
                for name in target_names(target.target):
                    self.traces[self.script.key(node, name)] = trace
        elif isinstance(node, cst.AugAssign):
            for name in target_names(node.target):
                key = self.script.key(node, name)
                self.traces[key] = self.traces.get(key, _NOTHING) | self._trace(node.value)
        elif isinstance(node, cst.Expr):
            used = method_call(node.value)
            if used is not None and used[1] == "backward":
                self._backward(node, self._trace(used[0]))
            elif used is not None and used[1] == "step":
                self._step(node, used[0])

    def _backward(self, node: cst.CSTNode, trace: Trace) -> None:
        for key, time in trace:
            stepped = self.stepped.get(key)
            if stepped is not None and stepped[0] > time:
                self.found.append(CHANGED.at(self.script, node, model=key[1], place=stepped[1]))
                return

    def _step(self, node: cst.CSTNode, receiver: cst.BaseExpression) -> None:
        if self.script.kind(receiver) is not Kind.OPTIMIZER:
            return
        made = self.script.construction(receiver)
        for key in self._networks(made) if made is not None else ():
            self.stepped[key] = (self.time, self.script.tree.line_of(node))

    def _networks(self, optimizer: cst.Call) -> frozenset[Key]:
        found: set[Key] = set()
        for part in walk(optimizer):
            used = method_call(part)
            if used is not None and used[1] == "parameters":
                found |= self.script.origins(used[0])
        return frozenset(found)

    def _trace(self, node: cst.CSTNode) -> Trace:
        if isinstance(node, cst.Name):
            return self.traces.get(self.script.key(node, node.value), _NOTHING)
        if isinstance(node, (cst.Comparison, cst.Lambda)):
            return _NOTHING
        if isinstance(node, cst.Attribute):
            return _NOTHING if node.attr.value in _CUT_ATTRIBUTES else self._trace(node.value)
        if isinstance(node, cst.Call):
            if call_name(node) in _CUTS or self.script.without_gradients(node):
                return _NOTHING
            traces = [self._trace(arg.value) for arg in node.args]
            if self.script.kind(node.func) is Kind.MODULE:
                if self._saves_weights(node.func):
                    traces.append(frozenset((key, self.time) for key in self.script.origins(node.func)))
            elif isinstance(node.func, cst.Attribute):
                traces.append(self._trace(node.func.value))
            return _NOTHING.union(*traces)
        if isinstance(node, cst.Arg):
            return self._trace(node.value)
        return _NOTHING.union(*(self._trace(child) for child in children(node)))

    def _saves_weights(self, model: cst.BaseExpression) -> bool:
        """True when a network has two layers with weights: autograd keeps the weights of all but the first."""
        definition = self.script.class_of(model)
        if definition is None:
            return False
        layers = [
            node
            for node in walk(definition)
            if isinstance(node, cst.Call)
            and self.script.qualified(node).startswith(("torch.nn.Linear", "torch.nn.Conv"))
        ]
        return len(layers) > 1


def _history(script: Script) -> Iterator[Diagnostic]:
    """`out, hidden = net(x, hidden)` with nothing that detaches hidden."""
    always = {moment.call for moment in script.moments if moment.always and moment.method == "backward"}
    if not always:
        return
    for node in script.straight:
        if (
            not isinstance(node, cst.Assign)
            or not isinstance(node.value, cst.Call)
            or script.kind(node.value.func) is not Kind.MODULE
        ):
            continue
        given = {arg.value.value for arg in node.value.args if isinstance(arg.value, cst.Name)}
        targets = [name for target in node.targets for name in target_names(target.target)]
        definition = script.class_of(node.value.func)
        if definition is None or _detaches(definition) or script.without_gradients(node):
            continue
        for name in sorted(given.intersection(targets)):
            key = script.key(node, name)
            others = [d for d in script.definitions.get(key, ()) if d.node is not node]
            if not others or any(script.in_batches(d.node) or d.value is None for d in others):
                continue
            if not _touched(script, key, node):
                yield HISTORY.at(script, node, name=name)


def _detaches(definition: cst.ClassDef) -> bool:
    return any(
        isinstance(node, cst.Attribute) and node.attr.value in ("detach", "detach_", "data", "no_grad")
        for node in walk(definition)
    )


def _touched(script: Script, key: Key, own: cst.CSTNode) -> bool:
    """True when a name is used in the batch in any other statement."""
    return any(
        node.value == key[1]
        and script.in_batches(node)
        and script.statement(node) is not own
        and script.key(node, key[1]) == key
        for node in script.nodes(cst.Name)
    )
