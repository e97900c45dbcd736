"""Scripts that nobody would write: whatever is changed in a fixture, there is a result that holds or a clear refusal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightify.jobs import Job, run
from lightify.ledger import Fate

INPUTS = sorted((Path(__file__).parent.parent / "fixtures").glob("*/input.py"))
EDITS = st.sampled_from(["delete", "double", "swap", "indent", "open", "augment", "cut"])


@st.composite
def scripts(draw: st.DrawFn) -> str:
    """A fixture after one to three edits that know nothing of Python."""
    lines = draw(st.sampled_from(INPUTS)).read_text(encoding="utf-8").split("\n")
    for _ in range(draw(st.integers(1, 3))):
        here, there = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match draw(EDITS):
            case "delete":
                del lines[here]
            case "double":
                lines.insert(there, lines[here])
            case "swap":
                lines[here], lines[there] = lines[there], lines[here]
            case "indent":
                lines[here] = f"    {lines[here]}"
            case "open":
                lines[here] = lines[here].replace("(", "((", 1)
            case "augment":
                lines[here] = lines[here].replace(" = ", " += ", 1)
            case "cut":
                lines = lines[: max(here, 1)]
        lines = lines or [""]
    return "\n".join(lines)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=scripts())
def test_no_input_is_a_fault(text: str) -> None:
    outcome = run(Job("-", stdin=text.encode(), write=False))
    assert not outcome.fault, outcome.fault
    if outcome.conversion is None:
        assert outcome.problem is not None and outcome.problem.span is not None
        return
    result = outcome.conversion
    if result.text is None:
        assert result.refusals
    else:
        ast.parse(result.text)
        assert all(entry.fate in Fate for entry in result.ledger.entries)
        spans = [entry.span for entry in result.ledger.entries]
        assert len(spans) == len(set(spans))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_bytes_are_a_fault(data: bytes) -> None:
    outcome = run(Job("-", stdin=data, write=False))
    assert not outcome.fault, outcome.fault
    assert outcome.problem is not None or outcome.conversion is not None


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 3000 + ")" * 3000,
        "x = " + "-" * 20000 + "1",
        "x = " + " + ".join(["1"] * 20000),
        "if x:\n" + "".join(" " * depth + "if x:\n" for depth in range(1, 150)) + " " * 150 + "pass\n",
        "x = '" + "a" * 1_000_000 + "'",
        "\n" * 100_000,
        "x = 1\x0c\ny = 2",
        "x = 1\\",
        "\ufeff\ufeffx = 1",
    ],
    ids=["parentheses", "unary", "sum", "blocks", "long string", "blank", "form feed", "backslash", "two marks"],
)
def test_extremes_are_no_fault(text: str) -> None:
    outcome = run(Job("-", stdin=text.encode(), write=False))
    assert not outcome.fault, outcome.fault[-600:]
