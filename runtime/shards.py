"""A checkpoint as a folder: shards written by all processes, and `meta.pt` with everything that is no shard.

The layout is that of Lightning's sharded checkpoints: torch.distributed.checkpoint's files with the module under
``model`` and the optimizers under ``optimizer_<i>``. `meta.pt` also holds a SHA-256 of each file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import checkpoints
from .checkpoints import META, NEW_NAME, REPLACED_NAME, TEMPORARY_NAME, Checkpoint, CheckpointDamaged, is_sharded

DIGESTS = "lightify_digests"
FRESH = "lightify_fresh_optimizers"  # the states of optimizers that have none yet, which makes no shard


def existing(path: str | Path) -> Path:
    """`path`, or where a process that was killed between two renames left it."""
    path = Path(path)
    replaced = path.parent / TEMPORARY_NAME / REPLACED_NAME / path.name
    return replaced if not path.exists() and replaced.exists() else path


def temporary_folder(path: Path) -> Path:
    """Where the shards of `path` are written before they get its name."""
    return path.parent / TEMPORARY_NAME / NEW_NAME


def make_temporary_folder(path: Path) -> Path:
    """That folder, empty; to be called by one process."""
    checkpoints.temporary_in(path.parent).unlink(missing_ok=True)
    folder = temporary_folder(path)
    folder.mkdir(parents=True)
    return folder


def publish(meta: Checkpoint, path: Path) -> None:
    """Completes the folder whose shards are written, and gives it its name; to be called by one process."""
    folder = temporary_folder(path)
    digests = {}
    for file in sorted(folder.iterdir()):
        digests[file.name] = _digest(file)
        _flush(file)
    checkpoints.save({**meta, DIGESTS: digests}, folder / META)
    checkpoints.replace_folder(folder, path)


def load_meta(path: Path, map_location: Any = None, weights_only: bool | None = None) -> Checkpoint:
    """Everything but the shards, after checking that these are whole."""
    if not Path(path, META).is_file():
        raise CheckpointDamaged(path, f"it has no {META}", checkpoints.last_good(path.parent, exclude=path))
    meta = checkpoints.load(path / META, map_location, weights_only)
    for name, digest in meta.pop(DIGESTS, {}).items():
        file = path / name
        reason = (
            f"its file {name} is missing"
            if not file.is_file()
            else f"its file {name} does not match its checksum"
            if _digest(file) != digest
            else None
        )
        if reason is not None:
            raise CheckpointDamaged(path, reason, checkpoints.last_good(path.parent, exclude=path))
    return meta


def load_whole(path: Path, map_location: Any = None, weights_only: bool | None = None) -> Checkpoint:
    """The folder as the checkpoint that one process would have written."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    checkpoint = load_meta(path, map_location, weights_only)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "whole.pt")
        dcp_to_torch_save(path, file)
        shards = torch.load(file, map_location=map_location, weights_only=True)
    checkpoint["state_dict"] = shards.pop("model", {})
    states = {int(name.rpartition("_")[2]): by_index(state) for name, state in shards.items()}
    states |= checkpoint.pop(FRESH, {})
    checkpoint["optimizer_states"] = [states[index] for index in sorted(states)]
    return checkpoint


def count_optimizers(path: Path, fresh: Mapping[int, Any]) -> int:
    """How many optimizers a folder holds the states of."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    keys = FileSystemReader(path).read_metadata().state_dict_metadata
    sharded = {key.partition(".")[0] for key in keys if key.startswith("optimizer_")}
    return len(sharded) + len(fresh)


def load_any(path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Checkpoint:
    """A checkpoint that one process can use, from a file or from a folder of shards."""
    found = existing(path) if "://" not in str(path) else path
    if "://" not in str(path) and is_sharded(found):
        return load_whole(Path(found), map_location, weights_only)
    return checkpoints.load(found, map_location, weights_only)


def by_index(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state keyed by parameters' names, as torch's plain optimizers have it: by position."""
    position = {name: index for index, name in enumerate(_names(state))}
    groups = [{**group, "params": [position[name] for name in group["params"]]} for group in state["param_groups"]]
    return {
        "state": {position[name]: value for name, value in state["state"].items()},
        "param_groups": groups,
    }


def by_name(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The inverse of `by_index`; `names` are those of the optimizer's parameters in their order."""
    groups = [{**group, "params": [names[index] for index in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[index]: value for index, value in state["state"].items()}, "param_groups": groups}


def _names(state: dict[str, Any]) -> list[str]:
    return [name for group in state["param_groups"] for name in group["params"]]


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
