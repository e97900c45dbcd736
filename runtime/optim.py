"""What `configure_optimizers` may return, brought into one form; the optimizer that manual steps see."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from .errors import MisconfigurationException, rank_zero_warn

if TYPE_CHECKING:
    from .module import LightningModule
    from .trainer import Trainer


class GradClipAlgorithmType(str, Enum):
    """How `gradient_clip_val` is meant."""

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(value: str) -> bool:
        return value in GradClipAlgorithmType.supported_types()

    @staticmethod
    def supported_types() -> list[str]:
        return [kind.value for kind in GradClipAlgorithmType]


@dataclass
class LRSchedulerConfig:
    """One scheduler and when the Trainer steps it."""

    scheduler: Any
    name: str | None = None
    interval: Literal["epoch", "step"] = "epoch"
    frequency: int = 1
    reduce_on_plateau: bool = False
    monitor: str | None = None
    strict: bool = True


_CONFIG_KEYS = frozenset(field.name for field in fields(LRSchedulerConfig))
_MANUAL_IGNORES = ("reduce_on_plateau", "monitor", "strict")


class NoOptimizer(Optimizer):
    """Stands in when `configure_optimizers` returns None: trains nothing."""

    def __init__(self) -> None:
        super().__init__([torch.zeros(1)], {})

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return closure() if closure is not None else None

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    def __repr__(self) -> str:
        return "No Optimizer"


def _is_optimizer(value: object) -> bool:
    # A duck is enough: wrappers of optimizers need not derive from torch's class.
    return isinstance(value, (Optimizer, LightningOptimizer)) or (
        hasattr(value, "param_groups") and hasattr(value, "step") and hasattr(value, "state_dict")
    )


def normal_form(configured: Any, module: LightningModule) -> tuple[list[Any], list[LRSchedulerConfig]]:
    """Brings a return value of `configure_optimizers` into lists of optimizers and schedulers.

    Raises:
        MisconfigurationException: the value has none of the documented forms.
    """
    if configured is None:
        rank_zero_warn("`LightningModule.configure_optimizers` returned `None`, this fit will run with no optimizer")
        configured = NoOptimizer()
    optimizers, schedulers, monitor = _split(configured)
    # The user may hand back what `self.optimizers()` gave.
    optimizers = [opt.optimizer if isinstance(opt, LightningOptimizer) else opt for opt in optimizers]
    read = _automatic_config if module.automatic_optimization else _manual_config
    configs = [read(scheduler, monitor) for scheduler in schedulers]
    takes_index = "optimizer_idx" in inspect.signature(module.training_step).parameters
    if takes_index or (module.automatic_optimization and len(optimizers) > 1):
        remove = " Remove the `optimizer_idx` argument from `training_step`." if takes_index else ""
        raise RuntimeError(
            f"Training with multiple optimizers is only supported with manual optimization.{remove}"
            " Set `self.automatic_optimization = False`, then access your optimizers in `training_step` with"
            " `opt1, opt2, ... = self.optimizers()`."
        )
    if module.automatic_optimization and not optimizers:
        raise MisconfigurationException(
            "`configure_optimizers` returned no optimizer. Return None to fit without one, or set"
            " `self.automatic_optimization = False` to step by yourself."
        )
    for config in configs:
        if config.scheduler is None or isinstance(config.scheduler, (list, tuple)):
            raise MisconfigurationException(
                f"`configure_optimizers` returned {config.scheduler!r} in place of an lr scheduler."
                " Leave it out where there is none; several go into a list: `return [optimizer], [scheduler1, ...]`."
            )
        if getattr(config.scheduler, "optimizer", None) not in optimizers:
            raise MisconfigurationException(
                "Some schedulers are attached with an optimizer that wasn't returned from `configure_optimizers`."
            )
    return optimizers, configs


def _split(configured: Any) -> tuple[list[Any], list[Any], str | None]:
    if _is_optimizer(configured):
        return [configured], [], None
    if isinstance(configured, Mapping):
        _check_keys(configured)
        schedulers = [configured["lr_scheduler"]] if "lr_scheduler" in configured else []
        return [configured["optimizer"]], schedulers, configured.get("monitor")
    if isinstance(configured, (list, tuple)):
        if (
            len(configured) == 2
            and isinstance(configured[0], list)
            and all(_is_optimizer(opt) for opt in configured[0])
        ):
            schedulers = configured[1] if isinstance(configured[1], list) else [configured[1]]
            return list(configured[0]), list(schedulers), None
        if configured and all(isinstance(part, Mapping) for part in configured):
            for part in configured:
                _check_keys(part)
            listed = [part["lr_scheduler"] for part in configured if "lr_scheduler" in part]
            as_dicts = [dict(s) if isinstance(s, Mapping) else {"scheduler": s} for s in listed]
            return [part["optimizer"] for part in configured], as_dicts, None
        if all(_is_optimizer(opt) for opt in configured):
            return list(configured), [], None
    raise MisconfigurationException(
        "Unknown configuration for model optimizers."
        " Output from `model.configure_optimizers()` should be one of:\n"
        " * `Optimizer`\n"
        " * [`Optimizer`]\n"
        " * ([`Optimizer`], [`LRScheduler`])\n"
        ' * {"optimizer": `Optimizer`, (optional) "lr_scheduler": `LRScheduler`}\n'
    )


def _check_keys(configured: Mapping[str, Any]) -> None:
    if "optimizer" not in configured:
        raise MisconfigurationException(
            f'`configure_optimizers` returned a dict without the key "optimizer"; it has {sorted(configured)}.'
        )
    extra = configured.keys() - {"optimizer", "lr_scheduler", "monitor", "frequency"}
    if extra:
        rank_zero_warn(f"Found unsupported keys in the optimizer configuration: {set(extra)}", category=RuntimeWarning)


def _automatic_config(scheduler: Any, monitor: str | None) -> LRSchedulerConfig:
    if not isinstance(scheduler, Mapping):
        if not isinstance(scheduler, ReduceLROnPlateau):
            return LRSchedulerConfig(scheduler)
        if monitor is None:
            raise MisconfigurationException(
                "`configure_optimizers` must include a monitor when a `ReduceLROnPlateau`"
                " scheduler is used. For example:"
                ' {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "metric_to_track"}'
            )
        return LRSchedulerConfig(scheduler, reduce_on_plateau=True, monitor=monitor)
    given = _known_keys(scheduler)
    if given.get("interval", "epoch") not in ("step", "epoch"):
        raise MisconfigurationException(
            f'The "interval" key in lr scheduler dict must be "step" or "epoch" but is "{given["interval"]}"'
        )
    given.setdefault("reduce_on_plateau", isinstance(given["scheduler"], ReduceLROnPlateau))
    if given["reduce_on_plateau"] and given.get("monitor") is None:
        raise MisconfigurationException(
            "The lr scheduler dict must include a monitor when a `ReduceLROnPlateau` scheduler is used."
            ' For example: {"optimizer": optimizer, "lr_scheduler":'
            ' {"scheduler": scheduler, "monitor": "your_loss"}}'
        )
    if isinstance(given["scheduler"], OneCycleLR) and given.get("interval", "epoch") == "epoch":
        rank_zero_warn(
            "A `OneCycleLR` scheduler is using 'interval': 'epoch'. Are you sure you didn't mean 'interval': 'step'?",
            category=RuntimeWarning,
        )
    return LRSchedulerConfig(**given)


def _known_keys(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    extra = scheduler.keys() - _CONFIG_KEYS
    if extra:
        rank_zero_warn(
            f"Found unsupported keys in the lr scheduler dict: {extra}."
            " HINT: remove them from the output of `configure_optimizers`.",
            category=RuntimeWarning,
        )
    if "scheduler" not in scheduler:
        raise MisconfigurationException(
            'The lr scheduler dict must have the key "scheduler" with its item being an lr scheduler'
        )
    frequency = scheduler.get("frequency", 1)
    if not isinstance(frequency, int) or frequency < 1:
        raise MisconfigurationException(
            f'The "frequency" key in lr scheduler dict must be an int of at least 1 but is {frequency!r}'
        )
    return {key: value for key, value in scheduler.items() if key in _CONFIG_KEYS}


def _manual_config(scheduler: Any, monitor: str | None) -> LRSchedulerConfig:
    if not isinstance(scheduler, Mapping):
        return LRSchedulerConfig(scheduler)
    ignored = [key for key in scheduler if key in _MANUAL_IGNORES]
    if ignored:
        rank_zero_warn(
            f"The lr scheduler dict contains the key(s) {ignored}, but the keys will be ignored."
            " You need to call `lr_scheduler.step()` manually in manual optimization.",
            category=RuntimeWarning,
        )
    known = _known_keys(scheduler)
    return LRSchedulerConfig(**{key: value for key, value in known.items() if key not in _MANUAL_IGNORES})


def check_schedulers(configs: list[LRSchedulerConfig], steps_itself: bool) -> None:
    """Refuses schedulers that cannot be saved, or that the Trainer does not know how to step.

    Args:
        configs: the schedulers of a run.
        steps_itself: the module steps them, by hand or in `lr_scheduler_step`.
    """
    for config in configs:
        kind = type(config.scheduler).__name__
        if not hasattr(config.scheduler, "state_dict") or not hasattr(config.scheduler, "load_state_dict"):
            raise TypeError(
                f"The provided lr scheduler `{kind}` is invalid."
                " It should have `state_dict` and `load_state_dict` methods defined."
            )
        if not steps_itself and not isinstance(config.scheduler, (LRScheduler, ReduceLROnPlateau)):
            raise MisconfigurationException(
                f"The provided lr scheduler `{kind}` doesn't follow PyTorch's LRScheduler"
                " API. You should override the `LightningModule.lr_scheduler_step` hook with your own logic if"
                " you are using a custom LR scheduler."
            )


def needs_closure(optimizer: Any) -> bool:
    """Whether `optimizer.step` is to evaluate the loss itself.

    torch's own do where the closure is required (LBFGS). Others may use an optional closure for more than the loss
    (SAM), so they get one if their code looks at it.
    """
    step = inspect.unwrap(type(optimizer).step)
    closure = inspect.signature(step).parameters.get("closure")
    if closure is None or closure.default is inspect.Parameter.empty:
        return closure is not None
    if step.__module__.startswith("torch.") or not hasattr(step, "__code__"):
        return False
    return any(
        instruction.argval == "closure" and instruction.opname.startswith("LOAD")
        for instruction in dis.get_instructions(step)
    )


class LightningOptimizer:
    """What `self.optimizers()` returns: the optimizer, with `step` counted and hooks around it."""

    def __init__(self, optimizer: Optimizer, trainer: Trainer | None = None) -> None:
        self._optimizer = optimizer
        self._trainer = trainer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The optimizer's class, so that `isinstance` finds what torch's schedulers and scripts ask for."""
        return type(self._optimizer)

    def __reduce__(self) -> tuple[Any, ...]:
        return LightningOptimizer, (self._optimizer,)  # a copy belongs to no run

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer itself."""
        return self._optimizer

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Steps the optimizer; with a closure, the hooks before the step run after the closure did."""
        if closure is not None and not callable(closure):
            raise MisconfigurationException("When `optimizer.step(closure)` is called, the closure should be callable")
        training = self._trainer._training if self._trainer is not None else None
        if training is None:
            return self._optimizer.step(closure, **kwargs) if closure else self._optimizer.step(**kwargs)
        return training.optimization.step(self._optimizer, closure, **kwargs)

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Generator[None, None, None]:
        """Only this optimizer's parameters require gradients inside; no gradient sync when `sync_grad` is False."""
        assert self._trainer is not None
        module = self._trainer.lightning_module
        strategy = self._trainer.strategy
        module.toggle_optimizer(self)
        try:
            if sync_grad or not strategy.handles_sync:
                yield
            else:
                with strategy.block_backward_sync():
                    yield
        finally:
            module.untoggle_optimizer(self)

    def __getattr__(self, name: str) -> Any:
        if name == "_optimizer":  # not there yet while a copy is being made
            raise AttributeError(name)
        return getattr(self._optimizer, name)

    def __repr__(self) -> str:
        return f"Lightning{self._optimizer!r}"
