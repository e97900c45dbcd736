"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Callback

_NOT_HOOKS = {"state_key", "state_dict", "load_state_dict", "idle_hooks"}
_HOOKS = frozenset(name for name in vars(Callback) if not name.startswith("_")) - _NOT_HOOKS


class LambdaCallback(Callback):
    """Takes each hook as a keyword: ``LambdaCallback(on_train_start=lambda trainer, module: print("go"))``."""

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        unknown = sorted(set(hooks) - _HOOKS)
        if unknown:
            raise TypeError(f"LambdaCallback has no hook {', '.join(unknown)}. Its hooks: {', '.join(sorted(_HOOKS))}.")
        for name, hook in hooks.items():
            if hook is not None:
                setattr(self, name, hook)
