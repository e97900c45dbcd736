"""What statements do with gradients: zero, read, take or leave them."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.facts import Kind
from lightify.plan.constructions import construction
from lightify.plan.kinds import Kinds
from lightify.syntax.frames import Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    block,
    dotted,
    expression_of,
    method_call,
    walk,
)


def call_of(step: Step) -> cst.Call | None:
    """The call that a statement consists of."""
    value = expression_of(step.node) if isinstance(step, Item) else None
    return value if isinstance(value, cst.Call) else None


def is_autograd(call: cst.Call, tree: Tree) -> bool:
    return (tree.qualified(call.func) or "") in ("torch.autograd.grad", "torch.autograd.backward")


def takes_gradients(step: Step, tree: Tree) -> bool:
    """True for a call of `torch.autograd.grad`."""
    nodes = live_nodes(step.node, step.frame) if isinstance(step, Item) else ()
    return any(isinstance(node, cst.Call) and is_autograd(node, tree) for node in nodes)


def is_zeroed_by(step: Step, optimizer: Variable | None, kinds: Kinds, tree: Tree) -> bool:
    """True for `zero_grad()` of the optimizer, or of the network that it was built from, in the Trainer's way."""
    call = call_of(step)
    used = method_call(call)
    variable = kinds.variable(used[0], step.frame) if used is not None and isinstance(step, Item) else None
    if call is None or variable is None or optimizer is None or not drops_gradients(call):
        return False
    return variable is optimizer or (kinds.of(variable) is Kind.MODULE and owns_all(optimizer, variable, kinds, tree))


def drops_gradients(zero: cst.Call) -> bool:
    """False for `set_to_none=False`: an optimizer steps with gradients that are zero, and not without any."""
    return all(dotted(arg.value) == "True" for arg in zero.args)


def owns_all(optimizer: Variable, module: Variable, kinds: Kinds, tree: Tree) -> bool:
    """True when the optimizer is built from exactly `module.parameters()`."""
    found = construction(optimizer, tree, kinds.host_loop)
    if found is None:
        return False
    given = arguments(found[1]).get(0, "params")
    used = method_call(given)
    return (
        used is not None
        and used[1] == "parameters"
        and isinstance(used[0], cst.Name)
        and kinds.variable(used[0], optimizer.frame) is module
    )


def reads_gradients(steps: Sequence[Step], tree: Tree) -> bool:
    """True when steps name `.grad` of something."""
    return any(isinstance(step, Item) and names_gradients(step.node, tree) for step in steps)


def names_gradients(node: cst.CSTNode, tree: Tree, without: Sequence[cst.CSTNode] = ()) -> bool:
    """True when `.grad` of something stands in a node, outside of some that it holds."""
    spared = {part for one in without for part in walk(one)}
    return any(
        isinstance(part, cst.Attribute)
        and part.attr.value == "grad"
        and part not in spared
        and tree.qualified(part) != "torch.autograd.grad"
        for part in walk(node)
    )


def may_leave_gradients(call: cst.Call, loop: cst.CSTNode, tree: Tree) -> bool:
    """True when a backward pass outside the run may come before it and is not followed by step and zero_grad."""
    top = [loop, *tree.ancestors(loop)][-2]
    if tree.function_of(call) is tree.function_of(loop) is None and tree.span(call) > tree.span(top):
        return any(node is top for node in tree.ancestors(call))
    statement: cst.CSTNode = call
    for outer in tree.ancestors(call):
        if isinstance(outer, (cst.IndentedBlock, cst.Module)):
            body = block(outer)
            used = [method_call(expression_of(node)) for node in body[body.index(statement) + 1 :]]  # type: ignore[arg-type]
            methods = [method for _, method in filter(None, used)]
            return "step" not in methods or "zero_grad" not in methods[methods.index("step") :]
        statement = outer
    return True


def zeroes_gradients(steps: Sequence[Step]) -> bool:
    """True when steps set gradients to zero, by whatever means."""
    nodes = [node for step in steps if isinstance(step, Item) for node in walk(step.node)]
    methods = {used[1] for node in nodes if (used := method_call(node)) is not None}
    return bool(methods & {"zero_grad", "zero_"}) or any(
        isinstance(node, cst.AssignTarget) and (dotted(node.target) or "").endswith(".grad") for node in nodes
    )
