"""A verdict for the reader: rich table and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightify.verify.compare import Outcome, StepRow, Verdict
from lightify.verify.trace import Run

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {Outcome.IDENTICAL: "green", Outcome.DIFFERS: "red", Outcome.OTHER_STEP_COUNT: "red"}


def render(verdict: Verdict, console: Console, *, max_rows: int = 12) -> None:
    """Prints the step-by-step comparison, shortened to `max_rows`, and the verdict."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{escape(verdict.old.path)}  ->  {escape(verdict.new.path)}", title_justify="left")
    for name in ("step", "loss (old)", "loss (new)", "parameters (old)", "parameters (new)", ""):
        table.add_column(name, justify="right" if name.startswith(("step", "loss")) else "left")
    previous = 0
    for row in _shown_rows(verdict, max_rows):
        if row.number > previous + 1:
            table.add_row("...")
        previous = row.number
        table.add_row(
            str(row.number),
            _losses(row.losses_old),
            _losses(row.losses_new),
            _digest(row.digest_old, row.losses_old),
            _digest(row.digest_new, row.losses_new),
            "[green]=[/]" if row.same else "[red]differs[/]",
        )
    if verdict.rows:
        console.print(table)
    for note in verdict.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    colour = _COLOURS.get(verdict.outcome, "yellow")
    console.print(f"[{colour}]{verdict.outcome.value}[/]: {escape(verdict.sentence)}", highlight=False, soft_wrap=True)
    for run in (verdict.old, verdict.new):
        if run.failed and run.stderr_tail:
            console.print(f"last lines of {escape(run.path)}:\n{escape(run.stderr_tail)}", highlight=False)
    if verdict.outcome is Outcome.DIFFERS:
        hint = f"hint: `lightify verify {verdict.old.path} {verdict.old.path}` tells whether it repeats itself"
        console.print(escape(hint), highlight=False, soft_wrap=True)


def to_json(verdict: Verdict) -> dict[str, object]:
    """The verdict as plain values for `--json`."""
    difference = verdict.difference
    return {
        "outcome": verdict.outcome.value,
        "sentence": verdict.sentence,
        "old": _run(verdict.old),
        "new": _run(verdict.new),
        "difference": None
        if difference is None
        else {
            "step": difference.step,
            "kind": difference.kind,
            "old": difference.old,
            "new": difference.new,
            "path": difference.line.path if difference.line else None,
            "line": difference.line.line if difference.line else None,
        },
        "notes": list(verdict.notes),
    }


def _run(run: Run) -> dict[str, object]:
    return {
        "path": run.path,
        "exit_code": run.exit_code,
        "seconds": round(run.seconds, 3),
        "steps": len(run.trace.steps),
        "losses": [loss.value for loss in run.trace.losses],
        "evaluations": len(run.trace.evaluations),
        "stderr_tail": run.stderr_tail,
    }


def _shown_rows(verdict: Verdict, limit: int) -> list[StepRow]:
    """The first and the last rows and those around the first difference."""
    rows = verdict.rows
    if len(rows) <= limit:
        return list(rows)
    third = max(1, limit // 3)
    centre = next((index for index, row in enumerate(rows) if not row.same), 0)
    near = range(centre - third // 2, centre + third // 2 + 1)
    wanted = {*range(third), *near, *range(len(rows) - third, len(rows))}
    return [rows[index] for index in sorted(wanted) if 0 <= index < len(rows)]


def _losses(values: tuple[float, ...] | None) -> str:
    if values is None:
        return "-"
    return " ".join(f"{value:.7g}" for value in values[:3]) + (" ..." if len(values) > 3 else "")


def _digest(digest: str | None, losses: tuple[float, ...] | None) -> str:
    if digest is None:
        return "-" if losses is None else "by hand"
    return digest[:12]
