"""The command line: options, settings, one call, a report, an exit code."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec

import click

from lightify import __version__
from lightify.errors import LightifyError
from lightify.printing import (
    DONE,
    REFUSED,
    console,
    exit_code,
    print_json,
    print_problems,
    print_result,
    report,
    write_report,
    write_sarif,
)

if TYPE_CHECKING:
    from lightify.jobs import Job, Outcome

# What a command does not use it does not load: converting imports no torch, verifying no libcst, one file no rich.

P = ParamSpec("P")


class ScriptArguments(click.Command):
    """A command whose part after `--` belongs to the user's script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            args, ctx.meta["script_args"] = args[:cut], args[cut + 1 :]
        return super().parse_args(ctx, args)


def _guarded(command: Callable[P, int]) -> Callable[P, NoReturn]:
    """Turns what a command returns or raises into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter is no reason to stop
                stream.reconfigure(errors="backslashreplace")
        try:
            code = command(*args, **kwargs)
        except LightifyError as error:
            click.echo(error, err=True)
            code = REFUSED
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            from lightify.jobs import internal_fault

            click.echo(internal_fault("lightify", error), err=True)
            if click.get_current_context().find_root().params.get("traceback"):
                click.echo(traceback.format_exc(), err=True)
            code = REFUSED
        click.get_current_context().exit(code)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lightify")
@click.option("--traceback", is_flag=True, help="Show where a fault of lightify's own came from.")
def cli(traceback: bool) -> None:
    """Turns plain PyTorch training scripts into Lightning modules that train identically, and proves it.

    Exit codes: 0 done; 1 something would change, or differs; 2 refused, or wrong use.
    """


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--runtime", type=click.Choice(["bundled", "lightning"]), help="What the result imports."),
        click.option("--style", type=click.Choice(["faithful", "idiomatic"]), help="Identity first, or idiom first."),
        click.option("--data-module", is_flag=True, default=None, help="Move the loaders into a LightningDataModule."),
        click.option("--line-length", type=int, help="Where lines that change are wrapped.  [default: 100]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Wanted:
    """What is read, and where results and reports go."""

    paths: tuple[str, ...]
    output: str | None
    in_place: bool
    force: bool
    diff: bool
    check: bool
    as_json: bool
    sarif: str | None
    jobs: int


def _output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them to a command, which gets them as one value."""
    options = [
        click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
        click.option("-o", "--output", metavar="OUT", help="File or folder to write; - is standard output."),
        click.option("--in-place", is_flag=True, help="Replace the source; a backup stays beside it."),
        click.option("--force", is_flag=True, help="Replace an output that exists."),
        click.option("--diff", is_flag=True, help="Print the difference and write nothing."),
        click.option("--check", is_flag=True, help="Write nothing; exit with 1 when something would change."),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
        click.option("--sarif", metavar="FILE", help="Write problems and findings as SARIF 2.1.0; - prints them."),
        click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="N files at a time."),
    ]

    @functools.wraps(command)
    def with_wanted(**given: Any) -> Any:
        return command(_Wanted(**{field.name: given.pop(field.name) for field in fields(_Wanted)}), **given)

    for option in reversed(options):
        with_wanted = option(with_wanted)
    return with_wanted


@cli.command(cls=ScriptArguments)
@_output_options
@_settings_options
@click.option("--vendor", is_flag=True, default=None, help="Copy the runtime beside the result and import the copy.")
@click.option("--verify", "prove", is_flag=True, help="Train source and result, and compare them step by step.")
@click.option("--steps", type=int, help="With --verify: compare this many optimizer steps only.")
@_guarded
def convert(wanted: _Wanted, prove: bool, steps: int | None, **options: object) -> int:
    """Convert scripts, notebooks or folders; - reads standard input.

    The result goes beside its source as NAME_lit.py. What follows `--` is given to the scripts by --verify.
    """
    if prove and (wanted.diff or wanted.check or "-" in (*wanted.paths, wanted.output)):
        raise click.UsageError("--verify needs a source and a result that are files")
    outcomes, code = _carry_out(wanted, "convert", options)
    if prove and code == DONE:
        code = max((_prove(outcome, steps) for outcome in outcomes if outcome.written), default=DONE)
    return code


@cli.command()
@_output_options
@click.option("--runtime", type=click.Choice(["bundled", "lightning"]), help="What the result imports.")
@_guarded
def upgrade(wanted: _Wanted, **options: object) -> int:
    """Rewrite Lightning 1.x scripts, notebooks or folders as 2.x; - reads standard input.

    The result goes beside its source as NAME_lit.py. A file with a form that cannot be rewritten safely is refused.
    """
    return _carry_out(wanted, "upgrade", options)[1]


def _carry_out(
    wanted: _Wanted, task: Literal["convert", "upgrade"], options: dict[str, object]
) -> tuple[list[Outcome], int]:
    """Does one task for every file, prints what is to be printed, and says how it went."""
    from lightify.jobs import run_all

    if wanted.in_place and wanted.output is not None:
        raise click.UsageError("--in-place and --output exclude each other")
    if wanted.in_place and "-" in wanted.paths:
        raise click.UsageError("standard input cannot be changed in place")
    if wanted.sarif == "-" and wanted.as_json:
        raise click.UsageError("--json and --sarif - both print to standard output")
    dry = wanted.diff or wanted.check
    work = [
        replace(job, task=task, in_place=wanted.in_place, force=wanted.force, write=not dry)
        for job in _make_jobs(wanted.paths, wanted.output, options)
    ]
    prints_text = not dry and any(job.target == "-" for job in work)
    if prints_text and (wanted.as_json or wanted.sarif == "-"):
        raise click.UsageError("the result and the report cannot both go to standard output; give -o")
    outcomes = list(run_all(work, wanted.jobs))
    if prints_text:
        for outcome in outcomes:
            print_result(outcome)
    if wanted.diff and not wanted.as_json:
        for outcome in outcomes:
            click.echo(outcome.diff, nl=False)
    if wanted.sarif is not None:
        write_sarif(outcomes, wanted.sarif)
    if wanted.as_json:
        print_json(outcomes)
    several = len(wanted.paths) > 1 or os.path.isdir(wanted.paths[0])
    report(outcomes, several=several, to_stderr=prints_text or wanted.diff or wanted.as_json)
    named = task == "convert" and not wanted.check  # asked for by name, and not done
    return outcomes, exit_code(outcomes, check=wanted.check, unneeded_fails=named)


@cli.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", metavar="FILE", help="Write a page with source and result side by side; - prints it.")
@click.option("--sarif", metavar="FILE", help="Write problems and findings as SARIF 2.1.0; - prints them.")
@_settings_options
@_guarded
def inspect(path: str, as_json: bool, html: str | None, sarif: str | None, **options: object) -> int:
    """Show what was found in a script, which answer it gets and why, and the fate of every statement.

    Writes nothing beside what --html and --sarif name, and runs nothing.
    """
    from lightify.convert import Conversion
    from lightify.jobs import run

    outcome = run(replace(_make_jobs((path,), None, options)[0], write=False))
    if html is not None and isinstance(outcome.conversion, Conversion):
        from lightify.page import html_page

        write_report(html_page(outcome.conversion), html)
    if sarif is not None:
        write_sarif([outcome], sarif)
    if as_json:
        print_json([outcome])
    elif "-" not in (html, sarif):
        from lightify.report import print_inspection

        print_inspection(outcome, console())
    print_problems([outcome])
    return exit_code([outcome], check=False, unneeded_fails=False)


@cli.command(cls=ScriptArguments)
@click.argument("old")
@click.argument("new", required=False)
@click.option("--steps", type=int, help="Leave each script after this many optimizer steps.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds that each script may take.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of both runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_settings_options
@_guarded
def verify(
    old: str, new: str | None, steps: int | None, timeout: float, seed: int, as_json: bool, **options: object
) -> int:
    """Run two scripts and compare losses, parameters and evaluations step by step, bit for bit.

    Without NEW, OLD is compared with its conversion. What follows `--` is given to both scripts.
    """
    if new is not None:
        return _compare(old, new, steps, timeout, seed, as_json)
    with _converted_beside(old, options) as temporary:
        return _compare(old, temporary, steps, timeout, seed, as_json)


def _make_jobs(paths: Sequence[str], output: str | None, options: dict[str, object]) -> list[Job]:
    from lightify.configfile import settings_for
    from lightify.jobs import Job
    from lightify.sources import find_sources

    sources = find_sources(paths)
    first = Path(paths[0])
    settings = settings_for(Path.cwd() if paths[0] == "-" else first if first.is_dir() else first.parent, options)
    several = len(sources) > 1 or first.is_dir()
    if several and output == "-":
        raise click.UsageError("several results cannot go to standard output; give a folder with -o")
    if several and output is not None and os.path.isfile(output):
        raise click.UsageError(f"several results need a folder, and {output} is a file")
    into_folder = output is not None and output != "-" and (several or os.path.isdir(output))
    stdin = sys.stdin.buffer.read() if "-" in sources else b""
    jobs = []
    for source in sources:
        target = output
        if into_folder:
            target = str(Path(output or ".") / _below(source, paths))
        jobs.append(Job(source, settings, target, stdin=stdin))
    return jobs


def _below(source: str, paths: Sequence[str]) -> Path:
    """The source's place under the folder that the user named."""
    for path in paths:
        if os.path.isdir(path) and Path(source).is_relative_to(path):
            return Path(source).relative_to(path)
    return Path("stdin.py" if source == "-" else Path(source).name)


def _prove(outcome: Outcome, steps: int | None) -> int:
    old = outcome.backup or outcome.path
    code = _compare(old, outcome.written, steps, timeout_s=600.0, seed=0, as_json=False)
    if code != DONE:
        click.echo(f"{outcome.written}: kept for you to look at; the source is {old}", err=True)
    return code


def _compare(old: str, new: str, steps: int | None, timeout_s: float, seed: int, as_json: bool) -> int:
    from lightify.verify import render, to_json, verify

    args = click.get_current_context().meta.get("script_args", [])
    verdict = verify(Path(old), Path(new), steps=steps, timeout_s=timeout_s, args_old=args, seed=seed)
    if as_json:
        click.echo(json.dumps(to_json(verdict), indent=2))
    else:
        render(verdict, console())
    return verdict.exit_code


@contextmanager
def _converted_beside(old: str, options: dict[str, object]) -> Iterator[str]:
    """The conversion in a hidden file beside its source, where the source's own imports are found."""
    from lightify.configfile import settings_for
    from lightify.convert import convert
    from lightify.files import write_text
    from lightify.sources import read_source

    source = read_source(old)
    conversion = convert(source, settings_for(Path(old).parent, options))
    if conversion.text is None:
        raise LightifyError(conversion.refusals[0])
    folder = Path(old).parent
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{Path(old).stem}.", suffix=".py", dir=folder)
    except OSError as error:
        message = f"no temporary file can be made: {error.strerror or error}"
        raise LightifyError.at(folder, "LF010", message, "give NEW as well") from None
    os.close(descriptor)
    try:
        write_text(Path(name), conversion.text, encoding=source.encoding, newline=source.newline, replace=True)
        yield name
    finally:
        os.unlink(name)
