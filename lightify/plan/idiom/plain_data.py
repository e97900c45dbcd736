"""What surely has no gradients to hand on: data, and what is computed from data alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.facts import Kind
from lightify.plan.kinds import Kinds
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Expression, Frame, Item, Step, Variable
from lightify.syntax.names import parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    assigned_pairs,
    children,
    code,
    is_constant,
    method_call,
    target_names,
    walk,
)

#: Functions whose results are new, whatever they are given.
_NEW = frozenset(
    """torch.zeros torch.ones torch.full torch.empty torch.eye torch.arange torch.linspace torch.rand torch.randn
    torch.randint torch.randperm torch.from_numpy torch.tensor torch.zeros_like torch.ones_like torch.full_like
    torch.rand_like torch.randn_like torch.randint_like torch.empty_like torch.bernoulli torch.multinomial int float
    len range bool round""".split()  # noqa: SIM905, a list of words
)
#: Functions that change nothing of what they are given.
_READING = frozenset("print isinstance type str repr list tuple zip enumerate min max sum".split())  # noqa: SIM905
#: Methods and attributes that tell something of a tensor, or give it without what made it.
_TELLS = frozenset("size dim numel item tolist numpy detach shape ndim dtype device data".split())  # noqa: SIM905
#: Methods of which the tensor alone decides, whatever they are given.
_SHAPES = frozenset(
    """type to cuda cpu float double half long int bool byte view reshape expand repeat permute transpose t unsqueeze
    squeeze flatten contiguous narrow chunk split zero_ normal_ uniform_ random_ bernoulli_ clone""".split()  # noqa: SIM905
)

#: What turns gradients on for a tensor, or changes more than its values.
_ON_ITSELF = frozenset(
    "requires_grad requires_grad_ retain_grad unsqueeze_ squeeze_ resize_ resize_as_ t_ transpose_ set_ grad".split()  # noqa: SIM905
)


class PlainData:
    """The names of a batch's steps that hold data, and whether an expression gives such.

    Functions of the script's own change nothing that they are given (`may_change_arguments`).

    Args:
        batch: names that hold data when the steps begin.
    """

    def __init__(self, steps: Sequence[Step], batch: Set[Variable], kinds: Kinds) -> None:
        self.kinds = kinds
        use, made = usage(steps), _assigned(steps)
        elsewhere = {one.name.value for one in kinds.tree.nodes(cst.NameItem)}  # `global x` in some function
        growing = {variable for variable, values in made.items() if any(isinstance(one, cst.List) for one, _ in values)}
        bound = {variable for variable in made if variable.name not in elsewhere} - use.exposed - growing
        self.names = (batch | bound) - (use.writes - made.keys())
        while lost := {name for name in self.names if not all(self.holds(*value) for value in made.get(name, ()))}:
            self.names -= lost

    def passes(self, step: Step) -> None:
        """Goes on behind a step: what it hands to others may have got something to hand on from them."""
        nodes, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
        for node in walk(nodes):
            if isinstance(node, cst.Call) and not self._is_known(node, frame):
                self.names -= expression_usage(node, frame).reads
            elif isinstance(node, cst.Assign) and not self.holds(node.value, frame):
                changed = (target.target for target in node.targets if not isinstance(target.target, cst.Name))
                self.names -= {one for target in changed for one in expression_usage(target, frame).reads}

    def _is_known(self, call: cst.Call, frame: Frame) -> bool:
        """True for a call that puts nothing but data into what it is given."""
        called = self.kinds.tree.qualified(call.func) or ""
        if (
            called.startswith(("torch.", "numpy."))
            or called in _NEW | _READING
            or self._is_tensor_type(call.func, frame)
        ):
            return True
        made, used = self.kinds.variable(call.func, frame), method_call(call)
        if any(True for _ in run_by(call, self.kinds.tree)) or (made is not None and self.kinds.is_loss(made)):
            return True
        return used is not None and (used[1] in _TELLS or self.holds(call, frame))

    def holds(self, node: cst.CSTNode, frame: Frame) -> bool:
        """True for an expression whose value has no gradients."""
        if isinstance(node, cst.Name):
            meaning = frame.resolve(node.value)
            if isinstance(meaning, Expression):
                return self.holds(meaning.node, meaning.frame)
            return node.value in ("True", "False", "None") or meaning in self.names
        if isinstance(node, cst.Attribute):
            told = node.attr.value in _TELLS or self.kinds.kind(node.value, frame) is Kind.NAMESPACE
            return told or self.holds(node.value, frame)
        if isinstance(node, cst.Subscript):
            return self.holds(node.value, frame)
        if isinstance(node, cst.Call):
            return self._results(node, frame)
        if isinstance(node, (cst.Integer, cst.Float, cst.SimpleString)):
            return True
        if not isinstance(node, (cst.BinaryOperation, cst.UnaryOperation, cst.Tuple, cst.List)):
            return False
        parts = (part.value if isinstance(part, cst.BaseElement) else part for part in children(node))
        return all(self.holds(part, frame) for part in parts if isinstance(part, cst.BaseExpression))

    def _results(self, call: cst.Call, frame: Frame) -> bool:
        given = arguments(call)
        if code(given.keyword.get("requires_grad", cst.Name("False"))) != "False" or "out" in given.keyword:
            return False
        called = self.kinds.tree.qualified(call.func) or ""
        if called in _NEW or called.startswith("numpy.") or is_variable(call, self.kinds):
            return True
        values = [arg.value for arg in call.args]
        if self._is_tensor_type(call.func, frame):
            return len(values) != 1 or self.holds(values[0], frame)
        if called.startswith("torch."):
            return all(self.holds(value, frame) for value in values)
        used = method_call(call)
        if used is None:
            return False
        if used[1] in _TELLS:
            return True
        return self.holds(used[0], frame) and (used[1] in _SHAPES or all(self.holds(value, frame) for value in values))

    def _is_tensor_type(self, node: cst.BaseExpression, frame: Frame) -> bool:
        """True for `torch.FloatTensor`, and for a name that is such a type."""
        full = self.kinds.tree.qualified(node) or ""
        return (full.startswith("torch.") and full.endswith("Tensor")) or (
            self.kinds.kind(node, frame) is Kind.TENSOR_TYPE
        )


def is_variable(node: cst.CSTNode, kinds: Kinds) -> bool:
    """True for `torch.autograd.Variable(x)`, which cuts `x` off from what made it."""
    return isinstance(node, cst.Call) and kinds.tree.qualified(node.func) in (
        "torch.autograd.Variable",
        "torch.autograd.variable.Variable",
    )


def _assigned(steps: Iterable[Step]) -> dict[Variable, list[tuple[cst.CSTNode, Frame]]]:
    """Names with all that steps bind them to, by parts of it, too; without those that are bound in other ways."""
    found: dict[Variable, list[tuple[cst.CSTNode, Frame]]] = defaultdict(list)
    for step in steps:
        pairs = _bindings(step.node) if isinstance(step, Item) else assigned_pairs(step.target, step.value)
        frame = step.frame if isinstance(step, Item) else step.target_frame
        for target, value in pairs:
            for name in target_names(target):
                if isinstance(variable := frame.resolve(name), Variable):
                    found[variable].append((value, step.frame if isinstance(step, Item) else step.value_frame))
    others = {variable for step in steps for variable in _bound_otherwise(step)}
    return {variable: values for variable, values in found.items() if variable not in others}


def _bindings(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    for one in walk(node):
        if isinstance(one, cst.Assign):
            yield from (pair for target in one.targets for pair in assigned_pairs(target.target, one.value))
        elif isinstance(one, (cst.AugAssign, cst.AnnAssign, cst.NamedExpr)) and one.value is not None:
            yield one.target, one.value
        elif isinstance(one, cst.For):
            yield one.target, one.iter


def _bound_otherwise(step: Step) -> Iterator[Variable]:
    if isinstance(step, Item):
        known = {name for target, _ in _bindings(step.node) for name in target_names(target)}
        named = {name for one in walk(step.node) if isinstance(one, cst.AsName) for name in target_names(one.name)}
        yield from (one for one in usage([step]).writes if one.name in named or one.name not in known)


def asks_for_gradients(steps: Iterable[Step], tree: Tree) -> bool:
    """True where steps turn gradients on for a value that has a name, or change what kind of tensor that is."""
    nodes = (node for step in steps if isinstance(step, Item) for node in walk(step.node))
    return any(
        isinstance(node, cst.Attribute)
        and isinstance(node.value, cst.Name)
        and node.attr.value in _ON_ITSELF
        and not (tree.qualified(node) or "").startswith("torch.")
        for node in nodes
    )


def may_change_arguments(tree: Tree) -> bool:
    """True when a function of the script's own changes what it is given: `x += self.bias`, `x[0] = y`, `x.add_(y)`."""
    return any(
        _changed(node) in {one.name.value for one in parameters(function)}
        for function in tree.nodes(cst.FunctionDef)
        for node in walk(function.body)  # type: ignore[attr-defined]
    )


def _changed(node: cst.CSTNode) -> str | None:
    """The name whose own value a node changes in place."""
    changed: cst.CSTNode | None = None
    used = method_call(node)
    if isinstance(node, cst.AugAssign) and not is_constant(node.value):
        changed = node.target
    elif isinstance(node, cst.AssignTarget) and isinstance(node.target, cst.Subscript):
        changed = node.target.value
    elif used is not None and used[1].endswith("_") and not used[1].endswith("__"):
        changed = used[0]
    return changed.value if isinstance(changed, cst.Name) else None
