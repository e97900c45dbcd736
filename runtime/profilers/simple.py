"""How long each action took, in one table."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from .base import Profiler


class SimpleProfiler(Profiler):
    """Records the seconds of every action and reports their mean and sum.

    Args:
        dirpath: Folder of the report; default: the Trainer's ``log_dir``.
        filename: The report's name. Without it the report goes to the log.
        extended: Adds the number of calls and the share of the whole time.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self.extended = extended
        self.current_actions: dict[str, float] = {}
        self.recorded_durations: dict[str, list[float]] = defaultdict(list)
        self.start_time = time.perf_counter()

    def start(self, action_name: str) -> None:
        if action_name in self.current_actions:
            raise ValueError(f"Attempted to start {action_name} which has already started.")
        self.current_actions[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        end = time.perf_counter()
        if action_name not in self.current_actions:
            raise ValueError(f"Attempting to stop recording an action ({action_name}) which was never started.")
        self.recorded_durations[action_name].append(end - self.current_actions.pop(action_name))

    def summary(self) -> str:
        title = f"{self._title}Profiler Report"
        if not self.recorded_durations:
            return os.linesep.join([title, ""])
        header, body = self._extended_rows() if self.extended else self._rows()
        width = max(len(action) for action in self.recorded_durations)
        lines = [_line(row, width) for row in body]
        rule = "-" * (len(_line(header, width).expandtabs()) + len(os.linesep))
        if self.extended:
            lines.insert(1, rule)  # the row of totals stands apart
        return os.linesep.join([title, "", rule, _line(header, width), rule, *lines, rule, ""])

    def _rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        sums = {action: math.fsum(durations) for action, durations in self.recorded_durations.items()}
        means = {action: sums[action] / len(self.recorded_durations[action]) for action in sums}
        order = sorted(means, key=lambda action: means[action], reverse=True)
        rows = [(action, f"{means[action]:.5}", f"{sums[action]:.5}") for action in order]
        return ("Action", "Mean duration (s)", "Total time (s)"), list(rows)

    def _extended_rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        whole = time.perf_counter() - self.start_time
        counts = {action: len(durations) for action, durations in self.recorded_durations.items()}
        sums = {action: math.fsum(durations) for action, durations in self.recorded_durations.items()}
        rows: list[Sequence[str]] = [("Total", "-", f"{sum(counts.values())}", f"{whole:.5}", "100 %")]
        for action in sorted(sums, key=lambda action: sums[action], reverse=True):
            total, count = sums[action], counts[action]
            rows.append((action, f"{total / count:.5}", f"{count}", f"{total:.5}", f"{100.0 * total / whole:.5}"))
        return ("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %"), rows


def _line(cells: Sequence[str], width: int) -> str:
    action, *numbers = cells
    return f"|  {action:<{width}s}\t|" + "".join(f"  {number:<15}\t|" for number in numbers)
