"""Starts the child processes of a proof; never imports torch or the scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lightify.errors import Diagnostic, LightifyError
from lightify.verify.compare import Verdict, compare
from lightify.verify.scratch import scratch_folder
from lightify.verify.trace import Run, choose_trace

TRACER = Path(__file__).with_name("tracer.py")
SHOWN_ERROR_LINES = 12


@dataclass(frozen=True)
class Command:
    """One script to run under the tracer."""

    script: Path
    args: tuple[str, ...] = ()
    steps: int | None = None
    seed: int = 0
    timeout_s: float = 600.0
    python: str = sys.executable

    def __post_init__(self) -> None:
        if not self.script.is_file():
            raise LightifyError(
                Diagnostic("LF301", f"{self.script} is not a file", hint="give the path of a Python script")
            )
        if self.steps is not None and self.steps < 1:
            raise LightifyError(
                Diagnostic("LF302", f"{self.steps} steps cannot be compared", hint="give --steps 1 or more")
            )


def verify(
    old: Path,
    new: Path,
    *,
    steps: int | None = None,
    timeout_s: float = 600.0,
    args_old: Sequence[str] = (),
    args_new: Sequence[str] | None = None,
    seed: int = 0,
    python: str | None = None,
) -> Verdict:
    """Runs both scripts, each in a copy of the current folder, and compares how they trained.

    Args:
        steps: leave each script after so many optimizer steps; None runs it to its end.
        timeout_s: for each of the two.
        args_new: None passes `args_old` to both.
        python: interpreter of the children; None for this one.

    Raises:
        LightifyError: a script does not exist, or `steps` is below 1.
    """
    args_new = args_old if args_new is None else args_new
    python = python or sys.executable
    return compare(
        *run_traced_pair(
            Command(Path(old), tuple(args_old), steps, seed, timeout_s, python),
            Command(Path(new), tuple(args_new), steps, seed, timeout_s, python),
        )
    )


def run_traced_pair(old: Command, new: Command) -> tuple[Run, Run]:
    """Runs both at the same time; one after the other where they would meet at the port of a process group."""
    if any(b"distributed" in command.script.read_bytes() for command in (old, new)):
        return run_traced(old), run_traced(new)
    with _Child(old) as first, _Child(new) as second:
        return first.result(), second.result()


def run_traced(command: Command) -> Run:
    with _Child(command) as child:
        return child.result()


class _Child:
    """A started script; leaving the context ends it with all its own children."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.resources = ExitStack()

    def __enter__(self) -> _Child:
        traces = tempfile.TemporaryDirectory(prefix="lightify-traces-")
        self.traces = Path(self.resources.enter_context(traces))
        self.stderr: IO[bytes] = self.resources.enter_context(tempfile.TemporaryFile())
        folder = self.resources.enter_context(scratch_folder(Path.cwd()))
        options = {"folder": str(self.traces), "steps": self.command.steps, "seed": self.command.seed}
        script = str(self.command.script.resolve())
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [self.command.python, str(TRACER), json.dumps(options), script, *self.command.args],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.stderr,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self.resources.close()

    def result(self) -> Run:
        """Waits for the script's end, or ends it when its time is over."""
        timed_out = False
        try:
            self.process.wait(max(0.0, self.start + self.command.timeout_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
        seconds = time.monotonic() - self.start
        self._end()
        self.stderr.seek(0)
        errors = self.stderr.read().decode(errors="replace").splitlines()
        return Run(
            path=str(self.command.script),
            exit_code=None if timed_out else self.process.returncode,
            seconds=seconds,
            stderr_tail="\n".join(errors[-SHOWN_ERROR_LINES:]),
            trace=choose_trace(sorted(self.traces.glob("*.trace"))),
        )

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # also what the script started: loader workers, ranks
        self.process.wait()


def _environment() -> dict[str, str]:
    """The user's environment with everything pinned that could make two runs of one script differ."""
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
    }
