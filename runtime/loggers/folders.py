"""Where a logger writes: ``save_dir/name/version_N``, on a local or remote file system."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from typing import Any

from ..errors import rank_zero_warn
from ..filesystem import filesystem, is_local
from ..hparams import save_hparams_to_yaml
from .base import Logger


def next_version(root_dir: str) -> int:
    """Returns one more than the highest ``version_N`` folder in ``root_dir``, 0 without any."""
    files = filesystem(root_dir)
    try:
        entries = files.ls(root_dir, detail=True)
    except OSError:
        return 0
    names = (os.path.basename(entry["name"].rstrip("/")) for entry in entries if files.isdir(entry["name"]))
    numbers = [name.split("_")[1] for name in names if name.startswith("version_")]
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def write_hparams(path: str, hparams: Any) -> None:
    """Writes hyperparameters as YAML; without PyYAML it says so and the run goes on."""
    if find_spec("yaml") is None:
        rank_zero_warn(f"{path} is not written: it needs PyYAML. Install it: pip install pyyaml")
    elif is_local(path):
        save_hparams_to_yaml(path, hparams)
    else:
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, "hparams.yaml")
            save_hparams_to_yaml(local, hparams)
            filesystem(path).put_file(local, path)


class FolderLogger(Logger):
    """A logger with one folder per version; the version is chosen when it is first asked for."""

    LOGGER_JOIN_CHAR = "-"

    def __init__(
        self, save_dir: str | os.PathLike[str], name: str | None, version: int | str | None, prefix: str
    ) -> None:
        self._save_dir = os.fspath(save_dir)
        self._name = name or ""
        self._version = version
        self._prefix = prefix
        self._experiment: Any = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> int | str:
        if self._version is None:
            self._version = next_version(self.root_dir)
        return self._version

    @property
    def save_dir(self) -> str:
        return self._save_dir

    @property
    def root_dir(self) -> str:
        return os.path.join(self.save_dir, self.name)

    @property
    def log_dir(self) -> str:
        version = self.version
        return os.path.join(self.root_dir, version if isinstance(version, str) else f"version_{version}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}  # an open file travels to no other process
