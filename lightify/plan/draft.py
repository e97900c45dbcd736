"""A plan in the making: what the parts of the planning share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import libcst as cst

from lightify.distribution import Distribution
from lightify.errors import SourceSpan
from lightify.facts import Analysis
from lightify.loops.nest import Nest
from lightify.loops.surroundings import Surroundings, surroundings
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.kinds import Kinds
from lightify.plan.logs.metrics import Metric, Thing, unlogged
from lightify.plan.steady import may_change
from lightify.plan.types import FateNote, Home, Mixed, Stays, Stripped, TrainerOption
from lightify.settings import Settings
from lightify.syntax.flow import usage
from lightify.syntax.frames import Frame, Step, Variable
from lightify.syntax.parse import Tree


@dataclass(frozen=True)
class Flatten:
    """Why the loops can't be taken apart as they are read."""

    reason: str
    span: SourceSpan | None = None
    hint: str = ""
    assigned: frozenset[Variable] = frozenset()  # names that need a statement of their own
    uncounted: bool = False  # the epochs can be taken one by one


@dataclass
class Draft:
    """One run on its way to a Plan.

    Attributes:
        generated: the frame of names that the hooks bring along (`batch`, `batch_idx`).
        forced: homes that are decided before liveness is asked.
        counted_as: counters that a step binds, and what they are in terms of `batch_idx`.
        stays: the evaluation that is no validation of the Trainer's.
        kept_alive: variables of the loops that functions read which outlive a batch.
        lazy: the source of batches is made anew for each pass.
        batch_mover: who moves the batch, where the Trainer must not.
        logged, averaged: names of averages that `self.log` keeps, and variables that did before.
        mixed: the precision that the Trainer takes over; evaluates_apart: not that of the evaluation, which decides.
        monitored: names of metrics that callbacks of the Trainer ask for; named: what hooks log beside them.
        read_back: names of averages that the hooks ask the Trainer for.
        steps_away: what the idiomatic style changes.
        bars: names of progress bars that are gone, and what they went over.
        unshown: values that prints showed and no log tells.
        gone: statements that the result does without from the start.
        before_fit: lines of the loops that the host runs once, before it makes the Trainer.
    """

    tree: Tree
    analysis: Analysis
    settings: Settings
    nest: Nest
    kinds: Kinds
    around: Surroundings
    distribution: Distribution | None = None
    generated: Frame = field(default_factory=lambda: Frame("hook"))
    evaluation: Evaluation | None = None
    stays: Stays | None = None
    fates: dict[cst.CSTNode, FateNote] = field(default_factory=dict)
    removed: set[cst.CSTNode] = field(default_factory=set)
    forced: dict[Variable, Home] = field(default_factory=dict)
    counted_as: dict[Variable, str] = field(default_factory=dict)
    options: list[TrainerOption] = field(default_factory=list)
    stripped: Stripped = field(default_factory=Stripped)
    scheduler_step: Step | None = None
    kept_alive: set[Variable] = field(default_factory=set)
    lazy: bool = False
    batch_mover: str = ""
    logged: set[str] = field(default_factory=set)
    averaged: set[Variable] = field(default_factory=set)
    mixed: Mixed | None = None
    evaluates_apart: bool = False
    monitored: set[str] = field(default_factory=set)
    read_back: set[str] = field(default_factory=set)
    named: dict[str, Thing] = field(default_factory=dict)
    steps_away: list[str] = field(default_factory=list)
    bars: dict[Variable, cst.BaseExpression | None] = field(default_factory=dict)
    unshown: dict[str, None] = field(default_factory=dict)
    gone: frozenset[cst.CSTNode] = frozenset()
    before_fit: list[str] = field(default_factory=list)

    def look_around(self, *more: Step) -> None:
        """Reads the host around the run anew, some steps of which stand in none of its parts."""
        methods = self.settings.style == "idiomatic"
        self.around = surroundings(self.nest, self.tree, (*self.whole(), *more), self.gone, methods=methods)

    def after_batches(self) -> tuple[Step, ...]:
        """What an epoch does after its last batch, in order."""
        found = self.evaluation
        evaluating = (*found.before, *found.batches, *found.after) if found is not None else ()
        return (*evaluating, *self.nest.epoch_end)

    def take(
        self, nest: Nest, option: TrainerOption, fates: dict[cst.CSTNode, FateNote], departures: Sequence[str]
    ) -> None:
        """Reads the loops in another way, with an option that makes up for it."""
        self.nest = nest
        self.options.append(option)
        self.fates.update(fates)
        self.steps_away.extend(departures)

    @property
    def counted_bars(self) -> Tree | None:
        """What tells the bars that are more than bars; None where all of them give way."""
        return self.tree if self.settings.style == "faithful" else None

    def read_elsewhere(self) -> set[Variable]:
        """What the host reads after the run, or the functions that stay."""
        meanings = [self.nest.module.resolve(name) for name in self.around.kept_reads if "." not in name]
        meanings += [self.nest.host.resolve(name) for name in self.around.within_reads if "." not in name]
        return usage(self.around.after).reads | {m for m in meanings if isinstance(m, Variable)}

    def no_longer_printed(self, call: cst.Call, frame: Frame, metrics: Iterable[Metric]) -> None:
        """Notes what a print showed that no log tells."""
        self.unshown.update(dict.fromkeys(unlogged(call, frame, metrics, self.averaged, usage(self.whole()).writes)))

    def may_change(self, node: cst.BaseExpression, frame: Frame) -> bool:
        """True when the loops may bind a name, a field or an item that an expression reads."""
        return may_change(self.nest, self.whole(), self.tree, node, frame)

    def whole(self) -> tuple[Step, ...]:
        """All steps of the loops, in order."""
        return (*self.nest.epoch_start, *self.nest.body, *self.after_batches())
