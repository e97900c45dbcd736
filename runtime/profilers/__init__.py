"""Profilers, and the names by which a Trainer knows them."""

from __future__ import annotations

from ..errors import MisconfigurationException
from .advanced import AdvancedProfiler
from .base import PassThroughProfiler, Profiler
from .pytorch import PyTorchProfiler
from .record import RegisterRecordFunction
from .simple import SimpleProfiler

PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def resolve_profiler(profiler: Profiler | str | None) -> Profiler:
    """Turns the Trainer's argument into a profiler.

    Raises:
        MisconfigurationException: No profiler has this name.
    """
    if profiler is None:
        return PassThroughProfiler()
    if isinstance(profiler, Profiler):
        return profiler
    if not isinstance(profiler, str) or profiler.lower() not in PROFILERS:
        raise MisconfigurationException(
            "When passing string value for the `profiler` parameter of `Trainer`, it can only be one of"
            f" {list(PROFILERS)}. Found: {profiler!r}"
        )
    return PROFILERS[profiler.lower()]()


__all__ = [
    "PROFILERS",
    "AdvancedProfiler",
    "PassThroughProfiler",
    "Profiler",
    "PyTorchProfiler",
    "RegisterRecordFunction",
    "SimpleProfiler",
    "resolve_profiler",
]
