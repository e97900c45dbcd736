"""What torch runs of the script, and no statement of the loop says so: hooks, networks, own functions and optimizers.

A hook of a parameter keeps its gradient's norm, `backward` of a `torch.autograd.Function` counts, an optimizer of the
script's own adds noise: what reads that, or draws after it, can't stand before it. A hook of a layer keeps what it saw
last: what reads that between two passes can't stand after the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.calls import method_of
from lightify.analysis.held import held_by
from lightify.plan.effects import BUILTINS, computes_from, may_draw
from lightify.recognisers.base import is_module_class
from lightify.recognisers.optimizers import is_optimizer_class
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import declared_elsewhere, free_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, method_call, method_name, nodes_of, root_name, walk

Function = cst.FunctionDef | cst.Lambda

#: Methods that let a function run with each forward pass, where the result calls it, too.
_FORWARD = ("register_forward_hook", "register_forward_pre_hook")
#: Methods that give no value, or give one and take it down, too.
_FILLS = ("append", "extend", "add", "update")
_DRAWING = (
    *("random.", "numpy.random.", "torch.rand", "torch.normal", "torch.bernoulli", "torch.multinomial"),
    *("torch.distributions.", "torch.nn.functional.dropout", "torch.poisson"),
)
_DRAWING_METHODS = frozenset(
    """normal_ uniform_ bernoulli bernoulli_ multinomial random_ exponential_ cauchy_ log_normal_ geometric_ sample
    rsample""".split()  # noqa: SIM905, a list of words
)


@dataclass(frozen=True)
class Hidden:
    """What such functions may use.

    Attributes:
        names: of outside of themselves; fields: of objects.
        draws: they draw random numbers.
    """

    names: frozenset[str]
    fields: frozenset[str]
    draws: bool

    def is_used_by(self, step: Step) -> bool:
        """True for a statement that mentions what they use."""
        node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
        if not self.names and not self.fields:
            return False
        return any(self._is_one(part, frame) for part in walk(node))

    def _is_one(self, part: cst.CSTNode, frame: Frame) -> bool:
        if isinstance(part, cst.Attribute):
            return part.attr.value in self.fields
        if not isinstance(part, cst.Name):
            return False
        if "." in part.value:
            return part.value.rpartition(".")[2] in self.fields
        meaning = frame.resolve(part.value)
        return (meaning.name if isinstance(meaning, Variable) else part.value) in self.names


@lru_cache(maxsize=4)
def hidden_in_steps(tree: Tree) -> Hidden:
    """Reads the script's functions that torch calls as it takes gradients or steps."""
    functions = list(with_called(_called_by_torch(tree), tree))
    known = BUILTINS | tree.imports.keys() | tree.functions.keys()
    names = {name for function in functions for name in free_names(function)}
    fields = {name.rpartition(".")[2] for name in names if "." in name}
    for function in functions:
        outside = free_names(function) | {"self"}
        called = {node.func for node in nodes_of(function.body, cst.Call)}
        for part in nodes_of(function.body, cst.Attribute):
            if part not in called and root_name(part) in outside - known:
                fields.add(part.attr.value)
    own = {name for name in names if "." not in name} - known
    rates = list(with_called(_rates(tree), tree))
    changed = _changes(rates, tree)
    drawing = any(draws(one.body, tree) for one in (*functions, *rates))
    return Hidden(changed.names | own, changed.fields | fields, drawing)


@lru_cache(maxsize=4)
def hidden_in_networks(tree: Tree) -> Hidden:
    """Reads what the script's functions change that torch calls as a network runs; its draws are the network's."""
    functions = list(_hooks(tree, forward=True))
    for definition in tree.nodes(cst.ClassDef):
        if is_module_class(definition, tree):
            functions.extend(_run_of(definition, "forward", tree))
    return _changes(list(with_called(functions, tree)), tree)


def _changes(functions: Iterable[Function], tree: Tree) -> Hidden:
    """What functions change outside of themselves."""
    names, fields = set[str](), set[str]()
    for function in functions:
        outside = free_names(function) - tree.imports.keys()
        for root in _changed(function.body):
            while isinstance(root, cst.Subscript):
                root = root.value
            if isinstance(root, cst.Attribute):
                fields.add(root.attr.value)
            elif isinstance(root, cst.Name) and root.value in outside:
                (fields if "." in root.value else names).add(root.value.rpartition(".")[2])
        names |= declared_elsewhere(function) if isinstance(function, cst.FunctionDef) else set()
    return Hidden(frozenset(names), frozenset(fields), draws=False)


def _changed(body: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What a body may change: the targets of assignments that are no plain names, the receivers of methods."""
    for node in walk(body):
        if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del)):
            target = node.target
            if isinstance(target, (cst.Attribute, cst.Subscript)) or "." in (dotted(target) or ""):
                yield target
        elif (used := method_call(node)) is not None and (used[1] in _FILLS or not computes_from(used[1])):
            yield used[0]


def _hooks(tree: Tree, *, forward: bool) -> Iterator[Function]:
    """The functions that the script registers as hooks, of forward passes or of all else."""
    for call in tree.nodes(cst.Call):
        used = method_call(call)
        name = used[1] if used is not None else ""
        if name.startswith("register_") and name.endswith("hook") and (name in _FORWARD) is forward:
            for arg in call.args:
                if isinstance(arg.value, cst.Lambda):
                    yield arg.value
                for thing in held_by(arg.value, tree):
                    yield from _run_of(thing, "__call__", tree)


def _rates(tree: Tree) -> Iterator[Function]:
    """The functions that a schedule asks for rates: `LambdaLR(optimizer, rate)`."""
    for call in tree.nodes(cst.Call):
        if (tree.qualified(call.func) or "").startswith("torch.optim.lr_scheduler."):
            for arg in call.args:
                if isinstance(arg.value, cst.Lambda):
                    yield arg.value
                yield from (one for one in held_by(arg.value, tree) if isinstance(one, cst.FunctionDef))


def _called_by_torch(tree: Tree) -> Iterator[Function]:
    yield from _hooks(tree, forward=False)
    for definition in tree.nodes(cst.ClassDef):
        if is_optimizer_class(definition, tree):
            yield from _run_of(definition, "step", tree)
        elif any((tree.qualified(base.value) or "").endswith("autograd.Function") for base in definition.bases):
            yield from _run_of(definition, "backward", tree)


def _run_of(thing: cst.FunctionDef | cst.ClassDef, method: str, tree: Tree) -> Iterator[cst.FunctionDef]:
    """A function, or a method of an object of a class."""
    if isinstance(thing, cst.FunctionDef):
        yield thing
    elif (found := method_of(thing, method, cst.Name("self"), tree)) is not None:
        yield found[0]


def with_called(functions: Iterable[Function], tree: Tree) -> Iterator[Function]:
    """Functions, and those of the script's own that they may call."""
    waiting, seen = list(functions), set[Function]()
    while waiting:
        function = waiting.pop()
        if function not in seen:
            seen.add(function)
            yield function
            waiting.extend(one for call in nodes_of(function.body, cst.Call) for one in run_by(call, tree))


@lru_cache(maxsize=1024)
def draws(node: cst.CSTNode, tree: Tree) -> bool:
    """True for what is known to draw random numbers, itself or by functions of the script's own that it calls."""
    if any(_is_draw(call, tree) for call in nodes_of(node, cst.Call)):
        return True
    called = (one for call in nodes_of(node, cst.Call) for one in run_by(call, tree))
    return any(_is_draw(call, tree) for one in with_called(called, tree) for call in nodes_of(one.body, cst.Call))


def _is_draw(call: cst.Call, tree: Tree) -> bool:
    full = tree.qualified(call.func) or dotted(call.func) or ""
    return full.startswith(_DRAWING) or method_name(call) in _DRAWING_METHODS


def runs_apart(step: Step, before: Iterable[Step], tree: Tree) -> bool:
    """True for a statement that may as well run before gradients are taken, and before others that are given."""
    hidden = hidden_in_steps(tree)
    if hidden.is_used_by(step):
        return False
    drawing = hidden.draws or any(draws(one.node, tree) for one in before if isinstance(one, Item))
    return not (drawing and may_draw(step, tree))
