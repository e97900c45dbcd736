"""What steps read and what they may change: variables, and the objects that these hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.facts import Kind
from lightify.plan.effects import BUILTINS, only_computes
from lightify.plan.evaluation.afterwards import runs
from lightify.plan.kinds import Kinds
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.names import declared_elsewhere
from lightify.syntax.query import FieldName, dotted, method_call, root_name, walk

_SHOWS = frozenset("print write info debug warning error critical log".split())  # noqa: SIM905, a list of words
#: A network is asked for on its own; what the others hold, an evaluation does not change.
_APART = (Kind.MODULE, Kind.DEVICE, Kind.NAMESPACE)


@dataclass(frozen=True)
class Touched:
    """Variables that steps read and those that they assign, or whose objects they may change."""

    reads: frozenset[Variable]
    changes: frozenset[Variable]

    @classmethod
    def by(cls, steps: Sequence[Step], kinds: Kinds) -> Touched:
        reads, changes = set(usage(steps).reads), set(usage(steps).writes)
        for step in steps:
            own = item_of(step)
            for node, frame in runs(own, kinds):
                if isinstance(node, cst.Name) and frame is not own.frame:
                    meaning = frame.resolve(node.value)
                    if isinstance(meaning, Field) or (isinstance(meaning, Variable) and meaning.frame.is_module):
                        reads.add(meaning)
                        assigned = frame.function is not None and node.value in declared_elsewhere(frame.function)
                        changes |= {meaning} if assigned else set()
                elif frame is not own.frame and isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign)):
                    fields = (part.value for part in walk(node.target) if isinstance(part, FieldName))
                    changes |= {field for name in fields if isinstance(field := frame.resolve(name), Variable)}
                changes.update(_changed(node, frame, kinds))
        return cls(frozenset(reads), frozenset(changes))

    def with_more(self, other: Touched) -> Touched:
        return Touched(self.reads | other.reads, self.changes | other.changes)

    def meets(self, other: Touched) -> bool:
        """True when it matters which of them runs first."""
        return bool(self.changes & (other.reads | other.changes) or self.reads & other.changes)


def item_of(step: Step) -> Item:
    """A step as a statement of the frame that it computes in."""
    if isinstance(step, Item):
        return step
    return Item(cst.SimpleStatementLine([cst.Expr(step.value)]), step.value_frame)


def _changed(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> Iterator[Variable]:
    """The variables whose objects a node may change."""
    roots: list[cst.CSTNode] = []
    given: list[cst.CSTNode] = []
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del)):
        roots = [node.target] if isinstance(node.target, (cst.Attribute, cst.Subscript)) else []
    elif isinstance(node, cst.Call) and dotted(node.func) != "print" and not _computes(node, frame, kinds):
        used = method_call(node)
        given = [arg.value for arg in node.args if not isinstance(arg.value, cst.Call)]
        roots = [used[0]] if used is not None else []
    for root in (*roots, *given):
        name = root_name(root) if isinstance(root, cst.BaseExpression) else None
        meaning = frame.resolve(name.partition(".")[0]) if name else None
        if not isinstance(meaning, Variable) or _is_fixed(meaning, kinds):
            continue
        kind = kinds.of(meaning)
        if kind not in _APART and not (kind is Kind.LOADER and root in given):
            yield meaning


def _is_fixed(variable: Variable, kinds: Kinds) -> bool:
    """True for `torch` and `None`: calls of a library's functions change nothing of it that a statement reads."""
    return variable.frame.is_module and (variable.name in kinds.tree.imports or variable.name in BUILTINS)


def _computes(call: cst.Call, frame: Frame, kinds: Kinds) -> bool:
    bare = call.with_changes(args=())
    runs_network = kinds.kind(call.func, frame) is Kind.MODULE
    return runs_network or only_computes(bare, frame, kinds.tree, lambda one: one is not bare)


def shows(step: Step, kinds: Kinds) -> bool:
    calls = (node for node, _ in runs(item_of(step), kinds) if isinstance(node, cst.Call))
    return any((dotted(call.func) or "").rpartition(".")[2] in _SHOWS for call in calls)
