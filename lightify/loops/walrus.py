"""Names that `:=` assigns and that outlive the batch: assigned by a statement of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from lightify.loops.nest import Nest
from lightify.loops.within import evaluated_first
from lightify.syntax.frames import Item, Step, Variable, live_nodes
from lightify.syntax.query import block, map_children, small, walk


def with_assignments(nest: Nest, names: Collection[Variable]) -> Nest | None:
    """The loops with `x = f()` before the statement that says `(x := f())`; None where that is not the same."""
    split = _Split(names)
    parts = {name: tuple(split.steps(getattr(nest, name))) for name in ("epoch_start", "body", "epoch_end")}
    return None if split.failed else replace(nest, origins={**nest.origins, **split.origins}, **parts)  # type: ignore[arg-type]


class _Split:
    def __init__(self, names: Collection[Variable]) -> None:
        self.names = names
        self.origins: dict[cst.CSTNode, cst.CSTNode] = {}
        self.failed = False

    def steps(self, steps: Sequence[Step]) -> Iterator[Step]:
        for step in steps:
            if not isinstance(step, Item):
                yield step
                continue
            self.step = step
            found = [node for node in live_nodes(step.node, step.frame) if self._is_meant(node)]
            nodes = self._statements(step.node) if found else [step.node]
            yield from (Item(node, step.frame) for node in nodes)
            made = [node for new in nodes if found for node in live_nodes(new, step.frame) if self._is_meant(node)]
            self.failed |= bool(made)

    def _is_meant(self, node: cst.CSTNode) -> bool:
        if not isinstance(node, cst.NamedExpr) or not isinstance(node.target, cst.Name):
            return False
        meaning = self.step.frame.resolve(node.target.value)
        return isinstance(meaning, Variable) and meaning in self.names

    def _statements(self, node: cst.BaseStatement) -> list[cst.BaseStatement]:
        """A statement, after those that assign what it assigned on the way."""
        before: list[cst.BaseStatement] = []
        current: cst.CSTNode = node
        while (walrus := evaluated_first(current, self._is_meant)) is not None:
            assert isinstance(walrus, cst.NamedExpr)
            target = cst.AssignTarget(walrus.target)  # type: ignore[arg-type]
            assign = cst.Assign([target], walrus.value)
            self.origins[assign] = small(node) or node
            before.append(cst.SimpleStatementLine([assign]))
            current = _put(current, walrus, walrus.target)
        while (inner := self._second(current)) is not None:
            body = cst.IndentedBlock(self._statements(inner))
            current = current.with_changes(test=current.test.left, body=body)  # type: ignore[attr-defined]
        if isinstance(current, (cst.If, cst.For, cst.While, cst.With, cst.Try)):
            current = map_children(current, self._part)
        if current is not node:
            self.origins[small(current) or current] = small(node) or node
        return [*before, current]  # type: ignore[list-item]

    def _second(self, node: cst.CSTNode) -> cst.If | None:
        """The `if b` within `if a`, for an `if a and b` that assigns in b."""
        test = node.test if isinstance(node, cst.If) and node.orelse is None else None
        if not isinstance(node, cst.If) or not isinstance(test, cst.BooleanOperation):
            return None
        if not isinstance(test.operator, cst.And):
            return None
        if not any(self._is_meant(part) for part in walk(test.right)):
            return None
        inner = cst.If(test.right, node.body)
        self.origins[inner] = node
        return inner

    def _part(self, node: cst.CSTNode) -> cst.CSTNode:
        if isinstance(node, cst.IndentedBlock):
            return node.with_changes(body=[new for part in block(node) for new in self._statements(part)])
        if isinstance(node, (cst.Else, cst.ExceptHandler, cst.Finally)):
            return map_children(node, self._part)
        return node


def _put(node: cst.CSTNode, old: cst.CSTNode, new: cst.CSTNode) -> cst.CSTNode:
    return new if node is old else map_children(node, lambda child: _put(child, old, new))
