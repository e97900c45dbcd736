"""Passes that do the same: one body, and a list for what each of them keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.passing import named_in_all
from lightify.ledger import Fate
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.kept_lists import kept_of, may_index, starts_of
from lightify.plan.evaluation.parts import INDEX, Evaluation, Turn
from lightify.plan.logs.metrics import log_call
from lightify.plan.types import FateNote
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Frame, Item, Step
from lightify.syntax.query import code, walk
from lightify.syntax.substitute import substitute


def shared(draft: Draft, found: Evaluation) -> Evaluation | None:
    """One body, with a list for what each pass keeps; None when the passes differ."""
    first, *others = found.turns
    body = _one_body(draft, found.turns)
    if body is None or INDEX in draft.tree.names:
        return None
    kept = kept_of(found)
    starts = starts_of(draft, found, kept) if kept is not None else None
    if kept is None or starts is None or not may_index(draft, found, kept):
        return None
    names = kept.keys()
    index = named_in_all(cst.Name(INDEX), draft.generated, draft.nest.module)
    step = [_indexed(draft, one, {first.frame: index}, names) for one in body]
    numbers = {turn.frame: cst.Integer(str(number)) for number, turn in enumerate(found.turns)}
    after = tuple(_indexed(draft, one, numbers, names) for one in found.after)
    for turn in others:
        for part in turn.body:
            if isinstance(part, Item) and part.node not in draft.fates:
                draft.fates[part.node] = FateNote(Fate.MOVED, "validation_step")
        for name in (*names, *_ended(found, turn, kept)):
            turn.frame.stand_for(name, first.frame.variable(name))
    heads = batch_names(draft, first.head, first.frame, first.loop, first.body, found.later)
    return replace(found, before=starts, body=(*heads, *step), after=after)


def _ended(found: Evaluation, turn: Turn, kept: Mapping[str, object]) -> list[str]:
    """Names of a pass that its end assigns for itself: the end of another pass may have used them before."""
    own = [s for s in found.after if (s.frame if isinstance(s, Item) else s.value_frame) is turn.frame]
    done = usage(own)
    passing = done.writes - done.exposed - usage(found.rest).reads
    fresh = sorted({v.name for v in passing if v.frame is turn.frame} - kept.keys())
    return [name for name in fresh if found.turns[0].frame.variable(name).frame is found.turns[0].frame]


def _one_body(draft: Draft, turns: Sequence[Turn]) -> list[Step] | None:
    """The body that all passes share, but for the names that they log under."""
    first, *others = turns
    body = list(first.body)
    for turn in others:
        heads = [[code(part) if part is not None else "" for part in _head(one)] for one in (first, turn)]
        if heads[0] != heads[1] or len(turn.body) != len(body) or turn.frame is first.frame:
            return None
    for number, step in enumerate(body):
        same = [turn.body[number] for turn in turns]
        if not all(isinstance(one, Item) for one in same):
            return None
        calls = [log_call(one.node) for one in same if isinstance(one, Item)]
        if all(call is not None for call in calls):
            assert isinstance(step, Item)
            named = [cst.Element(call.args[0].value) for call in calls if call is not None]
            plain = [call.with_changes(args=[cst.Arg(cst.Name("x")), *call.args[1:]]) for call in calls if call]
            if not all(one.deep_equals(plain[0]) for one in plain):
                return None
            if any(not one.deep_equals(named[0]) for one in named):
                index = named_in_all(cst.Name(INDEX), draft.generated, draft.nest.module)
                given = calls[0].args  # type: ignore[union-attr]
                name = cst.Subscript(cst.Tuple(named), [cst.SubscriptElement(cst.Index(index))])
                call = calls[0].with_changes(args=[given[0].with_changes(value=name), *given[1:]])  # type: ignore[union-attr]
                body[number] = with_call(step, call)
        elif not all(one.node.deep_equals(step.node) for one in same):  # type: ignore[union-attr]
            return None
    return body


def _head(turn: Turn) -> tuple[cst.CSTNode | None, ...]:
    return turn.head.element, turn.head.index, turn.head.start


def with_call(step: Item, call: cst.Call) -> Item:
    return Item(step.node.with_changes(body=[cst.Expr(call)]), step.frame)  # type: ignore[call-arg]


def _indexed(draft: Draft, step: Step, by: Mapping[Frame, cst.BaseExpression], names: object) -> Step:
    """A step with the entry of a list for each name that the passes keep."""

    def entry(name: str, index: cst.BaseExpression) -> cst.BaseExpression | None:
        if name not in names:  # type: ignore[operator]
            return None
        return cst.Subscript(cst.Name(name), [cst.SubscriptElement(cst.Index(index))])

    def put(node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        return substitute(node, lambda name: entry(name, by[frame])) if frame in by else node

    if isinstance(step, Binding):
        target, value = put(step.target, step.target_frame), put(step.value, step.value_frame)
        return replace(step, target=target, value=value)  # type: ignore[arg-type]
    new = put(step.node, step.frame)
    for made, old in zip(_statements(new), _statements(step.node)):
        if made is not old:
            draft.stripped.origins[made] = old
    return Item(new, step.frame)  # type: ignore[arg-type]


def _statements(node: cst.CSTNode) -> list[cst.CSTNode]:
    kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement, cst.SimpleStatementLine)
    return [part for part in walk(node) if isinstance(part, kinds)]
