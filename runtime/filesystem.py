"""Local and remote paths through fsspec, which torch itself requires."""

from __future__ import annotations

import os
from typing import Any


def filesystem(path: str | os.PathLike[str]) -> Any:
    """Returns the fsspec file system that ``path`` belongs to, the local one for a plain path."""
    from fsspec.core import url_to_fs  # imported here: a run that writes nothing never needs it

    return url_to_fs(os.fspath(path))[0]


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is on this machine's own file system: it has no protocol, or ``file://``."""
    return "://" not in os.fspath(path) or os.fspath(path).startswith("file://")
