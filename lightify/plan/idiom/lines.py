"""Takes lines out of the blocks of a step, or puts others in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.types import FateNote
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.query import block, map_children

#: Gets a line and its frame; returns what stands in its place, or None to leave it.
LineMap = Callable[[cst.BaseStatement, Frame], list[cst.BaseStatement] | None]


@dataclass(frozen=True)
class Lines:
    """Changes lines wherever they stand; an `if` that nothing is left of goes, too, where its test only computes.

    Attributes:
        note: the fate of such an `if`.
    """

    draft: Draft
    change: LineMap
    note: FateNote

    def without(self, steps: Sequence[Step]) -> Iterator[Step]:
        for step in steps:
            if isinstance(step, Item):
                new = self._statements(step.node, step.frame)
                yield from [step] if new == [step.node] else (Item(node, step.frame) for node in new)
            else:
                yield step

    def _statements(self, node: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement]:
        changed = self.change(node, frame)
        if changed is not None or not isinstance(node, cst.BaseCompoundStatement):
            return [node] if changed is None else changed
        new = map_children(node, lambda child: self._part(child, frame))
        if new is node:
            return [node]
        if isinstance(new, cst.If) and not block(new.body):
            if new.orelse is None and only_computes(new.test, frame, self.draft.tree, lambda _: False):
                self.draft.fates[node] = self.note
                return []
            new = new.with_changes(body=new.body.with_changes(body=[cst.SimpleStatementLine([cst.Pass()])]))
        self.draft.stripped.origins[new] = self.draft.stripped.origins.get(node, node)
        return [new]  # type: ignore[list-item]

    def _part(self, node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        if isinstance(node, cst.IndentedBlock):
            body = [new for part in block(node) for new in self._statements(part, frame)]
            same = len(body) == len(node.body) and all(new is old for new, old in zip(body, node.body))
            return node if same else node.with_changes(body=body)
        if isinstance(node, (cst.Else, cst.ExceptHandler, cst.Finally, cst.If)):
            return map_children(node, lambda child: self._part(child, frame))
        return node
