"""Calls from which a function never gets to a statement: what they give rules its branch out."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.analysis.calls import callee
from lightify.analysis.passing import as_called
from lightify.syntax.frames import Frame, constant
from lightify.syntax.parse import Tree


def is_ruled_out(node: cst.CSTNode, call: cst.Call, tree: Tree) -> bool:
    """True where a call fixes a test so that its function does not get to a node: `run_epoch(model, test_loader)`.

    Its step stands in `if optimizer is not None:`, where `optimizer=None` is the default.
    """
    if tree.around(node, cst.If) is None:
        return False
    caller = frame_of(call, tree, Frame("", written=tree.links.written))
    found = callee(call, caller, tree)
    branches = list(_branches(node, found[0], tree)) if found is not None else []
    frame = as_called(call, *found, caller, tree) if found is not None and branches else None
    return frame is not None and any(constant(test, frame) is (not taken) for test, taken in branches)


def _branches(node: cst.CSTNode, function: cst.FunctionDef, tree: Tree) -> Iterator[tuple[cst.BaseExpression, bool]]:
    """The tests of a function's `if` statements around a node, with what they have to be."""
    below = node
    for ancestor in tree.ancestors(node):
        if ancestor is function:
            return
        branch = isinstance(ancestor, cst.If) and below in (ancestor.body, ancestor.orelse)
        if branch and tree.around(ancestor, cst.FunctionDef) is function:
            assert isinstance(ancestor, cst.If)
            yield ancestor.test, below is ancestor.body
        below = ancestor


def frame_of(node: cst.CSTNode, tree: Tree, module: Frame) -> Frame:
    """The frame of the functions around a node."""
    functions = [a for a in tree.ancestors(node) if isinstance(a, cst.FunctionDef)]
    frame = module
    for function in reversed(functions):
        frame = Frame(function.name.value, function, frame)
    return frame
