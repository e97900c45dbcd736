"""Statements with other expressions; those that only bind a name to itself then are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import libcst as cst

from lightify.plan.effects import only_computes
from lightify.plan.types import FateNote, Stripped
from lightify.syntax.frames import Frame, Item
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, code, dotted, map_children, method_call, small


@dataclass(frozen=True, eq=False)
class Replacing:
    """How expressions change, and why a statement that is left with nothing to do is gone.

    Attributes:
        change: an expression, and what is within it, as it is to be; itself where nothing changes.
        out: learns the fates of what is gone, and the originals of what is made anew.
    """

    change: Callable[[cst.CSTNode, Frame], cst.CSTNode]
    note: FateNote
    tree: Tree
    out: Stripped

    def items(self, item: Item) -> list[Item]:
        return [Item(node, item.frame) for node in self._statements(item.node, item.frame)]

    def _statements(self, node: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement]:
        inner = small(node)
        if inner is not None:
            new = self.change(inner, frame)
            if new is inner:
                return [node]
            if isinstance(new, cst.Assign) and len(new.targets) == 1 and _same(new.targets[0].target, new.value):
                self.out.fates[self._original(inner)] = self.note
                return []
            self.out.origins[new] = self._original(inner)
            return [node.with_changes(body=[new])]
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return [node]
        new_node = self._compound(node, frame)
        if isinstance(new_node, cst.If) and new_node.orelse is None and not block(new_node.body):
            if only_computes(new_node.test, frame, self.tree, _asks_network):
                self.out.fates[self._original(node)] = self.note
                return []
            new_node = new_node.with_changes(body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Pass()])]))
        if new_node is not node:
            self.out.origins[new_node] = self._original(node)
        return [new_node]  # type: ignore[list-item]

    def _original(self, node: cst.CSTNode) -> cst.CSTNode:
        return self.out.origins.get(node, node)

    def _compound(self, node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        def change(child: cst.CSTNode) -> cst.CSTNode:
            if isinstance(child, cst.IndentedBlock):
                body = [new for statement in block(child) for new in self._statements(statement, frame)]
                same = len(body) == len(child.body) and all(a is b for a, b in zip(body, child.body))
                return child if same else child.with_changes(body=body)
            if isinstance(child, (cst.Else, cst.If, cst.ExceptHandler, cst.Finally)):
                return map_children(child, change)
            return child if isinstance(child, cst.BaseSuite) else self.change(child, frame)

        return map_children(node, change)


def _asks_network(call: cst.Call) -> bool:
    """True for `next(model.parameters())`."""
    inner = method_call(call.args[0].value) if dotted(call.func) == "next" and len(call.args) == 1 else None
    return inner is not None and inner[1] == "parameters"


def _same(target: cst.CSTNode, value: cst.CSTNode) -> bool:
    return _plainly(target) == _plainly(value)


def _plainly(node: cst.CSTNode) -> str:
    """The text of an expression on one line, without the comma behind the last of several."""
    text = "".join(code(node).split()).strip("()")
    return text.removesuffix(",") if text.count(",") > 1 else text
