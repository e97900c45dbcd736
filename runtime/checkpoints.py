"""Checkpoint files: written aside and renamed, with a checksum inside, read back before anything is given up.

A file is what `torch.save` writes, a zip archive, with a SHA-256 of its bytes as the archive's comment. Any reader
of torch files reads it, and `torch.load(weights_only=True)` suffices: values of other types are kept as pickled bytes
and restored when the caller asks for `weights_only=False`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from .plain_types import loadable, restore_foreign

TEMPORARY_NAME = ".lightify-checkpoint.tmp"  # the only name that a killed save or removal can leave behind in a folder
NEW_NAME = "new"  # under that one, when it is a folder: what is being written
REPLACED_NAME = "replaced"  # and what the new one takes the name of

META = "meta.pt"  # of a folder of shards: everything that is no shard

_MARK = b"lightify-sha256:"
_COMMENT_LENGTH = len(_MARK) + 64

Checkpoint = dict[str, Any]


class CheckpointDamaged(RuntimeError):
    """A checkpoint file does not hold what was written. `last_good` is the newest sound one beside it, or None."""

    def __init__(self, path: Path, reason: str, last_good: Path | None) -> None:
        self.path, self.reason, self.last_good = path, reason, last_good
        hint = (
            f"The newest sound checkpoint in its folder is {last_good}; pass that as `ckpt_path`."
            if last_good
            else "Its folder holds no other sound checkpoint."
        )
        super().__init__(f"The checkpoint {path} is damaged: {reason}.\n  hint: {hint}")


def save(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Writes `checkpoint` so that a reader sees the file before or the file after, whenever the process ends.

    The file is written in the target's own folder under `TEMPORARY_NAME`, flushed, read back, renamed, and the folder
    is flushed; a folder of shards that has its name is set aside for it, where loading finds that one until then.
    What `weights_only` loading refuses is replaced as the module says; `checkpoint` stays as it is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_in(path.parent)
    if is_sharded(path):
        temporary.unlink(missing_ok=True)
        temporary.mkdir()
        temporary = temporary / NEW_NAME
    content = loadable(checkpoint)
    with open(temporary, "w+b") as file:
        sealed = _write_with_checksum(content, file)
        file.flush()
        os.fsync(file.fileno())
        reason = damage(file) if sealed else None
    if reason is not None:
        temporary.unlink()
        raise OSError(f"{path} was not written: reading it back shows that {reason}. Is the disk failing?")
    if temporary.parent == path.parent:
        os.replace(temporary, path)
        flush_folder(path.parent)
    else:
        replace_folder(temporary, path)


def is_sharded(path: str | Path) -> bool:
    """Whether `path` is a folder of shards, this package's or Lightning's."""
    return Path(path, META).is_file() or Path(path, ".metadata").is_file()


def replace_folder(new: Path, path: Path) -> None:
    """Gives `path` to `new`, a file or folder under the temporary name, in place of a folder that may be there.

    Two renames, since neither can replace a folder: `shards.existing` finds what a kill in between leaves.
    """
    if path.exists():
        aside = new.with_name(REPLACED_NAME)
        aside.mkdir()
        os.rename(path, aside / path.name)
    os.rename(new, path)
    flush_folder(path.parent)
    shutil.rmtree(new.parent)


@contextmanager
def giving_way(path: Path) -> Iterator[None]:
    """Sets a folder at `path` aside while something else is written there; it is put back if nothing was.

    For writers of the user's own: ours do so by themselves. `shards.existing` finds the folder until the end.
    """
    if path.is_dir():
        temporary = temporary_in(path.parent)
        temporary.unlink(missing_ok=True)
        os.makedirs(temporary / REPLACED_NAME)
        os.rename(path, temporary / REPLACED_NAME / path.name)
    try:
        yield
    finally:
        temporary_in(path.parent)


def load(path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Checkpoint:
    """Reads a checkpoint, ours or Lightning's, after checking that it is whole.

    Args:
        path: A file, or an http(s) address.
        map_location: As for `torch.load`.
        weights_only: False also restores objects of arbitrary classes, which runs code from the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, and not one of shards.
        CheckpointDamaged: The file is not as it was written.
    """
    if str(path).startswith(("http://", "https://")):
        return dict(torch.hub.load_state_dict_from_url(str(path), map_location=map_location))
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"Checkpoint file not found: {path}")
    if path.is_dir():
        inside = last_good(path)
        raise ValueError(
            f"The path {str(path)!r} does not point to a valid checkpoint: it is a folder, and not one of shards."
            + (f" The newest checkpoint in it is {inside.name!r}." if inside is not None else "")
        )
    with open(path, "rb") as file:
        reason = damage(file)
        if reason is not None:
            raise CheckpointDamaged(path, reason, last_good(path.parent, exclude=path))
        file.seek(0)
        content = torch.load(file, map_location=map_location, weights_only=weights_only is not False)
    return restore_foreign(content) if weights_only is False else content


def remove(path: str | Path) -> None:
    """Removes a checkpoint, a file or a folder of shards, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        # Renamed first: a removal that is killed must not leave half a checkpoint under its name.
        temporary = temporary_in(path.parent)
        temporary.unlink(missing_ok=True)
        os.rename(path, temporary)
        shutil.rmtree(temporary)
    else:
        path.unlink(missing_ok=True)


def temporary_in(folder: Path) -> Path:
    """The temporary name in `folder`; a folder that a killed process left under it is put back or removed."""
    temporary = folder / TEMPORARY_NAME
    if temporary.is_dir():
        for kept in temporary.glob(f"{REPLACED_NAME}/*"):
            if not (folder / kept.name).exists():
                os.rename(kept, folder / kept.name)
        shutil.rmtree(temporary)
    return temporary


def damage(file: IO[bytes]) -> str | None:
    """Why `file` is not a whole checkpoint; None when it is. Files of others are checked by their zip checksums."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return "it is empty"
    file.seek(max(0, size - _COMMENT_LENGTH))
    comment = file.read()
    if not comment.startswith(_MARK):
        return _zip_damage(file)
    digest = hashlib.sha256()
    file.seek(0)
    remaining = size - _COMMENT_LENGTH - 2
    while remaining > 0:
        chunk = file.read(min(remaining, 1 << 20))
        if not chunk:
            return "it is shorter than its own size"
        digest.update(chunk)
        remaining -= len(chunk)
    digest.update(b"\0\0")
    stored_length = int.from_bytes(file.read(2), "little")
    if stored_length != _COMMENT_LENGTH or digest.hexdigest().encode() != comment[len(_MARK) :]:
        return "its content does not match its checksum"
    return None


def is_sound(path: Path) -> bool:
    """Whether the file at `path` is a whole checkpoint."""
    try:
        with open(path, "rb") as file:
            return damage(file) is None
    except OSError:
        return False


def last_good(folder: Path, exclude: Path | None = None) -> Path | None:
    """The newest sound checkpoint in `folder`."""
    candidates = [path for path in folder.glob("*.ckpt") if path.is_file() and path != exclude]
    candidates.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path for path in candidates if is_sound(path)), None)


def _zip_damage(file: IO[bytes]) -> str | None:
    file.seek(0)
    if file.read(2) != b"PK":
        # torch's format before 1.6 was no archive and has no checksum; its pickle says so in the first bytes.
        file.seek(0)
        return None if file.read(2) == b"\x80\x02" else "it is no file of torch.save"
    try:
        with zipfile.ZipFile(file) as archive:
            record = archive.testzip()
            if archive.comment:
                return "its checksum is unreadable"  # torch itself writes no comment
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        return f"its archive is broken ({error})"
    return None if record is None else f"its record {record} does not match its checksum"


class _HashingFile(io.RawIOBase):
    """Passes writes on and digests them, holding back the last two bytes: the length of the archive's comment."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.held = file, hashlib.sha256(), b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) < 2:
            chunk = self.held + bytes(view)
            self._pass_on(chunk[:-2])
            self.held = chunk[-2:]
        else:
            self._pass_on(self.held)
            self._pass_on(view[:-2])
            self.held = bytes(view[-2:])
        return len(view)

    def _pass_on(self, chunk: bytes | memoryview) -> None:
        self.digest.update(chunk)
        self.file.write(chunk)


def _write_with_checksum(content: Any, file: IO[bytes]) -> bool:
    """Whether there is a checksum: a script may have replaced `torch.save`, and what that writes is its own affair."""
    hashing = _HashingFile(file)
    torch.save(content, hashing)  # type: ignore[arg-type]
    # An archive without a comment ends in two zero bytes; they become the comment's length.
    if hashing.held != b"\0\0":
        file.write(hashing.held)
        return False
    hashing.digest.update(hashing.held)
    file.write(_COMMENT_LENGTH.to_bytes(2, "little"))
    file.write(_MARK + hashing.digest.hexdigest().encode())
    return True


def flush_folder(folder: Path) -> None:
    """Makes sure of the names in `folder`."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS journals the rename
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
