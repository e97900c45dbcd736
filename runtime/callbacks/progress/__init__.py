"""Progress bars."""

from __future__ import annotations

from importlib.util import find_spec

from .clock import DrawClock
from .plain_progress import PlainProgressBar
from .progress_bar import ProgressBar, get_standard_metrics
from .rich_progress import RichProgressBar, RichProgressBarTheme
from .tqdm_progress import TQDMProgressBar


def default_progress_bar() -> ProgressBar:
    """Returns the bar a Trainer has when none was given: rich's, else tqdm's, else a line of text."""
    if find_spec("rich") is not None:
        return RichProgressBar()
    return TQDMProgressBar() if find_spec("tqdm") is not None else PlainProgressBar()


__all__ = [
    "DrawClock",
    "PlainProgressBar",
    "ProgressBar",
    "RichProgressBar",
    "RichProgressBarTheme",
    "TQDMProgressBar",
    "default_progress_bar",
    "get_standard_metrics",
]
