"""Reads scripts: file, folder, notebook or standard input."""

from __future__ import annotations

import io
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lightify.errors import Diagnostic, LightifyError, SourceSpan

Newline = Literal["\n", "\r\n", "\r"]

SUFFIXES = (".py", ".pyw", ".ipynb")
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "build", "dist", "env", "node_modules", "site-packages", "venv", "virtualenv"}
)
RESULT_SUFFIX = "_lit"


@dataclass(frozen=True)
class Source:
    """One script as text.

    Attributes:
        path: as the user gave it; "-" for standard input.
        text: with "\\n" line ends, decoded.
        encoding: to write back with.
        newline: the file's own line end.
        root: folder that the script's imports are looked up in; None without files (standard input).
        neighbours: modules and packages that stand beside the script and hide installed ones of the same name.
        notebook: the notebook as JSON text that `text` was taken from; empty for a script.
    """

    path: str
    text: str
    encoding: str = "utf-8"
    newline: Newline = "\n"
    root: str | None = None
    notebook: str = ""
    neighbours: frozenset[str] = frozenset()

    def in_cell(self, span: SourceSpan) -> SourceSpan:
        """A place of the text as a place in its cell; in a script it is what it was."""
        if not self.notebook or span.path != self.path:
            return span
        from lightify.notebooks import cell_start  # loaded for notebooks only

        cell, start = cell_start(self.text, span.line)
        return replace(span, line=span.line - start, end_line=max(span.end_line - start, 0), cell=cell)


def _neighbours(root: str | None) -> frozenset[str]:
    """Names that an import finds in a folder before it looks at what is installed."""
    if root is None:
        return frozenset()
    entries = Path(root or ".").iterdir()
    return frozenset(entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file())


def read_source(path: str | os.PathLike[str], stdin: bytes = b"") -> Source:
    """Reads one script or notebook; `stdin` is the text for the path "-".

    Raises:
        LightifyError: LF003 to LF007, LF011: what stands there is no readable script.
    """
    name = os.fspath(path)
    data = stdin if name == "-" else _read_bytes(name)
    root = None if name == "-" else str(Path(name).parent)
    if name.endswith(".ipynb"):
        from lightify.notebooks import script_of_notebook  # loaded for notebooks only

        text, notebook = script_of_notebook(data, name)
        return Source(name, text, root=root, notebook=notebook, neighbours=_neighbours(root))
    text, encoding = _decode(data, name)
    newline = _newline_of(text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise LightifyError.at(name, "LF007", "the file is empty", "give a script that trains a model")
    return Source(name, text, encoding, newline, root, neighbours=_neighbours(root))


def find_sources(paths: Sequence[str]) -> tuple[str, ...]:
    """The scripts and notebooks that the user's paths mean, each once; a folder stands for all within.

    Left out within folders: what is hidden, virtual environments, build results, empty files, and our own results
    (`x_lit.py` beside `x.py`).

    Raises:
        LightifyError: LF003, a path does not exist; LF012, a folder holds nothing to convert.
    """
    found: dict[str, None] = {}
    for path in paths:
        if path != "-" and os.path.isdir(path):
            within = sorted(_walk(path))
            if not within:
                hint = "give a file or another folder"
                raise LightifyError.at(path, "LF012", "no Python file or notebook in this folder", hint)
            found.update(dict.fromkeys(within))
        elif path == "-" or os.path.exists(path):
            found[path] = None
        else:
            raise LightifyError.at(path, "LF003", "no such file or folder", "check the path")
    return tuple(found)


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not (name.startswith(".") or name in SKIPPED_FOLDERS or name.endswith(".egg-info"))
            and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        ]
        present = set(files)
        for name in files:
            stem, suffix = os.path.splitext(name)
            ours = stem.endswith(RESULT_SUFFIX) and stem[: -len(RESULT_SUFFIX)] + suffix in present
            path = os.path.join(parent, name)
            if suffix in SUFFIXES and not name.startswith(".") and not ours and not _is_empty(path):
                yield path


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == 0


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise LightifyError.at(path, "LF003", "no such file or folder", "check the path") from None
    except IsADirectoryError:
        raise LightifyError.at(path, "LF004", "this is a folder, not a script", "give a file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LightifyError.at(path, "LF004", f"the file cannot be read: {reason}", "check its permissions") from None


def _decode(data: bytes, path: str) -> tuple[str, str]:
    """Decodes as Python does: byte order mark, then the coding comment (PEP 263), else UTF-8."""
    save_as = "save it as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LightifyError.at(path, "LF006", "the file is UTF-16, which Python does not run", "save it as UTF-8")
    if b"\0" in data:
        raise LightifyError.at(path, "LF005", "the file is binary, not Python text", "give a .py file or a notebook")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        if "invalid or missing encoding" not in str(error):
            raise LightifyError.at(path, "LF006", f"the file's encoding is not known: {error.msg}", save_as) from None
        encoding = "utf-8"  # decoding says where it breaks
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        before = data[: error.start]
        span = SourceSpan(path, before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1))
        shown = f"byte 0x{data[error.start]:02x} is not {error.encoding}"
        message = f"the file is not in the encoding it claims: {shown}"
        raise LightifyError(Diagnostic("LF006", message, span, save_as)) from None


def _newline_of(text: str) -> Newline:
    """The commonest line end; ties go to the simpler."""
    ends = re.findall(r"\r\n|\n|\r", text)
    kinds: tuple[Newline, ...] = ("\n", "\r\n", "\r")
    return max(kinds, key=ends.count)
