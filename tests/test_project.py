"""Names of other files: how they are found, under which name they come, and what of it stands in the result."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import indent

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightify.cli import cli
from lightify.convert import Conversion, convert
from lightify.ledger import missing_and_double
from lightify.output.elsewhere import in_order
from lightify.repository.link import link
from lightify.repository.project import Definition, Module, Project
from lightify.settings import Settings
from lightify.sources import Source, read_source
from lightify.syntax.parse import parse
from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

Files = Mapping[str, str]
Write = Callable[[Files], Path]

HELPER = "def helper():\n    return 1\n"
EPOCH = """\
import torch.nn.functional as F


def right(scores, y):
    return (scores.argmax(1) == y).sum().item()


def train_epoch(model, loader, optimizer):
    model.train()
    total = 0
    for x, y in loader:
        scores = model(x)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += right(scores, y)  # counted on the way
    return total
"""
RUN = "for epoch in range(2):\n    found = {call}(model, train_loader, optimizer)\n    print(found)\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_files(files: Files) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write_files


def project(folder: Path, entry: str = "main.py") -> Project:
    return Project(parse(read_source(str(folder / entry))))


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        ({"main.py": "from a import helper", "a.py": HELPER}, "helper", "a.py:helper"),
        ({"main.py": "from a import helper as h", "a.py": HELPER}, "h", "a.py:helper"),
        ({"main.py": "import a", "a.py": HELPER}, "a.helper", "a.py:helper"),
        ({"main.py": "import p.a", "p/a.py": HELPER}, "p.a.helper", "p/a.py:helper"),
        ({"main.py": "import p.a as b", "p/a.py": HELPER}, "b.helper", "p/a.py:helper"),
        ({"main.py": "from p import a", "p/__init__.py": "", "p/a.py": HELPER}, "a.helper", "p/a.py:helper"),
        ({"main.py": "from p import helper", "p/__init__.py": "from .a import *", "p/a.py": HELPER}, "helper", "p/a.py:helper"),
        ({"main.py": "import p", "p/__init__.py": "from .a import helper", "p/a.py": HELPER}, "p.helper", "p/a.py:helper"),
        ({"main.py": "from .a import helper", "a.py": HELPER}, "helper", "a.py:helper"),
        ({"main.py": "from . import a", "a.py": HELPER}, "a.helper", "a.py:helper"),
        ({"main.py": "from a import b", "a.py": "from c import helper as b", "c.py": HELPER}, "b", "c.py:helper"),
        (
            {"main.py": "try:\n    from .a import helper\nexcept ImportError:\n    from a import helper", "a.py": HELPER},
            "helper",
            "a.py:helper",
        ),
    ],
)  # fmt: skip
def test_names_are_resolved(write: Write, files: Files, name: str, found: str) -> None:
    folder = write(files)
    known = project(folder)
    result = known.resolve(known.entry, name)
    assert isinstance(result, Definition) and result.node is not None
    assert f"{Path(result.module.path).relative_to(folder)}:{result.name}" == found


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"main.py": "import torch"}, "torch.nn"),
        ({"main.py": "from a import helper", "a.py": "from a import helper"}, "helper"),
        ({"main.py": "from a import helper", "a.py": "not python at all :"}, "helper"),
        ({"main.py": "from a import helper\nhelper = 2", "a.py": HELPER}, "helper"),
        ({"main.py": "from main import main"}, "main"),
        ({"main.py": "from ..a import helper"}, "helper"),
        ({"main.py": "from a import missing", "a.py": HELPER}, "missing"),
    ],
)
def test_what_is_not_of_the_project_stays_unknown(write: Write, files: Files, name: str) -> None:
    known = project(write(files))
    found = known.resolve(known.entry, name)
    assert found is None or isinstance(found, Module)


def test_a_package_that_holds_the_script_is_found_from_its_root(write: Write) -> None:
    folder = write({"p/scripts/main.py": "from p.core.a import helper", "p/core/a.py": HELPER})
    known = project(folder, "p/scripts/main.py")
    assert isinstance(known.resolve(known.entry, "helper"), Definition)


@pytest.mark.parametrize(
    ("root", "found"), [("requirements.txt", True), ("environment.yml", True), ("notes.txt", False)]
)
def test_the_sources_of_a_repository_are_found_from_its_beginning(write: Write, root: str, found: bool) -> None:
    folder = write({root: "", "examples/one/main.py": "from p.a import helper", "src/p/a.py": HELPER})
    known = project(folder, "examples/one/main.py")
    assert isinstance(known.resolve(known.entry, "helper"), Definition) is found


def run_of(files: Files, write: Write) -> Conversion:
    return convert(read_source(str(write(files) / "main.py")), Settings())


def main(imports: str, call: str) -> str:
    return f"{imports}\n{PROLOGUE}{SETUP}{RUN.format(call=call)}"


@pytest.mark.parametrize(
    ("imports", "call", "file", "needed"),
    [
        ("from engine import train_epoch", "train_epoch", "engine.py", "from engine import right"),
        ("from engine import train_epoch as go", "go", "engine.py", "from engine import right"),
        ("import engine", "engine.train_epoch", "engine.py", "from engine import right"),
        ("from p import engine", "engine.train_epoch", "p/engine.py", "from p.engine import right"),
        ("import p.engine as e", "e.train_epoch", "p/engine.py", "from p.engine import right"),
        ("from .engine import train_epoch", "train_epoch", "engine.py", "from .engine import right"),
        ("from engine import *", "train_epoch", "engine.py", "from engine import right"),
    ],
)
def test_a_moved_body_brings_its_imports(write: Write, imports: str, call: str, file: str, needed: str) -> None:
    done = run_of({"main.py": main(imports, call).replace("def right", ""), file: EPOCH}, write)
    assert done.text is not None and done.mode == "automatic"
    assert needed in done.text.splitlines()
    assert "self.found += right(scores, y)  # counted on the way" in done.text
    assert [Path(moved.path).name for moved in done.elsewhere] == ["engine.py"]


def test_an_import_whose_name_is_a_variable_of_the_script_is_not_brought(write: Write) -> None:
    engine = f"import json as names\n{EPOCH}\n\ndef told():\n    return names.dumps(1)\n"
    engine = engine.replace(
        "optimizer):\n    model.train()", "optimizer, names: names.JSONEncoder):\n    model.train()\n    print(names)"
    )
    run = indent("names = ['a']\n" + RUN.format(call="train_epoch").replace("optimizer)", "optimizer, names)"), "    ")
    text = f"from engine import train_epoch\n{PROLOGUE}{SETUP}def main():\n{run}\n\nmain()\n".replace("def right", "")
    done = run_of({"main.py": text, "engine.py": engine}, write)
    assert done.text is not None
    assert "json" not in done.text and not [one for one in done.findings if one.code == "LF904"]


def test_a_package_called_as_a_variable_of_the_script_comes_under_another_name(write: Write) -> None:
    engine = EPOCH.replace("return total", "return json.loads(str(total))").replace(
        "import torch", "import json\nimport torch", 1
    )
    text = main("from engine import train_epoch\njson = [1]", "train_epoch").replace("def right", "")
    done = run_of({"main.py": text, "engine.py": engine}, write)
    assert done.text is not None
    assert "import json as engine_json" in done.text and "engine_json.loads(" in done.text


CONFIG = """\
import torch
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
criterion = nn.CrossEntropyLoss()
"""


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_what_another_file_made_is_handed_over_as_the_script_writes_it(write: Write, style: str) -> None:
    text = EPOCH.replace("x, y in loader:\n", "x, y in loader:\n        x, y = x.to(device), y.to(device)\n")
    text = "import config\n\ndevice = config.DEVICE\n" + text.replace("F.cross_entropy", "config.criterion")
    folder = write({"config.py": CONFIG, "main.py": text})
    conversion = convert(read_source(str(folder / "main.py")), Settings(style=style))
    assert conversion.text is not None and "config.criterion, model" in conversion.text
    assert "config.DEVICE.type" in conversion.text or style == "idiomatic"


@pytest.mark.parametrize(
    ("tools", "used", "needed"),
    [
        ("import math\n", "math.floor(1.5)", "import math"),
        ("import numpy as np\n", "np.floor(1.5)", "import numpy as np"),
        ("from helpers import more\n", "more.one()", "from helpers import more"),
    ],
)
def test_what_a_star_import_brings_is_imported(write: Write, tools: str, used: str, needed: str) -> None:
    engine = f"from tools import *\n{EPOCH}".replace("total += right", f"total += {used} * right")
    files = {"engine.py": engine, "tools.py": tools, "helpers/more.py": "def one():\n    return 1\n"}
    done = run_of({"main.py": main("from engine import train_epoch", "train_epoch"), **files}, write)
    assert done.text is not None
    assert needed in done.text.splitlines()


@pytest.mark.parametrize("init", ["super().__init__()", "super(Net, self).__init__()"])
def test_a_class_that_names_itself_is_imported_as_the_moved_code_writes_it(write: Write, init: str) -> None:
    epochs = indent(RUN.format(call="train_epoch").replace("model,", "self.model,"), " " * 8)
    run = f"""\
from data import optimizer, train_loader
from engine import train_epoch
import nets


class Runner:
    def __init__(self):
        self.model = nets.Net()

    def run(self):
{epochs}"""
    net = f"from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n        {init}\n"
    files = {"runner.py": run, "nets/__init__.py": "from .net import Net", "nets/net.py": net, "engine.py": EPOCH}
    done = run_of({"main.py": "from runner import Runner\nRunner().run()\n", "data.py": PROLOGUE, **files}, write)
    assert done.text is not None and "self.model = nets.Net()" in done.text
    lines = done.text.splitlines()
    assert "import nets" in lines and "from nets.net import Net" not in lines


def test_a_module_keeps_its_name_where_the_moved_code_has_a_variable_of_the_other(write: Write) -> None:
    loop = indent(RUN.format(call="train_epoch").replace("loader", "data"), "    ")
    run = f"import tools.data as data_tools\nfrom engine import train_epoch\n\n\ndef run(model, optimizer):\n    data = data_tools.load()\n{loop.replace('train_data', 'data')}"
    tools = "def load():\n    return train_loader\n"
    files = {"run.py": run, "tools/__init__.py": "", "tools/data.py": f"{PROLOGUE}{tools}", "engine.py": EPOCH}
    done = run_of({"main.py": f"from run import run\n{PROLOGUE}{SETUP}run(model, optimizer)\n", **files}, write)
    assert done.text is not None
    assert "from tools import data as data_tools" in done.text and "data = data_tools.load()" in done.text


def test_a_class_whose_code_moves_stands_behind_its_base() -> None:
    text = (
        "class More(one.Base, Other): ...\ndef run(): More()\nclass Other(Base): ...\nclass one: ...\nclass Base: ...\n"
    )
    module = parse(Source("script.py", text)).module
    order = [definition.name.value for definition in in_order(module.body)]  # type: ignore[attr-defined,arg-type]
    assert order == ["run", "one", "Base", "Other", "More"]


ALIASES = {
    "bound once": ("Chosen = Runner\n", True),
    "bound once under a condition": ("if True:\n    Chosen = Runner\n", True),
    "bound twice": ("Chosen = Runner\nif bool(data):\n    Chosen = object\n", False),
    "handed on": ("Chosen = Runner\nprint(Chosen)\n", False),
}


@pytest.mark.parametrize(("alias", "known"), ALIASES.values(), ids=ALIASES)
def test_a_second_name_of_a_class_leads_to_its_loop(write: Write, alias: str, known: bool) -> None:
    run = f"""\
from data import *
from engine import train_epoch
import numpy as np
import numpy as np


class Runner:
    def train(self, model, optimizer):
{indent(RUN.format(call="train_epoch"), " " * 8)}
        print(np.pi)
"""
    start = f"from data import data\nfrom runner import Runner\nimport numpy as np\nprint(np.e)\n{alias}Chosen().train(model, optimizer)\n"
    done = run_of({"main.py": start, "data.py": PROLOGUE, "runner.py": run, "engine.py": EPOCH}, write)
    assert [one.code for one in done.refusals] == ([] if known else ["LF231"])
    assert not known or "runner_np" not in str(done.text)


def test_a_module_is_named_after_a_class_and_not_after_its_second_name() -> None:
    define = "class UNet(nn.Linear):\n    pass\n\nNet = UNet\n"
    text = script(define=define, setup=SETUP.replace(SETUP.splitlines()[0], "model = Net(4, 2)"))
    assert "class LitUNet(" in str(converted(text).text)


def test_a_module_is_not_named_after_a_part_of_the_criterion() -> None:
    part = "class Focal(nn.Module):\n    def forward(self, a, b):\n        return F.cross_entropy(a, b)\n\n"
    own = "class Criterion(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.criterion = Focal()\n\n"
    call = "    def forward(self, a, b):\n        return self.criterion(a, b)\n\n"
    text = str(converted(script(define=part + own + call)).text)
    assert "class Lit" in text and "class LitFocal(" not in text


def test_a_framework_beside_the_script_is_not_its_code(write: Write) -> None:
    driver = "class Accelerator:\n    def backward(self, loss):\n        loss.backward()\n"
    body = "loss = criterion(model(x), y)\naccelerator.backward(loss)\noptimizer.step()"
    text = script(body, before="from accelerate import Accelerator\naccelerator = Accelerator()\n")
    done = run_of({"main.py": text, "accelerate/__init__.py": driver}, write)
    assert done.text is not None and "self.accelerator.backward(loss)" not in done.text
    assert "        accelerator.backward(loss)" in done.text and done.elsewhere == ()


def test_a_name_that_the_script_gives_another_meaning_comes_under_a_free_one(write: Write) -> None:
    text = main("from engine import train_epoch\nright = 3", "train_epoch").replace(
        "import torch.nn.functional as F\n", ""
    )
    done = run_of({"main.py": f"{text}print(right)\n", "engine.py": EPOCH}, write)
    assert done.text is not None
    assert "from engine import right as engine_right" in done.text
    assert "self.found += engine_right(scores, y)" in done.text


def test_a_variable_that_changes_is_read_from_its_module(write: Write) -> None:
    engine = EPOCH.replace(
        "def right", "weight = 1\n\n\ndef double():\n    global weight\n    weight *= 2\n\n\ndef right"
    )
    engine = engine.replace("loss = F.cross_entropy(scores, y)", "loss = weight * F.cross_entropy(scores, y)")
    done = run_of(
        {"main.py": main("from engine import double, train_epoch", "train_epoch"), "engine.py": engine}, write
    )
    assert done.text is not None
    assert "loss = engine.weight * F.cross_entropy(scores, y)" in done.text and "import engine\n" in done.text


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    total = 0\n", "    global seen\n    seen = total = 0\n", "it assigns seen of engine.py, declared global"),
        ("    total = 0\n", "    from .other import more\n    total = more()\n", "it holds a relative import"),
        ("+= right(scores, y)", "+= eval('right(scores, y)')", "it calls eval()"),
        ("import torch.nn.functional as F\n", "from torch.nn.functional import *\n", "F comes from a star import"),
    ],
)
def test_code_that_cannot_move_is_refused_with_its_place(write: Write, old: str, new: str, reason: str) -> None:
    files = {"main.py": main("from engine import train_epoch", "train_epoch"), "engine.py": EPOCH.replace(old, new)}
    refusal = run_of(files, write).refusals[0]
    assert refusal.code == "LF230" and refusal.span is not None
    assert (
        Path(refusal.span.path).name == "engine.py"
        and files["engine.py"].splitlines()[refusal.span.line - 1] == "    for x, y in loader:"
    )
    assert reason in refusal.message.replace(f"{Path(refusal.span.path).parent}/", "")


def test_a_call_that_cannot_be_opened_stays_and_its_file_trains(write: Write) -> None:
    text = main("from engine import train_epoch", "train_epoch").replace(
        "found = train_epoch(model, train_loader, optimizer)",
        "found = [train_epoch(model, train_loader, optimizer) for _ in range(1)]",
    )
    done = run_of({"main.py": text, "engine.py": EPOCH}, write)
    assert done.mode == "manual" and done.elsewhere == ()
    assert methods(done.text)["training_step"].splitlines()[1].startswith("found = [train_epoch(self.model, ")


def test_a_file_that_seeds_when_it_is_loaded_is_still_loaded(write: Write) -> None:
    engine = EPOCH.replace("total += right(scores, y)  # counted on the way", "total += 1")
    main_text = main("from engine import train_epoch", "train_epoch")
    seeding = run_of({"main.py": main_text, "engine.py": f"import torch\n{engine}\ntorch.manual_seed(3)\n"}, write)
    assert seeding.text is not None and "import engine  # for what loading it does\n" in seeding.text
    assert not [one for one in seeding.findings if one.code == "LF904"]
    plain = run_of({"main.py": main_text, "engine.py": engine}, write)
    assert plain.text is not None and "engine" not in imported(plain.text)


def imported(text: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }


def test_every_moved_statement_of_the_other_file_has_one_fate(write: Write) -> None:
    folder = write({"main.py": main("from engine import train_epoch", "train_epoch"), "engine.py": EPOCH})
    source = read_source(str(folder / "main.py"))
    done, tree = convert(source, Settings()), link(parse(source))
    function = tree.functions["train_epoch"]
    moved = [span for node, span in tree.spans.items() if function in (node, *tree.ancestors(node))]
    assert len(moved) == 11
    assert missing_and_double(done.ledger, [*parse(source).spans.values(), *moved]) == ([], [])
    for entry in done.ledger.entries:
        text = EPOCH if entry.span.path.endswith("engine.py") else source.text
        assert text.splitlines()[entry.span.line - 1].strip() == entry.text


LINES = (
    "n = len(x)",
    "total += loss.item()",
    "if len(x) < 8:\n    n = 1",
    "last = loss.detach()",
    "print(f'loss {loss.item():.3f}')",
    "history.append(float(loss))",
    "for group in optimizer.param_groups:\n    n = group['lr']",
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(LINES), max_size=4))
def test_splitting_a_script_in_two_changes_no_hook(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    body = "\n".join(
        ["loss = F.cross_entropy(model(x), y)", "optimizer.zero_grad()", "loss.backward()", "optimizer.step()", *lines]
    )
    inner = "\n".join(f"        {line}" for line in body.splitlines())
    function = f"def epoch_of(model, optimizer, loader, history):\n    total, n, last = 0.0, 0, None\n    for x, y in loader:\n{inner}\n    print(total, n, last)\n"
    call = "epoch_of(model, optimizer, train_loader, history)"
    whole = script("pass", define=function, before="history = []").replace(
        "    for x, y in train_loader:\n        pass\n", f"    {call}\n"
    )
    parted = whole.replace(function, "from engine import epoch_of\n")
    folder = tmp_path_factory.mktemp("parted")
    (folder / "main.py").write_text(parted)
    (folder / "engine.py").write_text(f"import torch.nn.functional as F\n\n\n{function}")
    one, two = converted(whole), convert(read_source(str(folder / "main.py")), Settings())
    assert one.mode == two.mode and methods(one.text) == methods(two.text)


def test_a_folder_is_converted_as_a_whole(write: Write, tmp_path: Path) -> None:
    folder = write(
        {"main.py": main("from engine import train_epoch", "train_epoch"), "engine.py": EPOCH, "models.py": HELPER}
    )
    result = CliRunner().invoke(cli, ["convert", str(folder), "-o", str(tmp_path / "out"), "-j", "2"])
    assert result.exit_code == 0, result.output
    table = " ".join(result.output.split())
    assert "its loop is converted in" in table and "1 converted, 2 nothing to do" in table
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["main.py"]
    alone = CliRunner().invoke(cli, ["convert", str(folder / "engine.py"), "-o", "-"])
    assert alone.exit_code == 0 and "LightningModule" in alone.output


def test_a_script_that_others_import_is_converted_itself(write: Write, tmp_path: Path) -> None:
    first = f"{EPOCH}\n\nif __name__ == '__main__':\n" + "\n".join(
        f"    {line}" for line in main("", "train_epoch").splitlines()
    )
    folder = write({"main.py": main("from train import train_epoch", "train_epoch"), "train.py": first})
    result = CliRunner().invoke(cli, ["convert", str(folder), "-o", str(tmp_path / "out")])
    assert "2 converted" in result.output


TOOLS = "import model\n\n\ndef helper():\n    print(model.x)\n"
METRICS = "def accuracy(scores, y):\n    return (scores.argmax(1) == y).float().mean().item()\n"


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": "import tools", "step": "accuracy = tools.accuracy(scores, y)"},
        {"main.py": "import engine", "step": "accuracy = tools.accuracy(scores, y)", "engine.py": "import tools\n"},
        {
            "main.py": "import engine",
            "step": "accuracy = rate(scores, y)",
            "engine.py": "from tools import accuracy as rate\n",
        },
    ],
    ids=["in the script", "in a file", "under another name"],
)
def test_a_local_that_is_called_as_the_function_behind_it_is_another_name(write: Write, files: Files) -> None:
    epoch = EPOCH.replace("        total += right(scores, y)", f"        {files['step']}\n        total += accuracy")
    loop = files.get("engine.py", "") + epoch
    inside = files["main.py"] == "import tools"
    run = indent(SETUP + RUN.format(call="train_epoch" if inside else "engine.train_epoch"), "    ")
    main = f"{PROLOGUE}{files['main.py']}\n{epoch if inside else ''}\n\ndef main():\n{run}\nmain()\n"
    root = write({"main.py": main, "tools.py": METRICS, **({} if inside else {"engine.py": loop})})
    step = methods(convert(read_source(root / "main.py"), Settings()).text)["training_step"]
    assert "self.accuracy(" not in step and "= accuracy(" not in step
    assert "(scores, y)" in step


def test_a_name_of_another_file_is_not_imported_for_an_argument_of_the_same_name(write: Write) -> None:
    main = f"{PROLOGUE}from tools import helper\n\ndef main():\n    helper()\n"
    run = indent(
        SETUP + "for epoch in range(2):\n    for x, y in train_loader:\n        " + indent(STEP, "        ").strip(),
        "    ",
    )
    root = write({"main.py": f"{main}{run}\nmain()\n", "tools.py": TOOLS, "model.py": "x = 1\n"})
    text = convert(read_source(root / "main.py"), Settings()).text
    assert text is not None and "import model" not in text
