"""The command line: options, exit codes, what is printed where, and that nothing else is touched.

The converter is replaced by one that is told what to answer, except where a test says "for real".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightify import __version__
from lightify.cli import cli
from lightify.convert import Conversion
from lightify.errors import Diagnostic, LightifyError, Refusal, SourceSpan
from lightify.ledger import Fate, Ledger, LedgerEntry
from lightify.settings import Settings
from lightify.sources import Source

ADDED = "# converted\n"


def answer(source: Source, settings: Settings) -> Conversion:
    """Reads its answer in the script's first line."""
    what = source.text.partition("\n")[0]
    if "no loop" in what:
        return Conversion(source, None, refusals=(Refusal("LF201", "no training loop", SourceSpan(source.path, 1)),))
    if "unsure" in what:
        refusal = Refusal("LF220", "the loop is asynchronous", SourceSpan(source.path, 3, 4), "convert it by hand")
        return Conversion(source, None, refusals=(refusal,))
    if "syntax" in what:
        raise LightifyError(Diagnostic("LF101", "not valid Python 3", SourceSpan(source.path, 7, 2), "mend it"))
    if "recursion" in what:
        raise RecursionError("too deep")
    if "fault" in what:
        raise ZeroDivisionError("a fault\nof ours")
    entry = LedgerEntry(SourceSpan(source.path, 1), what, Fate.KEPT)
    finding = Diagnostic("LF401", f"runtime {settings.runtime_module()}", SourceSpan(source.path, 1), "", "note")
    return Conversion(source, source.text + ADDED, "automatic", ledger=Ledger((entry,)), findings=(finding,))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightify.jobs.convert", answer)
    (tmp_path / "train.py").write_text("x = 1\n")
    return tmp_path


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, args, input=stdin, catch_exceptions=False)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# one file


def test_the_result_goes_beside_the_source(folder: Path) -> None:
    result = run("convert", "train.py")
    assert result.exit_code == 0
    assert files(folder) == {"train.py": b"x = 1\n", "train_lit.py": b"x = 1\n# converted\n"}
    assert result.stdout.splitlines()[:2] == [
        "train.py: converted to train_lit.py, automatic optimization",
        "  statements: 1 kept, 0 moved, 0 replaced, 0 dropped",
    ]
    assert "train.py:1:1: LF401 note: runtime lightify.runtime" in result.stdout and not result.stderr


def test_an_output_that_exists_is_replaced_by_force_only(folder: Path) -> None:
    (folder / "train_lit.py").write_text("precious\n")
    result = run("convert", "train.py")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "train_lit.py:1:1: LF009 the output exists already"
    assert (folder / "train_lit.py").read_text() == "precious\n"
    assert run("convert", "train.py", "--force").exit_code == 0
    assert (folder / "train_lit.py").read_text() == "x = 1\n# converted\n"


def test_output_to_a_file_a_folder_and_a_new_folder(folder: Path) -> None:
    (folder / "out").mkdir()
    for output, written in [("a.py", "a.py"), ("out", "out/train.py"), ("new/deep/b.py", "new/deep/b.py")]:
        assert run("convert", "train.py", "-o", output).exit_code == 0
        assert (folder / written).read_text() == "x = 1\n# converted\n"


def test_in_place_keeps_a_backup_the_encoding_and_the_line_ends(folder: Path) -> None:
    (folder / "train.py").write_bytes(b"# coding: latin-1\r\ns = '\xe9'\r\n")
    result = run("convert", "--in-place", "train.py")
    assert result.exit_code == 0 and "the old file is train.py.bak" in result.stdout
    assert files(folder) == {
        "train.py": b"# coding: latin-1\r\ns = '\xe9'\r\n# converted\r\n",
        "train.py.bak": b"# coding: latin-1\r\ns = '\xe9'\r\n",
    }


def test_diff_and_check_write_nothing(folder: Path) -> None:
    before = files(folder)
    result = run("convert", "--diff", "train.py")
    assert result.exit_code == 0
    assert result.stdout == "--- train.py\n+++ train_lit.py\n@@ -1 +1,2 @@\n x = 1\n+# converted\n"
    assert "nothing was written" in result.stderr
    assert run("convert", "--check", "train.py").exit_code == 1
    assert run("convert", "--check", "--diff", "--in-place", "train.py").exit_code == 1
    assert files(folder) == before


def test_check_is_content_when_nothing_would_change(folder: Path) -> None:
    run("convert", "train.py")
    assert run("convert", "--check", "train.py").exit_code == 0
    (folder / "train.py").write_text("x = 2\n")
    assert run("convert", "--check", "train.py").exit_code == 1
    (folder / "train.py").write_text("# no loop\n")
    assert run("convert", "--check", "train.py").exit_code == 0
    (folder / "train.py").write_text("# unsure\n")
    assert run("convert", "--check", "train.py").exit_code == 2


def test_standard_input_to_standard_output(folder: Path) -> None:
    result = run("convert", "-", stdin=b"# coding: latin-1\r\ns = '\xe9'\r\n")
    assert result.exit_code == 0
    assert result.stdout_bytes == b"# coding: latin-1\r\ns = '\xe9'\r\n# converted\r\n"
    assert "automatic optimization" in result.stderr
    assert run("convert", "-", "-o", "b.py", stdin="x = 1\n").exit_code == 0
    assert (folder / "b.py").read_text() == "x = 1\n# converted\n"
    assert run("convert", "train.py", "-o", "-").stdout == "x = 1\n# converted\n"


BAD = {
    "missing": (None, "train.py:1:1: LF003 no such file or folder"),
    "empty": (b"", "train.py:1:1: LF007 the file is empty"),
    "binary": (b"\x00\x01", "train.py:1:1: LF005 the file is binary, not Python text"),
    "encoding": (b"a\n\xff", "train.py:2:1: LF006 the file is not in the encoding it claims: byte 0xff is not utf-8"),
    "syntax error": (b"# syntax", "train.py:7:3: LF101 not valid Python 3"),
    "no loop": (b"# no loop", "train.py:1:1: LF201 no training loop"),
    "refused": (b"# unsure", "train.py:3:5: LF220 the loop is asynchronous"),
    "deep": (
        b"# recursion\nx = " + b"-" * 150 + b"1\n",
        "train.py:1:1: LF102 the code is nested too deeply to be read",
    ),
    "a recursion of our own": (
        b"# recursion\nx = 1\n",
        "train.py:1:1: LF900 internal fault, nothing was written: RecursionError: too deep",
    ),
    "internal": (
        b"# fault",
        "train.py:1:1: LF900 internal fault, nothing was written: ZeroDivisionError: a fault",
    ),
}


@pytest.mark.parametrize(
    "command", [["convert"], ["convert", "--in-place"], ["convert", "-o", "new/x.py"], ["inspect"]]
)
@pytest.mark.parametrize(("data", "line"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_changes_nothing(
    folder: Path, command: list[str], data: bytes | None, line: str
) -> None:
    if data is None:
        (folder / "train.py").unlink()
    else:
        (folder / "train.py").write_bytes(data)
    before = files(folder)
    result = run(*command, "train.py")
    if command == ["inspect"] and "LF201" in line:
        assert result.exit_code == 0  # it was asked what is there, and says so
    else:
        assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == line
    assert len(result.stderr.splitlines()) <= 2 and "Traceback" not in result.output
    assert files(folder) == before and not (folder / "new").exists()


def test_traceback_on_request(folder: Path) -> None:
    (folder / "train.py").write_text("# fault")
    assert "Traceback" in run("--traceback", "convert", "train.py").stderr


WRONG_USE = [
    ["convert"],
    ["convert", "train.py", "--in-place", "-o", "x.py"],
    ["convert", "-", "--in-place"],
    ["convert", "train.py", "--verify", "--check"],
    ["convert", "train.py", "--json", "--sarif", "-"],
    ["convert", "train.py", "--json", "-o", "-"],
    ["convert", "train.py", "--runtime", "keras"],
    ["convert", "train.py", "--vendor", "--runtime", "lightning"],
    ["convert", "train.py", "--line-length", "7"],
    ["convert", "train.py", "-j", "0"],
    ["convert", ".", "-o", "train.py"],
    ["inspect"],
    ["verify"],
    ["verify", "absent.py", "train.py"],
    ["frobnicate"],
]


@pytest.mark.parametrize("args", WRONG_USE, ids=" ".join)
def test_wrong_use_is_exit_2_and_changes_nothing(folder: Path, args: list[str]) -> None:
    before = files(folder)
    result = run(*args, stdin="x = 1\n")
    assert result.exit_code == 2 and result.stderr and "Traceback" not in result.output
    assert files(folder) == before


# several files


@pytest.fixture
def tree(folder: Path) -> Path:
    for name, text in {"a/one.py": "x = 1\n", "a/two.py": "# no loop\n", "three.py": "x = 3\n"}.items():
        (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / name).write_text(text)
    return folder


def test_a_folder_is_converted_with_one_table(tree: Path) -> None:
    result = run("convert", "src")
    assert result.exit_code == 0
    assert (tree / "src/a/one_lit.py").exists() and (tree / "src/three_lit.py").exists()
    assert not (tree / "src/a/two_lit.py").exists()
    assert result.stdout.splitlines()[-1] == "2 converted, 1 nothing to do"


def test_a_folder_is_mirrored_below_the_output(tree: Path) -> None:
    assert run("convert", "src", "-o", "out").exit_code == 0
    assert sorted(name for name in files(tree) if name.startswith("out")) == ["out/a/one.py", "out/three.py"]


def test_one_refusal_among_many_is_exit_2_and_the_others_are_written(tree: Path) -> None:
    (tree / "src/three.py").write_text("# unsure\n")
    result = run("convert", "src")
    assert result.exit_code == 2 and "LF220" in result.stdout
    assert (tree / "src/a/one_lit.py").exists()


def test_the_second_run_over_a_folder_changes_nothing(tree: Path) -> None:
    run("convert", "src")
    before = files(tree)
    assert run("convert", "--check", "src").exit_code == 0
    assert run("convert", "src").exit_code == 2
    assert files(tree) == before


def test_processes_give_the_same_as_one(tmp_path: Path) -> None:  # for real
    for number in range(4):
        (tmp_path / f"{number}.py").write_text(f"x = {number}\n" if number else "def f(:\n")
    runs = [run("convert", "--json", "-j", jobs, str(tmp_path)) for jobs in ("1", "3")]
    assert runs[0].exit_code == runs[1].exit_code == 2
    assert json.loads(runs[0].stdout) == json.loads(runs[1].stdout)
    codes = [(f["problem"] or f["refusals"][0])["code"] for f in json.loads(runs[0].stdout)["files"]]
    assert codes == ["LF101", "LF201", "LF201", "LF201"]


# reports


def test_json_and_sarif(folder: Path) -> None:
    result = run("convert", "--check", "--json", "--sarif", "out.sarif", "train.py")
    document = json.loads(result.stdout)
    assert document["files"][0]["status"] == "converted" and document["files"][0]["changes"]
    assert json.loads((folder / "out.sarif").read_text())["runs"][0]["results"][0]["ruleId"] == "LF401"
    assert json.loads(run("inspect", "train.py", "--sarif", "-").stdout)["version"] == "2.1.0"


def test_inspect_shows_and_writes_nothing(folder: Path) -> None:
    before = files(folder)
    result = run("inspect", "train.py")
    assert result.exit_code == 0 and "can be converted" in result.stdout and files(folder) == before
    assert json.loads(run("inspect", "train.py", "--json").stdout)["files"][0]["mode"] == "automatic"
    assert run("inspect", "train.py", "--html", "page.html").exit_code == 0
    assert (folder / "page.html").read_text().startswith("<!doctype html>")


def test_a_terminal_that_lacks_a_letter(folder: Path) -> None:  # for real
    (folder / "é✓.py").write_text("x = 'é✓'\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "lightify", "convert", "é✓.py"]
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert result.returncode == 2 and b"LF201" in result.stderr and b"Traceback" not in result.stderr


# settings

SETTINGS = [
    pytest.param('runtime = "lightning"', [], "runtime lightning", id="from the file"),
    pytest.param('runtime = "lightning"', ["--runtime", "bundled"], "runtime lightify.runtime", id="the option wins"),
    pytest.param("vendor = true", [], "runtime lightify_runtime", id="vendor"),
    pytest.param("data-module = true", [], "runtime lightify.runtime", id="a dash for an underscore"),
]
BAD_SETTINGS = [
    pytest.param('[tool.lightify]\nruntme = "x"', "has no setting 'runtme'", id="unknown"),
    pytest.param('[tool.lightify]\nruntime = "keras"', "setting runtime is 'keras'", id="value"),
    pytest.param("[tool.lightify]\ndata_module = 1", "setting data_module is 1", id="type"),
    pytest.param("[tool]\nlightify = 3", "not a table", id="no table"),
    pytest.param("[tool.lightify", "not readable as TOML", id="no TOML"),
]


@pytest.mark.parametrize(("table", "args", "expected"), SETTINGS)
def test_settings_of_the_nearest_pyproject(folder: Path, table: str, args: list[str], expected: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.lightify]\n{table}\n")
    (folder / "deep").mkdir()
    (folder / "deep/train.py").write_text("x = 1\n")
    result = run("convert", "--check", "deep/train.py", *args)
    assert result.exit_code == 1 and expected in result.stdout


@pytest.mark.parametrize(("text", "message"), BAD_SETTINGS)
def test_a_wrong_setting_names_the_file(folder: Path, text: str, message: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    result = run("convert", "train.py")
    assert result.exit_code == 2 and message in result.stderr
    assert result.stderr.startswith(f"{folder}/pyproject.toml:1:1: LF002 ")
    assert not (folder / "train_lit.py").exists()


def test_vendor_puts_the_runtime_beside_the_result(folder: Path) -> None:
    assert run("convert", "train.py", "--vendor").exit_code == 0
    names = {name for name in files(folder) if name.startswith("lightify_runtime/")}
    assert "lightify_runtime/__init__.py" in names and not any("__pycache__" in name for name in names)


# the rest


def test_version_and_help() -> None:
    assert run("--version").stdout == f"lightify, version {__version__}\n"
    for command in ([], ["convert"], ["inspect"], ["verify"]):
        result = run(*command, "--help")
        assert result.exit_code == 0 and "Usage:" in result.stdout


def test_convert_loads_no_torch(tmp_path: Path) -> None:  # for real
    (tmp_path / "train.py").write_text("x = 1\n")
    code = (
        "import sys\n"
        "from lightify.cli import cli\n"
        "try:\n    cli(['convert', 'train.py'])\n"
        "except SystemExit:\n    print(*[name for name in sys.modules if name in ('torch', 'numpy', 'rich', 'lightning')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout.strip() == "" and "LF201" in result.stderr


# for real: the converter itself, on fixtures

FULL_BATCH = Path(__file__).parent.parent / "fixtures" / "full_batch" / "input.py"


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(FULL_BATCH.read_text())
    return tmp_path


@pytest.mark.parametrize(
    "options", [[], ["--runtime", "lightning"], ["--vendor"], ["--style", "idiomatic"]], ids=" ".join
)
def test_a_result_is_not_converted_again(real: Path, options: list[str]) -> None:
    assert run("convert", "train.py", *options).exit_code == 0
    before = files(real)
    again = run("convert", "train_lit.py", *options)
    assert again.exit_code == 2 and "LF202" in again.stderr
    assert run("convert", "--check", "train_lit.py").exit_code == 0
    assert files(real) == before


def test_line_ends_and_encoding_of_a_real_script_survive(real: Path) -> None:
    text = "# coding: latin-1\n# é\n" + FULL_BATCH.read_text()
    (real / "train.py").write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    assert run("convert", "train.py").exit_code == 0
    data = (real / "train_lit.py").read_bytes()
    assert data.startswith("# coding: latin-1\r\n# é\r\n".encode("latin-1"))
    assert data.count(b"\n") == data.count(b"\r\n")


@pytest.mark.slow
def test_a_vendored_result_needs_no_lightify(real: Path) -> None:
    assert run("convert", "train.py", "--vendor").exit_code == 0
    code = (
        "import sys, runpy\n"
        "sys.modules['lightify'] = None\n"  # importing it fails
        "sys.path.insert(0, '.')\n"
        "runpy.run_path('train_lit.py', run_name='__main__')\n"
        "assert 'lightify_runtime.trainer' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=real, check=True, timeout=200)


@pytest.mark.slow
def test_convert_and_verify_in_one_command(real: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "lightify", "convert", "train.py", "--verify", "--steps", "3"],
        cwd=real, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and "identical: 3 steps" in result.stdout
    result = subprocess.run(
        [sys.executable, "-m", "lightify", "verify", "train.py", "--steps", "3"],
        cwd=real, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and "identical: 3 steps" in result.stdout
    assert sorted(path.name for path in real.iterdir()) == ["train.py", "train_lit.py"]
