"""Findings for scripts that are refused, for each of several runs, and for notebooks."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

import pytest

from lightify.convert import convert
from lightify.report import conversion_to_json, diagnostic_text
from lightify.settings import Settings
from lightify.sources import Source, read_source
from tests.findings.scripts import STEP, findings, script

LEFT_OUT = STEP.replace("optimizer.zero_grad()\n", "")


def codes(text: str) -> set[str]:
    done = convert(Source("train.py", text), Settings())
    assert done.text is None
    return {finding.code for finding in done.findings}


@pytest.mark.parametrize(("batch", "found"), [(LEFT_OUT, True), (STEP, False)], ids=["never zeroed", "zeroed"])
def test_a_refused_script_has_findings_too(batch: str, found: bool) -> None:
    head = script().partition("\nfor epoch")[0]
    steps = (
        f"def steps():\n    for x, y in train_loader:\n{indent(batch, ' ' * 8)}\n        yield loss\n\nlist(steps())\n"
    )
    assert ("LF401" in codes(f"{head}\n{steps}")) is found


def test_the_loop_of_another_library_has_none() -> None:
    text = script(batch=LEFT_OUT, setup="import horovod.torch as hvd\nhvd.init()")
    assert codes(text) == set()


DYNET = """\
import dynet as dy

model = dy.Model()
trainer = dy.AdamTrainer(model)
for epoch in range(3):
    for words, tag in train:
        dy.renew_cg()
        loss = dy.pickneglogsoftmax(score(words), tag)
        loss.backward()
        trainer.update()
"""


@pytest.mark.parametrize("more", ["", "import torch\n"], ids=["alone", "beside torch"])
def test_a_script_of_another_framework_is_none_of_ours(more: str) -> None:
    done = convert(Source("train.py", more + DYNET), Settings())
    assert [one.code for one in done.refusals] == ([] if more else ["LF216"])


UPDATE = """\
def update(engine, batch):
    optimizer.zero_grad()
    loss = model(batch).mean()
    loss.backward()
    optimizer.step()


"""
LIBRARIES = {
    "an engine": (f"from ignite.engine import Engine\n{UPDATE}Engine(update).run(loader)\n", "PyTorch-Ignite"),
    "a learner of a star import": ("from fastai.vision.all import *\nvision_learner(dls, resnet18).fit(2)\n", "fastai"),
    "a class that derives": (
        "import transformers\nclass Own(transformers.Trainer):\n    pass\nOwn(model).train()\n",
        "transformers",
    ),
    "a net": ("from skorch import NeuralNetClassifier as Net\nNet(Module).fit(x, y)\n", "skorch"),
    "Lightning": ("import lightning as L\nfrom nets import Net\nL.Trainer().fit(Net())\n", "Lightning"),
}
OWN_LOOP = "for batch in loader:\n    update(None, batch)\n"
NO_LIBRARY = {
    "its metrics": ("from ignite.metrics import Accuracy\nAccuracy()\n", ["LF201"]),
    "a class of the script": (
        "from fastai.vision.all import *\nclass Learner:\n    pass\nLearner()\n",
        ["LF201"],
    ),
    "a loop beside it": (f"from ignite.engine import Engine\n{UPDATE}{OWN_LOOP}Engine(validate).run(loader)\n", []),
}


@pytest.mark.parametrize(("text", "name"), LIBRARIES.values(), ids=LIBRARIES)
def test_a_loop_of_a_library_is_named(text: str, name: str) -> None:
    (refusal,) = convert(Source("train.py", f"import torch\n{text}"), Settings()).refusals
    assert refusal.code == "LF218" and name in refusal.message and refusal.hint


@pytest.mark.parametrize(("text", "codes"), NO_LIBRARY.values(), ids=NO_LIBRARY)
def test_what_only_uses_a_library_is_no_loop_of_it(text: str, codes: list[str]) -> None:
    setup = "import torch\nmodel = torch.nn.Linear(2, 2)\noptimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
    assert [one.code for one in convert(Source("train.py", setup + text), Settings()).refusals] == codes


MARIMO = """\
import marimo

app = marimo.App()


@app.cell
def _():
    import torch
    model = torch.nn.Linear(4, 2)
    return model, torch


@app.cell(hide_code=True)
def _(model, torch, train):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in train:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return
"""


def test_cells_that_see_each_others_names_alone_are_refused() -> None:
    assert [one.code for one in convert(Source("train.py", MARIMO), Settings()).refusals] == ["LF217"]
    plain = MARIMO.replace("import marimo", "import flask").replace("marimo.App", "flask.Flask")
    assert [one.code for one in convert(Source("train.py", plain), Settings()).refusals] == []


def test_each_run_has_its_own_findings() -> None:
    again = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n"
    found = {finding.code for finding in findings(script(batch=LEFT_OUT, after=again))}
    assert "LF401" in found and "LF402" not in found


def test_a_notebook_says_cell_and_line(tmp_path: Path) -> None:
    head, loop, rest = script(batch=LEFT_OUT).partition("for epoch")
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text} for text in (head, loop + rest)]
    path = tmp_path / "train.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}), encoding="utf-8")
    done = convert(read_source(path), Settings())
    (finding,) = (finding for finding in done.findings if finding.code == "LF401")
    line = 1 + (loop + rest).splitlines().index("        optimizer.step()")
    assert diagnostic_text(finding).startswith(f"{path}:cell 2:{line}:9: LF401 warning")
    place = {"cell": 2, "line": line, "column": 9, "end_line": line, "end_column": 25}
    assert place in [found["place"] for found in conversion_to_json(done)["findings"]]  # type: ignore[index,union-attr]
    assert "(loop in" not in "".join(done.reasons)
