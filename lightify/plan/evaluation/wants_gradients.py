"""What an evaluation notices of gradients: the Trainer turns them off, where the script's own may have left them on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import libcst as cst

from lightify.analysis.changes import may_run
from lightify.syntax.frames import Item, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import walk

#: Methods and fields of tensors that need, or tell, a graph.
_OF_GRAPHS = frozenset(("backward", "register_hook", "retain_grad", "requires_grad", "grad_fn", "is_leaf"))
_TAKING = ("torch.autograd.grad", "torch.autograd.backward", "torch.autograd.functional", "torch.func")
_ASKING = ("torch.is_grad_enabled", "torch.enable_grad", "torch.set_grad_enabled")
#: Where gradients are off they compute in a faster way, with other last digits: these in evaluation mode alone.
_FASTER_IN_EVALUATION = frozenset(
    f"torch.nn.{name}"
    for name in ("Transformer", "TransformerEncoder", "TransformerEncoderLayer", "MultiheadAttention")
)
_FASTER = frozenset(("torch.nn.LSTM",))


def wants_gradients(step: Item, tree: Tree, *, network: bool) -> bool:
    """True when a statement, or what it may call, takes gradients or asks whether they are on.

    Args:
        network: it may run a network.
    """
    waiting = list(tree.methods.get("forward", ())) if network else []
    seen: set[cst.FunctionDef] = set()
    if any(_notices(node, tree, waiting) for node in live_nodes(step.node, step.frame)):
        return True
    while waiting:
        function = waiting.pop()
        if function not in seen:
            seen.add(function)
            if any(_notices(node, tree, waiting) for node in _run_by(function)):
                return True
    return False


def computes_faster_without(tree: Tree, *, evaluating: bool) -> bool:
    """True when a network may compute otherwise where gradients are off.

    Args:
        evaluating: it is in evaluation mode.
    """
    called = (call.func for call in tree.nodes(cst.Call))
    bases = (base.value for definition in tree.nodes(cst.ClassDef) for base in definition.bases)
    names = {tree.qualified(node) or "" for node in chain(called, bases)}
    if not names.isdisjoint(_FASTER):
        return True
    return evaluating and any(
        name in _FASTER_IN_EVALUATION or name.startswith("torchvision.models.vit_") for name in names
    )


def _run_by(function: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    for part in (function.body, *function.decorators):
        yield from walk(part)


def _notices(node: cst.CSTNode, tree: Tree, waiting: list[cst.FunctionDef]) -> bool:
    """True for what notices gradients; adds the functions that it may run."""
    if isinstance(node, (cst.Call, cst.Attribute)):
        waiting += may_run(node, tree)
    if isinstance(node, cst.Attribute) and node.attr.value in _OF_GRAPHS:
        return True
    if not isinstance(node, (cst.Name, cst.Attribute)):
        return False
    name = tree.qualified(node) or ""
    return name in _ASKING or any(name == one or name.startswith(f"{one}.") for one in _TAKING)
