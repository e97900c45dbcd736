"""Notebooks: code cells to one script, and a converted script back into its notebook.

In the script a comment `# %% [cell 3]` opens each cell, the form that editors know. Lines that only IPython reads
become comments `# ipython: %matplotlib inline`, which leave the converter as they came and are restored.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from typing import Any

from lightify.errors import LightifyError

Cell = dict[str, Any]  # as in the JSON; the format's own schema says more than a type here could

MARKER = re.compile(r"^(?P<indent>[ \t]*)# %% \[cell (?P<number>\d+)\][ \t]*\n?", re.MULTILINE)
COMMENTED = re.compile(r"^(?P<indent>[ \t]*)(?:pass  )?# ipython: (?P<line>.*)$", re.MULTILINE)
SPECIAL = re.compile(r"^\s*(?:[%!?]|[\w.,\[\] \t]+=\s*[%!]|[\w.]+\?{1,2}\s*$)")
PYTHON_CELL_MAGICS = frozenset({"%%time", "%%timeit", "%%capture", "%%prun"})


def script_of_notebook(data: bytes, path: str) -> tuple[str, str]:
    """The code cells as one script, and the notebook as JSON text.

    Raises:
        LightifyError: LF011, this is no notebook of format 4, or not one in Python; LF007, it holds no code.
    """
    try:
        text = data.decode("utf-8-sig")
        notebook = json.loads(text)
        cells: list[Cell] = notebook["cells"]
        metadata = notebook.get("metadata", {})
        pieces = [
            f"# %% [cell {number}]\n{_as_python(_source_of(cell))}\n"
            for number, cell in enumerate(cells, 1)
            if cell["cell_type"] == "code" and _source_of(cell).strip()
        ]
        language = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name")
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        hint = "open it in Jupyter and save it again (format 4), or give the script"
        raise LightifyError.at(path, "LF011", "this is not a notebook of format 4", hint) from None
    if language and str(language).lower() != "python":
        raise LightifyError.at(path, "LF011", f"the notebook's language is {language}", "give a notebook in Python")
    if not pieces:
        raise LightifyError.at(path, "LF007", "the notebook holds no code", "give a notebook that trains a model")
    return "\n".join(pieces), text


def cell_start(script: str, line: int) -> tuple[int, int]:
    """The cell that a line of the script came from, and the line of its marker; (0, 0) for none."""
    lines = script.split("\n")
    for number in range(min(line, len(lines)), 0, -1):
        found = MARKER.match(lines[number - 1])
        if found is not None and not found["indent"]:
            return int(found["number"]), number
    return 0, 0


def notebook_of_script(script: str, notebook: str) -> str:
    """Puts a converted script back into the notebook that its source came from.

    Cells keep their order, markdown and ids. A code cell whose code has all moved goes away; what the converter put
    before the first cell becomes a new one; a cell that has changed loses its outputs, since nothing computed them.
    """
    content = json.loads(notebook)
    head, code = _split(script)
    cells: list[Cell] = []
    for number, cell in enumerate(content["cells"], 1):
        if cell["cell_type"] == "code" and _source_of(cell).strip():
            if head:
                cells.append(_new_cell(head, content))
                head = ""
            if number not in code:
                continue
            cell = _with_source(cell, _as_cell(code[number]))
        cells.append(cell)
    content["cells"] = cells
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _split(script: str) -> tuple[str, dict[int, str]]:
    """The text before the first marker, and the text of each cell; markers that moved into a block open nothing."""
    script = MARKER.sub(lambda found: found[0] if not found["indent"] else "", script)
    head, *rest = re.split(r"^# %% \[cell (\d+)\][ \t]*\n?", script, flags=re.MULTILINE)
    code: dict[int, str] = {}
    for number, text in zip(map(int, rest[::2]), rest[1::2]):
        if text.strip():
            code[number] = f"{code[number]}\n\n{text.strip()}" if number in code else text.strip("\n").rstrip()
    return head.strip(), code


def _source_of(cell: Cell) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _with_source(cell: Cell, text: str) -> Cell:
    if text == _source_of(cell).rstrip():
        return cell
    lines = text.splitlines(keepends=True) if isinstance(cell["source"], list) else text
    return {**cell, "source": lines, "outputs": [], "execution_count": None}


def _new_cell(text: str, notebook: dict[str, Any]) -> Cell:
    cell: Cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": []}
    if (notebook.get("nbformat", 4), notebook.get("nbformat_minor", 0)) >= (4, 5):
        cell = {"id": "lightify", **cell}
    return _with_source(cell, text)


def _as_python(text: str) -> str:
    text = text.replace("\r\n", "\n").rstrip()
    first = text.lstrip().partition("\n")[0].strip()
    if first.startswith("%%") and first.split()[0] not in PYTHON_CELL_MAGICS:
        return "\n".join(f"# ipython: {line}" for line in text.split("\n"))
    text = _dedented(text)
    if _parses(text):
        return text
    lines: list[str] = []
    indent: str | None = None  # of a special line that goes on, since it ends with a backslash
    for line in text.split("\n"):
        if indent is not None:
            lines.append(f"{indent}# ipython: {line.removeprefix(indent)}")
        elif SPECIAL.match(line) and not _is_open("\n".join(lines)):
            code = line.lstrip()
            indent = line[: len(line) - len(code)]
            lines.append(f"{indent}{'pass  ' if indent else ''}# ipython: {code}")  # a block needs a statement
        else:
            lines.append(line)
        indent = indent if line.endswith("\\") else None
    return "\n".join(lines)


def _dedented(text: str) -> str:
    """The cell without its first line's indent, which IPython takes off every line that starts with it."""
    code = text.lstrip("\n")
    indent = code[: len(code) - len(code.lstrip(" \t"))]
    return "\n".join(line.removeprefix(indent) for line in text.split("\n"))


def _is_open(text: str) -> bool:
    """True when the text ends within brackets or a string, where `%` is an operator and not a magic."""
    try:
        for _ in tokenize.generate_tokens(io.StringIO(text + "\n").readline):
            pass
    except tokenize.TokenError as error:
        return "multi-line" in str(error)
    except (SyntaxError, ValueError):
        return False
    return False


def _as_cell(text: str) -> str:
    return COMMENTED.sub(lambda found: f"{found['indent']}{found['line']}", text)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True
