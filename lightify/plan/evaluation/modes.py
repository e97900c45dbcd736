"""The modes of networks: what sets them, and which networks do not ask for theirs."""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache

import libcst as cst

from lightify.facts import Kind
from lightify.plan.kinds import Kinds
from lightify.recognisers.base import is_criterion
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import assigned_pairs, block, call_name, dotted, expression_of, method_call, small, walk

#: Layers that do the same in either mode.
_PLAIN = ("Parameter", "Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid", "ReLU", "Tanh", "CosineSimilarity", "Flatten")


def mode_call(step: Step, kinds: Kinds, mode: str) -> Variable | None:
    """The network that `net.eval()` or `net.train()` is called on by a statement; `net = net.eval()` is one, too."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    inner = small(step.node) if isinstance(step, Item) else None
    if isinstance(inner, cst.Assign) and len(inner.targets) == 1:
        again = method_call(inner.value)
        itself = (
            again is not None and dotted(again[0]) is not None and dotted(again[0]) == dotted(inner.targets[0].target)
        )
        call = inner.value if itself else None
    used = method_call(call)
    if not isinstance(step, Item) or not isinstance(call, cst.Call) or used is None:
        return None
    argument = dotted(call.args[0].value) if len(call.args) == 1 else None
    fits = {"eval": (("eval", None), ("train", "False")), "train": (("train", None), ("train", "True"))}[mode]
    if not any(used[1] == name and argument == value and (value is not None or not call.args) for name, value in fits):
        return None
    variable = kinds.variable(used[0], step.frame)
    return variable if variable is not None and kinds.of(variable) is Kind.MODULE else None


def ignores_mode(variable: Variable, kinds: Kinds) -> bool:
    """True for a criterion, of torch or of the script's own, that computes the same in either mode."""
    makers = kinds.makers(variable)
    return bool(makers) and all(_is_plain(maker, kinds.tree) for maker in makers)


def _is_plain(maker: cst.CSTNode | None, tree: Tree) -> bool:
    full = tree.qualified(maker) or "" if maker is not None else ""
    definition = tree.classes.get(full)
    if definition is not None:
        return _has_no_mode(definition, tree)
    return is_criterion(full) or (full.startswith("torch.nn.") and full.rpartition(".")[2] in _PLAIN)


@lru_cache(maxsize=64)
def _has_no_mode(definition: cst.ClassDef, tree: Tree) -> bool:
    """True for a module that asks for no mode, and runs nothing that may."""
    if [tree.qualified(base.value) for base in definition.bases] != ["torch.nn.Module"]:
        return False
    methods = {node.name.value for node in block(definition.body) if isinstance(node, cst.FunctionDef)}
    parts = {
        dotted(target): value
        for node in walk(definition)
        if isinstance(node, cst.Assign)
        for each in node.targets
        for target, value in assigned_pairs(each.target, node.value)
    }
    return _runs_only_plain(definition, methods, parts, tree, frozenset())


def _runs_only_plain(
    definition: cst.ClassDef | cst.FunctionDef,
    methods: Set[str],
    parts: Mapping[str | None, cst.CSTNode],
    tree: Tree,
    within: frozenset[cst.CSTNode],
) -> bool:
    """True where no call may run a network with a mode; a network that one is handed is asked for on its own.

    Args:
        methods: those of the class; parts: what it keeps.
        within: the functions that the script's own calls have led through.
    """
    nodes = list(walk(definition))
    if any(isinstance(node, cst.Attribute) and node.attr.value in ("training", "eval", "train") for node in nodes):
        return False
    for call in nodes:
        if not isinstance(call, cst.Call):
            continue
        name, full = dotted(call.func) or "", tree.qualified(call.func) or ""
        function = tree.functions.get(full)
        if not isinstance(call.func, (cst.Name, cst.Attribute)) or call_name(call) == "forward" or full in tree.classes:
            return False
        if name.startswith("self.") and name.count(".") == 1:
            made = parts.get(name)
            plain = call_name(call) in methods or (isinstance(made, cst.Call) and _is_plain(made.func, tree))
        elif full.startswith("torch.nn.") and not full.startswith("torch.nn.functional."):
            plain = _is_plain(call.func, tree)
        else:
            around = within | {definition}
            plain = function is None or function in within or _runs_only_plain(function, set(), {}, tree, around)
        if not plain:
            return False
    return True
