"""Writing: whole or not at all, with the permissions, encoding and line ends of what was there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lightify.errors import LightifyError
from lightify.files import back_up, diff_text, write_text


def test_a_new_file_is_never_put_over_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    write_text(path, "new\n")
    with pytest.raises(LightifyError, match="LF009"):
        write_text(path, "newer\n")
    assert path.read_text() == "new\n"
    write_text(path, "newer\n", replace=True)
    assert path.read_text() == "newer\n"
    assert os.listdir(tmp_path) == ["x.py"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "x.py").symlink_to("absent.py")
    with pytest.raises(LightifyError, match="LF009"):
        write_text(tmp_path / "x.py", "new\n")


def test_permissions_encoding_line_ends_and_links_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    real.write_text("old\n")
    real.chmod(0o750)
    link.symlink_to(real.name)
    write_text(link, "é\nb\n", encoding="latin-1", newline="\r\n", replace=True)
    assert link.is_symlink() and real.read_bytes() == b"\xe9\r\nb\r\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o750
    write_text(tmp_path / "beside.py", "x\n", mode_of=real)
    assert stat.S_IMODE((tmp_path / "beside.py").stat().st_mode) == 0o750


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.py"
    path.write_text("old\n")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(LightifyError, match="LF010 the file cannot be written: No space left on device"):
        write_text(path, "new\n", replace=True)
    assert path.read_text() == "old\n" and os.listdir(tmp_path) == ["x.py"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.py"
    sync = os.fsync

    def somebody_else_writes(descriptor: int) -> None:
        path.write_text("theirs\n")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", somebody_else_writes)
    with pytest.raises(LightifyError, match="LF009"):
        write_text(path, "ours\n")
    assert path.read_text() == "theirs\n" and os.listdir(tmp_path) == ["x.py"]


def test_a_letter_that_the_encoding_lacks(tmp_path: Path) -> None:
    with pytest.raises(LightifyError, match=r"x\.py:2:1: LF006 the result has the letter '✓', which latin-1 lacks"):
        write_text(tmp_path / "x.py", "a\n✓\n", encoding="latin-1")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LightifyError, match="LF010"):
        write_text(tmp_path / "absent" / "x.py", "a\n")


def test_backups_never_replace_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    for text in ("first", "second", "third"):
        path.write_text(text)
        back_up(path)
    assert sorted(os.listdir(tmp_path)) == ["x.py", "x.py.bak", "x.py.bak1", "x.py.bak2"]
    assert (tmp_path / "x.py.bak").read_text() == "first"


def test_the_difference_is_one_that_patch_reads() -> None:
    assert diff_text("a\n", "a\n", "x", "y") == ""
    assert diff_text("a\nb\n", "a\nc", "x", "y") == (
        "--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n"
    )
