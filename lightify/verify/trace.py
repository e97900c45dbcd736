"""What a traced script did, as values; imports the standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceLine:
    """The user's line that caused an event."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.path).name}:{self.line}"


@dataclass(frozen=True)
class Loss:
    """One outermost backward call: the sum of the tensors it started from, exact for a scalar."""

    value: float
    digest: str
    line: SourceLine | None = None

    def equals(self, other: Loss) -> bool:
        both_nan = math.isnan(self.value) and math.isnan(other.value)
        return self.digest == other.digest and (both_nan or self.value == other.value)


@dataclass(frozen=True)
class Output:
    """The output of one outermost call of a network.

    Attributes:
        evaluates: it is made without gradients, or in evaluation mode.
    """

    digest: str
    total: float
    network: str
    line: SourceLine | None = None
    evaluates: bool = True


@dataclass(frozen=True)
class Step:
    """One optimizer step with what came before it, back to the step before.

    Attributes:
        digest: of the optimizer's parameters after the step, whatever their order.
        norm: of the same parameters, to show a reader how far apart two steps are.
        optimizer: name of its class.
    """

    digest: str
    norm: float
    optimizer: str
    losses: tuple[Loss, ...] = ()
    outputs: tuple[Output, ...] = ()
    line: SourceLine | None = None


@dataclass(frozen=True)
class Trace:
    """All steps in order, and what followed the last one; a script that updates by hand has only losses."""

    steps: tuple[Step, ...] = ()
    losses_after: tuple[Loss, ...] = ()
    outputs_after: tuple[Output, ...] = ()

    @property
    def losses(self) -> tuple[Loss, ...]:
        before = [loss for step in self.steps for loss in step.losses]
        return (*before, *self.losses_after)

    @property
    def evaluations(self) -> tuple[Output, ...]:
        outputs = [*(output for step in self.steps for output in step.outputs), *self.outputs_after]
        return tuple(output for output in outputs if output.evaluates)

    @property
    def trained(self) -> bool:
        return bool(self.steps or self.losses_after)


def read_trace(lines: Iterable[str]) -> Trace:
    """Reads what `tracer.py` wrote, one JSON list a line; a line cut off by a kill ends the trace."""
    steps: list[Step] = []
    losses: list[Loss] = []
    outputs: list[Output] = []
    for text in lines:
        try:
            kind, digest, number, name, path, line = json.loads(text)
        except ValueError:
            break
        place = SourceLine(path, line) if path else None
        if kind == "loss":
            losses.append(Loss(number, digest, place))
        elif kind in ("evaluation", "output"):
            outputs.append(Output(digest, number, name, place, kind == "evaluation"))
        else:
            steps.append(Step(digest, number, name, tuple(losses), tuple(outputs), place))
            losses, outputs = [], []
    return Trace(tuple(steps), tuple(losses), tuple(outputs))


def choose_trace(files: Iterable[Path]) -> Trace:
    """Returns the trace of the process that trained: the script's own, else its first child's.

    Args:
        files: one per process; the script's own sorts first, children follow in the order of their start.
    """
    traces = []
    for file in files:
        with file.open(encoding="utf-8") as lines:
            traces.append(read_trace(lines))
    for trace in traces:
        if trace.trained:
            return trace
    return traces[0] if traces else Trace()


@dataclass(frozen=True)
class Run:
    """One script's run under the tracer.

    Attributes:
        path: of the script, as given.
        exit_code: None when its time was over; negative when a signal ended it.
        stderr_tail: the last lines that it wrote to its error stream.
    """

    path: str
    exit_code: int | None
    seconds: float
    stderr_tail: str
    trace: Trace

    @property
    def timed_out(self) -> bool:
        return self.exit_code is None

    @property
    def failed(self) -> bool:
        return self.exit_code not in (0, None)
