"""Where a run's checkpoints lie, which of the files there are its own, and links to them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..filesystem import filesystem, is_local

if TYPE_CHECKING:
    from ..trainer import Trainer


def absolute_folder(dirpath: str | os.PathLike[str] | None) -> str | None:
    """The folder that a script names, whatever the working directory becomes; addresses stay as they are."""
    if not dirpath:
        return None
    path = os.fspath(dirpath)
    return os.path.realpath(os.path.expanduser(path)) if is_local(path) else path


def checkpoint_folder(trainer: Trainer) -> str:
    """``checkpoints`` in the first logger's folder of this version, or in the Trainer's."""
    if not trainer.loggers:
        return os.path.join(trainer.default_root_dir, "checkpoints")
    logger = trainer.loggers[0]
    save_dir = trainer.default_root_dir if logger.save_dir is None else logger.save_dir
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return os.path.join(save_dir, str(logger.name), version, "checkpoints")


def find_checkpoints(folder: str, name: str, extension: str) -> set[str]:
    """The files called ``name`` in a folder, those with a version among them."""
    files = filesystem(folder)
    if not files.exists(folder):
        return set()
    paths = [Path(path) for path in files.ls(folder, detail=False)]
    return {
        os.path.normpath(path)
        for path in paths
        if path.suffix == extension and re.match(rf"{name}(-(\d+))?", path.stem)
    }


def is_own(path: str, folder: str, resumed_from: str | os.PathLike[str] | None) -> bool:
    """Whether a checkpoint may be removed: not one that the run resumed from, nor one that lies in another folder."""
    if not is_local(path):
        return True
    absolute = Path(path).absolute()
    if resumed_from is not None and absolute == Path(resumed_from).absolute():
        return False
    return Path(folder).absolute() in absolute.parents


def link_checkpoint(path: str, link: str) -> None:
    """Makes a link to a checkpoint, in the place of what bears the link's name."""
    if os.path.abspath(path) == os.path.abspath(link):
        return
    if os.path.isdir(link) and not os.path.islink(link):
        shutil.rmtree(link)
    elif os.path.lexists(link):
        os.remove(link)
    try:
        os.symlink(os.path.relpath(path, os.path.dirname(link)), link)
    except OSError:  # Windows lets few users make links
        shutil.copy(path, link)
