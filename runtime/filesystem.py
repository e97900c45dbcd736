"""Local and remote paths through fsspec, which torch itself requires."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .strategies import Strategy


def filesystem(path: str | os.PathLike[str]) -> Any:
    """Returns the fsspec file system that ``path`` belongs to, the local one for a plain path."""
    from fsspec.core import url_to_fs  # imported here: a run that writes nothing never needs it

    return url_to_fs(os.fspath(path))[0]


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is on this machine's own file system: it has no protocol, or ``file://``."""
    return "://" not in os.fspath(path) or os.fspath(path).startswith("file://")


def is_shared_filesystem(strategy: Strategy, path: str | os.PathLike[str] | None = None, timeout: int = 3) -> bool:
    """Whether all processes see the same files under ``path``, the working folder by default; asked by all of them.

    Args:
        strategy: The Trainer's.
        path: A folder that may be written to, or a file in one.
        timeout: Seconds in which what one process writes must be seen by all.

    Raises:
        FileNotFoundError: The path is not there in some process.
    """
    if (path is not None and not is_local(path)) or getattr(strategy, "world_size", 1) == 1:
        return True
    folder = Path(os.getcwd() if path is None else path).resolve()
    if not strategy.reduce_boolean_decision(strategy.broadcast(folder) == folder, all=True):
        return False
    if not strategy.reduce_boolean_decision(folder.exists(), all=True):
        raise FileNotFoundError(f"The path does not exist in every process: {folder}")
    probe = (folder.parent if folder.is_file() else folder) / ".lightify_shared_filesystem"
    strategy.barrier()
    if strategy.is_global_zero:
        probe.touch()
    strategy.barrier()
    deadline = time.monotonic() + timeout
    while not (seen := probe.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    shared = strategy.reduce_boolean_decision(seen, all=True)
    if strategy.is_global_zero:
        probe.unlink(missing_ok=True)
    return shared
