"""Hooks of 1.x: those under other names, and the ends of epochs that get all outputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..callbacks.base import Callback
from .said import instead
from .steps import log_returned

# Methods of modules and callbacks that were renamed: when they are called, and under which name today.
EDGES = {
    "on_epoch_start": ("on_train_epoch_start", "on_validation_epoch_start", "on_test_epoch_start"),
    "on_epoch_end": ("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end"),
    "on_pretrain_routine_start": ("on_fit_start",),
    "on_pretrain_routine_end": ("on_train_start",),
    "on_batch_start": ("on_train_batch_start",),
    "on_batch_end": ("on_train_batch_end",),
}


class OldHooks(Callback):
    """Calls the methods of 1.x modules and callbacks at their places, and collects what their epoch ends want."""

    def __init__(self, module: Any, callbacks: list[Callback]) -> None:
        self.module = module
        self.outputs: dict[str, list[list[Any]]] = {}
        self.epoch_ends = {stem: own_method(module, f"{stem}_epoch_end") for stem in ("training", "validation", "test")}
        self.edges: dict[str, list[Callable[..., Any]]] = {}
        for old, places in EDGES.items():
            for owner in (*callbacks, module):
                method = own_method(owner, old)
                if method is None:
                    continue
                instead(f"{type(owner).__name__}.{old}", f"`{places[0]}`")
                arguments = () if owner is module else ("trainer", "module")
                for place in places:
                    self.edges.setdefault(place, []).append(functools.partial(_call_fitting, method, bool(arguments)))
        for stem, method in self.epoch_ends.items():
            if method is not None:
                place = "on_train_epoch_end" if stem == "training" else f"on_{stem}_epoch_end"
                instead(f"{type(module).__name__}.{stem}_epoch_end", f"`{place}`")
        needed = {"on_train_batch_end"} if self.epoch_ends["training"] else set()
        needed |= {f"on_{stem}_batch_end" for stem in ("validation", "test") if self.epoch_ends[stem]}
        self.idle_hooks = frozenset({"on_train_batch_start", "on_train_batch_end"} - needed - self.edges.keys())

    @property
    def is_needed(self) -> bool:
        return bool(self.edges) or any(self.epoch_ends.values())

    def _edge(self, name: str, trainer: Any, *arguments: Any) -> None:
        for method in self.edges.get(name, ()):
            method(trainer, *arguments)

    def _collect(self, stem: str, outputs: Any, dataloader_idx: int = 0) -> None:
        if self.epoch_ends[stem] is None:
            return
        kept = self.outputs.setdefault(stem, [])
        while len(kept) <= dataloader_idx:
            kept.append([])
        kept[dataloader_idx].append(outputs)

    def _end(self, stem: str) -> None:
        method, kept = self.epoch_ends[stem], self.outputs.pop(stem, [[]])
        if method is not None:
            log_returned(self.module, method(kept[0] if len(kept) == 1 else kept))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_fit_start", trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_train_start", trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.outputs.pop("training", None)
        self._edge("on_train_epoch_start", trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._edge("on_train_batch_start", trainer, batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._collect("training", outputs)
        self._edge("on_train_batch_end", trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("training")
        self._edge("on_train_epoch_end", trainer)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_validation_epoch_start", trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._collect("validation", outputs, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("validation")
        self._edge("on_validation_epoch_end", trainer)

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_test_epoch_start", trainer)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._collect("test", outputs, dataloader_idx)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("test")
        self._edge("on_test_epoch_end", trainer)


def own_method(owner: Any, name: str) -> Callable[..., Any] | None:
    method = getattr(owner, name, None)
    return method if callable(method) else None


def _call_fitting(method: Callable[..., Any], of_callback: bool, trainer: Any, *arguments: Any) -> None:
    """Calls a method with as many of the arguments that it may have had as it takes."""
    given = (trainer, trainer.lightning_module, *arguments) if of_callback else arguments
    method(*given[: len(inspect.signature(method).parameters)])
