"""Whether a script overrides a hook."""

from __future__ import annotations

from ..callbacks import Callback
from ..datamodule import LightningDataModule
from ..hooks import is_redefined
from ..module import LightningModule

__all__ = ["is_overridden"]


def is_overridden(method_name: str, instance: object | None = None, parent: type | None = None) -> bool:
    """Whether an object has a method of its own in place of `parent`'s.

    Args:
        method_name: the method.
        instance: a module, datamodule or callback; None has no methods.
        parent: by default the one of the three that it derives from.

    Raises:
        ValueError: there is no parent, or it has no such method.
    """
    if instance is None:
        return False
    if parent is None:
        bases = (LightningModule, LightningDataModule, Callback)
        parent = next((base for base in bases if isinstance(instance, base)), None)
        if parent is None:
            raise ValueError("Expected a parent")
    if not hasattr(parent, method_name):
        if hasattr(instance, method_name):
            raise ValueError(f"The parent `{parent.__name__}` should define the method `{method_name}`")
        return False
    return is_redefined(method_name, instance, parent)
