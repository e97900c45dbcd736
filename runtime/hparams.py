"""`save_hyperparameters` and `hparams`: which arguments made an object."""

from __future__ import annotations

import copy
import csv
import inspect
import pickle
import sys
import types
from argparse import Namespace
from ast import literal_eval
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from .errors import MisconfigurationException, rank_zero_warn
from .transfer import map_contents


class AttributeDict(dict[str, Any]):
    """A dict whose keys are attributes, too."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError as e:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'") from e

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        try:
            del self[key]
        except KeyError as e:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'") from e

    def __repr__(self) -> str:
        if not self:
            return ""
        width = max(len(str(key)) for key in self) + 1
        rows = ((f'"{key}":', value) for key, value in sorted(self.items()))
        return "\n".join(f"{key:<{width + 2}} {value}" for key, value in rows)

    def __copy__(self) -> AttributeDict:
        return AttributeDict(self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if isinstance(key, str))]


def parse_class_init_keys(cls: type) -> tuple[str, str | None, str | None]:
    """The names that a class's `__init__` gives to itself, to `*args` and to `**kwargs`."""
    params = list(inspect.signature(cls.__init__).parameters.values())  # type: ignore[misc]
    rest = next((p.name for p in params if p.kind is p.VAR_POSITIONAL), None)
    keywords = next((p.name for p in params if p.kind is p.VAR_KEYWORD), None)
    return params[0].name, rest, keywords


def get_init_args(frame: types.FrameType) -> dict[str, Any]:
    """The arguments with which the `__init__` of a frame was called."""
    return _init_args(frame.f_locals) if "__class__" in frame.f_locals else {}


def _init_args(local: Mapping[str, Any]) -> dict[str, Any]:
    cls = local["__class__"]
    itself, rest, keywords = parse_class_init_keys(cls)
    names = inspect.signature(cls.__init__).parameters
    found = {name: local[name] for name in names if name in local}
    if keywords:
        found.update(found.get(keywords, {}))
    unwanted = {itself, rest, keywords, "__class__", "frame", "frame_args"}
    return {name: value for name, value in found.items() if name not in unwanted}


def collect_init_args(
    frame: types.FrameType | None, path_args: list[dict[str, Any]], inside: bool = False, classes: tuple[type, ...] = ()
) -> list[dict[str, Any]]:
    """The arguments of a chain of `__init__` calls, the innermost (most basic) class first."""
    while frame is not None and isinstance(frame.f_back, types.FrameType):
        local = frame.f_locals
        cls = local.get("__class__")
        # A class that is mixed in counts, too: what matters is the object that is being made.
        own = next(iter(frame.f_code.co_varnames[:1]), "")
        if isinstance(cls, type) and (not classes or isinstance(local.get(own), classes)):
            path_args.append(_init_args(local))
            inside = True
        elif inside:
            break
        frame = frame.f_back
    return path_args


# What a command line made an object from, while it makes it: arguments may be objects, their description is plain.
_given: ContextVar[dict[str, Any] | None] = ContextVar("given_hyperparameters", default=None)


@contextmanager
def given_hyperparameters(hparams: dict[str, Any]) -> Iterator[None]:
    """`save_hyperparameters` keeps `hparams` inside, instead of the arguments of ``__init__``."""
    token = _given.set(hparams)
    try:
        yield
    finally:
        _given.reset(token)


def _is_same(value: Any, hparams: Any) -> bool:
    """Compares what is of one type: arrays among the arguments compare element by element."""
    return value is hparams or (type(value) is type(hparams) and bool(value == hparams))


def save_hyperparameters(
    obj: Any,
    *args: Any,
    ignore: Sequence[str] | str | None = None,
    frame: types.FrameType | None = None,
    given_hparams: MutableMapping[str, Any] | None = None,
) -> None:
    """See `HyperparametersMixin.save_hyperparameters`; `given_hparams` overrule what the frames say."""
    if len(args) == 1 and not isinstance(args[0], str) and not args[0]:
        return
    if frame is None:
        current = inspect.currentframe()
        frame = current.f_back if current else None
    found = _arguments_of(obj, frame, given_hparams)
    ignored = [ignore] if isinstance(ignore, str) else [name for name in ignore or () if isinstance(name, str)]
    found = {name: value for name, value in found.items() if name not in ignored}

    hparams: Any
    if not args:
        hparams = found
        obj._hparams_name = "kwargs" if found else None
    else:
        objects = [arg for arg in args if not isinstance(arg, str)]
        if len(objects) == 1:
            hparams = objects[0]
            obj._hparams_name = next((name for name, value in found.items() if _is_same(value, hparams)), None)
        else:
            missing = [name for name in args if isinstance(name, str) and name not in found]
            if missing:
                raise MisconfigurationException(
                    f"`save_hyperparameters` was asked for {missing}, but `{type(obj).__name__}.__init__` has only"
                    f" {sorted(found)}."
                )
            hparams = {name: found[name] for name in args if isinstance(name, str)}
            obj._hparams_name = "kwargs"
    obj._set_hparams(hparams)
    obj.remove_ignored_hparams(ignored)  # what a base class kept, too
    for name, value in obj._hparams.items():
        if isinstance(value, torch.nn.Module):
            rank_zero_warn(
                f"Attribute {name!r} is an instance of `nn.Module` and is already saved during checkpointing."
                f" It is recommended to ignore them using `self.save_hyperparameters(ignore=[{name!r}])`."
            )
    # A copy: what the script changes later must not change what it began with.
    obj._hparams_initial = copy.deepcopy(obj._hparams)


def _arguments_of(obj: Any, frame: types.FrameType | None, given: MutableMapping[str, Any] | None) -> dict[str, Any]:
    """What an object is made with: as given, by its fields, or by the frames of its ``__init__``."""
    if given is not None:
        return dict(given)
    if is_dataclass(obj):
        return {field.name: getattr(obj, field.name) for field in fields(obj) if field.init}
    found: dict[str, Any] = {}
    for local in collect_init_args(frame, [], classes=(HyperparametersMixin,)):
        found.update(local)
    return found


def update_hparams(hparams: dict[str, Any], updates: dict[str, Any]) -> None:
    """Replaces values in a nested dict; keys that are not there are added."""
    for name, value in updates.items():
        if isinstance(value, dict) and name in hparams:
            update_hparams(hparams[name], value)
        else:
            hparams[name] = value


def is_picklable(value: object) -> bool:
    try:
        pickle.dumps(value)
    except (pickle.PickleError, AttributeError, RuntimeError, TypeError):
        return False
    return True


def clean_namespace(hparams: Any) -> None:
    """Drops what cannot be pickled, saying which."""
    values = hparams if isinstance(hparams, MutableMapping) else getattr(hparams, "__dict__", {})
    for name in [name for name, value in values.items() if not is_picklable(value)]:
        rank_zero_warn(f"Attribute '{name}' removed from hparams because it cannot be pickled")
        del values[name]


class HyperparametersMixin:
    """Remembers the arguments that made an object."""

    __jit_unused_properties__: ClassVar[list[str]] = ["hparams", "hparams_initial"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log_hyperparams = False

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Sequence[str] | str | None = None,
        frame: types.FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keeps arguments of ``__init__`` in `hparams`, and with the checkpoint.

        Args:
            *args: names to keep (all by default), or one dict, Namespace or other container with the values.
            ignore: names to leave out.
            frame: where to look for the arguments; the caller by default.
            logger: also send them to the logger.
        """
        self._log_hyperparams = logger
        if frame is None:
            current = inspect.currentframe()
            frame = current.f_back if current else None
        save_hyperparameters(self, *args, ignore=ignore, frame=frame, given_hparams=_given.get())

    def remove_ignored_hparams(self, ignore_list: Sequence[str]) -> None:
        """Forgets hyperparameters by name, also those that a base class kept."""
        for name in ignore_list:
            self.hparams.pop(name, None)

    def _set_hparams(self, hparams: Any) -> None:
        hparams = self._to_hparams_dict(hparams)
        known = getattr(self, "_hparams", None)
        if isinstance(hparams, dict) and isinstance(known, dict):
            known.update(hparams)
        else:
            self._hparams = hparams

    @staticmethod
    def _to_hparams_dict(hparams: Any) -> Any:
        if isinstance(hparams, Namespace):
            hparams = vars(hparams)
        if isinstance(hparams, dict):
            return AttributeDict(hparams)
        if isinstance(hparams, (bool, int, float, str)):
            raise ValueError(f"Primitives {(bool, int, float, str)} are not allowed.")
        if not isinstance(hparams, MutableMapping):
            hint = " Pass its fields: `save_hyperparameters(dataclasses.asdict(...))`." if is_dataclass(hparams) else ""
            raise ValueError(f"Unsupported config type of {type(hparams)}.{hint}")
        return hparams

    @property
    def hparams(self) -> Any:
        """The hyperparameters: a dict with attributes; changes are kept with the checkpoint."""
        if not hasattr(self, "_hparams"):
            self._hparams = AttributeDict()
        return self._hparams

    @property
    def hparams_initial(self) -> Any:
        """The hyperparameters as they were when saved."""
        if not hasattr(self, "_hparams_initial"):
            return AttributeDict()
        return copy.deepcopy(self._hparams_initial)


def load_hparams_from_tags_csv(tags_csv: str | Path) -> dict[str, Any]:
    """Reads hyperparameters from a CSV file of keys and values."""
    path = Path(tags_csv)
    if not path.exists():
        rank_zero_warn(f"Missing Tags: {path}.", category=RuntimeWarning)
        return {}
    with path.open(newline="") as file:
        return {row[0]: _literal(row[1]) for row in list(csv.reader(file))[1:]}


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def save_hparams_to_tags_csv(tags_csv: str | Path, hparams: dict[str, Any] | Namespace) -> None:
    """Writes hyperparameters to a CSV file of keys and values."""
    path = Path(tags_csv)
    if not path.parent.is_dir():
        raise RuntimeError(f"Missing folder: {path.parent}.")
    values = vars(hparams) if isinstance(hparams, Namespace) else hparams
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("key", "value"))
        writer.writerows(values.items())


def load_hparams_from_yaml(config_yaml: str | Path, use_omegaconf: bool = True) -> Any:
    """Reads hyperparameters from a YAML file; an OmegaConf object when that library is in use."""
    import yaml  # type: ignore[import-untyped]

    path = Path(config_yaml)
    if not path.exists():
        rank_zero_warn(f"Missing Tags: {path}.", category=RuntimeWarning)
        return {}
    with path.open() as file:
        hparams = yaml.full_load(file)
    if use_omegaconf and "omegaconf" in sys.modules:
        from omegaconf import OmegaConf
        from omegaconf.errors import UnsupportedValueType, ValidationError

        try:
            return OmegaConf.create(hparams)
        except (UnsupportedValueType, ValidationError):
            pass
    return hparams


def _without_omegaconf(value: Any) -> Any:
    """`value` with OmegaConf's containers in it as plain ones, their interpolations resolved."""
    from omegaconf import Container, OmegaConf

    if isinstance(value, Container):
        return OmegaConf.to_container(value, resolve=True)
    return map_contents(value, _without_omegaconf)


def save_hparams_to_yaml(config_yaml: str | Path, hparams: Any, use_omegaconf: bool = True) -> None:
    """Writes hyperparameters to a YAML file; what YAML cannot hold is left out with a warning."""
    import yaml  # type: ignore[import-untyped]

    path = Path(config_yaml)
    if not path.parent.is_dir():
        raise RuntimeError(f"Missing folder: {path.parent}.")
    if use_omegaconf and "omegaconf" in sys.modules:
        hparams = _without_omegaconf(hparams)
    values = vars(hparams) if isinstance(hparams, Namespace) else dict(hparams)
    allowed = {}
    for name, value in values.items():
        value = value.name if hasattr(value, "name") and hasattr(type(value), "__members__") else value
        try:
            yaml.dump(value)
        except (TypeError, ValueError, yaml.YAMLError):
            rank_zero_warn(f"Skipping '{name}' parameter because it is not possible to safely dump to YAML.")
        else:
            allowed[name] = value
    with path.open("w") as file:
        yaml.dump(allowed, file, sort_keys=False)
