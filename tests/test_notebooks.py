"""Notebooks go in as one script and come back as the same notebook around the new code."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import nbformat
import pytest

from lightify.errors import LightifyError
from lightify.notebooks import notebook_of_script, script_of_notebook
from lightify.sources import read_source

CELLS = [
    ("markdown", "# Training\n"),
    ("code", "%matplotlib inline\nimport torch\n!pip install \\\n   nothing\nfiles = !ls\n"),
    ("code", "%%bash\nfor i in 1 2; do echo $i; done"),
    ("code", "if torch.cuda.is_available():\n    !nvidia-smi\nprint?"),
    ("raw", "% not code"),
    ("code", "%%time\nx = (7\n  % 2)\n"),
    ("code", ""),
    ("markdown", "The end"),
]


def notebook(cells: list[tuple[str, str]] = CELLS) -> bytes:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    )
    for kind, source in cells:
        make = {
            "markdown": nbformat.v4.new_markdown_cell,
            "code": nbformat.v4.new_code_cell,
            "raw": nbformat.v4.new_raw_cell,
        }
        cell = make[kind](source)
        if kind == "code":
            cell.execution_count, cell.outputs = 1, [nbformat.v4.new_output("stream", text="old")]
        made.cells.append(cell)
    return nbformat.writes(made).encode()


def cells_of(text: str) -> list[tuple[str, str]]:
    read = nbformat.reads(text, as_version=4)
    nbformat.validate(read)
    return [(cell.cell_type, cell.source) for cell in read.cells]


def test_the_script_is_python_and_marks_its_cells() -> None:
    script, _ = script_of_notebook(notebook(), "x.ipynb")
    ast.parse(script)
    assert script.startswith("# %% [cell 2]\n# ipython: %matplotlib inline\nimport torch\n# ipython: !pip install \\\n")
    assert "    pass  # ipython: !nvidia-smi\n# ipython: print?\n" in script
    assert "# ipython: for i in 1 2; do echo $i; done\n" in script
    assert "x = (7\n  % 2)\n" in script


def test_an_unchanged_script_gives_the_same_notebook() -> None:
    data = notebook()
    script, text = script_of_notebook(data, "x.ipynb")
    restored = notebook_of_script(script, text)
    assert [(kind, source.rstrip()) for kind, source in cells_of(restored)] == [
        (kind, source.rstrip()) for kind, source in CELLS
    ]
    assert json.loads(restored)["cells"][1]["outputs"]  # nothing changed: still what the code printed


def test_new_moved_and_changed_code() -> None:
    script, text = script_of_notebook(
        notebook([("markdown", "A"), ("code", "a = 1"), ("code", "b = 2"), ("code", "c = 3")]), "x"
    )
    changed = '"""Made."""\nimport lightify.runtime as L\n\n' + script.replace("b = 2", "    # gone").replace(
        "# %% [cell 3]\n    # gone\n\n", "class M:\n    # %% [cell 3]\n    b = 2\n\n\n"
    )
    restored = notebook_of_script(changed, text)
    assert cells_of(restored) == [
        ("markdown", "A"),
        ("code", '"""Made."""\nimport lightify.runtime as L'),
        ("code", "a = 1\n\nclass M:\n    b = 2"),
        ("code", "c = 3"),
    ]
    first, last = json.loads(restored)["cells"][2:]
    assert first["outputs"] == [] and first["execution_count"] is None
    assert last["outputs"] and last["execution_count"] == 1


NO_NOTEBOOK = {
    "no JSON": b"import torch",
    "JSON of something else": b"[1, 2]",
    "format 3": json.dumps({"worksheets": [], "nbformat": 3}).encode(),
    "binary": b"\xff\xfe\x00",
    "another language": json.dumps(
        {"cells": [], "metadata": {"kernelspec": {"language": "R"}}, "nbformat": 4}
    ).encode(),
    "cells that are none": json.dumps({"cells": [{"cell_type": "code"}, 3], "nbformat": 4}).encode(),
    "metadata that is none": json.dumps({"cells": [], "metadata": 3, "nbformat": 4}).encode(),
}


@pytest.mark.parametrize("data", NO_NOTEBOOK.values(), ids=NO_NOTEBOOK)
def test_what_is_no_notebook_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.ipynb"
    path.write_bytes(data)
    with pytest.raises(LightifyError, match=r"x\.ipynb:1:1: LF011 "):
        read_source(path)


def test_a_notebook_without_code() -> None:
    with pytest.raises(LightifyError, match="LF007"):
        script_of_notebook(notebook([("markdown", "# only words"), ("code", "  ")]), "x.ipynb")


def test_an_indented_cell_is_read_as_ipython_reads_it() -> None:
    script, _ = script_of_notebook(notebook([("code", "\n  x = 1\n  for i in [x]:\n      print(i)\ny = 2")]), "x.ipynb")
    assert script.endswith("\nx = 1\nfor i in [x]:\n    print(i)\ny = 2\n")


def test_a_notebook_is_converted_for_real(tmp_path: Path) -> None:
    """One cell per part of a script; the loop's cell becomes the Trainer's, and the others keep their places."""
    from click.testing import CliRunner

    from lightify.cli import cli

    cells = [
        ("markdown", "# Title"),
        ("code", "%matplotlib inline\nimport torch\nfrom torch import nn"),
        (
            "code",
            "x = torch.randn(8, 2)\nmodel = nn.Linear(2, 1)\nopt = torch.optim.SGD(model.parameters(), lr=0.1)\n!ls",
        ),
        ("markdown", "Training"),
        (
            "code",
            "for epoch in range(3):\n    opt.zero_grad()\n    loss = model(x).square().mean()\n    loss.backward()\n    opt.step()",
        ),
        ("code", "print(model.weight)"),
    ]
    (tmp_path / "nb.ipynb").write_bytes(notebook(cells))
    result = CliRunner().invoke(cli, ["convert", str(tmp_path / "nb.ipynb")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = cells_of((tmp_path / "nb_lit.ipynb").read_text(encoding="utf-8"))
    assert [kind for kind, _ in made] == ["markdown", "code", "code", "markdown", "code", "code"]
    assert made[1][1].startswith("%matplotlib inline\n") and "class Lit" in made[1][1]
    assert made[2][1].endswith("!ls") and ".fit(" in made[4][1]
    assert made[5][1] == "print(model.weight)"
