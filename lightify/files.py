"""Writes results: a difference to read, a backup, and a write that is whole or did not happen."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from difflib import unified_diff
from itertools import count
from pathlib import Path

from lightify.errors import LightifyError
from lightify.sources import Newline


def diff_text(old: str, new: str, old_name: str, new_name: str) -> str:
    """A unified difference as `patch` and `git apply` read it; empty when the texts are equal."""
    lines: list[str] = []
    for line in unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), old_name, new_name):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)


def refuse_existing(path: Path) -> None:
    """Raises LF009 when the output exists already."""
    if os.path.lexists(path):
        hint = "give another name with -o, or --force to replace it"
        raise LightifyError.at(path, "LF009", "the output exists already", hint)


def write_text(
    path: Path,
    text: str,
    *,
    encoding: str = "utf-8",
    newline: Newline = "\n",
    replace: bool = False,
    mode_of: Path | None = None,
) -> None:
    """Writes `text` so that a reader, at any moment, sees the old file or the whole new one.

    A link is written through. Permissions are those of the file replaced, else of `mode_of`, else the usual ones.

    Raises:
        LightifyError: LF009, the file exists and `replace` is false; LF006, its encoding lacks a letter of the text;
            LF010, the folder or file cannot be written.
    """
    if not replace:
        refuse_existing(path)
    try:
        data = text.replace("\n", newline).encode(encoding)
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        message = f"the result has the letter {text[error.start]!r}, which {encoding} lacks"
        hint = "save the source as UTF-8 and convert it again"
        raise LightifyError.at(path, "LF006", message, hint, line) from None
    target = Path(os.path.realpath(path))
    try:
        _write_whole(target, data, _mode_for(target, mode_of), replace)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError as error:
        message = f"the file cannot be written: {error.strerror or error}"
        hint = "check the folder and its permissions, or give another place with -o"
        raise LightifyError.at(path, "LF010", message, hint) from None


def back_up(path: Path) -> Path:
    """Copies a file beside itself, as `x.py.bak`, then `x.py.bak1` and so on; returns the copy's path."""
    for number in count():
        copy = path.with_name(f"{path.name}.bak{number or ''}")
        if not os.path.lexists(copy):
            try:
                shutil.copy2(path, copy)
            except OSError as error:
                message = f"no backup can be made: {error.strerror or error}"
                hint = "check the folder's permissions, or give another place with -o"
                raise LightifyError.at(path, "LF010", message, hint) from None
            return copy
    raise AssertionError


def _write_whole(target: Path, data: bytes, mode: int, replace: bool) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        if replace:
            os.replace(name, target)
        else:
            _place_new(name, target)
    except BaseException:
        if os.path.exists(name):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _place_new(name: str, target: Path) -> None:
    """Names the file without replacing one that appeared meanwhile."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(str(target)) from None
        os.replace(name, target)
    else:
        os.unlink(name)


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power cut, where a folder can be opened at all."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _mode_for(target: Path, mode_of: Path | None) -> int:
    for path in (target, mode_of):
        if path is not None and path.exists():
            return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
