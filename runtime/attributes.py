"""A value that may live in the module, in its hyperparameters, or in the datamodule: read and set wherever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .module import LightningModule


def _holders(module: LightningModule, attribute: str) -> Iterator[Any]:
    """Yields the objects that have the attribute, or the key: module, its hparams, datamodule, its hparams."""
    trainer = getattr(module, "_trainer", None)
    datamodule = getattr(trainer, "datamodule", None)
    for owner in (module, datamodule):
        if owner is None:
            continue
        if hasattr(owner, attribute):
            yield owner
        hparams = getattr(owner, "hparams", None)
        if attribute in hparams if isinstance(hparams, Mapping) else hasattr(hparams, attribute):
            yield hparams


def _required(module: LightningModule, attribute: str) -> list[Any]:
    holders = list(_holders(module, attribute))
    if not holders:
        raise AttributeError(
            f"{attribute} is neither stored in the model namespace nor the `hparams` namespace/dict,"
            " nor the datamodule."
        )
    return holders


def lightning_hasattr(model: LightningModule, attribute: str) -> bool:
    """Whether the value is anywhere."""
    return any(True for _ in _holders(model, attribute))


def lightning_getattr(model: LightningModule, attribute: str) -> Any:
    """Returns the value; the datamodule's wins, since its loaders are the ones in use.

    Raises:
        AttributeError: It is nowhere.
    """
    holder = _required(model, attribute)[-1]
    return holder[attribute] if isinstance(holder, Mapping) else getattr(holder, attribute)


def lightning_setattr(model: LightningModule, attribute: str, value: Any) -> None:
    """Sets the value wherever it is.

    Raises:
        AttributeError: It is nowhere.
    """
    for holder in _required(model, attribute):
        if isinstance(holder, Mapping):
            holder[attribute] = value  # type: ignore[index]
        else:
            setattr(holder, attribute, value)
