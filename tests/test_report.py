"""Reports: the same conversion as sentences, JSON, SARIF and a page; every form holds every message."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import jsonschema
import pytest
from rich.console import Console

from lightify.convert import Conversion, Found
from lightify.errors import Diagnostic, Refusal, SourceSpan
from lightify.jobs import Outcome, Status
from lightify.ledger import Fate, Ledger, LedgerEntry
from lightify.page import html_page, result_lines
from lightify.plan.adoption import Moved
from lightify.report import outcomes_to_json, outcomes_to_sarif, print_inspection, print_summary, report_text
from lightify.sources import Source

SOURCE = "import torch\nnet = <Net>()\nfor x in data:\n    loss = net(x)\n    loss.backward()\n    opt.step()\nprint('done')\n"
RESULT = "import torch\nclass Lit:\n    def training_step(self, x):\n        loss = net(x)\n        return loss\nprint('done')\n"


def span(line: int, column: int = 0, end_line: int = 0, end_column: int = 0) -> SourceSpan:
    return SourceSpan("a b/train.py", line, column, end_line, end_column)


ENTRIES = (
    LedgerEntry(span(1), "import torch", Fate.KEPT),
    LedgerEntry(span(4), "loss = net(x)", Fate.MOVED, "Lit.training_step"),
    LedgerEntry(span(5), "loss.backward()", Fate.REPLACED, "training_step", "the Trainer does it"),
    LedgerEntry(span(6), "opt.step()", Fate.DROPPED, "", "the Trainer <steps>"),
    LedgerEntry(span(7), "print('done')", Fate.KEPT),
)
CONVERTED = Outcome(
    "a b/train.py",
    Status.CONVERTED,
    "a b/train_lit.py",
    Conversion(
        Source("a b/train.py", SOURCE),
        RESULT,
        mode="manual",
        reasons=("two optimizers",),
        found=(Found("model", "net", span(2), "of class Net"),),
        ledger=Ledger(ENTRIES),
        findings=(Diagnostic("LF402", "no zero_grad", span(4, 4, 4, 17), "add it", "warning"),),
        departures=("means by self.log",),
    ),
    RESULT,
    written="a b/train_lit.py",
    changes=True,
)
REFUSED = Outcome(
    "b.py",
    Status.REFUSED,
    conversion=Conversion(
        Source("b.py", "x"), None, refusals=(Refusal("LF203", "async loop", SourceSpan("b.py", 3), "no"),)
    ),
)
FAILED = Outcome(
    "c.py", Status.FAILED, problem=Diagnostic("LF003", "no such file or folder", SourceSpan("c.py", 1), "look")
)
ALL = [CONVERTED, REFUSED, FAILED]
MESSAGES = ["LF402", "no zero_grad", "add it", "LF203", "async loop", "LF003", "no such file or folder"]


def test_sentences_name_the_answer_its_reasons_and_what_was_noticed() -> None:
    assert report_text(CONVERTED).splitlines() == [
        "a b/train.py: converted to a b/train_lit.py, manual optimization",
        "  why not automatic: two optimizers",
        "  statements: 2 kept, 1 moved, 1 replaced, 1 dropped",
        "  differs from the script: means by self.log",
        "a b/train.py:4:5: LF402 warning: no zero_grad",
        "  hint: add it",
    ]


def test_json_keeps_its_shape() -> None:
    document = json.loads(json.dumps(outcomes_to_json(ALL)))
    assert document["schema"] == 1
    first, refused, failed = document["files"]
    assert (first["status"], first["mode"], first["written"]) == ("converted", "manual", "a b/train_lit.py")
    assert first["ledger"]["count"] == {"kept": 2, "moved": 1, "replaced": 1, "dropped": 1}
    assert first["ledger"]["statements"][1] == {
        "path": "a b/train.py",
        "place": {"line": 4, "column": 1, "end_line": 4, "end_column": 1},
        "text": "loss = net(x)",
        "fate": "moved",
        "target": "Lit.training_step",
        "reason": "",
    }
    assert first["findings"][0]["place"] == {"line": 4, "column": 5, "end_line": 4, "end_column": 18}
    assert refused["refusals"][0]["code"] == "LF203" and refused["problem"] is None
    assert failed["problem"]["code"] == "LF003" and "ledger" not in failed


SARIF = {  # what SARIF 2.1.0 demands of the parts that we use
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"required": ["driver"], "properties": {"driver": {"required": ["name"]}}},
                    "results": {
                        "items": {
                            "required": ["message"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"]},
                                "locations": {
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "properties": {
                                                    "artifactLocation": {"properties": {"uri": {"pattern": "^[^ ]+$"}}},
                                                    "region": {
                                                        "properties": {
                                                            name: {"type": "integer", "minimum": 1}
                                                            for name in (
                                                                "startLine",
                                                                "startColumn",
                                                                "endLine",
                                                                "endColumn",
                                                            )
                                                        }
                                                    },
                                                }
                                            }
                                        }
                                    }
                                },
                            },
                        }
                    },
                },
            },
        },
    },
}


def test_sarif_is_valid_and_holds_every_message() -> None:
    log = outcomes_to_sarif(ALL)
    jsonschema.validate(log, SARIF)
    text = json.dumps(log)
    assert all(message in text for message in MESSAGES)
    (run,) = log["runs"]  # type: ignore[misc,attr-defined]
    assert [result["level"] for result in run["results"]] == ["warning", "error", "error"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    assert "a%20b/train.py" in text


def test_the_table_has_a_row_for_every_file() -> None:
    printed = io.StringIO()
    print_summary(ALL, Console(file=printed, width=160))
    lines = printed.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["a b/train.py", "b.py", "c.py"]
    assert "LF203 line 3: async loop" in lines[2] and "LF003" in lines[3]
    assert lines[-1] == "1 converted, 1 refused, 1 failed"


def test_an_inspection_shows_what_was_found_and_every_statement() -> None:
    printed = io.StringIO()
    print_inspection(CONVERTED, Console(file=printed, width=160))
    text = printed.getvalue()
    assert "of class Net" in text and "two optimizers" in text
    assert all(entry.text in text for entry in ENTRIES)


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    printed = io.StringIO()
    odd = Outcome("[red]x[/red].py", Status.FAILED, problem=Diagnostic("LF003", "[bold]no[/nothing]", None))
    print_summary([odd], Console(file=printed, width=160))
    assert "[red]x[/red].py" in printed.getvalue() and "[bold]no[/nothing]" in printed.getvalue()


class Page(HTMLParser):
    """Collects ids, links and what would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.foreign: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "src":
                self.foreign.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_its_links_lead_somewhere() -> None:
    page = Page()
    page.feed(html_page(CONVERTED.conversion))  # type: ignore[arg-type]
    assert page.foreign == [] and page.links
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert "net = <Net>()" in page.text and "two optimizers" in page.text


def test_source_lines_find_their_place_in_the_result() -> None:
    path = "a b/train.py"
    found = result_lines(ENTRIES, {path: SOURCE.splitlines()}, RESULT.splitlines())
    assert found == {(path, 1): 1, (path, 4): 4, (path, 5): 3, (path, 7): 6}


def test_code_of_another_file_has_its_own_part_in_the_page_and_its_place_in_the_reports() -> None:
    entry = LedgerEntry(SourceSpan("a b/engine.py", 2), "net.train()", Fate.MOVED, "on_train_epoch_start")
    moved = Moved("a b/engine.py", "def epoch():\n    net.train()\n", ("epoch",))
    assert isinstance(CONVERTED.conversion, Conversion)
    conversion = replace(CONVERTED.conversion, ledger=Ledger((*ENTRIES, entry)), elsewhere=(moved,))
    outcome = replace(CONVERTED, conversion=conversion)
    assert "  from a b/engine.py: epoch; that file stays as it is" in report_text(outcome).splitlines()
    page = Page()
    page.feed(html_page(conversion))
    assert len(page.ids) == len(set(page.ids)) and {"s1", "s1-1", "s1-2"} <= set(page.ids)
    statement = outcomes_to_json([outcome])["files"][0]["ledger"]["statements"][-1]  # type: ignore[index]
    assert (statement["path"], statement["place"]["line"]) == ("a b/engine.py", 2)
    printed = io.StringIO()
    print_inspection(outcome, Console(file=printed, width=160))
    assert "a b/engine.py:2" in printed.getvalue()


@pytest.mark.parametrize("outcome", ALL, ids=lambda outcome: outcome.path)
def test_a_page_for_every_conversion(outcome: Outcome) -> None:
    if outcome.conversion is not None:
        assert html_page(outcome.conversion).endswith("</html>\n")
