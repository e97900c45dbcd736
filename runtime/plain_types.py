"""What `torch.load(weights_only=True)` accepts: values rebuilt from such types, and what has no such form pickled."""

from __future__ import annotations

import argparse
import enum
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .errors import rank_zero_warn

FOREIGN_KEY = "__lightify_pickled__"
HYPERPARAMETERS = (
    "checkpoint['hyper_parameters']",
    "checkpoint['datamodule_hyper_parameters']",
    "checkpoint['hparams_type']",
    "checkpoint['datamodule_hparams_type']",
)

_PLAIN = (str, int, float, bool, complex, bytes, bytearray, type(None), torch.dtype, torch.device)


def loadable(value: Any, place: str = "checkpoint") -> Any:
    """`value` rebuilt from types that `torch.load(weights_only=True)` accepts."""
    if type(value) in _PLAIN or type(value) in (Tensor, torch.nn.Parameter, torch.Size, Counter):
        return value
    if isinstance(value, Tensor):
        return _pickled(value, place) if is_lazy(value) else _loadable_tensor(value)
    if type(value) in (dict, OrderedDict):
        keys = [loadable(key, place) for key in value]
        if not all(map(_is_hashable, keys)):
            return _pickled(value, place)  # what stands for an object can be no key
        items = {key: loadable(item, f"{place}[{key!r}]") for key, item in zip(keys, value.values())}
        if type(value) is dict:
            return items
        ordered = OrderedDict(items)
        if hasattr(value, "_metadata"):  # a state_dict's versions of its layers
            ordered._metadata = value._metadata  # type: ignore[attr-defined]
        return ordered
    if type(value) in (list, tuple, set):
        members = [loadable(item, f"{place}[{index}]") for index, item in enumerate(value)]
        if type(value) is set and not all(map(_is_hashable, members)):
            return _pickled(value, place)
        return type(value)(members)
    return _loadable_other(value, place)


def _loadable_tensor(value: Tensor) -> Any:
    if type(value).__module__.partition(".")[0] == "torch":
        return value  # a tensor type of torch's own, such as DTensor
    return value.as_subclass(Tensor)


def _loadable_other(value: Any, place: str) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, enum.Enum) and isinstance(value, (str, int)):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, argparse.Namespace):
        return loadable(vars(value), place)
    if isinstance(value, (str, int, float, bytes)):
        base: Any = next(base for base in (str, int, float, bytes) if isinstance(value, base))
        return base(value)
    if isinstance(value, Mapping) and _is_dict_in_disguise(value):
        return loadable(dict(value), place)
    return _pickled(value, place)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_dict_in_disguise(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a dictionary with other manners only: attribute access, a default."""
    return isinstance(value, (defaultdict, dict)) and not getattr(value, "__dict__", None)


def _pickled(value: Any, place: str) -> Any:
    try:
        data = pickle.dumps(value)
    except Exception as error:  # whatever the object's own __reduce__ raises
        rank_zero_warn(
            f"{place} of type {type(value).__qualname__} was left out of the checkpoint:"
            f" it cannot be pickled ({error})."
        )
        return None
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if not place.startswith(HYPERPARAMETERS):  # those are asked for by name when they are needed
        rank_zero_warn(
            f"{place} is an object of {kind}: it is kept in the checkpoint as pickled bytes, and taking the run up from"
            " there will need `weights_only=False`. Keep plain values and tensors instead."
        )
    return {FOREIGN_KEY: data, "type": kind}


def is_pickled(value: Any) -> bool:
    """Whether `value` stands for an object that `loadable` pickled."""
    return isinstance(value, dict) and FOREIGN_KEY in value


def pickled_places(value: Any, place: str = "checkpoint") -> Iterator[str]:
    """Where in a loaded checkpoint pickled objects are that a run needs."""
    if is_pickled(value):
        yield f"{place} (a {value['type']})"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (inside := f"{place}[{key!r}]").startswith(HYPERPARAMETERS):
                yield from pickled_places(item, inside)
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from pickled_places(item, f"{place}[{index}]")


def restore_foreign(value: Any) -> Any:
    """Puts the objects back that `loadable` pickled. Runs their code."""
    if isinstance(value, dict):
        if is_pickled(value):
            return pickle.loads(value[FOREIGN_KEY])
        for key, item in value.items():
            value[key] = restore_foreign(item)
        return value
    if type(value) in (list, tuple):
        return type(value)(restore_foreign(item) for item in value)
    return value
