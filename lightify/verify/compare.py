"""Two runs -> a verdict with the first difference; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Literal

from lightify.verify.trace import Loss, Output, Run, SourceLine, Step, Trace


class Outcome(Enum):
    IDENTICAL = "identical"
    DIFFERS = "differs"
    OTHER_STEP_COUNT = "other step count"
    NEVER_TRAINED = "never trained"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Difference:
    """The first place where the two runs part.

    Attributes:
        step: the optimizer step, from 1, that it belongs to; the backward call when weights
            are updated by hand.
        old, new: the two values as text; "none" where one run has no such event.
        line: where in the old script.
    """

    step: int
    kind: Literal["loss", "parameters", "evaluation"]
    old: str
    new: str
    line: SourceLine | None = None


@dataclass(frozen=True)
class StepRow:
    """One step of both runs for the table; None where a run has no such step."""

    number: int
    losses_old: tuple[float, ...] | None
    losses_new: tuple[float, ...] | None
    digest_old: str | None
    digest_new: str | None
    same: bool


@dataclass(frozen=True)
class Verdict:
    """What comparing two runs says; `sentence` is it in one line."""

    outcome: Outcome
    sentence: str
    old: Run
    new: Run
    rows: tuple[StepRow, ...] = ()
    difference: Difference | None = None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 identical, 1 trained differently, 2 no comparison was possible."""
        if self.outcome is Outcome.IDENTICAL:
            return 0
        return 1 if self.outcome in (Outcome.DIFFERS, Outcome.OTHER_STEP_COUNT) else 2


def compare(old: Run, new: Run) -> Verdict:
    rows = _rows(old.trace, new.trace)
    difference = _training_difference(old.trace, new.trace)
    equal = (difference.step if difference else _count(old.trace, new.trace) + 1) - 1
    broken = _broken_runs(old, new)
    if broken:
        outcome, sentence = broken
        if old.trace.trained and new.trace.trained:
            sentence += f"; the first {equal} steps are identical" if equal else "; no step is identical"
        return Verdict(outcome, sentence, old, new, rows, difference)
    if difference:
        return Verdict(Outcome.DIFFERS, _sentence(difference), old, new, rows, difference)
    notes = _merged_backwards(old.trace, new.trace)
    counts = _size(old.trace), _size(new.trace)
    if counts[0] != counts[1]:
        sentence = f"{counts[0]} steps became {counts[1]}; the first {equal} are identical"
        return Verdict(Outcome.OTHER_STEP_COUNT, sentence, old, new, rows, None, notes)
    evaluation, sanity = _evaluation_difference(old.trace, new.trace)
    notes += sanity
    if evaluation:
        sentence = f"all {equal} steps are identical, but {_sentence(evaluation)}"
        return Verdict(Outcome.DIFFERS, sentence, old, new, rows, evaluation, notes)
    unit = "steps" if old.trace.steps else "hand-made updates (compared by their losses)"
    evaluations = max(len(run.trace.evaluations) for run in (old, new))
    sentence = f"{equal} {unit}, {len(old.trace.losses)} losses, {evaluations} evaluation outputs"
    return Verdict(Outcome.IDENTICAL, sentence, old, new, rows, None, notes)


def _broken_runs(old: Run, new: Run) -> tuple[Outcome, str] | None:
    """Returns what kept a run from being compared; the old script's trouble first."""
    for run in (old, new):
        if run.failed:
            error = run.stderr_tail.strip().rpartition("\n")[2] or "no message"
            return Outcome.FAILED, f"{run.path} ended with exit code {run.exit_code}: {error}"
    for run in (old, new):
        if run.timed_out:
            return Outcome.TIMED_OUT, f"{run.path} was stopped after {run.seconds:.0f} s"
    idle = dict.fromkeys(run.path for run in (old, new) if not run.trace.trained)
    if idle:
        return Outcome.NEVER_TRAINED, f"{' and '.join(idle)} never made a backward call or an optimizer step"
    if bool(old.trace.steps) != bool(new.trace.steps):
        by_hand, by_optimizer = (new, old) if old.trace.steps else (old, new)
        return (
            Outcome.NEVER_TRAINED,
            f"{by_hand.path} made no optimizer step, {by_optimizer.path} did",
        )
    return None


def _size(trace: Trace) -> int:
    return len(trace.steps) or len(trace.losses_after)


def _count(old: Trace, new: Trace) -> int:
    return min(_size(old), _size(new))


def _rows(old: Trace, new: Trace) -> tuple[StepRow, ...]:
    if not old.steps and not new.steps:  # updates by hand: one row for each backward call
        pairs = zip_longest(old.losses_after, new.losses_after)
        return tuple(_loss_row(number, *pair) for number, pair in enumerate(pairs, 1))
    steps = zip_longest(old.steps, new.steps)
    return tuple(_step_row(number, *pair) for number, pair in enumerate(steps, 1))


def _loss_row(number: int, old: Loss | None, new: Loss | None) -> StepRow:
    same = old is not None and new is not None and old.equals(new)
    values = [None if loss is None else (loss.value,) for loss in (old, new)]
    return StepRow(number, values[0], values[1], None, None, same)


def _step_row(number: int, old: Step | None, new: Step | None) -> StepRow:
    values = [None if step is None else tuple(loss.value for loss in step.losses) for step in (old, new)]
    digests = [None if step is None else step.digest for step in (old, new)]
    same = old is not None and new is not None and _step_difference(number, old, new) is None
    return StepRow(number, values[0], values[1], digests[0], digests[1], same)


def _training_difference(old: Trace, new: Trace) -> Difference | None:
    """Returns the first loss or digest that is not the same in the steps that both made."""
    for number, (old_step, new_step) in enumerate(zip(old.steps, new.steps, strict=False), 1):
        difference = _step_difference(number, old_step, new_step)
        if difference:
            return difference
    if len(old.steps) != len(new.steps):
        return None  # what follows the last step of one belongs to a step of the other
    number = len(old.steps) + 1
    for offset, (old_loss, new_loss) in enumerate(zip(old.losses_after, new.losses_after, strict=False)):
        if not old_loss.equals(new_loss):
            return _loss_difference(number if old.steps else number + offset, old_loss, new_loss)
    return None


def _step_difference(number: int, old: Step, new: Step) -> Difference | None:
    same = old.digest == new.digest
    if len(old.losses) == len(new.losses):
        for old_loss, new_loss in zip(old.losses, new.losses, strict=False):
            if not old_loss.equals(new_loss):
                return _loss_difference(number, old_loss, new_loss)
    elif not same:
        counts = [f"{len(step.losses)} backward calls" for step in (old, new)]
        return Difference(number, "loss", counts[0], counts[1], old.line)
    if same:
        return None
    values = [f"{step.digest[:8]} (norm {step.norm:.9g})" for step in (old, new)]
    return Difference(number, "parameters", values[0], values[1], old.line)


def _loss_difference(number: int, old: Loss, new: Loss) -> Difference:
    if old.value == new.value or (math.isnan(old.value) and math.isnan(new.value)):
        values = [f"{loss.value!r} (sum of {loss.digest[:8] or 'a scalar'})" for loss in (old, new)]
    else:
        values = [repr(old.value), repr(new.value)]
    return Difference(number, "loss", values[0], values[1], old.line)


def _merged_backwards(old: Trace, new: Trace) -> tuple[str, ...]:
    """Backward calls made into one, of their sum, are the same training as long as the parameters agree."""
    merged = sum(len(a.losses) != len(b.losses) for a, b in zip(old.steps, new.steps, strict=False))
    if not merged:
        return ()
    return (f"{merged} steps have another number of backward calls; their parameters are identical",)


def _evaluation_difference(old: Trace, new: Trace) -> tuple[Difference | None, tuple[str, ...]]:
    """Compares the evaluation outputs between the same two steps, in their order.

    One script may make them with gradients, as it trains: what evaluates in one is looked for in all that the other
    has made.
    """
    notes: tuple[str, ...] = ()
    old_gaps = [*(step.outputs for step in old.steps), old.outputs_after]
    new_gaps = [*(step.outputs for step in new.steps), new.outputs_after]
    if old.steps and bool(_evaluating(old_gaps[0])) != bool(_evaluating(new_gaps[0])):
        notes = ("evaluations before the first step were left out: only one script has such a sanity check",)
        old_gaps[0] = new_gaps[0] = ()
    for number, (old_gap, new_gap) in enumerate(zip(old_gaps, new_gaps, strict=False), 1):
        old_ones, new_ones = _evaluating(old_gap), _evaluating(new_gap)
        if _holds(old_gap, new_ones) and _holds(new_gap, old_ones):
            continue
        for a, b in zip_longest(old_ones, new_ones):
            if a is None or b is None or a.digest != b.digest:
                line = a.line if a else None
                return Difference(number, "evaluation", _shown(a), _shown(b), line), notes
    return None, notes


def _evaluating(outputs: Sequence[Output]) -> list[Output]:
    return [output for output in outputs if output.evaluates]


def _holds(outputs: Sequence[Output], ones: Sequence[Output]) -> bool:
    """True when some outputs are among others, in their order."""
    digests = iter([output.digest for output in outputs])
    return all(one.digest in digests for one in ones)


def _shown(evaluation: Output | None) -> str:
    if evaluation is None:
        return "none"
    return f"{evaluation.network} {evaluation.digest[:8]} (sum {evaluation.total:.9g})"


def _sentence(difference: Difference) -> str:
    where = f" ({difference.line})" if difference.line else ""
    before = "before step" if difference.kind == "evaluation" else "at step"
    verb = "differ" if difference.kind == "parameters" else "differs"
    values = f"{difference.old} became {difference.new}"
    return f"{difference.kind} {verb} {before} {difference.step}{where}: {values}"
