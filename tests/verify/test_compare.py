"""Two traces -> a verdict; no process is started."""

from __future__ import annotations

from typing import Any

import pytest

from lightify.verify import Difference, Outcome, Run, SourceLine, Trace, compare
from lightify.verify.trace import Loss, Output, Step, choose_trace, read_trace

NAN = float("nan")


def step(digest: str, *losses: float, evaluated: tuple[str, ...] = (), trained: tuple[str, ...] = ()) -> Step:
    return Step(
        digest,
        norm=1.0,
        optimizer="SGD",
        losses=tuple(Loss(value, "", SourceLine("old.py", 7)) for value in losses),
        outputs=(*(output(digest, evaluates=False) for digest in trained), *map(output, evaluated)),
        line=SourceLine("old.py", 9),
    )


def output(digest: str, evaluates: bool = True) -> Output:
    return Output(digest, 2.0, "Net", SourceLine("old.py", 20), evaluates)


def run(*steps: Step, path: str = "script.py", **changes: Any) -> Run:
    parts: dict[str, Any] = {"exit_code": 0, "seconds": 1.0, "stderr_tail": "", "trace": Trace(steps)}
    return Run(path, **(parts | changes))


A, B, C = step("aaaa", 0.5), step("bbbb", 0.25), step("cccc", 0.125)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(run(A, B), run(A, B), id="same steps"),
        pytest.param(run(step("aaaa", NAN)), run(step("aaaa", NAN)), id="both losses are NaN"),
        pytest.param(run(step("aaaa", 0.5, 0.5)), run(step("aaaa", 1.0)), id="two backward calls made into one"),
        pytest.param(
            run(trace=Trace(losses_after=(Loss(1.0, ""), Loss(0.5, "")))),
            run(trace=Trace(losses_after=(Loss(1.0, ""), Loss(0.5, "")))),
            id="updated by hand",
        ),
        pytest.param(run(A), run(step("aaaa", 0.5, evaluated=("x",))), id="sanity validation before the first step"),
        pytest.param(
            run(A, step("bbbb", 0.25, trained=("x", "y", "z"))),
            run(A, step("bbbb", 0.25, trained=("z",), evaluated=("x", "y"))),
            id="the old script evaluates with gradients, as it trains",
        ),
    ],
)
def test_identical(old: Run, new: Run) -> None:
    verdict = compare(old, new)
    assert (verdict.outcome, verdict.difference, verdict.exit_code) == (Outcome.IDENTICAL, None, 0)
    assert all(row.same for row in verdict.rows)


@pytest.mark.parametrize(
    ("old", "new", "number", "kind", "values"),
    [
        pytest.param(run(A, B), run(A, step("bbbb", 0.26)), 2, "loss", ("0.25", "0.26"), id="a loss"),
        pytest.param(run(A), run(step("aaaa", NAN)), 1, "loss", ("0.5", "nan"), id="one loss is NaN"),
        pytest.param(
            run(A, B), run(A, step("dddd", 0.25)), 2, "parameters", ("bbbb (norm 1)", "dddd (norm 1)"), id="weights"
        ),
        pytest.param(
            run(step("aaaa", 0.5, 0.5)),
            run(step("dddd", 1.0)),
            1,
            "loss",
            ("2 backward calls", "1 backward calls"),
            id="backward calls merged wrongly",
        ),
        pytest.param(
            run(A, step("bbbb", 0.25, evaluated=("x",))),
            run(A, step("bbbb", 0.25, evaluated=("y",))),
            2,
            "evaluation",
            ("Net x (sum 2)", "Net y (sum 2)"),
            id="an evaluation",
        ),
        pytest.param(
            run(A, step("bbbb", 0.25, trained=("y", "x", "z"))),
            run(A, step("bbbb", 0.25, trained=("z",), evaluated=("x", "y"))),
            2,
            "evaluation",
            ("none", "Net x (sum 2)"),
            id="an evaluation that was made in another order",
        ),
        pytest.param(
            run(A, B, trace=Trace((A, B), outputs_after=(output("x"),))),
            run(A, B),
            3,
            "evaluation",
            ("Net x (sum 2)", "none"),
            id="an evaluation is missing after the last step",
        ),
        pytest.param(
            run(trace=Trace((A,), losses_after=(Loss(1.0, ""),))),
            run(trace=Trace((A,), losses_after=(Loss(2.0, ""),))),
            2,
            "loss",
            ("1.0", "2.0"),
            id="a leftover backward call after the last step",
        ),
        pytest.param(
            run(trace=Trace(losses_after=(Loss(1.0, ""), Loss(0.5, "")))),
            run(trace=Trace(losses_after=(Loss(1.0, ""), Loss(0.4, "")))),
            2,
            "loss",
            ("0.5", "0.4"),
            id="updated by hand",
        ),
    ],
)
def test_first_difference(old: Run, new: Run, number: int, kind: str, values: tuple[str, str]) -> None:
    verdict = compare(old, new)
    assert verdict.outcome is Outcome.DIFFERS
    assert isinstance(verdict.difference, Difference)
    found = verdict.difference
    assert (found.step, found.kind, (found.old, found.new)) == (number, kind, values)
    assert verdict.exit_code == 1
    assert f"step {number}" in verdict.sentence


def test_training_difference_is_reported_before_an_earlier_evaluation_difference() -> None:
    old, new = run(step("aaaa", 0.5, evaluated=("x",)), B), run(step("aaaa", 0.5, evaluated=("y",)), C)
    difference = compare(old, new).difference
    assert difference is not None
    assert (difference.step, difference.kind) == (2, "loss")


@pytest.mark.parametrize(
    ("old", "new", "outcome", "words"),
    [
        pytest.param(run(A, B), run(A), Outcome.OTHER_STEP_COUNT, "2 steps became 1", id="a step less"),
        pytest.param(run(A), run(), Outcome.NEVER_TRAINED, "script.py never made", id="new never trains"),
        pytest.param(run(), run(), Outcome.NEVER_TRAINED, "script.py never made", id="neither trains"),
        pytest.param(
            run(A),
            run(trace=Trace(losses_after=(Loss(0.5, ""),)), path="new.py"),
            Outcome.NEVER_TRAINED,
            "new.py made no optimizer step",
            id="backward calls, but no step",
        ),
        pytest.param(
            run(A, B),
            run(A, exit_code=1, stderr_tail="Traceback\nValueError: too wide"),
            Outcome.FAILED,
            "exit code 1: ValueError: too wide; the first 1 steps are identical",
            id="new crashes",
        ),
        pytest.param(run(exit_code=-9), run(A), Outcome.FAILED, "exit code -9: no message", id="old is killed"),
        pytest.param(
            run(A, exit_code=None, seconds=30.2), run(A), Outcome.TIMED_OUT, "stopped after 30 s", id="time is over"
        ),
    ],
)
def test_no_comparison_of_whole_runs(old: Run, new: Run, outcome: Outcome, words: str) -> None:
    verdict = compare(old, new)
    assert verdict.outcome is outcome
    assert words in verdict.sentence
    assert verdict.exit_code == (1 if outcome is Outcome.OTHER_STEP_COUNT else 2)


def test_trace_of_a_killed_process_ends_at_the_cut_line() -> None:
    lines = [
        '["loss", "", 0.5, "", "a.py", 3]',
        '["step", "aaaa", 1.0, "SGD", "a.py", 4]',
        '["loss", "", 0.25, "", "a.py", 3]',
        '["step", "bb',
    ]
    trace = read_trace(lines)
    assert [step.digest for step in trace.steps] == ["aaaa"]
    assert trace.losses_after == (Loss(0.25, "", SourceLine("a.py", 3)),)


def test_child_that_trained_is_chosen_when_the_parent_only_evaluated(tmp_path) -> None:
    (tmp_path / "0000.trace").write_text('["evaluation", "x", 1.0, "Net", "", 0]\n')
    (tmp_path / "0001.trace").write_text('["step", "aaaa", 1.0, "SGD", "", 0]\n')
    (tmp_path / "0002.trace").write_text('["step", "bbbb", 1.0, "SGD", "", 0]\n')
    assert [step.digest for step in choose_trace(sorted(tmp_path.iterdir())).steps] == ["aaaa"]
