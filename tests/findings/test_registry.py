"""Registry, rules, tables and catalogue name the same findings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightify.findings import REGISTRY, RULES
from tests.findings.scripts import findings, script

HERE = Path(__file__).parent
CATALOGUE = Path("docs/findings.md").read_text(encoding="utf-8")


def test_a_good_script_has_no_finding() -> None:
    assert findings(script()) == ()


def test_the_same_finding_on_several_lines_is_one() -> None:
    text = script(batch="loss = criterion(model(x), y)\nloss.backward()\noptimizer.step()")
    text = text.replace("loss.backward()", "loss.backward()\n        print(loss.data[0])\n        print(loss.data[0])")
    (first,) = [d for d in findings(text) if d.code == "LF481"]
    line = text.splitlines().index("        print(loss.data[0])") + 1
    assert first.span is not None and first.span.line == line
    assert first.message.endswith(f"(also in line {line + 1})")


def test_each_finding_has_its_table() -> None:
    assert {f"test_{find.__module__.rpartition('.')[2]}" for find in REGISTRY} <= {
        path.stem for path in HERE.glob("*.py")
    }


@pytest.mark.parametrize("code", RULES)
def test_each_rule_is_found_in_some_example(code: str) -> None:
    assert any(f"# <- {code}" in path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_rule_says_what_happens_to_the_code_and_what_to_do(rule) -> None:
    assert rule.severity in ("warning", "note")
    assert re.match(r"(kept as it is|the name is kept)[;,] \S", rule.hint)


def test_the_catalogue_lists_code_and_severity() -> None:
    listed = re.findall(r"^### (LF\d{3})\n(Warning|Note)\. ", CATALOGUE, re.MULTILINE)
    rules = [(rule.code, rule.severity.capitalize()) for rule in RULES.values()]
    assert listed == sorted([*rules, ("LF499", "Warning")])
