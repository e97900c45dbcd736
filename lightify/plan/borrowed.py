"""Names that are no attributes, which `nn.Module` would register: of what a network owns, and of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.facts import Kind
from lightify.plan.kinds import Kinds
from lightify.syntax.frames import Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, is_constant, method_call, target_names, walk

#: The attribute that keeps them, without `nn.Module` registering what it is given.
BORROWED = "borrowed"
#: What layers and tensors tell of themselves that is neither.
_PLAIN = frozenset(
    """training shape dtype device data grad is_cuda requires_grad in_features out_features in_channels out_channels
    hidden_size input_size num_layers num_embeddings embedding_dim kernel_size stride config""".split()  # noqa: SIM905
)
#: The network itself, within a wrapper.
_WHOLE = "module"
#: Methods of networks that give one part, and those that give all of some kind.
_GIVE_ONE, _GIVE_ALL = (
    ("get_parameter", "get_submodule", "get_buffer"),
    ("parameters", "children", "modules", "buffers"),
)
_NAME_ALL = tuple(f"named_{name}" for name in _GIVE_ALL)


def borrows(variable: Variable, kinds: Kinds) -> bool:
    """True for `w = net.weight` and `last = net.layers[-1]`; what the script makes itself is the module's own."""
    values = [value for value in kinds.assigned(variable) if not is_constant(value)]
    parts = [value for value in values if _is_part(value, kinds)]
    made = kinds.of(variable) is not None and len(parts) < len(values)
    borrowed = bool(parts) and not made and kinds.shares_weights(variable)
    return borrowed or _is_each_part(variable, kinds) or _was_criterion(variable, kinds)


def _was_criterion(variable: Variable, kinds: Kinds) -> bool:
    """True for a `loss` that holds a criterion until the loops compute one."""
    return (
        kinds.of(variable) is Kind.MODULE
        and variable in kinds.assigned_in_loops
        and variable.name in kinds.differentiated
    )


def _is_each_part(variable: Variable, kinds: Kinds) -> bool:
    """True for `p` of `for p in net.parameters()`, whatever it holds elsewhere."""
    loops = [loop for loop in kinds.tree.nodes(cst.For) if variable.name in target_names(loop.target)]
    own = [loop for loop in loops if kinds.tree.around(loop, cst.FunctionDef) is variable.frame.function]
    return any(_gives(node, (*_GIVE_ALL, *_NAME_ALL), kinds) for loop in own for node in walk(loop.iter))


def _is_part(value: cst.CSTNode, kinds: Kinds) -> bool:
    """True for one parameter or layer of a network, not for a list of them."""
    if isinstance(value, cst.Attribute):
        name = value.attr.value
        return name not in _PLAIN and name != _WHOLE and _within(value.value, kinds) and _may_be_layer(name, kinds.tree)
    if isinstance(value, cst.Subscript):
        return _within(value.value, kinds) or _gives(value.value, _GIVE_ALL, kinds)
    if isinstance(value, cst.Call) and dotted(value.func) == "next" and value.args:
        return _gives(value.args[0].value, _GIVE_ALL, kinds)
    return _gives(value, _GIVE_ONE, kinds)


def _within(node: cst.CSTNode, kinds: Kinds) -> bool:
    """True for a network and what is named by way of one."""
    while True:
        if kinds.in_scope(dotted(node), kinds.tree.around(node, cst.FunctionDef)) is Kind.MODULE:
            return True
        if not isinstance(node, (cst.Attribute, cst.Subscript)):
            return False
        node = node.value


def _gives(node: cst.CSTNode, methods: Sequence[str], kinds: Kinds) -> bool:
    """True for such a method of a network, or a list of what it gives."""
    if isinstance(node, cst.Call) and dotted(node.func) in ("list", "tuple") and node.args:
        return _gives(node.args[0].value, methods, kinds)
    used = method_call(node)
    return used is not None and used[1] in methods and _within(used[0], kinds)


def _may_be_layer(name: str, tree: Tree) -> bool:
    """False for a field that the script's classes give what is no layer: `self.channels = channels`."""
    targets = (node for node in tree.nodes(cst.Assign) for one in node.targets if dotted(one.target) == f"self.{name}")
    values = [node.value for node in targets]
    return not values or any(isinstance(value, cst.Call) for value in values)
