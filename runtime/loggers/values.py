"""Hyperparameters and metrics in the forms that loggers accept: plain functions on dictionaries."""

from __future__ import annotations

import dataclasses
import inspect
import json
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


def as_dict(params: Any) -> Any:
    """Returns a Namespace's variables, an empty dict for None, and anything else unchanged."""
    if isinstance(params, Namespace):
        return vars(params)
    return {} if params is None else params


def flatten(params: Mapping[Any, Any], delimiter: str = "/") -> dict[str, Any]:
    """Joins nested keys: ``{"a": {"b": 1}, "c": [{"d": 2}]}`` becomes ``{"a/b": 1, "c/0/d": 2}``."""
    return dict(_leaves(params, delimiter, ""))


def _leaves(params: Mapping[Any, Any], delimiter: str, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        path = f"{prefix}{key}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        value = vars(value) if isinstance(value, Namespace) else value
        if isinstance(value, Mapping):
            yield from _leaves(value, delimiter, path + delimiter)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                yield from _leaves(item, delimiter, f"{path}{delimiter}{index}{delimiter}")
        else:
            yield path, value


def as_primitives(params: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps bool, int, float, str and tensors, takes NumPy scalars' items, and turns all else into text."""
    return {key: _primitive(value) for key, value in params.items()}


def _primitive(value: Any) -> Any:
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return value if type(value) in (bool, int, float, str) or isinstance(value, Tensor) else str(value)


def call_callables(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces a class by its name, and a callable by what it returns without arguments, or else by its name."""
    return {key: _called(value) for key, value in params.items()}


def _called(value: Any) -> Any:
    if inspect.isclass(value):
        return value.__name__
    if not callable(value):
        return value
    try:
        result = value()
    except Exception:  # whatever the user's callable raises: its name has to do
        return getattr(value, "__name__", None)
    return value.__name__ if callable(result) else result


def as_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Turns values that JSON cannot hold into text."""
    return {key: value if _fits_json(value) else str(value) for key, value in params.items()}


def _fits_json(value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return True
    try:
        json.dumps(value)
    except (TypeError, OverflowError):
        return False
    return True


def add_prefix(metrics: Mapping[str, Any], prefix: str, separator: str = "-") -> Mapping[str, Any]:
    """Puts ``prefix`` and ``separator`` before each name, if there is a prefix."""
    return {f"{prefix}{separator}{name}": value for name, value in metrics.items()} if prefix else metrics


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Any] | None = None,
    default_func: Callable[[Sequence[float]], float] = statistics.mean,
) -> dict[str, Any]:
    """Joins dictionaries of numbers, nested ones too: ``[{"a": 1}, {"a": 3}]`` becomes ``{"a": 2}``.

    Args:
        dicts: What to join.
        agg_key_funcs: A function of the list of values for a key; a dict of such for a nested key.
        default_func: The function for all other keys.
    """
    functions = agg_key_funcs or {}
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in dicts for key in one):
        values = [one[key] for one in dicts if one.get(key) is not None]
        if isinstance(values[0], Mapping):
            merged[key] = merge_dicts(values, functions.get(key), default_func)
        else:
            merged[key] = functions.get(key, default_func)(values)
    return merged
