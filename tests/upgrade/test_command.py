"""`lightify upgrade`: files, exit codes and reports, for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightify.cli import cli

OLD = "import pytorch_lightning as pl\n\ntrainer = pl.Trainer(gpus=0)  # é\n"
NEW = 'import lightify.runtime as pl\n\ntrainer = pl.Trainer(accelerator="cpu")  # é\n'
UNSURE = "import pytorch_lightning as pl\n\n\ntrainer = pl.Trainer(tpu_cores=8)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.py").write_bytes(b"# coding: latin-1\r\n" + OLD.replace("\n", "\r\n").encode("latin-1"))
    return tmp_path


def run(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["upgrade", *args], input=stdin, catch_exceptions=False)


def test_beside_and_in_place(folder: Path) -> None:
    result = run("old.py")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "old.py: upgraded to old_lit.py",
        "old.py:2:1: imports: import pytorch_lightning -> import lightify.runtime",
        'old.py:4:22: trainer_arguments: Trainer(gpus=0) -> accelerator="cpu"',
    ]
    before, after = (folder / "old.py").read_bytes(), (folder / "old_lit.py").read_bytes()
    assert after == b"# coding: latin-1\r\n" + NEW.replace("\n", "\r\n").encode("latin-1")
    assert run("--in-place", "old.py").exit_code == 0
    assert (folder / "old.py").read_bytes() == after
    assert (folder / "old.py.bak").read_bytes() == before
    again = run("--in-place", "old.py")
    assert (again.exit_code, (folder / "old.py.bak1").exists()) == (0, False)


def test_diff_check_and_the_package(folder: Path) -> None:
    assert run("--check", "old.py").exit_code == 1
    result = run("--diff", "--runtime", "lightning", "old.py")
    assert result.exit_code == 0 and "+import lightning.pytorch as pl\n" in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["old.py"]
    (folder / "new.py").write_text("import lightning as L\n\ntrainer = L.Trainer()\n")
    assert run("--check", "new.py").exit_code == 0


def test_a_refusal_writes_nothing(folder: Path) -> None:
    (folder / "tpu.py").write_text(UNSURE)
    result = run("--in-place", "tpu.py")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "tpu.py:4:22: LF502 `tpu_cores`: there is no TPU engine"
    assert (folder / "tpu.py").read_text() == UNSURE and not (folder / "tpu.py.bak").exists()


def test_standard_input_comes_out_again() -> None:
    assert run("-", stdin=OLD).stdout == NEW
    assert run("-", stdin="x = 1\n").stdout == "x = 1\n"
    assert run("-", stdin="x = (\n").exit_code == 2


def test_folder_notebook_and_json(folder: Path) -> None:
    cells = [{"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [], "source": OLD.splitlines(True)}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    (folder / "src").mkdir()
    (folder / "src" / "a.ipynb").write_text(json.dumps(notebook))
    (folder / "src" / "b.py").write_text("x = 1\n")
    (folder / "src" / "c.py").write_text(UNSURE)
    result = run("src", "-o", "out", "--json", "-j", "2")
    assert result.exit_code == 2
    files = {file["path"]: file for file in json.loads(result.stdout)["files"]}
    assert {path: file["status"] for path, file in files.items()} == {
        "src/a.ipynb": "upgraded",
        "src/b.py": "nothing to do",
        "src/c.py": "refused",
    }
    assert [found["form"] for found in files["src/a.ipynb"]["rewrites"]] == ["imports", "trainer_arguments"]
    assert files["src/c.py"]["refusals"][0]["code"] == "LF502"
    written = json.loads((folder / "out" / "a.ipynb").read_text())
    assert "".join(written["cells"][0]["source"]) == NEW.rstrip("\n")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.ipynb"]
    table = run("src", "--check")
    assert table.exit_code == 2 and "1 upgraded, 1 nothing to do, 1 refused" in table.stdout
