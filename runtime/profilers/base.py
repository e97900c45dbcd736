"""The contract of a profiler, and the one that does nothing."""

from __future__ import annotations

import functools
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..module import LightningModule

log = logging.getLogger(__name__)

# The waits for data, by the names that they have in Lightning's reports.
FETCHES = {
    "train": "[_TrainingEpochLoop].train_dataloader_next",
    "validation": "[_EvaluationLoop].val_next",
    "test": "[_EvaluationLoop].test_next",
    "predict": "[_PredictionLoop].predict_next",
}
_UNSAFE_IN_NAMES = re.compile(r'[\\/:*?"<>|\n\r\t]+')


class Profiler(ABC):
    """Measures named actions. The Trainer wraps hooks and steps in `profile` and calls `describe` at the end.

    Args:
        dirpath: Folder of the report; default: the Trainer's ``log_dir``.
        filename: The report's name, without stage, rank and ``.txt``. Without it the report goes to the log.
    """

    lightning_module: LightningModule | None = None  # the module of the run in progress, set by the Trainer

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename
        self._stage: str | None = None
        self._local_rank: int | None = None

    @abstractmethod
    def start(self, action_name: str) -> None:
        """Starts to measure the action."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """Ends the measurement of the action."""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Measures what happens inside the ``with`` block."""
        try:
            self.start(action_name)
            yield action_name
        finally:
            self.stop(action_name)

    def measured(self, action_name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of which each call is measured."""

        @functools.wraps(function, assigned=("__name__",), updated=())
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.profile(action_name):
                return function(*args, **kwargs)

        return call

    def fetched(self, action_name: str, batches: Iterator[Any], count: float) -> Iterator[Any]:
        """The batches of a pass, with the wait for each of the first `count` measured."""
        number = 0
        while number < count:
            self.start(action_name)
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.stop(action_name)
            yield batch
            number += 1
        yield from batches  # their end, which is no batch

    def summary(self) -> str:
        """Returns the report as text; an empty text is not written."""
        return ""

    def describe(self) -> None:
        """Writes the report, then ends the measurement as `teardown` does."""
        summary = self.summary()
        if self.filename and self.dirpath:
            os.makedirs(self.dirpath, exist_ok=True)
            with open(os.path.join(self.dirpath, self._prepare_filename()), "a", encoding="utf-8") as report:
                report.write(summary)
        elif summary and self._local_rank in (None, 0):
            log.info(summary)
        self.teardown(self._stage)

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """Called before a run; ``local_rank`` is None in a single process."""
        self._stage = stage
        self._local_rank = local_rank
        self.dirpath = self.dirpath or log_dir

    def teardown(self, stage: str | None) -> None:
        """Called after a run, and after `describe`."""

    @property
    def local_rank(self) -> int:
        """The process's rank on its machine."""
        return self._local_rank or 0

    def _prepare_filename(self, action_name: str | None = None, extension: str = ".txt") -> str:
        rank = None if self._local_rank is None else str(self._local_rank)
        parts = [part for part in (self._stage, self.filename, rank, action_name) if part]
        return (re.sub("_+", "_", _UNSAFE_IN_NAMES.sub("_", "-".join(parts))).strip() or "profile") + extension

    def _stats_to_str(self, stats: Mapping[str, str]) -> str:
        rank = "" if self._local_rank is None else f" rank: {self._local_rank}"
        lines = [f"{self._title}Profiler Report"]
        for action, text in stats.items():
            lines += [f"Profile stats for: {action}{rank}", text]
        return os.linesep.join(lines)

    @property
    def _title(self) -> str:
        return f"{self._stage.upper()} " if self._stage else ""


class PassThroughProfiler(Profiler):
    """Measures nothing; with it the loops call hooks and steps directly."""

    def start(self, action_name: str) -> None:
        pass

    def stop(self, action_name: str) -> None:
        pass

    def measured(self, action_name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def fetched(self, action_name: str, batches: Iterator[Any], count: float) -> Iterator[Any]:
        return batches
