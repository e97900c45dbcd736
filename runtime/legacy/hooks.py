"""Hooks of 1.x: those under other names, and the ends of epochs that get all outputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..callbacks.base import Callback
from ..gradients import grad_norm
from .said import instead
from .steps import log_returned

_PACKAGE = (__package__ or "").rpartition(".")[0]

# Methods of modules and callbacks that were renamed: when they are called, and under which name today.
EDGES = {
    "on_epoch_start": ("on_train_epoch_start", "on_validation_epoch_start", "on_test_epoch_start"),
    "on_epoch_end": ("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end"),
    "on_pretrain_routine_start": ("on_fit_start",),
    "on_pretrain_routine_end": ("on_train_start",),
    "on_batch_start": ("on_train_batch_start",),
    "on_batch_end": ("on_train_batch_end",),
}


# Arguments that hooks had beside those of today, with the one value that they can have now.
FORMER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "on_train_batch_start": {"dataloader_idx": 0},
    "on_train_batch_end": {"dataloader_idx": 0},
    "on_before_optimizer_step": {"optimizer_idx": 0},
    "optimizer_zero_grad": {"optimizer_idx": 0},
    "configure_gradient_clipping": {"optimizer_idx": 0},
    "lr_scheduler_step": {"optimizer_idx": 0},
}
EPOCH_ENDS = {
    "training": "on_train_epoch_end",
    "validation": "on_validation_epoch_end",
    "test": "on_test_epoch_end",
}


class GradientNorms(Callback):
    """Logs the norms of all gradients before each step: `Trainer(track_grad_norm=p)`."""

    def __init__(self, norm_type: float | str) -> None:
        self.norm_type = norm_type

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        pl_module.log_dict(grad_norm(pl_module, self.norm_type))


def with_former_arguments(owner: Any, outputs: dict[str, list[list[Any]]]) -> dict[str, Callable[..., Any]]:
    """Hooks of a module or callback that ask for arguments of 1.x, as ones that get them.

    Args:
        owner: whose hooks.
        outputs: what steps returned, by kind of step and loader, for ends of epochs that ask for it.
    """
    asking: dict[str, Callable[..., Any]] = {}
    for name, former in FORMER_ARGUMENTS.items():
        if asked := _asked(owner, name) & former.keys():
            _say_without(owner, name, asked)
            asking[name] = _by_name(getattr(owner, name), asked, functools.partial(dict, former))
    for stem, name in EPOCH_ENDS.items():
        if asked := _asked(owner, name) & {"outputs"}:
            _say_without(owner, name, asked)
            asking[name] = _by_name(getattr(owner, name), asked, functools.partial(_as_argument, outputs, stem))
    return asking


def _asked(owner: Any, name: str) -> set[str]:
    """The arguments that a hook cannot do without."""
    hook = own_method(owner, name)
    if hook is None or (getattr(hook, "__module__", None) or "").startswith(_PACKAGE):  # ours are in today's form
        return set()
    return {p.name for p in inspect.signature(hook).parameters.values() if p.default is p.empty}


def _say_without(owner: Any, name: str, asked: set[str]) -> None:
    instead(f"{type(owner).__name__}.{name}(..., {', '.join(sorted(asked))})", "it without")


def _by_name(hook: Callable[..., Any], asked: set[str], former: Callable[[], dict[str, Any]]) -> Callable[..., Any]:
    names = [name for name in inspect.signature(hook).parameters if name not in asked]

    def call(*arguments: Any, **keywords: Any) -> Any:
        return hook(**dict(zip(names, arguments)), **keywords, **former())

    return call


def _as_argument(outputs: dict[str, list[list[Any]]], stem: str) -> dict[str, Any]:
    return {"outputs": _of_loaders(outputs, stem)}


def _of_loaders(outputs: dict[str, list[list[Any]]], stem: str) -> list[Any]:
    kept = outputs.get(stem, [[]])
    return kept[0] if len(kept) == 1 else kept


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
        self.collected = {
            stem
            for stem, method in self.epoch_ends.items()
            if method is not None or any("outputs" in _asked(owner, EPOCH_ENDS[stem]) for owner in (*callbacks, module))
        }
        needed = {"on_train_batch_end"} if "training" in self.collected else set()
        self.idle_hooks = frozenset({"on_train_batch_start", "on_train_batch_end"} - needed - self.edges.keys())

    @property
    def is_needed(self) -> bool:
        return bool(self.edges or self.collected)

    def _edge(self, name: str, trainer: Any, *arguments: Any) -> None:
        for method in self.edges.get(name, ()):
            method(trainer, *arguments)

    def _collect(self, stem: str, outputs: Any, dataloader_idx: int = 0) -> None:
        if stem not in self.collected:
            return
        kept = self.outputs.setdefault(stem, [])
        while len(kept) <= dataloader_idx:
            kept.append([])
        kept[dataloader_idx].append(outputs)

    def _end(self, stem: str) -> None:
        method = self.epoch_ends[stem]
        if method is not None:
            log_returned(self.module, method(_of_loaders(self.outputs, stem)))

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
        self.outputs.pop("validation", None)
        self._edge("on_validation_epoch_start", trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._collect("validation", outputs, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("validation")
        self._edge("on_validation_epoch_end", trainer)

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.outputs.pop("test", None)
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
