"""Which functions the time of each action went to, by cProfile."""

from __future__ import annotations

import cProfile
import io
import os
import pstats
from collections import defaultdict
from pathlib import Path
from typing import Any

from .base import Profiler


class AdvancedProfiler(Profiler):
    """Reports every function called within an action; the reports are long.

    Python runs one cProfile at a time: an action inside another takes over, and the outer goes on after it.

    Args:
        dirpath: Folder of the report; default: the Trainer's ``log_dir``.
        filename: The report's name. Without it the report goes to the log.
        line_count_restriction: How many functions to show: a count (int) or a share (float from 0 to 1).
        dump_stats: Writes a ``.prof`` file for each action to ``dirpath``, too.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self.profiled_actions: dict[str, cProfile.Profile] = defaultdict(cProfile.Profile)
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self._running: list[str] = []

    def start(self, action_name: str) -> None:
        if self._running:
            self.profiled_actions[self._running[-1]].disable()
        self._running.append(action_name)
        self.profiled_actions[action_name].enable()

    def stop(self, action_name: str) -> None:
        profile = self.profiled_actions.get(action_name)
        if profile is None:
            raise ValueError(f"Attempting to stop recording an action ({action_name}) which was never started.")
        profile.disable()
        if action_name in self._running:
            self._running.remove(action_name)
        if self._running:
            self.profiled_actions[self._running[-1]].enable()

    def summary(self) -> str:
        reports = {}
        for action, profile in self.profiled_actions.items():
            if self.dump_stats:
                self._dump(action, profile)
            text = io.StringIO()
            stats = pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative")
            stats.print_stats(self.line_count_restriction)
            reports[action] = text.getvalue()
        return self._stats_to_str(reports)

    def _dump(self, action_name: str, profile: cProfile.Profile) -> None:
        folder = self.dirpath or os.getcwd()
        os.makedirs(folder, exist_ok=True)
        profile.dump_stats(os.path.join(folder, self._prepare_filename(action_name, ".prof")))

    def teardown(self, stage: str | None) -> None:
        super().teardown(stage)
        if self._running:
            self.profiled_actions[self._running[-1]].disable()
            self._running.clear()
        self.profiled_actions.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "profiled_actions": defaultdict(cProfile.Profile), "_running": []}
