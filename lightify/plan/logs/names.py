"""No two things are logged under one name: the pass that a number is of tells it from its like in another pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.idiom.lines import Lines
from lightify.plan.logs.metrics import STEP, Metric, Thing, log_call, log_calls, log_name, metric_call
from lightify.plan.logs.texts import measures, tells_pass
from lightify.plan.types import FateNote, Hook
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import walk


@dataclass
class Names:
    """The names that a hook logs under.

    Attributes:
        own: what the hook has logged already; done: its steps up to now.
    """

    draft: Draft
    hook: Hook
    own: list[Thing] = field(default_factory=list)
    done: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        items = [step for step in self.hook.steps if isinstance(step, Item)]
        calls = [(call, item.frame) for item in items for call in log_calls(item)]
        self.own += (self._logged(call, frame) for call, frame in calls)

    def has(self, metric: Metric) -> bool:
        """True for what the hook logs already, and has not set anew since."""
        return self._of(metric) in self.own

    def given(self, metric: Metric, beside: Iterable[Metric]) -> Metric:
        """The metric under a name that nothing else has; others of its print may tell which pass it is of."""
        thing = self._of(metric)
        self.own.append(thing)
        stages = (stage for one in beside if (stage := one.name.partition("_")[0]) in ("train", "val", "test"))
        told = next((f"{stage}_{metric.name}" for stage in stages if not tells_pass(metric.name)), "")
        held = (name for one in metric.variables if tells_pass(name := one.name) and measures(name))
        return replace(metric, name=self._free(metric.name, thing, metric.told or told or min(held, default="")))

    def renamed(self, step: Step) -> Iterator[Step]:
        """The step with names of their own for what it logs; means, and what a callback asks for, keep theirs."""

        def change(line: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement] | None:
            call = log_call(line)
            name = log_name(call) if call is not None else None
            if call is None or name is None:
                return None
            thing = self._logged(call, frame)
            free = name if name in self.draft.monitored or thing.is_mean else self._free(name, thing, "")
            self.draft.named[free] = thing
            if free == name:
                return None
            self._tell(name, free)
            new = call.with_changes(args=[cst.Arg(cst.SimpleString(f'"{free}"')), *call.args[1:]])
            return [line.with_changes(body=[cst.Expr(new)])]

        return Lines(self.draft, change, FateNote(Fate.REPLACED, "self.log")).without([step])

    def pass_by(self, step: Step) -> None:
        """Goes on to the next step."""
        self.done.append(step)
        changed = usage([step]).writes
        self.own = [thing for thing in self.own if not thing.variables & changed]

    @property
    def _is_step(self) -> bool:
        return self.hook.name.endswith("_step")

    def _of(self, metric: Metric) -> Thing:
        thing = self._logged(metric_call(metric), metric.frame)
        anew = not self._is_step and thing.variables & usage(self.done).writes
        return replace(thing, place=self.hook.name) if anew else thing

    def _logged(self, call: cst.Call, frame: Frame) -> Thing:
        reads = expression_usage(call.args[1].value, frame).reads
        return Thing.of(call, frame, self._stage(reads), is_step=self._is_step)

    def _stage(self, variables: Iterable[Variable]) -> str:
        """The pass that a number is of: at an epoch's end, whose batches gave it its value."""
        name, found = self.hook.name, self.draft.evaluation
        if "test" in name:
            return "test"
        if name in ("validation_step", "on_validation_epoch_end"):
            return "val"
        made = set(variables)
        for step in reversed([*(found.after if found is not None else ()), *self.done]):
            made |= usage([step]).reads if usage([step]).writes & made else set()
        evaluated = name == "on_train_epoch_end" and found is not None and made & usage(found.batches).writes
        return "val" if evaluated else "train"

    def _free(self, name: str, thing: Thing, told: str) -> str:
        known = {**_logged_in_batches(self.draft), **self.draft.named}
        if self._is_step and self.draft.evaluation is not None and self.draft.evaluation.others:
            # the Trainer tells its loaders apart
            known = {other: one for other, one in known.items() if one.stage != thing.stage}
        rival = known.get(name, thing)
        choices = chain([name], [told] if told else [], _choices(name, thing, rival))
        found = next(one for one in choices if known.get(one, thing) == thing)
        self.draft.named[found] = thing
        return found

    def _tell(self, name: str, free: str) -> None:
        """Corrects what the fates of the evaluation's statements say."""
        for turn in self.draft.evaluation.turns if self.draft.evaluation is not None else ():
            for node in walk(turn.loop):
                note = self.draft.fates.get(node)
                if note is not None:
                    target = note.target.replace(f'self.log("{name}")', f'self.log("{free}")')
                    self.draft.fates[node] = replace(note, target=target)


def _logged_in_batches(draft: Draft) -> dict[str, Thing]:
    """What the batches of the training and of its evaluation log."""
    batches = draft.evaluation.batches if draft.evaluation is not None else ()
    passes = {"val": batches, "train": draft.nest.body}
    return {
        log_name(call) or "": Thing.of(call, step.frame, stage, is_step=stage == "val")
        for stage, steps in passes.items()
        for step in steps
        if isinstance(step, Item)
        for call in log_calls(step)
    }


def _choices(name: str, thing: Thing, rival: Thing) -> Iterator[str]:
    """Names for a number whose own name another has: `epoch_loss` beside each batch's, `val_loss` beside training's."""
    of = "step" if thing.place == STEP else "epoch"
    if thing.stage == rival.stage == "train" and not name.startswith(of):
        yield f"{of}_{name}"
    stages = [] if tells_pass(name) else [thing.stage]
    yield "_".join([*stages, name])
    longer = "_".join([*stages, of, name])
    yield longer
    yield from (f"{longer}_{number}" for number in count(2))
