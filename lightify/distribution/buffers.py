"""Statistics that the wrapper kept equal in all processes, also where the script evaluates."""

from __future__ import annotations

import libcst as cst

from lightify.distribution.holders import Holders
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, walk

_WITHOUT = ("no_grad", "inference_mode", "set_grad_enabled")


def needs_sync(tree: Tree, found: Holders) -> bool | str:
    """Whether an evaluation needs the buffers of the first process, as the wrapper hands them out; a text refuses.

    In training the strategy's own wrapper does it.
    """
    if ("broadcast_buffers", "False") in found.wrapping.arguments or not _may_have_statistics(tree, found):
        return False
    training = {tree.function_of(node) for node in tree.nodes(cst.Attribute) if node.attr.value == "backward"}
    evaluating = [call for call in found.forwards if without_gradients(call, tree)]
    if any(call not in evaluating and tree.function_of(call) not in training for call in found.forwards):
        return "the network is evaluated with gradients on, where its statistics are exchanged, too"
    if evaluating and found.raw_forwards:
        return "the network is evaluated with the wrapper and without"
    return bool(evaluating)


def without_gradients(call: cst.Call, tree: Tree) -> bool:
    """True inside `with torch.no_grad():` and in a function that it decorates."""
    for ancestor in tree.ancestors(call):
        if isinstance(ancestor, cst.With) and any(_turns_off(item.item) for item in ancestor.items):
            return True
        if isinstance(ancestor, cst.FunctionDef):
            return any(_turns_off(d.decorator) for d in ancestor.decorators)
    return False


def _turns_off(node: cst.BaseExpression) -> bool:
    name = dotted(node.func if isinstance(node, cst.Call) else node) or ""
    return name.rpartition(".")[2] in _WITHOUT


def _may_have_statistics(tree: Tree, found: Holders) -> bool:
    """True unless the network is made of the file's classes and torch's layers, none of which is a batch norm."""
    text = tree.source.text
    if any(word in text for word in ("BatchNorm", "register_buffer", "track_running_stats", "spectral_norm")):
        return True
    made = [
        node.value
        for node in tree.nodes(cst.Assign)
        if any((dotted(t.target) or "") in _names(found) for t in node.targets)
    ]
    for value in made:
        for node in walk(value):
            if isinstance(node, cst.Call) and not _is_known(node, tree):
                return True
    return False


def _names(found: Holders) -> set[str]:
    inner = {dotted(arg.value) for call in found.wrapping.calls for arg in call.args}
    return {name for _, name in found.names} | {name for name in inner if name}


def _is_known(call: cst.Call, tree: Tree) -> bool:
    """True for a call that makes or moves a network without running statistics."""
    full = tree.qualified(call.func) or ""
    if full.startswith("torch.") or full in tree.classes or full in tree.functions:
        return True
    return isinstance(call.func, cst.Attribute) and call.func.attr.value in ("to", "cuda", "cpu", "train", "eval")
