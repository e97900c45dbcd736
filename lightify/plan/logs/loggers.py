"""Records of the standard library's `logging`, which tell what a print would."""

from __future__ import annotations

import libcst as cst

from lightify.plan.kinds import Kinds
from lightify.syntax.frames import Frame
from lightify.syntax.names import same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, dotted, method_call

#: Levels of what only tells; a warning is meant to be seen.
LEVELS = ("info", "debug")


def is_record(call: cst.Call, frame: Frame, kinds: Kinds) -> bool:
    """True for `logger.info("loss %.3f", loss)`, whatever the logger is called."""
    used, full = method_call(call), kinds.tree.qualified(call.func) or ""
    if used is None or used[1] not in LEVELS or any(arg.keyword is not None or arg.star for arg in call.args):
        return False
    if full.removesuffix(used[1]) in ("logging.", "loguru.logger."):
        return True
    owner = kinds.variable(used[0], frame)
    return owner is not None and _is_logger(owner.name, kinds.tree)


def _is_logger(name: str, tree: Tree) -> bool:
    """True when a name is given nothing but loggers, wherever the script assigns it."""
    values = [
        one.value
        for one in tree.nodes(cst.Assign)
        for target in one.targets
        if (dotted(target.target) or "").rpartition(".")[2] == name
    ]
    return bool(values) and all(_makes_logger(value, tree) for value in values)


def _makes_logger(value: cst.BaseExpression, tree: Tree) -> bool:
    """True for `logging.getLogger(...)`, and for a function of the script's that returns one."""
    if not isinstance(value, cst.Call):
        return False
    if tree.qualified(value.func) == "logging.getLogger":
        return True
    function = tree.functions.get(dotted(value.func) or "")
    if function is None:
        return False
    lines = list(same_scope(block(function.body)))
    returned = {dotted(node.value) for node in lines if isinstance(node, cst.Return) and node.value is not None}
    made = {
        dotted(one.target)
        for node in lines
        if isinstance(node, cst.Assign) and isinstance(node.value, cst.Call)
        if tree.qualified(node.value.func) == "logging.getLogger"
        for one in node.targets
    }
    return bool(returned) and returned <= made
