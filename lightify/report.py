"""What a conversion did, as values for machines and text for people: JSON, SARIF, plain text, rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from lightify import __version__
from lightify.convert import Conversion
from lightify.errors import Diagnostic, SourceSpan
from lightify.jobs import Outcome, Status
from lightify.upgraded import Upgrade

if TYPE_CHECKING:
    from rich.console import Console

Json = dict[str, object]

SCHEMA = 1
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def _why(conversion: Conversion) -> str:
    return "why not automatic" if conversion.mode == "manual" else "note"


def outcomes_to_json(outcomes: Iterable[Outcome]) -> Json:
    """The document that `--json` prints; its fields are described in docs/cli.md and only ever added to."""
    return {"schema": SCHEMA, "lightify": __version__, "files": [_outcome_to_json(outcome) for outcome in outcomes]}


def conversion_to_json(conversion: Conversion) -> Json:
    """One conversion without what the disk adds; the fixtures' report.json."""
    return {
        "mode": conversion.mode,
        "reasons": list(conversion.reasons),
        "found": [
            {
                "kind": found.kind,
                "name": found.name,
                "detail": found.detail,
                "path": found.span.path if found.span else None,
                "place": _place(found.span),
            }
            for found in conversion.found
        ],
        "ledger": {
            "count": conversion.ledger.count(),
            "statements": [
                {
                    "path": entry.span.path,
                    "place": _place(entry.span),
                    "text": entry.text,
                    "fate": entry.fate.value,
                    "target": entry.target,
                    "reason": entry.reason,
                }
                for entry in conversion.ledger.entries
            ],
        },
        "refusals": [diagnostic_to_json(refusal) for refusal in conversion.refusals],
        "findings": [diagnostic_to_json(finding) for finding in conversion.findings],
        "departures": list(conversion.departures),
    }


def diagnostic_to_json(diagnostic: Diagnostic) -> Json:
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "path": diagnostic.span.path if diagnostic.span else None,
        "place": _place(diagnostic.span),
    }


def _outcome_to_json(outcome: Outcome) -> Json:
    report: Json = {
        "path": outcome.path,
        "status": outcome.status.value,
        "target": outcome.target,
        "written": outcome.written or None,
        "backup": outcome.backup or None,
        "changes": outcome.changes,
        "problem": diagnostic_to_json(outcome.problem) if outcome.problem else None,
    }
    if isinstance(outcome.conversion, Upgrade):
        return {**report, **_upgrade_to_json(outcome.conversion)}
    return report if outcome.conversion is None else {**report, **conversion_to_json(outcome.conversion)}


def _upgrade_to_json(upgrade: Upgrade) -> Json:
    return {
        "rewrites": [
            {"form": found.form, "place": _place(found.span), "old": found.old, "new": found.new}
            for found in upgrade.rewrites
        ],
        "refusals": [diagnostic_to_json(refusal) for refusal in upgrade.refusals],
        "findings": [diagnostic_to_json(finding) for finding in upgrade.findings],
    }


def _place(span: SourceSpan | None) -> Json | None:
    """Lines and columns count from 1, as editors do; the end column is exclusive."""
    if span is None:
        return None
    end_line = span.end_line or span.line
    end_column = span.end_column if span.end_line else span.column
    place: Json = {"line": span.line, "column": span.column + 1, "end_line": end_line, "end_column": end_column + 1}
    return {"cell": span.cell, **place} if span.cell else place


def outcomes_to_sarif(outcomes: Sequence[Outcome]) -> Json:
    """A SARIF 2.1.0 log of every problem, refusal and finding."""
    found = [(outcome, diagnostic) for outcome in outcomes for diagnostic in outcome.diagnostics]
    codes = sorted({diagnostic.code for _, diagnostic in found})
    driver: Json = {
        "name": "lightify",
        "version": __version__,
        "rules": [{"id": code, "helpUri": _page(code), "shortDescription": {"text": code}} for code in codes],
    }
    results = [
        {
            "ruleId": diagnostic.code,
            "ruleIndex": codes.index(diagnostic.code),
            "level": diagnostic.severity,
            "message": {"text": ". ".join(filter(None, (diagnostic.message, diagnostic.hint)))},
            "locations": [_sarif_location(diagnostic.span or SourceSpan(outcome.path, 1))],
        }
        for outcome, diagnostic in found
    ]
    run: Json = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _page(code: str) -> str:
    return f"docs/{'findings' if code.startswith('LF4') else 'diagnostics'}.md#{code.lower()}"


def _sarif_location(span: SourceSpan) -> Json:
    region: Json = {"startLine": max(span.line, 1), "startColumn": span.column + 1}
    if span.end_line and (span.end_line, span.end_column) > (span.line, span.column):
        region |= {"endLine": span.end_line, "endColumn": span.end_column + 1}
    uri = quote(span.path.replace("\\", "/"))
    location: Json = {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
    return {**location, "logicalLocations": [{"name": f"cell {span.cell}"}]} if span.cell else location


def summary_line(outcome: Outcome) -> str:
    """One sentence: what became of the file."""
    if outcome.status is Status.UPGRADED:
        return f"{outcome.path}: {_upgraded(outcome)}"
    if not isinstance(outcome.conversion, Conversion) or outcome.conversion.mode is None:
        return f"{outcome.path}: {outcome.status.value}"
    mode = f"{outcome.conversion.mode} optimization"
    if outcome.written == outcome.path:
        return f"{outcome.path}: converted in place, {mode}; the old file is {outcome.backup}"
    if outcome.written:
        return f"{outcome.path}: converted to {outcome.written}, {mode}"
    return f"{outcome.path}: can be converted, {mode}; nothing was written"


def _upgraded(outcome: Outcome) -> str:
    if outcome.written == outcome.path:
        return f"upgraded in place; the old file is {outcome.backup}"
    return f"upgraded to {outcome.written}" if outcome.written else "can be upgraded; nothing was written"


def report_text(outcome: Outcome) -> str:
    """The report on one file, for people: mode and why, what became of its statements, what was noticed."""
    lines = [summary_line(outcome)]
    conversion = outcome.conversion
    if isinstance(conversion, Upgrade):
        lines += [f"{found.span}: {found.form}: {found.old} -> {found.new}" for found in conversion.rewrites]
        lines += [diagnostic_text(finding) for finding in conversion.findings]
    elif conversion is not None:
        lines += [f"  {_why(conversion)}: {reason}" for reason in conversion.reasons]
        if conversion.ledger.entries:
            lines.append(f"  statements: {counts_text(conversion)}")
        lines += [f"  from {m.path}: {', '.join(m.names)}; that file stays as it is" for m in conversion.elsewhere]
        lines += [f"  differs from the script: {departure}" for departure in conversion.departures]
        lines += [diagnostic_text(finding) for finding in conversion.findings]
    return "\n".join(lines)


def _line(span: SourceSpan, conversion: Conversion) -> str:
    """The line, with its file where that is another one."""
    return str(span.line) if span.path == conversion.source.path else f"{span.path}:{span.line}"


def counts_text(conversion: Conversion) -> str:
    return ", ".join(f"{number} {fate}" for fate, number in conversion.ledger.count().items())


def diagnostic_text(diagnostic: Diagnostic) -> str:
    """`path:line:col: LF201 message` and its hint; warnings and notes say that they are."""
    if diagnostic.severity == "error":
        return str(diagnostic)
    code = f"{diagnostic.code} {diagnostic.severity}:"
    return str(Diagnostic(code, diagnostic.message, diagnostic.span, diagnostic.hint))


def print_summary(outcomes: Sequence[Outcome], console: Console) -> None:
    """One table over many files, and one line with the totals."""
    from rich.table import Table
    from rich.text import Text

    if any(isinstance(outcome.conversion, Upgrade) for outcome in outcomes):
        columns: tuple[str, ...] = ("rewrites",)
        table = Table("file", "result", box=None, pad_edge=False)
    else:
        columns = ("kept", "moved", "replaced", "dropped", "findings")
        table = Table("file", "result", "optimization", box=None, pad_edge=False)
    green = dict.fromkeys((Status.CONVERTED, Status.UPGRADED), "green")
    style = {**green, Status.UNNEEDED: "dim", Status.REFUSED: "yellow", Status.FAILED: "red"}
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("remark", overflow="fold")
    for outcome in outcomes:
        conversion = outcome.conversion
        numbers = [""] * len(columns)
        mode: tuple[str, ...] = ("",) if len(columns) > 1 else ()
        if isinstance(conversion, Upgrade):
            numbers = [str(len(conversion.rewrites))]
        elif conversion is not None and conversion.text is not None:
            numbers = [*map(str, conversion.ledger.count().values()), str(len(conversion.findings))]
            mode = (conversion.mode or "",)
        table.add_row(
            Text(outcome.path),
            Text(outcome.status.value, style=style[outcome.status]),
            *mode,
            *numbers,
            Text(_remark(outcome)),
        )
    console.print(table)
    totals = [(status, sum(outcome.status is status for outcome in outcomes)) for status in Status]
    console.print(", ".join(f"{number} {status.value}" for status, number in totals if number), highlight=False)


def _remark(outcome: Outcome) -> str:
    if outcome.status in (Status.CONVERTED, Status.UPGRADED):
        return outcome.written or ("would change" if outcome.changes else "up to date")
    worst = outcome.diagnostics[:1]
    if outcome.status is Status.UNNEEDED:
        return "".join(diagnostic.message for diagnostic in worst)
    return "".join(f"{d.code} {d.span.where}: {d.message}" if d.span else f"{d.code} {d.message}" for d in worst)


def print_inspection(outcome: Outcome, console: Console) -> None:
    """What was found and where, the answer and its reasons, and the fate of every statement."""
    from rich.table import Table
    from rich.text import Text

    conversion = outcome.conversion
    if not isinstance(conversion, Conversion):
        return
    console.print(Text(summary_line(outcome), style="bold"))
    for reason in conversion.reasons:
        console.print(Text(f"  {_why(conversion)}: {reason}"))
    if conversion.found:
        table = Table("found", "name", "line", "detail", box=None, pad_edge=False)
        for found in conversion.found:
            line = _line(found.span, conversion) if found.span else ""
            table.add_row(Text(found.kind), Text(found.name), line, Text(found.detail))
        console.print()
        console.print(table)
    if conversion.ledger.entries:
        style = {"kept": "dim", "moved": "cyan", "replaced": "magenta", "dropped": "red"}
        table = Table("line", "statement", "fate", "where to, why", box=None, pad_edge=False)
        for entry in conversion.ledger.entries:
            fate = Text(entry.fate.value, style=style[entry.fate.value])
            where = ": ".join(filter(None, (entry.target, entry.reason)))
            table.add_row(
                _line(entry.span, conversion), Text(entry.text, overflow="ellipsis", no_wrap=True), fate, Text(where)
            )
        console.print()
        console.print(table)
        console.print(f"\n{counts_text(conversion)}", highlight=False)
    for diagnostic in (*conversion.refusals, *conversion.findings):
        console.print(Text(diagnostic_text(diagnostic)))
