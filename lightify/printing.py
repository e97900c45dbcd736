"""What the commands print and write: reports, problems, differences, and the exit code that follows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from lightify.jobs import Outcome

DONE, WOULD_CHANGE, REFUSED = 0, 1, 2


def report(outcomes: Sequence[Outcome], *, several: bool, to_stderr: bool) -> None:
    """For people: a table over many files; for one, sentences."""
    from lightify.report import print_summary, report_text

    if several:
        print_summary(outcomes, console(to_stderr))
        print_problems([outcome for outcome in outcomes if outcome.fault])
        return
    for outcome in outcomes:
        if outcome.conversion is not None and outcome.conversion.text is not None:
            click.echo(report_text(outcome), err=to_stderr)
    print_problems(outcomes)


def print_problems(outcomes: Sequence[Outcome]) -> None:
    from lightify.jobs import Status
    from lightify.report import diagnostic_text

    for outcome in outcomes:
        refused = outcome.status in (Status.REFUSED, Status.FAILED)  # findings on the others stand in their reports
        conversion = outcome.conversion
        refusals = conversion.refusals if conversion is not None else ()
        for diagnostic in outcome.diagnostics if refused else refusals:
            click.echo(diagnostic_text(diagnostic), err=True)
        if outcome.fault and click.get_current_context().find_root().params.get("traceback"):
            click.echo(outcome.fault, err=True)


def exit_code(outcomes: Sequence[Outcome], *, check: bool, unneeded_fails: bool) -> int:
    from lightify.jobs import Status

    failed = {Status.REFUSED, Status.FAILED}
    if len(outcomes) == 1 and unneeded_fails:
        failed.add(Status.UNNEEDED)
    if any(outcome.status in failed for outcome in outcomes):
        return REFUSED
    return WOULD_CHANGE if check and any(outcome.changes for outcome in outcomes) else DONE


def print_result(outcome: Outcome) -> None:
    conversion = outcome.conversion
    if conversion is not None and conversion.text is not None:
        text = outcome.result.replace("\n", conversion.source.newline)
        sys.stdout.buffer.write(text.encode(conversion.source.encoding))
        sys.stdout.buffer.flush()


def print_json(outcomes: Sequence[Outcome]) -> None:
    from lightify.report import outcomes_to_json

    click.echo(json.dumps(outcomes_to_json(outcomes), indent=2))


def write_sarif(outcomes: Sequence[Outcome], file: str) -> None:
    from lightify.report import outcomes_to_sarif

    write_report(json.dumps(outcomes_to_sarif(outcomes), indent=2) + "\n", file)


def write_report(text: str, file: str) -> None:
    from lightify.files import write_text

    if file == "-":
        click.echo(text, nl=False)
    else:
        write_text(Path(file), text, replace=True)


def console(to_stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    return Console(stderr=to_stderr, width=None if stream.isatty() else 140, highlight=False)
