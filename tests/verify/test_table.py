"""What a reader sees of a verdict."""

from __future__ import annotations

import io
import json

from rich.console import Console

from lightify.verify import Run, Trace, Verdict, compare, render, to_json
from lightify.verify.trace import Loss, Step


def runs(changed_at: int | None, count: int = 30) -> Verdict:
    def trace(changed: bool) -> Trace:
        digests = [
            f"{number:04}{'x' if changed and changed_at is not None and number >= changed_at else 'o'}"
            for number in range(1, count + 1)
        ]
        return Trace(tuple(Step(digest, 1.0, "SGD", (Loss(0.5, ""),)) for digest in digests))

    old, new = (Run(f"{name}.py", 0, 1.0, "", trace(changed)) for name, changed in (("old", False), ("[new]", True)))
    return compare(old, new)


def printed(verdict: Verdict) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render(verdict, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_identical_run_shows_first_and_last_steps() -> None:
    text = printed(runs(None))
    assert "identical: 30 steps, 30 losses, 0 evaluation outputs" in text
    assert "0001o" in text and "0030o" in text and "0015o" not in text
    assert "hint:" not in text


def test_steps_around_the_first_difference_are_shown() -> None:
    text = printed(runs(15))
    assert "0014o" in text and "0015x" in text and "0016x" in text
    assert "0010o" not in text
    assert "parameters differ at step 15" in text
    assert "lightify verify old.py old.py" in text


def test_names_that_look_like_markup_are_printed_as_they_are() -> None:
    assert "[new].py" in printed(runs(3))


def test_json_has_the_verdict_and_survives_a_round_trip() -> None:
    data = json.loads(json.dumps(to_json(runs(15))))
    assert data["outcome"] == "differs"
    assert data["difference"]["step"] == 15 and data["difference"]["kind"] == "parameters"
    assert data["old"]["steps"] == 30 and len(data["new"]["losses"]) == 30
