"""One script from disk to disk: read, convert, write; what happened comes back as a value.

Jobs run in other processes with `-j`, so here, at their boundary, even a fault of ours becomes a Diagnostic.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightify.convert import Conversion, convert
from lightify.errors import Diagnostic, LightifyError, Refusal, SourceSpan
from lightify.files import back_up, diff_text, refuse_existing, write_text
from lightify.settings import VENDORED_MODULE, Settings
from lightify.sources import RESULT_SUFFIX, Source, read_source
from lightify.syntax.parse import is_deep, too_deep

if TYPE_CHECKING:
    from lightify.upgraded import Upgrade

# Nothing is wrong with these scripts: there is nothing to convert.
UNNEEDED = frozenset({"LF201", "LF202", "LF204", "LF216", "LF218"})


class Status(Enum):
    CONVERTED = "converted"
    UPGRADED = "upgraded"
    UNNEEDED = "nothing to do"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """What to do with one script.

    Attributes:
        task: a plain script to Lightning, or Lightning 1.x to 2.x.
        output: where the result goes; "-" leaves it to the caller to print, None means: beside the source.
        write: False converts without writing.
    """

    path: str
    settings: Settings = Settings()
    output: str | None = None
    task: Literal["convert", "upgrade"] = "convert"
    in_place: bool = False
    write: bool = True
    force: bool = False
    stdin: bytes = b""

    @property
    def target(self) -> str:
        if self.in_place:
            return self.path
        if self.output is not None:
            return self.output
        if self.path == "-":
            return "-"
        path = Path(self.path)
        return str(path.with_name(f"{path.stem}{RESULT_SUFFIX}{path.suffix}"))


@dataclass(frozen=True)
class Outcome:
    """What became of one script.

    Attributes:
        result: the whole text of the file to write; for a notebook its JSON.
        written: the file that was written.
        changes: whether writing changes (or would change) what stands at the target.
        problem: why it failed, when it did.
        fault: the traceback of a fault of ours.
    """

    path: str
    status: Status
    target: str = ""
    conversion: Conversion | Upgrade | None = None
    result: str = ""
    written: str = ""
    backup: str = ""
    changes: bool = False
    diff: str = ""
    problem: Diagnostic | None = None
    fault: str = ""

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Everything there is to say, the worst first."""
        problem = (self.problem,) if self.problem else ()
        if self.conversion is None:
            return problem
        return (*problem, *self.conversion.refusals, *self.conversion.findings)


def run(job: Job) -> Outcome:
    """Does one job; never raises."""
    return finish(job, attempt(job))


def attempt(job: Job) -> Outcome:
    """Does a job but for writing; never raises."""
    return _guarded(job, lambda: _attempt(job))


def finish(job: Job, outcome: Outcome) -> Outcome:
    """Writes what a job made; never raises."""
    writes = outcome.status in (Status.CONVERTED, Status.UPGRADED) and job.write and job.target != "-"
    return _guarded(job, lambda: _write(job, outcome)) if writes else outcome


def _guarded(job: Job, step: Callable[[], Outcome]) -> Outcome:
    try:
        return step()
    except LightifyError as error:
        return Outcome(job.path, Status.FAILED, job.target, problem=error.diagnostic)
    except Exception as error:
        return Outcome(
            job.path, Status.FAILED, job.target, problem=internal_fault(job.path, error), fault=traceback.format_exc()
        )


def run_all(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    """Does the jobs, several at a time; the outcomes come in the order of the jobs.

    All files are read before one is written: a file whose loop another one takes over is not converted itself.
    """
    outcomes = _without_libraries(list(_attempts(jobs, processes)))
    yield from map(finish, jobs, outcomes)


def _attempts(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    if processes <= 1 or len(jobs) <= 1:
        yield from map(attempt, jobs)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(min(processes, len(jobs))) as pool:
        futures = [pool.submit(attempt, job) for job in jobs]
        for job, future in zip(jobs, futures):
            try:
                yield future.result()
            except BrokenProcessPool as error:
                yield Outcome(job.path, Status.FAILED, job.target, problem=internal_fault(job.path, error))


def _without_libraries(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, but files that start no training and whose code another one's hooks run are left as they are."""
    found = {os.path.realpath(outcome.path): outcome for outcome in outcomes}
    holders: dict[str, str] = {}
    for outcome in sorted(outcomes, key=lambda outcome: not _starts(outcome)):
        conversion = outcome.conversion
        if outcome.path in holders or not isinstance(conversion, Conversion):
            continue
        for moved in conversion.elsewhere:
            library = found.get(os.path.realpath(moved.path))
            if library is not None and library is not outcome and _may_be_library(library):
                holders.setdefault(library.path, outcome.path)
    return [_library(outcome, holders[outcome.path]) if outcome.path in holders else outcome for outcome in outcomes]


def _starts(outcome: Outcome) -> bool:
    conversion = outcome.conversion
    return isinstance(conversion, Conversion) and conversion.text is not None and conversion.starts


def _may_be_library(outcome: Outcome) -> bool:
    codes = {refusal.code for refusal in outcome.conversion.refusals} if outcome.conversion is not None else set()
    return not _starts(outcome) and codes <= {*UNNEEDED, "LF203", "LF231"}


def _library(outcome: Outcome, holder: str) -> Outcome:
    assert isinstance(outcome.conversion, Conversion)
    place = SourceSpan(outcome.path, 1)
    refusal = Refusal("LF204", f"its loop is converted in {holder}", place, "run that file's result")
    conversion = Conversion(outcome.conversion.source, text=None, refusals=(refusal,))
    return Outcome(outcome.path, Status.UNNEEDED, outcome.target, conversion)


def internal_fault(path: str, error: Exception) -> Diagnostic:
    """What the user sees of an exception that should not have been."""
    shown = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    hint = "please report this with the script; --traceback shows more"
    return Diagnostic("LF900", f"internal fault, nothing was written: {shown}", SourceSpan(path, 1), hint)


def _attempt(job: Job) -> Outcome:
    writes_new = job.write and not job.in_place and not job.force and job.target != "-"
    source = read_source(job.path, job.stdin)
    if writes_new:
        refuse_existing(Path(job.target))
    conversion = _transformed(source, job)
    if conversion.text is None:
        unneeded = all(refusal.code in UNNEEDED for refusal in conversion.refusals)
        return Outcome(job.path, Status.UNNEEDED if unneeded else Status.REFUSED, job.target, conversion)
    result = _result(conversion.text, source, job.target)
    if job.task == "upgrade" and conversion.text == source.text:
        return Outcome(job.path, Status.UNNEEDED, job.target, conversion, result)
    standing = _standing(job, source)
    status = Status.CONVERTED if job.task == "convert" else Status.UPGRADED
    outcome = Outcome(job.path, status, job.target, conversion, result, changes=standing != result)
    if not job.write or job.target == "-":
        return replace(outcome, diff=_diff(source, conversion.text, job.target))
    return outcome


def _write(job: Job, outcome: Outcome) -> Outcome:
    assert outcome.conversion is not None
    source = outcome.conversion.source
    _make_folder(Path(job.target).parent)
    if job.settings.vendor:
        _copy_runtime(Path(job.target).parent, job.force)
    backup = str(back_up(Path(job.path))) if job.in_place else ""
    write_text(
        Path(job.target),
        outcome.result,
        encoding=source.encoding,
        newline=source.newline,
        replace=job.in_place or job.force,
        mode_of=Path(job.path),
    )
    return replace(outcome, written=job.target, backup=backup)


def _transformed(source: Source, job: Job) -> Conversion | Upgrade:
    try:
        if job.task == "convert":
            return convert(source, job.settings)
        from lightify.upgrade import upgrade

        return upgrade(source, job.settings)
    except RecursionError:
        if not is_deep(source.text):
            raise  # a fault of ours
        raise LightifyError(too_deep(source)) from None


def _result(text: str, source: Source, target: str) -> str:
    if not source.notebook or target.endswith((".py", ".pyw")):
        return text
    from lightify.notebooks import notebook_of_script

    return notebook_of_script(text, source.notebook)


def _standing(job: Job, source: Source) -> str | None:
    """What stands at the target now, to tell whether writing changes anything; None: nothing readable."""
    if job.in_place:
        return source.notebook or source.text
    if job.target == "-" or not os.path.exists(job.target):
        return None
    try:
        standing = read_source(job.target)
    except LightifyError:
        return None
    return standing.notebook or standing.text


def _diff(source: Source, text: str, target: str) -> str:
    return diff_text(source.text, text, source.path, target if target != "-" else f"{source.path} (result)")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the folder cannot be made: {error.strerror or error}"
        raise LightifyError.at(folder, "LF010", message, "give another place with -o") from None


def _copy_runtime(folder: Path, force: bool) -> None:
    """Puts a copy of the runtime beside the result; one that is there already stays unless forced."""
    from importlib.util import find_spec

    spec = find_spec("lightify.runtime")  # finds the folder and does not import it
    assert spec is not None and spec.submodule_search_locations
    target = folder / VENDORED_MODULE
    if target.exists() and not force:
        return
    aside = folder / f".{VENDORED_MODULE}.tmp"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        compiled = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(spec.submodule_search_locations[0], aside, ignore=compiled)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        message = f"the runtime cannot be copied: {error.strerror or error}"
        hint = "check the folder's permissions, or leave out --vendor"
        raise LightifyError.at(target, "LF010", message, hint) from None
