"""Reading: encodings, line ends, folders; what is no script says so in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightify.errors import LightifyError
from lightify.files import write_text
from lightify.sources import find_sources, read_source

READABLE = [
    pytest.param(b"x = 1\n", "x = 1\n", "utf-8", "\n", id="plain"),
    pytest.param(b"x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n", "utf-8", "\r\n", id="windows line ends"),
    pytest.param(b"x = 1\ry = 2\r", "x = 1\ny = 2\n", "utf-8", "\r", id="old mac line ends"),
    pytest.param(b"x = 1\r\ny = 2\r\nz = 3\n", "x = 1\ny = 2\nz = 3\n", "utf-8", "\r\n", id="the commonest line end"),
    pytest.param(b"\xef\xbb\xbfx = 1\n", "x = 1\n", "utf-8-sig", "\n", id="byte order mark"),
    pytest.param(b"# coding: latin-1\ns = '\xe9'\n", "# coding: latin-1\ns = 'é'\n", "iso-8859-1", "\n", id="cookie"),
    pytest.param(b"# vim: set fileencoding=cp1252 :\ns = '\x80'\n", None, "cp1252", "\n", id="cookie of an editor"),
    pytest.param("s = 'é✓'".encode(), "s = 'é✓'", "utf-8", "\n", id="no line end at all"),
]

UNREADABLE = [
    pytest.param(b"", "LF007", 1, id="empty"),
    pytest.param(b" \n\n\t\n", "LF007", 1, id="blank"),
    pytest.param(b"\x7fELF\x02\x01\x00\x00", "LF005", 1, id="binary"),
    pytest.param("x = 1\n".encode("utf-16"), "LF006", 1, id="UTF-16"),
    pytest.param(b"x = 1\ny = '\xe9'\n", "LF006", 2, id="not the UTF-8 it should be"),
    pytest.param(b"# coding: klingon\nx = 1\n", "LF006", 1, id="unknown encoding"),
    pytest.param(b"\xef\xbb\xbf# coding: latin-1\nx = 1\n", "LF006", 1, id="mark and cookie disagree"),
]


@pytest.mark.parametrize(("data", "text", "encoding", "newline"), READABLE)
def test_a_script_is_read_and_written_back_byte_for_byte(
    tmp_path: Path, data: bytes, text: str | None, encoding: str, newline: str
) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(data)
    source = read_source(path)
    assert (source.encoding, source.newline) == (encoding, newline)
    assert text is None or source.text == text
    assert source.root == str(tmp_path)
    if data.count(b"\n") == data.count(newline.encode()):  # mixed line ends become one kind
        write_text(path, source.text, encoding=source.encoding, newline=source.newline, replace=True)
        assert path.read_bytes() == data


@pytest.mark.parametrize(("data", "code", "line"), UNREADABLE)
def test_what_is_no_script_is_one_clear_error(tmp_path: Path, data: bytes, code: str, line: int) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(data)
    with pytest.raises(LightifyError) as caught:
        read_source(path)
    problem = caught.value.diagnostic
    assert (problem.code, problem.span and problem.span.line) == (code, line)
    assert str(problem).startswith(f"{path}:{line}:") and problem.hint


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(LightifyError, match="LF003"):
        read_source(tmp_path / "absent.py")
    with pytest.raises(LightifyError, match="LF004"):
        read_source(tmp_path)
    with pytest.raises(LightifyError, match="LF004"):
        read_source("a\0b.py")


def test_standard_input_has_no_folder() -> None:
    source = read_source("-", b"x = 1\r\n")
    assert (source.path, source.text, source.newline, source.root) == ("-", "x = 1\n", "\r\n", None)


def test_a_folder_stands_for_its_scripts(tmp_path: Path) -> None:
    wanted = ["a.py", "a_lit.ipynb", "nets/b.py", "notes.ipynb", "only_lit.py"]
    unwanted = [
        *(".hidden.py", ".git/x.py", "venv/x.py", "build/x.py", "my_env/pyvenv.cfg", "my_env/lib/x.py"),
        *("lib/site-packages/x.py", "__pycache__/x.py", "a_lit.py", "data.txt", ".ipynb_checkpoints/notes.ipynb"),
    ]
    for name in wanted + unwanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "nets" / "__init__.py").touch()
    assert [str(Path(path).relative_to(tmp_path)) for path in find_sources([str(tmp_path)])] == wanted
    twice = find_sources([str(tmp_path / "a.py"), str(tmp_path)])
    assert len(twice) == len(wanted) and twice[0] == str(tmp_path / "a.py")


def test_a_file_given_by_name_is_never_skipped(tmp_path: Path) -> None:
    for name in ("a.py", "a_lit.py"):
        (tmp_path / name).write_text("x = 1\n")
    assert find_sources([str(tmp_path / "a_lit.py")]) == (str(tmp_path / "a_lit.py"),)


def test_a_folder_without_scripts_and_a_wrong_path(tmp_path: Path) -> None:
    with pytest.raises(LightifyError, match="LF012"):
        find_sources([str(tmp_path)])
    with pytest.raises(LightifyError, match="LF003"):
        find_sources([str(tmp_path / "absent")])
