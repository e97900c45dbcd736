"""What holds for every script: generated ones and those of the fixtures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightify.convert import Conversion
from lightify.ledger import missing_and_double
from lightify.sources import Source
from lightify.syntax.parse import parse
from tests.converter.scripts import PROLOGUE, STEP, converted, methods, script

FIXTURES = Path(__file__).parents[2] / "fixtures"
TEXTS = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(FIXTURES.glob("*/input.py"))}
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))

BATCH_LINES = (
    "n = len(x)",
    "total += loss.item()",
    "if len(x) < 8:\n    n = 1",
    "last = loss.detach()",
    "print(f'loss {loss.item():.3f}')",
    "history.append(float(loss))",
    "for group in optimizer.param_groups:\n    n = group['lr']",
)
EPOCH_LINES = ("total = 0.0", "model.train()", "history = []", "print(epoch)", "# a comment of the user\nn = 0")
END_LINES = (
    "print(total / len(train_loader))",
    "scheduler.step()",
    "best = max(best, total)",
    "model.eval()\nwith torch.no_grad():\n    for a, b in val_loader:\n        print(model(a).sum())\nmodel.train()",
    "if epoch == 1:\n    break",
)
BEFORE = (
    "total, n, best, history, last = 0.0, 0, 0.0, [], None\nscheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\n"
)


@st.composite
def scripts(draw: st.DrawFn) -> str:
    def some(lines: tuple[str, ...]) -> str:
        return "\n".join(draw(st.lists(st.sampled_from(lines), max_size=3)))

    head = draw(st.sampled_from(("for x, y in train_loader:", "for i, (x, y) in enumerate(train_loader):")))
    after = draw(st.sampled_from(("", "print(total, n)", "print(last, history, best)")))
    return script(
        f"{STEP}\n{some(BATCH_LINES)}",
        before=BEFORE,
        start=some(EPOCH_LINES),
        batches=head,
        end=some(END_LINES),
        after=after,
    )


def check(text: str, done: Conversion) -> None:
    """Everything that must hold for a conversion, whatever it is of."""
    tree = parse(Source("script.py", text))
    if done.text is None:
        assert done.refusals and all(refusal.code and refusal.message for refusal in done.refusals)
        return
    ast.parse(done.text)
    assert missing_and_double(done.ledger, tree.spans.values()) == ([], [])
    again = converted(done.text)
    assert again.text is None and again.refusals[0].message.endswith("already: nothing to convert")
    for entry in done.ledger.entries:
        assert entry.target or entry.reason or entry.fate.value == "kept"


@QUICK
@given(scripts())
def test_generated_scripts(text: str) -> None:
    done = converted(text)
    assert done.text is not None
    check(text, done)


@QUICK
@given(scripts())
def test_reading_changes_no_text(text: str) -> None:
    assert parse(Source("script.py", text)).module.code == text


@QUICK
@given(scripts(), st.sampled_from(("loss", "model", "optimizer", "x", "total")))
def test_a_name_does_not_decide(text: str, name: str) -> None:
    renamed = re.sub(rf"\b{name}\b(?!\s*=?\s*\{{)", "renamed_one", text.replace(f"'{name} ", "'metric "))
    one, other = converted(text), converted(renamed)
    assert (one.mode, one.reasons) == (other.mode, other.reasons)
    assert sorted(methods(one.text)) == sorted(methods(other.text))


@QUICK
@given(scripts())
def test_the_way_of_importing_does_not_decide(text: str) -> None:
    changed = (
        text.replace("from torch import nn\n", "import torch.nn as nn\n")
        .replace("torch.optim.SGD", "SGD")
        .replace("import copy\n", "from torch.optim import SGD\n")
    )
    one, other = converted(text), converted(changed)
    assert (one.mode, one.reasons) == (other.mode, other.reasons)
    assert sorted(methods(one.text)) == sorted(methods(other.text))


@QUICK
@given(scripts(), st.integers(0, 9))
def test_comments_of_kept_and_moved_statements_stay(text: str, place: int) -> None:
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if re.match(r" *(total|n|history|loss|model|data) = ", line)]
    number = places[place % len(places)]
    indentation = re.match(" *", lines[number]).group()  # type: ignore[union-attr]
    lines.insert(number, f"{indentation}# the user's own words")
    done = converted("\n".join(lines) + "\n")
    entry = next((e for e in done.ledger.entries if e.span.line == number + 2), None)
    assert entry is not None and done.text is not None
    to_a_hook = entry.fate.value == "moved" and entry.target.startswith(("on_", "training", "validation"))
    if entry.fate.value == "kept" or to_a_hook:
        assert "# the user's own words" in done.text


@pytest.mark.parametrize("case", TEXTS)
def test_fixtures(case: str) -> None:
    try:
        done = converted(TEXTS[case])
    except Exception as error:  # only a clear message may stop a conversion
        pytest.fail(f"{type(error).__name__}: {error}")
    check(TEXTS[case], done)


def test_the_prologue_stays_as_it_is_written() -> None:
    done = converted(script())
    assert done.text is not None
    for line in PROLOGUE.splitlines():
        assert line in done.text or line.startswith("import copy")
