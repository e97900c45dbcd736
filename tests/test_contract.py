"""The two halves meet in generated text: what a result uses exists in our runtime and in Lightning, with those arguments.

Read from the results themselves: every `L.name`, every Trainer option, every overridden hook and its parameters, every
inherited attribute of `self` and of `self.trainer`.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from lightify.convert import convert
from lightify.errors import LightifyError
from lightify.settings import Settings
from lightify.sources import read_source

ROOT = Path(__file__).parent.parent
INPUTS = sorted((ROOT / "fixtures").glob("*/input.py"))
LIBRARIES = [
    pytest.param("lightify.runtime", id="bundled"),
    pytest.param("lightning.pytorch", id="lightning", marks=[pytest.mark.lightning, pytest.mark.slow]),
]


@lru_cache(maxsize=1)
def results() -> dict[str, ast.Module]:
    """Every fixture that converts, in both styles and for both runtimes."""
    found = {}
    for path in INPUTS:
        for settings in (Settings(), Settings(style="idiomatic", data_module=True), Settings(runtime="lightning")):
            try:
                text = convert(read_source(path), settings).text
            except LightifyError:
                continue  # the golden tests say so
            if text is not None:
                found[f"{path.parent.name} {settings.style} {settings.runtime}"] = ast.parse(text)
    assert found
    return found


def chain(node: ast.expr) -> str:
    """`L.callbacks.ModelCheckpoint` as text; empty for anything else."""
    text = ast.unparse(node)
    return text if re.fullmatch(r"\w+(\.\w+)*", text) else ""


def has(root: object, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(root, name):
            if not isinstance(root, ModuleType):
                return False
            try:
                import_module(f"{root.__name__}.{name}")
            except ImportError:
                return False
        root = getattr(root, name)
    return True


def modules_in(tree: ast.Module) -> list[ast.ClassDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(chain(base) == "L.LightningModule" for base in node.bases)
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_name_exists(library: str) -> None:
    L = import_module(library)
    used = {
        chain(node).removeprefix("L.")
        for tree in results().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and chain(node).startswith("L.")
    }
    assert {"LightningModule", "Trainer"} <= used
    assert sorted(name for name in used if not has(L, name)) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_argument_exists(library: str) -> None:
    L = import_module(library)
    wrong = []
    for case, tree in results().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and chain(node.func).startswith("L."):
                target: object = L
                for name in chain(node.func).split(".")[1:]:
                    target = getattr(target, name)
                parameters = inspect.signature(target).parameters  # type: ignore[arg-type]
                if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
                    continue
                wrong += [
                    f"{case}: {chain(node.func)}({keyword.arg}=)"
                    for keyword in node.keywords
                    if keyword.arg is not None and keyword.arg not in parameters
                ]
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_hook_takes_what_it_is_given(library: str) -> None:
    module = import_module(library).LightningModule
    wrong = []
    for case, tree in results().items():
        for definition in modules_in(tree):
            for method in definition.body:
                base = getattr(module, method.name, None) if isinstance(method, ast.FunctionDef) else None
                if not isinstance(method, ast.FunctionDef) or base is None or method.name in ("__init__", "forward"):
                    continue
                if method.name.endswith("_step"):
                    continue  # takes batch, batch_idx or less, by its own signature
                theirs = [
                    name
                    for name, p in inspect.signature(base).parameters.items()
                    if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
                ]
                ours = [argument.arg for argument in (*method.args.posonlyargs, *method.args.args)]
                takes_any = method.args.vararg is not None
                if len(ours) - len(method.args.defaults) > len(theirs) or (len(ours) < len(theirs) and not takes_any):
                    wrong.append(f"{case}: {method.name}({', '.join(ours)}), theirs ({', '.join(theirs)})")
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_inherited_attribute_exists(library: str) -> None:
    L = import_module(library)
    made = re.compile(r"self\.(\w+)")
    wrong = []
    for case, tree in results().items():
        for definition in modules_in(tree):
            own = {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
            stored = {
                match[1]
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                for match in made.finditer(ast.unparse(node))
            }
            parameters = {
                arg.arg for node in ast.walk(definition) if isinstance(node, ast.arguments) for arg in node.args
            }
            for node in ast.walk(definition):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    name = chain(node)
                    if re.fullmatch(r"self\.\w+", name):
                        attribute = name.removeprefix("self.")
                        if attribute not in own | stored | parameters and not hasattr(L.LightningModule, attribute):
                            wrong.append(f"{case}: {name}")
                    elif re.fullmatch(r"self\.trainer\.\w+", name):
                        attribute = name.removeprefix("self.trainer.")
                        if not hasattr(L.Trainer, attribute) and not in_instances(L.Trainer, attribute):
                            wrong.append(f"{case}: {name}")
    assert sorted(set(wrong)) == []


def in_instances(cls: type, attribute: str) -> bool:
    """Whether the constructor sets it."""
    return hasattr(cls(logger=False, enable_checkpointing=False, enable_progress_bar=False), attribute)
