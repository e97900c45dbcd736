"""The plugins through which a Trainer writes, reads and removes checkpoints."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoints import Checkpoint, load, remove, save


class CheckpointIO(ABC):
    """How a Trainer writes, reads and removes checkpoints; pass your own as `Trainer(plugins=[...])`."""

    @abstractmethod
    def save_checkpoint(self, checkpoint: Checkpoint, path: str | Path, storage_options: Any | None = None) -> None: ...

    @abstractmethod
    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> Checkpoint: ...

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None: ...

    def teardown(self) -> None:
        """Waits for what is still being written."""


class TorchCheckpointIO(CheckpointIO):
    """This module's `save`, `load` and `remove`."""

    def save_checkpoint(self, checkpoint: Checkpoint, path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise TypeError(
                "`Trainer.save_checkpoint(..., storage_options=...)` with `storage_options` arg"
                f" is not supported for `{type(self).__name__}`. Please implement your custom `CheckpointIO`"
                " to define how you'd like to use `storage_options`."
            )
        save(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> Checkpoint:
        # Onto the CPU by default: each state moves to its own device when it is loaded.
        return load(path, "cpu" if map_location is None else map_location, weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        remove(path)


class AsyncCheckpointIO(CheckpointIO):
    """Writes in a thread while training goes on, from a copy taken at once; order is kept.

    An error of a write is raised by the next one, or at the end.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        self.checkpoint_io = checkpoint_io or TorchCheckpointIO()
        self._executor: ThreadPoolExecutor | None = None
        self._error: BaseException | None = None

    def save_checkpoint(self, checkpoint: Checkpoint, path: str | Path, storage_options: Any | None = None) -> None:
        self._raise_error()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1)
        self._executor.submit(self._write, _copied(checkpoint), path, storage_options)

    def _write(self, checkpoint: Checkpoint, path: str | Path, storage_options: Any | None) -> None:
        try:
            self.checkpoint_io.save_checkpoint(checkpoint, path, storage_options)
        except BaseException as error:
            self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until everything is written."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
        self._raise_error()

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> Checkpoint:
        self.wait()
        where = {} if map_location is None else {"map_location": map_location}
        return self.checkpoint_io.load_checkpoint(path, weights_only=weights_only, **where)

    def remove_checkpoint(self, path: str | Path) -> None:
        if self._executor is not None:
            # After the writes before it: the new file must be whole before the old one goes.
            self._executor.submit(self._remove, path)
        else:
            self.checkpoint_io.remove_checkpoint(path)

    def _remove(self, path: str | Path) -> None:
        if self._error is None:
            self.checkpoint_io.remove_checkpoint(path)

    def teardown(self) -> None:
        self.wait()
        self.checkpoint_io.teardown()


def _copied(value: Any) -> Any:
    """`value` with its tensors cloned: the step after this one changes them in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        result = copy.copy(value)  # of its own kind
        for key, item in value.items():
            result[key] = _copied(item)
        return result
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return value
