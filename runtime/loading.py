"""Makes a module or datamodule again from a checkpoint: its hyperparameters, then its weights."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from . import shards
from .errors import rank_zero_warn
from .hparams import AttributeDict, load_hparams_from_tags_csv, load_hparams_from_yaml, parse_class_init_keys
from .instantiation import check_instantiator, instantiate_module
from .plain_types import is_pickled

T = TypeVar("T")

# Where versions before 1.0 kept hyperparameters.
_OLD_KEYS = ("hparams", "module_arguments")


class ClassOnly(Generic[T]):
    """A classmethod that refuses to be called on an instance, where its result would be lost."""

    def __init__(self, method: Callable[..., T]) -> None:
        self.method = method
        functools.update_wrapper(self, method)  # type: ignore[arg-type]

    def __get__(self, instance: Any, cls: type) -> Callable[..., T]:
        @functools.wraps(self.method)
        def call(*args: Any, **kwargs: Any) -> T:
            # torch.jit.script reads attributes of instances without calling them, so only the call is refused.
            if instance is not None:
                raise TypeError(
                    f"The classmethod `{cls.__name__}.{self.method.__name__}` cannot be called on an instance."
                    " Please call it on the class type and make sure the return value is used."
                )
            return self.method(cls, *args, **kwargs)

        return call


def _default_location(storage: Any, location: str) -> Any:
    missing = (location.startswith("cuda") and not torch.cuda.is_available()) or (
        location.startswith("mps") and not torch.backends.mps.is_available()
    )
    return storage.cpu() if missing else None


def _read(source: Any, map_location: Any, weights_only: bool | None) -> dict[str, Any]:
    map_location = map_location or _default_location
    if isinstance(source, (str, Path)):
        return shards.load_any(source, map_location, weights_only)
    checkpoint: dict[str, Any] = torch.load(source, map_location=map_location, weights_only=weights_only is not False)
    return checkpoint


def _container(kind: Any, saved: dict[str, Any]) -> Any:
    if kind != "DictConfig":
        return AttributeDict(saved)
    from omegaconf import OmegaConf

    return OmegaConf.create(saved)


def _made_again(cls: Any, checkpoint: dict[str, Any], given: dict[str, Any]) -> Any:
    saved: Any = {}
    for key in (*_OLD_KEYS, cls.CHECKPOINT_HYPER_PARAMS_KEY):
        if isinstance(checkpoint.get(key), Mapping):
            saved.update(checkpoint[key])
    if checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_TYPE):
        saved = _container(checkpoint[cls.CHECKPOINT_HYPER_PARAMS_TYPE], saved)
    itself, rest, keywords = parse_class_init_keys(cls)
    names = [name for name in inspect.signature(cls.__init__).parameters if name not in (itself, rest, keywords)]
    container = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_NAME)
    if container and container in names:
        saved = {container: saved}
    arguments = {**saved, **given}
    instantiator = arguments.pop("_instantiator", None)
    if instantiator is not None:
        check_instantiator(cls, instantiator, arguments.get("_class_path"))
    if not keywords and "_class_path" not in arguments:
        arguments = {name: value for name, value in arguments.items() if name in names}
    return cls(**arguments) if instantiator is None else instantiate_module(cls, arguments)


def _prepare(
    cls: Any, source: Any, map_location: Any, hparams_file: Any, weights_only: bool | None, given: dict[str, Any]
) -> dict[str, Any]:
    checkpoint = _read(source, map_location, weights_only)
    if hparams_file is not None:
        checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY] = _hparams_of_file(hparams_file)
    checkpoint.setdefault(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
    checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY].update(given)
    objects = [name for name, value in checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY].items() if is_pickled(value)]
    if objects:
        raise ValueError(
            f"The hyperparameters {objects} in the checkpoint are objects of the script's own, which are restored only"
            f" by running code from the file. Pass them: `{cls.__name__}.load_from_checkpoint(..., {objects[0]}=...)`,"
            " or, if you trust the file, `weights_only=False`."
        )
    return checkpoint


def load_module(
    cls: Any,
    source: Any,
    map_location: Any,
    hparams_file: Any,
    strict: bool | None,
    weights_only: bool | None,
    **given: Any,
) -> Any:
    """See `LightningModule.load_from_checkpoint`."""
    checkpoint = _prepare(cls, source, map_location, hparams_file, weights_only, given)
    module = _made_again(cls, checkpoint, given)
    chosen = module._strict_loading
    if chosen is not None and strict is not None and strict != chosen:
        raise ValueError(
            f"You set `.load_from_checkpoint(..., strict={strict!r})` which is in conflict with"
            f" `{cls.__name__}.strict_loading={chosen!r}. Please set the same value for both of them."
        )
    strict = module.strict_loading if strict is None else strict
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    keys = module.load_state_dict(checkpoint["state_dict"], strict=strict)
    if not strict:
        warn_of_keys(keys)
    if not checkpoint["state_dict"]:
        rank_zero_warn(f"The state dict in {source!r} contains no parameters.")
        return module
    first = next((value for value in checkpoint["state_dict"].values() if isinstance(value, torch.Tensor)), None)
    return module if first is None else module.to(first.device)


def warn_of_keys(keys: Any) -> None:
    """Says what a load that is not strict left out."""
    if keys.missing_keys:
        rank_zero_warn(f"Found keys that are in the model state dict but not in the checkpoint: {keys.missing_keys}")
    if keys.unexpected_keys:
        rank_zero_warn(f"Found keys that are not in the model state dict but in the checkpoint: {keys.unexpected_keys}")


def load_datamodule(
    cls: Any, source: Any, map_location: Any, hparams_file: Any, weights_only: bool | None, **given: Any
) -> Any:
    """See `LightningDataModule.load_from_checkpoint`."""
    checkpoint = _prepare(cls, source, map_location, hparams_file, weights_only, given)
    datamodule = _made_again(cls, checkpoint, given)
    name = type(datamodule).__qualname__
    if name in checkpoint:
        datamodule.load_state_dict(checkpoint[name])
    return datamodule


def _hparams_of_file(path: str | Path) -> dict[str, Any]:
    suffix = str(path).rsplit(".", 1)[-1].lower()
    if suffix == "csv":
        return load_hparams_from_tags_csv(path)
    if suffix in ("yml", "yaml"):
        return load_hparams_from_yaml(path)
    raise ValueError(".csv, .yml or .yaml is required for `hparams_file`")
