"""Scripts for the tables of forms, and what a row of a table asks."""

from __future__ import annotations

import ast
from textwrap import dedent, indent

from lightify.files import diff_text
from lightify.settings import Settings
from lightify.sources import Source
from lightify.upgrade import upgrade
from lightify.upgraded import Upgrade

HEAD = "import torch\nimport lightify.runtime as pl\n\n\n"  # today's import: the form `imports` has nothing to do


def of_module(body: str, base: str = "pl.LightningModule") -> str:
    return f"{HEAD}class M({base}):\n{indent(dedent(body).strip(), '    ')}\n"


def script(body: str) -> str:
    return HEAD + dedent(body).strip() + "\n"


def run(text: str, **settings: str) -> Upgrade:
    return upgrade(Source("old.py", text), Settings(**settings))  # type: ignore[arg-type]


def check_same(text: str) -> None:
    result = run(text)
    assert result.refusals == () and result.rewrites == ()
    assert result.text == text


def check(before: str, after: str, form: str, **settings: str) -> None:
    """The text becomes the other, by that form at least, and stays so."""
    result = run(before, **settings)
    assert result.refusals == ()
    assert result.text is not None
    assert diff_text(after, result.text, "expected", "result") == ""
    ast.parse(result.text)
    assert form in {rewrite.form for rewrite in result.rewrites}
    again = run(result.text, **settings)
    assert again.text == result.text and again.rewrites == ()


def check_refused(text: str, reason: str, line_with: str) -> None:
    """Refused for that reason at the line that holds `line_with`; nothing would be written."""
    result = run(text)
    assert result.text is None
    (refusal,) = [refusal for refusal in result.refusals if reason in refusal.message]
    assert refusal.span is not None and refusal.hint
    assert line_with in text.splitlines()[refusal.span.line - 1]
