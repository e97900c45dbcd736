"""Moves a batch to a device: nested containers, each tensor once."""

from __future__ import annotations

import copy
import dataclasses
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

# These copy synchronously whatever is asked; elsewhere a copy from pinned memory overlaps with the step.
BLOCKING_DEVICES = ("cpu", "mps")


def move_data_to_device(batch: Any, device: torch.device | str) -> Any:
    """Returns `batch` with everything that has a `to` method on `device`.

    Containers are entered: mappings, lists, tuples, named tuples and dataclasses. A container whose content is
    already there is returned itself, and a tensor that occurs twice is copied once. What has no `to` stays.
    """
    if isinstance(device, str):
        device = torch.device(device)
    return _move(batch, device, {})


def _move(data: Any, device: torch.device, moved: dict[int, Any]) -> Any:
    if isinstance(data, Tensor):
        if data.device == device:
            return data
        key = id(data)
        if key not in moved:
            moved[key] = data.to(device, non_blocking=device.type not in BLOCKING_DEVICES)
        return moved[key]
    if isinstance(data, (str, bytes, int, float, bool, type(None))):
        return data
    if isinstance(data, torch.nn.utils.rnn.PackedSequence) or callable(getattr(data, "to", None)):
        there = data.to(device)
        return data if there is None else there  # an object of the user's own may move in place
    return map_contents(data, partial(_move, device=device, moved=moved))


def map_contents(data: Any, change: Callable[[Any], Any]) -> Any:
    """`data` with what is in it changed: the items of a mapping, list, tuple or named tuple, the fields of a dataclass.

    One whose content is as before is returned itself, as is what has no content.
    """
    if isinstance(data, (str, bytes, range, Tensor)):
        return data
    if isinstance(data, Mapping):
        values = {key: change(value) for key, value in data.items()}
        if all(map(operator.is_, values.values(), data.values())):
            return data
        if isinstance(data, defaultdict):
            return type(data)(data.default_factory, values)
        return type(data)(values)  # type: ignore[call-arg]
    if isinstance(data, Sequence):
        items = list(map(change, data))
        if all(map(operator.is_, items, data)):
            return data
        return type(data)(*items) if hasattr(data, "_fields") else type(data)(items)  # type: ignore[call-arg]
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
        changed = {name: change(value) for name, value in fields.items()}
        if all(changed[name] is value for name, value in fields.items()):
            return data
        result = copy.copy(data)
        for name, value in changed.items():
            object.__setattr__(result, name, value)  # also for frozen ones, and without running their checks again
        return result
    return data
