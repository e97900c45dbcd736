"""The folder that a traced script works in."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightify.verify import scratch
from lightify.verify.scratch import scratch_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    project = tmp_path / "project"
    (project / "weights").mkdir(parents=True)
    (project / "weights" / "last.pt").write_text("old")
    (project / ".cache").mkdir()
    (project / "link.csv").symlink_to(tmp_path / "data" / "rows.csv")
    return project


def test_reads_what_the_user_has(project: Path) -> None:
    with scratch_folder(project) as folder:
        assert (folder / "weights" / "last.pt").read_text() == "old"
        assert (folder / ".." / "data" / "rows.csv").read_text() == "1,2\n"
        assert (folder / "link.csv").read_text() == "1,2\n"
        assert (folder / ".cache").is_dir()


def test_writes_stay_out_of_the_users_folder_and_out_of_the_other_run(project: Path) -> None:
    with scratch_folder(project) as first, scratch_folder(project) as second:
        (first / "weights" / "last.pt").write_text("new")
        (first / "images").mkdir()
        assert (second / "weights" / "last.pt").read_text() == "old"
        assert not (second / "images").exists()
    assert (project / "weights" / "last.pt").read_text() == "old"
    assert sorted(path.name for path in project.iterdir()) == [".cache", "link.csv", "weights"]
    assert not first.exists()


def test_what_is_large_is_linked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "dataset").mkdir()
    for number in range(20):
        (project / "dataset" / f"{number}.txt").write_text("row")
    (project / "large.bin").write_bytes(bytes(100))
    monkeypatch.setattr(scratch, "COPIED_ENTRIES", 15)
    monkeypatch.setattr(scratch, "COPIED_BYTES", 50)
    with scratch_folder(project) as folder:
        assert (folder / "large.bin").is_symlink()
        assert (folder / "dataset" / "7.txt").is_symlink()
        assert not (folder / "weights").is_symlink()


def test_works_where_the_scratch_folders_themselves_are_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(project))
    with scratch_folder(project) as folder:
        assert sorted(path.name for path in folder.iterdir()) == [".cache", "link.csv", "weights"]
