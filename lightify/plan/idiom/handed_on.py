"""Names that only hand a value on: where the first is done with, both are one."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.idiom.devices import MOVES, moved_parts
from lightify.plan.types import FateNote
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Frame, Item, Step, Variable
from lightify.syntax.query import assigned_pairs, small

HandsOn = Callable[[cst.CSTNode, Frame], cst.CSTNode | None]


@dataclass(frozen=True, eq=False)
class _Handed:
    """A name that gets what another holds.

    Attributes:
        keeps: the first goes by the second's name, not the other way round.
    """

    name: str
    frame: Frame
    source: Variable
    keeps: bool = False

    @property
    def target(self) -> Variable:
        return self.frame.variable(self.name)

    def join(self) -> None:
        if self.keeps:
            self.frame.stand_for(self.source.name, self.target)
        else:
            self.frame.stand_for(self.name, self.source)


def under_one_name(
    draft: Draft,
    steps: Sequence[Step],
    batch: Set[Variable],
    beyond: Set[Variable],
    hands_on: HandsOn | None = None,
    note: FateNote = MOVES,
) -> tuple[Step, ...]:
    """The steps of a batch without those that only hand on what nothing else reads any more.

    A parameter that its function assigns anew is its argument; `x` of `inputs = x.to(device)` is `inputs`.

    Args:
        beyond: what more than the batch's steps use.
        hands_on: `x` for an expression that is `x` once the Trainer has done its part; without it, parameters alone
            are looked at.
        note: what such a statement is replaced by.
    """
    rest = list(steps)
    for step in steps:
        pairs = _handed(step, draft, hands_on)
        place = rest.index(step)
        if any(pair.keeps and moved_parts(rest[:place], {pair.source}, draft.kinds) for pair in pairs):
            continue
        ways = [_joined(pair, rest[:place], rest[place + 1 :], batch, beyond) for pair in pairs]
        joined = [way for way in ways if way is not None]
        if pairs and len(joined) == len(pairs):
            for pair in joined:
                pair.join()
            rest.remove(step)
            if isinstance(step, Item):
                draft.fates[small(step.node) or step.node] = note
    return tuple(rest)


def _joined(
    pair: _Handed, before: Sequence[Step], after: Sequence[Step], batch: Set[Variable], beyond: Set[Variable]
) -> _Handed | None:
    """How two names are one: the first is done with where the other begins, or neither changes any more."""
    first, then = usage(before), usage(after)
    made = pair.source in batch or pair.source in (first.must or ())
    if not made or pair.target in first.reads | first.writes | beyond:
        return None
    if pair.source not in then.reads | then.writes | beyond:
        return pair
    return replace(pair, keeps=False) if pair.keeps and not {pair.source, pair.target} & then.writes else None


def _handed(step: Step, draft: Draft, hands_on: HandsOn | None) -> list[_Handed]:
    """What a step hands on, if it does nothing else."""
    if isinstance(step, Binding):
        source = _held(hands_on(step.value, step.value_frame) if hands_on else step.value, step.value_frame)
        if source is None or not isinstance(step.target, cst.Name) or step.target_frame is step.value_frame:
            return []
        if step.target_frame is draft.nest.host:
            return []  # a result, which the host and its other runs know by this name
        return [_Handed(step.target.value, step.target_frame, source)]
    inner = small(step.node)
    if hands_on is None or not isinstance(inner, cst.Assign) or len(inner.targets) != 1:
        return []
    pairs = []
    for target, value in assigned_pairs(inner.targets[0].target, inner.value):
        source = _held(hands_on(value, step.frame), step.frame)
        if not isinstance(target, cst.Name) or source is None or source.frame is not step.frame:
            return []
        pairs.append(_Handed(target.value, step.frame, source, keeps=True))
    names = [pair.source for pair in pairs] + [pair.target for pair in pairs]
    return pairs if len(set(names)) == len(names) else []


def _held(value: cst.CSTNode | None, frame: Frame) -> Variable | None:
    meaning = frame.resolve(value.value) if isinstance(value, cst.Name) else None
    return meaning if isinstance(meaning, Variable) else None
