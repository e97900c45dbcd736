"""Whether a network has its wrapper at a place: by the script's condition for it, and by its own questions."""

from __future__ import annotations

import libcst as cst

from lightify.distribution.wrapping import Wrapping
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, code, dotted, negated, walk


def known_wrapped(node: cst.CSTNode, wrapping: Wrapping, tree: Tree) -> bool | None:
    """Whether there is a wrapper here, where the script has asked for the condition itself."""
    condition = wrapping.condition
    if condition is None:
        return True
    test = code(condition)
    below: cst.CSTNode = node
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, (cst.If, cst.IfExp)) and below is not ancestor.test:
            same, opposite = code(ancestor.test) == test, negated(ancestor.test) == test
            if same or opposite:
                return (below is ancestor.body) == same
        below = ancestor
    return None


def asks_for_wrapper(node: cst.CSTNode, tree: Tree) -> bool:
    """True for `isinstance(model, DDP)` and `hasattr(model, "module")`."""
    if not isinstance(node, cst.Call) or len(node.args) != 2:
        return False
    kind = node.args[1].value
    if dotted(node.func) == "hasattr":
        return isinstance(kind, cst.SimpleString) and kind.raw_value == "module"
    kinds = [element.value for element in kind.elements] if isinstance(kind, cst.Tuple) else [kind]
    names = [tree.qualified(each) or "" for each in kinds]
    return dotted(node.func) == "isinstance" and all(name.endswith("DataParallel") for name in names)


def under_question(node: cst.CSTNode, tree: Tree) -> bool:
    """True inside `if hasattr(model, "module"):` and the like: without a wrapper the right one runs."""
    below: cst.CSTNode = node
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, (cst.If, cst.IfExp)) and below is not ancestor.test:
            asked = [part for part in walk(ancestor.test) if asks_for_wrapper(part, tree)]
            about = {code(call.args[0].value) for call in asked}  # type: ignore[attr-defined]
            if about & {code(node), code(node).rpartition(".")[0]}:
                return True
        if isinstance(ancestor, cst.FunctionDef):
            return False
        below = ancestor
    return False


def decides_on_network_alone(call: cst.Call, tree: Tree) -> bool:
    """True when all that the answer leads to is about the network: it is the same without a wrapper."""
    test: cst.CSTNode = call
    while isinstance(tree.parents[test], (cst.BooleanOperation, cst.UnaryOperation)):
        test = tree.parents[test]
    around = tree.parents[test]
    if isinstance(around, cst.IfExp):
        return around.test is test
    if not isinstance(around, cst.If) or around.test is not test:
        return False
    name = code(call.args[0].value)
    suites = [around.body, *([around.orelse.body] if isinstance(around.orelse, cst.Else) else [])]
    lines = [line for suite in suites for line in block(suite)]
    return not isinstance(around.orelse, cst.If) and all(name in code(line) for line in lines)
