"""The package as others install it: from a wheel and editable, in an environment of its own, without network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from lightify import __version__

pytestmark = [pytest.mark.packaging, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
CODE = ("lightify", "runtime", "templates")


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a clone has; building leaves its litter there and not in the working tree."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    call(sys.executable, "-m", "pip", "wheel", ".", *options, "-w", "dist", cwd=checkout)
    return next((checkout / "dist").glob("lightify-*.whl"))


def fresh_environment(folder: Path) -> Path:
    """An environment that finds our dependencies where they are, but not our package; returns its interpreter."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # A path in a .pth file is searched, but .pth files there are not read: an editable install of ours stays unseen.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"lightify": "lightify", "runtime": "lightify/runtime", "templates": "lightify/templates"}
    wanted = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".jinja", ".typed") and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert not {name for name in names if name.startswith(("tests/", "runtime/", "templates/", "benchmarks/"))}


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_installed_package_converts(way: str, wheel: Path, checkout: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "env")
    what = [wheel] if way == "wheel" else ["--no-build-isolation", "-e", checkout]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet"]
    call(*pip, *what, cwd=tmp_path)

    home = "import lightify, lightify.templates; print(lightify.__file__, lightify.templates.__file__)"
    for place in call(python, "-c", home, cwd=tmp_path).split():
        assert Path(place).is_relative_to(checkout if way == "editable" else tmp_path)
    runtime = "import lightify.runtime as L; print(L.Trainer.__module__, L.LightningModule.__module__)"
    assert set(re.findall(r"[\w.]+", call(python, "-c", runtime, cwd=tmp_path))) == {
        "lightify.runtime.trainer",
        "lightify.runtime.module",
    }

    lightify = python.parent / "lightify"
    assert call(lightify, "--version", cwd=tmp_path) == f"lightify, version {__version__}\n"
    shutil.copy(ROOT / "fixtures" / "module_level" / "input.py", tmp_path / "train.py")
    assert "converted to train_lit.py" in call(lightify, "convert", "train.py", cwd=tmp_path)
    assert "import lightify.runtime as L" in (tmp_path / "train_lit.py").read_text()
    call(python, "train_lit.py", cwd=tmp_path)


def test_every_extra_and_pin_agrees() -> None:
    """`constraints.txt` pins torch, and nothing twice."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    names = [line.partition("==")[0] for line in lines]
    assert len(names) == len(set(names))
    assert any(line.startswith("torch==") for line in lines)
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; python_version >= '3\.11')?", line) for line in lines)
