"""What was logged in one loop, and what of it the Trainer shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .entries import DECLARED, Entry, Number, Options, extract_batch_size
from .errors import MisconfigurationException
from .state import RunState


def _common_size(batch: Any) -> int:
    """`extract_batch_size`, with a short way for the usual list of tensors of one length."""
    if type(batch) in (list, tuple):
        sizes = {part.shape[0] if type(part) is Tensor and part.ndim else None for part in batch}
        if len(sizes) == 1:
            size = sizes.pop()
            if size is not None:
                return int(size)
    return extract_batch_size(batch)


class Snapshot(NamedTuple):
    """Values read at one moment: for callbacks, for loggers, for the progress bar."""

    callback: dict[str, Tensor]
    log: dict[str, Tensor]
    bar: dict[str, float]


class Results:
    """What `self.log` stored in one loop.

    Attributes:
        entries: by hook, name and index of the loader.
        state: of the run; its ``hook`` is the one that logs.
        in_batches: whether the loop is among its batches, where names are read per step; per epoch otherwise.
        batch: the current batch, from which a mean takes its weight.
        pending: values logged inside a compiled step, to be stored after it.
    """

    __slots__ = (
        "batch",
        "batch_size",
        "dataloader_idx",
        "device",
        "entries",
        "in_batches",
        "pending",
        "state",
        "training",
    )  # fmt: skip

    def __init__(self, state: RunState, training: bool, device: torch.device) -> None:
        self.entries: dict[tuple[str | None, str, int | None], Entry] = {}
        self.state, self.training, self.device = state, training, device
        self.in_batches = False
        self.batch: Any = None
        self.batch_size: Number | None = None
        self.dataloader_idx: int | None = None
        self.pending: list[tuple[str, Any, Options, Number | None]] = []

    def start_batch(self, batch: Any, dataloader_idx: int | None = None) -> None:
        self.in_batches, self.batch, self.batch_size, self.dataloader_idx = True, batch, None, dataloader_idx

    def current_batch_size(self) -> Number:
        """The weight of a mean, found once per batch."""
        if self.batch is None:
            return 1
        if self.batch_size is None:
            self.batch_size = _common_size(self.batch)
        return self.batch_size

    def declare(self, entry: Entry, key: tuple[str | None, str, int | None]) -> Entry:
        """Takes in a name's first value; the same name with other options is refused."""
        known = self.entries.get(key)
        if known is not None:
            if known.options is None:  # came from a checkpoint, which cannot hold functions and process groups
                entry.load_state_dict(known.state_dict())
                self.entries[key] = entry
                return entry
            if known.options != entry.options or known.dataloader_idx != entry.dataloader_idx:
                raise MisconfigurationException(
                    f"You called `self.log({entry.name}, ...)` twice in `{entry.hook}` with different arguments."
                    " This is not allowed"
                )
            return known
        self.entries[key] = entry
        return entry

    def read(self) -> Snapshot:
        """The current values of the current loader; the only place where values may cross from a device."""
        snapshot = Snapshot({}, {}, {})
        for entry in self.entries.values():
            if not entry.fresh or entry.dataloader_idx != self.dataloader_idx:
                continue
            value = entry.step_value(self) if self.in_batches else entry.epoch_value(self)
            if not isinstance(value, Tensor):
                continue
            name = entry.step_name if self.in_batches else entry.epoch_name
            if entry.logger:
                snapshot.log[name] = value
            if self.training or (entry.on_epoch and not self.in_batches):
                snapshot.callback[entry.plain_name] = value
                snapshot.callback[name] = value
            if entry.prog_bar:
                snapshot.bar[name] = value.item()
        return snapshot

    def reset(self) -> None:
        """Forgets all values and leaves the batches; called at the end of a pass."""
        for entry in self.entries.values():
            entry.reset()
        self.in_batches = False
        self.batch = None
        self.dataloader_idx = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [
            {"key": list(key), "reduce_fx": entry.reduction, **entry.state_dict()}
            for key, entry in self.entries.items()
            if entry.fresh
        ]

    def load_state_dict(self, saved: list[dict[str, Any]], module: torch.nn.Module) -> None:
        """Brings back what was logged; a torchmetrics object is found in `module` by its name."""
        for state in saved:
            hook, name, dataloader_idx = state["key"]
            attribute = state["attribute"]
            declared = {field: state[field] for field in DECLARED if field not in ("hook", "name")}
            entry = Entry(
                hook,
                name,
                None,
                reduce_fx=state["reduce_fx"],
                sync=None,
                metric=module.get_submodule(attribute) if attribute else None,
                **declared,
            )
            entry.load_state_dict(state)
            self.entries[hook, name, dataloader_idx] = entry


class Board:
    """The metrics that the Trainer shows, folded from all loops; a loop's values are read on demand."""

    def __init__(self) -> None:
        self.callback: dict[str, Tensor] = {}
        self.logged: dict[str, Tensor] = {}
        self.bar: dict[str, float] = {}

    def fold(self, results: Results | None) -> Snapshot:
        """Reads a loop's current values into the board."""
        snapshot = results.read() if results is not None else Snapshot({}, {}, {})
        self.callback.update(snapshot.callback)
        self.logged.update(snapshot.log)
        self.bar.update(snapshot.bar)
        return snapshot

    def clear(self) -> None:
        self.callback, self.logged, self.bar = {}, {}, {}

    def to_cpu(self) -> None:
        """Brings the metrics home when a run is over; no graph outlives it."""
        self.callback = {name: value.detach().cpu() for name, value in self.callback.items()}
        self.logged = {name: value.detach().cpu() for name, value in self.logged.items()}
