"""An evaluation pass taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import libcst as cst

from lightify.analysis.opening import Opened
from lightify.loops.headers import BatchHead
from lightify.plan.types import Bar, FateNote
from lightify.syntax.frames import Frame, Item, Step, Variable

INDEX = "dataloader_idx"


@dataclass(frozen=True)
class Asked:
    """What a condition asks for: every k-th epoch, and what the host can tell before the run."""

    every: cst.BaseExpression | None = None
    when: cst.BaseExpression | None = None


@dataclass(frozen=True, eq=False)
class Turn:
    """A further pass of an evaluation: over the next of its loaders."""

    loop: cst.For
    frame: Frame
    head: BatchHead
    body: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation pass taken apart.

    Attributes:
        before: runs before its first batch, after the last training batch.
        body: one batch; after: what ends it; rest: what the epoch does next.
        modules: networks that it puts into evaluation mode; empty when it evaluates as it trains.
        trains_again: it ends by putting them back itself.
        modes: what puts them into evaluation mode, where nothing ever puts them back.
        without: what the script itself runs without gradients.
        breaks: its last statement may end it.
        others: passes over other loaders that follow it at once.
        apart: why those that follow are no part of it.
        asked: the condition that it runs under; None for each epoch.
        bars: those that it holds in variables, whose statements are there still.
    """

    loop: cst.For
    frame: Frame
    head: BatchHead
    before: tuple[Step, ...]
    body: tuple[Step, ...]
    after: tuple[Step, ...]
    rest: tuple[Step, ...]
    modules: frozenset[Variable]
    trains_again: bool
    opened: tuple[Opened, ...]
    fates: Mapping[cst.CSTNode, FateNote]
    without: frozenset[Step]
    breaks: bool
    others: tuple[Turn, ...] = ()
    apart: str = ""
    asked: Asked | None = None
    bars: Mapping[Variable, Bar] = field(default_factory=dict)
    modes: tuple[Item, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All of its passes, in order."""
        return (Turn(self.loop, self.frame, self.head, self.body), *self.others)

    @property
    def batches(self) -> tuple[Step, ...]:
        """What its batches do, loader by loader."""
        return tuple(step for turn in self.turns for step in turn.body)

    @property
    def later(self) -> tuple[Step, ...]:
        """What comes after its last batch."""
        return (*self.after, *self.rest)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that it runs, in order."""
        return (*self.before, *self.batches, *self.later)

    def with_bodies(self, change: Callable[[Turn], tuple[Step, ...]]) -> Evaluation:
        """The same with other batches."""
        first, *others = (replace(turn, body=change(turn)) for turn in self.turns)
        return replace(self, body=first.body, others=tuple(others))
