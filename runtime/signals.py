"""Signals during a run: Ctrl-C, SIGTERM and a scheduler's requeue signal take effect between two batches.

A handler only takes a note; the loop asks `act` where the state of a run is whole, so that what is saved then can be
taken up again. A second Ctrl-C ends the process where it stands. Several processes hear a signal at different batches
and agree on one, since each must take part in saving: `Signals.agreeing`.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .errors import Interrupted, SIGTERMException
from .strategies.slurm import SLURMEnvironment

log = logging.getLogger(__name__)

AGREEMENT_INTERVAL_S = 1.0
NOTES = ("received_sigterm", "received_sigint", "received_requeue")

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Signals:
    """Listens during one of the Trainer's methods, as a context manager.

    Args:
        wake: Called at once when something arrives, to make the loop call `act` soon.
        requeue: Called by `act` after the requeue signal: saves, and asks the scheduler for another turn.
        environment: Where the process runs; a SLURMEnvironment has a requeue signal.
        pass_on: Called with a SIGTERM, for the processes that this one started.
        shared: Several processes train together: nothing is acted on before they have agreed.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        requeue: Callable[[], None],
        environment: Any = None,
        pass_on: Callable[[int], None] | None = None,
        shared: bool = False,
    ) -> None:
        self.wake, self.requeue, self.pass_on = wake, requeue, pass_on
        slurm = environment if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
        self.requeue_signal = None if slurm is None else slurm.requeue_signal
        self.received_sigterm = False
        self.received_sigint = False
        self.received_requeue = False
        self.shared = shared
        self._noted: set[str] = set()
        self._before: dict[int, Handler] = {}
        self._unchecked, self._next_check, self._last_check = 0, 1, time.monotonic()

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets only the main thread listen
        self._listen(signal.SIGTERM, self._on_sigterm)
        # A script's own handler for Ctrl-C, and a shell's decision to ignore it, stay.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._listen(signal.SIGINT, self._on_sigint)
        if self.requeue_signal is not None and signal.getsignal(self.requeue_signal) in (None, signal.SIG_DFL):
            log.info("SLURM auto-requeueing enabled. Setting signal handlers.")
            self._listen(self.requeue_signal, self._on_requeue)
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)
        self._before = {}

    def act(self) -> None:
        """Does what was asked for. To be called where the run can be saved.

        Raises:
            SIGTERMException: After SIGTERM; ends the process with status 143 unless someone catches it.
            Interrupted: After Ctrl-C; a KeyboardInterrupt.
        """
        if self.received_requeue:
            self.received_requeue = False
            self.requeue()
        if self.received_sigterm:
            raise SIGTERMException
        if self.received_sigint:
            self.received_sigint = False
            raise Interrupted

    def agreeing(self, batches: Iterator[Any], reduce_max: Callable[[list[float]], list[float]]) -> Iterator[Any]:
        """Passes batches on; from time to time the processes compare their notes, and act after the same batch.

        Args:
            batches: As many in all processes.
            reduce_max: The largest of each number over all processes.
        """
        for batch in batches:
            yield batch
            self._unchecked += 1
            if self._unchecked == self._next_check:
                self._compare(reduce_max)
                self.act()

    def _compare(self, reduce_max: Callable[[list[float]], list[float]]) -> None:
        now = time.monotonic()
        elapsed, *answers = reduce_max([now - self._last_check, *(float(note in self._noted) for note in NOTES)])
        # The same numbers everywhere, so the same next batch to compare at.
        pace_s = elapsed / self._unchecked
        self._unchecked, self._last_check = 0, now
        self._next_check = min(max(1, int(AGREEMENT_INTERVAL_S / max(pace_s, 1e-9))), 10_000)
        for note, answer in zip(NOTES, answers):
            if answer:
                setattr(self, note, True)
        self._noted.clear()

    def _note(self, note: str) -> None:
        if self.shared and note not in self._noted:
            self._noted.add(note)
        else:  # for this process alone, or asked for a second time
            setattr(self, note, True)
        self.wake()

    def _listen(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._before[number] = signal.getsignal(number)
        signal.signal(number, handler)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self.requeue_signal is not None:
            log.info("Bypassing SIGTERM: the job is requeued by its own signal.")
            return
        log.info("Received SIGTERM: ending after this batch.")
        if not self.received_sigterm and self.pass_on is not None:
            self.pass_on(number)
        self._note("received_sigterm")
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        if self.received_sigint or "received_sigint" in self._noted:
            raise KeyboardInterrupt
        log.info("Received Ctrl-C: ending after this batch. Press it again to end at once.")
        self._note("received_sigint")

    def _on_requeue(self, number: int, frame: FrameType | None) -> None:
        log.info("Received the requeue signal %s: saving after this batch.", number)
        self._note("received_requeue")


def requeue_job() -> None:
    """Asks SLURM to run this job again."""
    job = SLURMEnvironment.job_label()
    if job is None or not re.fullmatch(r"[0-9_-]+", job):
        log.warning("The job was not requeued: SLURM_JOB_ID is %r.", job)
        return
    try:
        code = subprocess.call(["scontrol", "requeue", job])
    except FileNotFoundError:
        log.warning("The job %s was not requeued: there is no `scontrol` here.", job)
        return
    if code == 0:
        log.info("Requeued SLURM job %s.", job)
    else:
        log.warning("Requeuing SLURM job %s failed with status %s.", job, code)
