"""Names of the hooks that nothing reads: their values are computed still where that does something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.caught import catches
from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.homes import hook_usage
from lightify.plan.idiom.lines import Lines
from lightify.plan.types import FateNote, Home, Hook, Local
from lightify.plan.unread.host import is_target
from lightify.plan.unread.unwanted import only_gives
from lightify.syntax.frames import Binding, Field, Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import assigned_pairs, children, code, is_constant, one_or_tuple, small

_NOTE = FateNote(Fate.DROPPED, "", "nothing reads its value")


def without_unread_names(draft: Draft, hooks: Sequence[Hook], homes: Mapping[Variable, Home]) -> list[Hook]:
    """Takes away names that are local to a hook which never reads them; what their values do stays.

    A name that nothing read in the script's own function either is its author's affair, and stays.
    """
    caught = _errors_are_caught(draft)
    return [_Unread(draft, hook, homes, caught).taken() for hook in hooks]


def _errors_are_caught(draft: Draft) -> bool:
    """True for loops inside a `try` that a value may be computed to leave."""
    outer = draft.tree.ancestors(draft.nest.host_loop) if draft.nest.host_loop is not None else ()
    tries = [node for node in outer if isinstance(node, cst.Try)]
    return not all(catches(handler, ("KeyboardInterrupt",)) for one in tries for handler in one.handlers)


class _Unread:
    """One hook, and its names that nothing reads.

    Attributes:
        caught: a `try` stands around, and values may be computed for the errors that they raise.
    """

    def __init__(self, draft: Draft, hook: Hook, homes: Mapping[Variable, Home], caught: bool) -> None:
        uses = hook_usage(hook)
        local = {variable for variable in uses.writes - uses.reads if isinstance(homes.get(variable), Local)}
        self.draft, self.hook, self.caught = draft, hook, caught
        self.names = {one for one in local if not isinstance(one, Field) and not _was_unread(one, draft.tree)}

    def taken(self) -> Hook:
        if not self.names:
            return self.hook
        steps: list[Step] = []
        for step in self.hook.steps:
            steps += self._bound(step) if isinstance(step, Binding) else [step]
        steps = list(Lines(self.draft, self._line, _NOTE).without(steps))
        same = len(steps) == len(self.hook.steps) and all(new is old for new, old in zip(steps, self.hook.steps))
        return self.hook if same else replace(self.hook, steps=tuple(steps))

    def _bound(self, step: Binding) -> list[Step]:
        """An argument or a result."""
        if step.value_frame is self.draft.generated and code(step.value) == "batch":
            return [step]  # as the parameter is called
        target, value = self._rest(step.target, step.value, step.target_frame, step.value_frame)
        if value is step.value and target is step.target:
            return [step]
        if value is None:
            return []
        if target is not None:
            return [replace(step, target=target, value=value)]
        alone = cst.Expr(value)
        self.draft.stripped.origins[alone] = step.origin
        return [Item(cst.SimpleStatementLine([alone]), step.value_frame)]

    def _line(self, line: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement] | None:
        if isinstance(line, (cst.FunctionDef, cst.ClassDef)):
            return [line]  # its names are its own
        if isinstance(line, cst.Try) and not self.caught:
            return self._within_try(line, frame)
        inner = small(line)
        if not isinstance(inner, cst.Assign) or len(inner.targets) != 1:
            return None
        old = inner.targets[0].target
        target, value = self._rest(old, inner.value, frame, frame)
        if value is inner.value and target is old:
            return None
        if value is None:
            self.draft.fates[inner] = _NOTE
            return []
        new = cst.Expr(value) if target is None else cst.Assign([cst.AssignTarget(target)], value)  # type: ignore[arg-type]
        self.draft.stripped.origins[new] = inner
        return [line.with_changes(body=[new])]

    def _within_try(self, line: cst.Try, frame: Frame) -> list[cst.BaseStatement]:
        self.caught = True
        lines = [step.node for step in Lines(self.draft, self._line, _NOTE).without([Item(line, frame)])]  # type: ignore[union-attr]
        self.caught = False
        return lines

    def _rest(
        self, target: cst.BaseExpression, value: cst.BaseExpression, frame: Frame, value_frame: Frame
    ) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
        """What is needed of `target = value`: all, some pairs of `a, b = x, y`, the value alone, or nothing."""
        spread = any(isinstance(one, cst.StarredElement) for side in (target, value) for one in children(side))
        pairs = [(target, value)] if spread else assigned_pairs(target, value)
        left = [pair for pair in pairs if not (self._is_unread(pair[0], frame) and self._may_go(pair[1], value_frame))]
        if not left:
            return None, None
        if len(pairs) == 1:
            return (None if self._is_unread(target, frame) and not _is_blank(target) else target), value
        if len(left) == len(pairs):
            return target, value
        return one_or_tuple([one for one, _ in left]), one_or_tuple([one for _, one in left])

    def _is_unread(self, target: cst.CSTNode, frame: Frame) -> bool:
        return isinstance(target, cst.Name) and frame.variable(target.value) in self.names

    def _may_go(self, value: cst.CSTNode, frame: Frame) -> bool:
        if self.caught and not isinstance(value, cst.Name) and not is_constant(value):
            return False
        return only_gives(value, frame, self.draft)  # type: ignore[arg-type]


def _is_blank(target: cst.CSTNode) -> bool:
    """True for the name of what nobody wants."""
    return isinstance(target, cst.Name) and target.value == "_"


def _was_unread(variable: Variable, tree: Tree) -> bool:
    """True for a local that the script's own function binds alone, and does not read."""
    function = variable.frame.function
    if function is None:
        return False
    named = [node for node in tree.mentions.get(variable.name, ()) if function in tree.ancestors(node)]
    alone = any(isinstance(tree.parents[node], cst.AssignTarget) for node in named)
    return alone and all(is_target(node, tree) for node in named)
