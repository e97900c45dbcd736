"""The house rules that a machine can hold: no import circles, who may import whom, registries that match folders."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CONVERTER, RUNTIME = Path("lightify"), Path("runtime")

# Each row may import itself and the rows above it.
CONVERTER_LAYERS = [
    ("__init__", "errors", "settings", "facts", "ledger"),
    ("sources", "notebooks", "configfile", "ignore"),
    ("syntax",),
    ("repository",),
    ("recognisers",),
    ("analysis",),
    ("distribution",),
    ("loops",),
    ("plan",),
    ("findings",),
    ("output",),
    ("convert", "files", "upgraded", "upgrade"),
    ("jobs",),
    ("report",),
    ("page", "verify"),
    ("printing",),
    ("cli",),
    ("__main__",),
]
FORBIDDEN_IN_CONVERTER = {"torch", "lightning", "pytorch_lightning", "numpy"}
FORBIDDEN_IN_RUNTIME = {"libcst", "jinja2", "black", "click", "lightify"}
TRACER = CONVERTER / "verify" / "tracer.py"  # runs in the child process only


def modules(root: Path) -> dict[str, Path]:
    """Dotted name below the root to file; a package goes by its own name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imports(path: Path, package: str, name: str) -> Iterator[tuple[str, bool]]:
    """Absolute names that a file imports, those inside functions too; whether only for types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    here = [package, *([] if name == "__init__" else name.split("."))]
    if path.name != "__init__.py":
        here = here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in typed
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{target}.{alias.name}", id(node) in typed


def graph(root: Path, package: str) -> dict[str, set[str]]:
    """Module to the modules of its package that it imports when it runs."""
    known = modules(root)
    edges: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for target, typed in imports(path, package, name):
            if typed or not f"{target}.".startswith(f"{package}."):
                continue
            below = target[len(package) + 1 :]
            while below and below not in known:
                below = below.rpartition(".")[0]
            if below and below != name:
                edges[name].add(below)
    return edges


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    done: set[str] = set()
    found: list[list[str]] = []

    def follow(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
        elif name not in done:
            for target in sorted(edges[name]):
                follow(target, [*trail, name])
            done.add(name)

    for name in edges:
        follow(name, [])
    return found


@pytest.mark.parametrize(("root", "package"), [(CONVERTER, "lightify"), (RUNTIME, "lightify.runtime")])
def test_no_import_circles(root: Path, package: str) -> None:
    assert circles(graph(root, package)) == []


def test_converter_layers() -> None:
    level = {name: number for number, row in enumerate(CONVERTER_LAYERS) for name in row}
    edges = graph(CONVERTER, "lightify")
    assert {name.partition(".")[0] for name in edges} <= level.keys(), "a new file needs its place in CONVERTER_LAYERS"
    wrong = [
        f"{name} imports {target}"
        for name, targets in edges.items()
        for target in targets
        if level[target.partition(".")[0]] > level[name.partition(".")[0]]
    ]
    assert wrong == []


def test_recognisers_never_import_one_another() -> None:
    edges = graph(CONVERTER, "lightify")
    wrong = [
        f"{name} imports {target}"
        for name, targets in edges.items()
        for target in targets
        if name.startswith("recognisers.") and target.startswith("recognisers.") and target != "recognisers.base"
    ]
    assert wrong == []


def test_the_converter_needs_neither_torch_nor_the_runtime() -> None:
    for name, path in modules(CONVERTER).items():
        if path == TRACER:
            continue
        targets = {target for target, _ in imports(path, "lightify", name)}
        assert not {target.partition(".")[0] for target in targets} & FORBIDDEN_IN_CONVERTER, path
        assert not any(f"{target}.".startswith("lightify.runtime.") for target in targets), path


def test_the_runtime_stands_alone() -> None:
    for name, path in modules(RUNTIME).items():
        absolute = {
            node_name
            for node_name, _ in imports(path, "<runtime>", name)
            if not node_name.startswith("<runtime>")
        }  # fmt: skip
        assert not {target.partition(".")[0] for target in absolute} & FORBIDDEN_IN_RUNTIME, path


def test_one_file_renders_and_one_parses() -> None:
    def users(library: str) -> set[str]:
        return {
            str(path)
            for name, path in modules(CONVERTER).items()
            if any(target.partition(".")[0] == library for target, _ in imports(path, "lightify", name))
        }

    assert users("jinja2") <= {"lightify/output/render.py"}
    assert users("black") <= {"lightify/output/formatting.py"}
    assert users("click") <= {"lightify/cli.py", "lightify/printing.py"}


def test_the_package_itself_imports_nothing() -> None:
    tree = ast.parse((CONVERTER / "__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("lightify", {"libcst", "torch", "jinja2", "black", "click", "rich"}),
        ("lightify.cli", {"libcst", "torch", "jinja2", "black", "rich"}),
        ("lightify.convert", {"torch", "click", "rich", "lightify.runtime"}),
        ("lightify.runtime", {"libcst", "jinja2", "black", "click", "lightning", "tensorboard", "wandb"}),
    ],
)
def test_what_an_import_loads(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & unwanted


@pytest.mark.parametrize("folder", ["lightify/recognisers", "lightify/findings"])
def test_registry_is_folder(folder: str) -> None:
    init = Path(folder) / "__init__.py"
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__", "base", "index"}
    named = set(re.findall(r"\w+", init.read_text()))
    assert files <= named, "a file that no registry line names"


def test_every_code_is_in_the_catalogue() -> None:
    used = {
        code
        for path in CONVERTER.rglob("*.py")
        for code in re.findall(r"\bLF\d{3}\b", path.read_text(encoding="utf-8"))
    }
    pages = [Path("docs/diagnostics.md"), Path("docs/findings.md")]
    listed = [re.findall(r"^### (LF\d{3})\b", page.read_text(encoding="utf-8"), re.MULTILINE) for page in pages]
    assert all(sorted(set(codes)) == codes for codes in listed), "codes are listed once, in order"
    assert used == {code for codes in listed for code in codes}
