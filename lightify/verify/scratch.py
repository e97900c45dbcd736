"""A private copy of the current folder for one run: a run neither litters it nor sees another's files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COPIED_BYTES = 64 * 2**20
COPIED_ENTRIES = 1000
PARENTS = 3  # scripts read "../data" and "../../data"
PREFIX = "lightify-verify-"


@contextmanager
def scratch_folder(origin: Path) -> Iterator[Path]:
    """Yields a folder that looks like `origin` and is removed afterwards.

    Files are copied while they are few and small, so that writing to one leaves the user's own as it was;
    what is beyond that, hidden folders and the folders above are links.
    """
    origin = origin.resolve()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as base:
        here = Path(base)
        above = list(reversed(origin.parents[:PARENTS]))
        for folder, below in zip(above, [*above[1:], origin], strict=True):
            _link_entries(folder, here, without=below.name)
            here = here / below.name
            here.mkdir()
        _copy_entries(origin, here)
        yield here


def _copy_entries(origin: Path, target: Path) -> None:
    """Copies level by level; what the budget does not reach is linked."""
    bytes_left, entries_left = COPIED_BYTES, COPIED_ENTRIES
    waiting = [(origin, target)]
    while waiting:
        folder, copy = waiting.pop(0)
        entries = _entries(folder)
        entries_left -= len(entries)
        if entries_left < 0:
            _link_entries(folder, copy)
            continue
        for entry in entries:
            to = copy / entry.name
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                to.mkdir()
                waiting.append((Path(entry.path), to))
                continue
            with contextlib.suppress(OSError):  # removed meanwhile, or not ours to read: a link will do
                size = entry.stat(follow_symlinks=False).st_size
                if entry.is_file(follow_symlinks=False) and size <= bytes_left:
                    shutil.copy2(entry.path, to)
                    bytes_left -= size
                    continue
            to.symlink_to(entry.path)


def _link_entries(folder: Path, target: Path, without: str = "") -> None:
    for entry in _entries(folder):
        if entry.name != without:
            (target / entry.name).symlink_to(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a folder that only others may read
        return []
    return [entry for entry in entries if not entry.name.startswith(PREFIX)]
