"""When a progress bar draws. A step only compares the time with `DrawClock.next`; values are read when it draws."""

from __future__ import annotations

import sys
from time import monotonic

_BURST = 24  # the first draws come at once: a short run shows all it did
_BURST_S = 0.02  # as long as they cost no more than this together
_INTERVAL_S = 0.1
_INTERVAL_IN_FILES_S = 1.0  # each draw is a line there
_SHARE = 50  # drawing takes at most a fiftieth of the time


class DrawClock:
    """Lets a run draw a few times at once, and then so rarely that it costs at most two percent of the time.

    Attributes:
        next: The monotonic time, in seconds, before which nothing is drawn; infinite when nothing ever is.
    """

    def __init__(self, enabled: bool = True, interval_s: float = 0.0) -> None:
        self.next = 0.0 if enabled else float("inf")
        self._free = _BURST
        self._free_s = _BURST_S
        self._interval_s = max(interval_s, _INTERVAL_S if _draws_on_terminal() else _INTERVAL_IN_FILES_S)

    @property
    def is_due(self) -> bool:
        """Whether to draw now."""
        return monotonic() >= self.next

    def drew(self, started: float) -> None:
        """Notes a draw that began at the monotonic time ``started``."""
        if self.next == float("inf"):
            return
        now = monotonic()
        if self._free > 0 and self._free_s > 0:
            self._free -= 1
            self._free_s -= now - started
            return
        self.next = now + max(self._interval_s, _SHARE * (now - started))


def _draws_on_terminal() -> bool:
    """False also for an object that a script put in the place of `sys.stdout` and that can only write."""
    asked = getattr(sys.stdout, "isatty", None)
    return asked is not None and asked()
