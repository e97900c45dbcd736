"""What each of several passes keeps for itself, and whether an entry of a list can take its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from lightify.analysis.passing import named_in_all
from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.types import FateNote
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.names import bound_by, bound_names
from lightify.syntax.query import assigned_pairs, small, walk


def kept_of(found: Evaluation) -> dict[str, list[Variable]] | None:
    """What each pass keeps for itself, by its name; None when their names mean different things."""
    frames = [turn.frame for turn in found.turns]
    nodes: list[cst.CSTNode] = [step.node for step in found.body if isinstance(step, Item)]
    nodes += [part for part in (found.head.element, found.head.index) if part is not None]
    names = {node.value for part in nodes for node in walk(part) if isinstance(node, cst.Name)}
    start, end = usage(found.before), usage(found.later)
    outside = start.reads | start.writes | end.exposed
    kept: dict[str, list[Variable]] = {}
    for name in sorted(names):
        meanings = [frame.resolve(name) for frame in frames]
        if all(_is_same(meanings[0], one) for one in meanings):
            continue
        own = [one for one, frame in zip(meanings, frames) if isinstance(one, Variable) and one.frame is frame]
        if len(own) < len(frames):
            return None
        if any(one in outside for one in own):
            kept[name] = own
    return kept


def _is_same(one: Variable | Expression, other: Variable | Expression) -> bool:
    if isinstance(one, Expression) and isinstance(other, Expression):
        if not one.node.deep_equals(other.node):
            return False
        names = [node.value for node in walk(one.node) if isinstance(node, cst.Name)]
        return all(_is_same(one.frame.resolve(name), other.frame.resolve(name)) for name in names)
    return one is other


def starts_of(draft: Draft, found: Evaluation, kept: Mapping[str, Sequence[Variable]]) -> tuple[Step, ...] | None:
    """The steps before the passes, with a list for what each of them keeps."""
    variables = [{own[number] for own in kept.values()} for number in range(len(found.turns))]
    if usage(found.before).reads & set().union(*variables):
        return None
    own = [[step for step in found.before if usage([step]).writes & mine] for mine in variables]
    if any(len(steps) != len(own[0]) for steps in own):
        return None
    new: dict[Step, Sequence[Step]] = {step: [] for steps in own for step in steps}
    started: set[str] = set()
    for same in zip(*own):
        lines = _lists(draft, same, kept)
        if lines is None:
            return None
        new[same[0]] = lines
        started.update(name for line in lines for name in bound_names([line.node]))
    if started != kept.keys():
        return None
    for step in new:
        if isinstance(step, Item) and small(step.node) is not None:
            draft.fates.setdefault(small(step.node), FateNote(Fate.MOVED, "on_validation_epoch_start"))  # type: ignore[arg-type]
    return tuple(one for step in found.before for one in new.get(step, [step]))


def _lists(draft: Draft, same: Sequence[Step], kept: Mapping[str, object]) -> list[Item] | None:
    """`right = [0, 0]` for two steps `right = 0`."""
    pairs = [list(_assigned(step)) for step in same]
    result: list[Item] = []
    for number, (target, _) in enumerate(pairs[0]):
        if any(len(one) != len(pairs[0]) or not one[number][0].deep_equals(target) for one in pairs):
            return None
        if not isinstance(target, cst.Name) or target.value not in kept:
            return None
        values = [named_in_all(one[number][1], _frame(step), draft.nest.module) for one, step in zip(pairs, same)]  # type: ignore[arg-type]
        assign = cst.Assign([cst.AssignTarget(target)], cst.List([cst.Element(value) for value in values]))
        step = same[0]
        if isinstance(step, Item):
            draft.stripped.origins[assign] = small(step.node)  # type: ignore[assignment]
        leading = step.node.leading_lines if isinstance(step, Item) and not result else ()  # type: ignore[attr-defined]
        frame = step.frame if isinstance(step, Item) else step.target_frame
        result.append(Item(cst.SimpleStatementLine([assign], leading_lines=leading), frame))
    return result or None


def _assigned(step: Step) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    if isinstance(step, Binding):
        yield from assigned_pairs(step.target, step.value)
        return
    inner = small(step.node)
    for target in inner.targets if isinstance(inner, cst.Assign) else ():
        yield from assigned_pairs(target.target, inner.value)  # type: ignore[union-attr]


def _frame(step: Step) -> Frame:
    return step.frame if isinstance(step, Item) else step.value_frame


def may_index(draft: Draft, found: Evaluation, kept: Mapping[str, Sequence[Variable]]) -> bool:
    """True when the entry of a list can take each place of the names."""
    own = {variable for variables in kept.values() for variable in variables}
    if usage(draft.nest.epoch_end).reads & own:
        return False
    frames = [turn.frame for turn in found.turns]
    for step in (*found.body, *found.after):
        parts = [(step.node, step.frame)] if isinstance(step, Item) else _sides(step)
        for part, frame in parts:
            for node in walk(part):
                if isinstance(node, (cst.Global, cst.Nonlocal, cst.FunctionDef, cst.ClassDef)):
                    return False
                assigned = isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign))
                if not assigned and any(name in kept for name in bound_by(node)):
                    return False
                if isinstance(node, cst.Name) and (node.value not in kept or frame not in frames):
                    meaning = frame.resolve(node.value)
                    if meaning in own:
                        return False  # under another name
    return True


def _sides(step: Binding) -> list[tuple[cst.BaseStatement | cst.BaseExpression, Frame]]:
    return [(step.target, step.target_frame), (step.value, step.value_frame)]
