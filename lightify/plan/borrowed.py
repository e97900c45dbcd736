"""Other names of what a network owns: an attribute of that name would make it the module's, too."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.plan.kinds import Kinds
from lightify.syntax.frames import Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, is_constant, method_call, walk

#: The attribute that keeps them, without `nn.Module` registering what it is given.
BORROWED = "borrowed"
#: What layers and tensors tell of themselves that is neither.
_PLAIN = frozenset(
    """training shape dtype device data grad is_cuda requires_grad in_features out_features in_channels out_channels
    hidden_size input_size num_layers num_embeddings embedding_dim kernel_size stride config""".split()  # noqa: SIM905
)
_GIVES_ONE = ("get_parameter", "get_submodule", "get_buffer")


def borrows(variable: Variable, kinds: Kinds) -> bool:
    """True for `w = net.weight` and `last = net.layers[-1]`; what the script makes itself is the module's own."""
    values = [value for value in kinds.assigned(variable) if not is_constant(value)]
    network = kinds.of(variable) is Kind.MODULE
    parts = [value for value in values if _is_part(value, kinds.tree) and (network or not _has_key(value))]
    made = network and len(parts) < len(values)
    return bool(parts) and not made and kinds.shares_weights(variable)


def _is_part(value: cst.CSTNode, tree: Tree) -> bool:
    """True for what may be one parameter or layer of something, not a list of them."""
    if isinstance(value, cst.IfExp):
        return _is_part(value.body, tree) or _is_part(value.orelse, tree)
    if isinstance(value, cst.Call):
        used = method_call(value)
        return dotted(value.func) in ("next", "getattr") or (used is not None and used[1] in _GIVES_ONE)
    if isinstance(value, cst.Subscript):
        return True
    return isinstance(value, cst.Attribute) and value.attr.value not in _PLAIN and _may_be_layer(value.attr.value, tree)


def _has_key(value: cst.CSTNode) -> bool:
    """True for `group["lr"]`."""
    return isinstance(value, cst.Subscript) and any(isinstance(one, cst.SimpleString) for one in walk(value.slice[0]))


def _may_be_layer(name: str, tree: Tree) -> bool:
    """False for a field that the script's classes give what is no layer: `self.channels = channels`."""
    targets = (node for node in tree.nodes(cst.Assign) for one in node.targets if dotted(one.target) == f"self.{name}")
    values = [node.value for node in targets]
    return not values or any(isinstance(value, cst.Call) for value in values)
