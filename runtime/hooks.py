"""The table of hooks, in the order of a run, and who overrides which: found once per run, bound, called only then."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import rank_zero_warn
from .state import RunState

Bound = tuple[Callable[..., Any], ...]

# Hooks that callbacks and the module share. The module's come without `trainer` and `pl_module`.
HOOKS = (
    "on_fit_start",
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    *(
        f"on_{stage}_{moment}"
        for stage in ("validation", "test", "predict")
        for moment in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end")
    ),
    "on_train_epoch_end",
    "on_train_end",
    "on_fit_end",
    "on_exception",
    "on_save_checkpoint",
    "on_load_checkpoint",
)

# Names that look like a method of the contract and are not; difflib finds the others.
_PACKAGE = __name__.rpartition(".")[0]
_LOOKALIKES = {
    "train_step": "training_step",
    "val_step": "validation_step",
    "valid_step": "validation_step",
    "eval_step": "validation_step",
    "configure_optimizer": "configure_optimizers",
    "training_dataloader": "train_dataloader",
    "validation_dataloader": "val_dataloader",
    "valid_dataloader": "val_dataloader",
    "val_dataloaders": "val_dataloader",
}

# Words of other libraries' hooks, and the word of this one.
_SYNONYMS = {
    "begin": "start", "begins": "start", "starts": "start", "started": "start", "finish": "end", "finished": "end",
    "ended": "end", "ends": "end", "stop": "end", "val": "validation", "valid": "validation", "eval": "validation",
    "training": "train", "optim": "optimizer",
}  # fmt: skip


# What else of the contract a script may misspell. Other methods are too much like names of the script's own.
_CONTRACT = frozenset({
    "configure_callbacks", "configure_gradient_clipping", "configure_model", "configure_optimizers", "forward",
    "lr_scheduler_step", "optimizer_step", "optimizer_zero_grad", "predict_dataloader", "predict_step", "prepare_data",
    "test_dataloader", "test_step", "train_dataloader", "training_step", "transfer_batch_to_device", "val_dataloader",
    "validation_step",
})  # fmt: skip


def is_overridden(name: str, instance: object, base: type) -> bool:
    """Whether `instance` has its own `name`: in its class, or set on the instance."""
    own = getattr(instance, "__dict__", {})
    if name in own:
        return own[name] is not None  # None switches a method of the class off
    own = getattr(type(instance), name, None)
    return own is not None and own is not getattr(base, name, None)


def is_redefined(name: str, instance: object, base: type) -> bool:
    """`is_overridden`, unless what is set on the instance only wraps the base's own method."""
    if not is_overridden(name, instance, base):
        return False
    return _code(getattr(instance, name)) is not _code(getattr(base, name, None))


def _code(function: Any) -> Any:
    """The code behind a method, below wrappers, partial functions and mocks that wrap."""
    while function is not None and not hasattr(function, "__code__"):
        if isinstance(function, functools.partial) and not hasattr(function, "__wrapped__"):
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None) or vars(function).get("_mock_wraps")
    return None if function is None else inspect.unwrap(function).__code__


def accepts(function: Callable[..., Any], name: str, at_least: int | None = None) -> bool:
    """Whether a hook takes an argument of this name, or so many that it must be meant, or anything."""
    params = inspect.signature(function).parameters.values()
    return (
        any(p.name == name for p in params)
        or (at_least is not None and len([p for p in params if p.kind is not p.VAR_KEYWORD]) >= at_least)
        or any(p.kind is p.VAR_POSITIONAL for p in params)
    )


def warn_of_near_misses(instance: object, base: type) -> None:
    """Warns of methods whose names are almost a hook's, as they are never called."""
    known = [name for name in dir(base) if not name.startswith("_")]
    contract = [name for name in known if name in _CONTRACT]
    for cls in type(instance).__mro__:
        if cls is base or cls is object or cls.__module__.startswith(("torch", _PACKAGE)):
            continue
        for name, member in vars(cls).items():
            if name in known or not callable(member) or hasattr(base, name):
                continue
            meant = _LOOKALIKES.get(name) or _in_own_words(name, known)
            if meant is None:
                candidates = known if name.startswith("on_") else contract
                meant = next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=0.9)), None)
            if meant in known and not is_overridden(meant, instance, base):
                rank_zero_warn(
                    f"`{cls.__qualname__}.{name}` is not a hook and is never called by the Trainer."
                    f" If you meant `{meant}`, rename it.",
                    stacklevel=6,
                )


def _in_own_words(name: str, known: list[str]) -> str | None:
    """The hook that another library calls `name`: `on_val_epoch_end`, `on_train_begin`, `on_fit_stop`."""
    words = "_".join(_SYNONYMS.get(word, word) for word in name.split("_"))
    return words if name.startswith("on_") and words in known else None


_LATE = ("on_train_epoch_end", "on_train_batch_end", "on_validation_end")


def _is_idle(name: str, callback: Any) -> bool:
    """Whether a callback of ours knows that its settings need no call of a hook; a class derived from it may."""
    if name not in getattr(callback, "idle_hooks", ()):
        return False
    return getattr(callback, name).__module__.startswith(_PACKAGE)


class Hooks:
    """The hooks of one run, bound; an attribute-like lookup gives a tuple that is empty when nobody overrides it."""

    def __init__(
        self,
        trainer: Any,
        module: Any,
        callbacks: Sequence[Any],
        state: RunState,
        callback_base: type,
        module_base: type,
        after_module: tuple[type, ...] = (),
        measured: Callable[[str, Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        self.state = state
        self._trainer, self._module, self._callbacks = trainer, module, callbacks
        self._callback_base, self._module_base = callback_base, module_base
        self._after_module, self._measured = after_module, measured
        self.bound: dict[str, Bound] = {name: self._bind(name) for name in HOOKS}

    def _bind(self, name: str) -> Bound:
        # Callbacks that watch a metric or save come last: the module may log it, or change its weights, in this hook.
        late = self._after_module if name in _LATE else ()
        own = self._of_module(name)
        first = [self._of_callback(name, c) for c in self._overriding(name) if not isinstance(c, late)]
        last = [self._of_callback(name, c) for c in self._overriding(name) if late and isinstance(c, late)]
        return (*first, *own, *last)

    def _overriding(self, name: str) -> Iterable[Any]:
        return [
            callback
            for callback in self._callbacks
            if is_overridden(name, callback, self._callback_base) and not _is_idle(name, callback)
        ]

    def _of_callback(self, name: str, callback: Any) -> Callable[..., Any]:
        hook = functools.partial(getattr(callback, name), self._trainer, self._module)
        return hook if self._measured is None else self._measured(f"[Callback]{callback.state_key}.{name}", hook)

    def _of_module(self, name: str) -> Bound:
        if self._module is None or not is_overridden(name, self._module, self._module_base):
            return ()
        hook = getattr(self._module, name)
        if self._measured is not None:
            hook = self._measured(f"[LightningModule]{type(self._module).__name__}.{name}", hook)
        return (hook,)

    def __getitem__(self, name: str) -> Bound:
        return self.bound[name]

    def call(self, name: str, *args: Any) -> Any:
        """Calls everyone who overrides `name` and returns the last answer, the module's for shared hooks."""
        hooks = self.bound[name]
        if not hooks:
            return None
        state = self.state
        before, state.hook = state.hook, name
        answer = None
        for hook in hooks:
            answer = hook(*args)
        state.hook = before
        return answer
