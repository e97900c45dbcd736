"""`self.log`: keeps detached values, reduces them, and reads them only when something is due to be shown or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .errors import MisconfigurationException, PossibleUserWarning, WarningCache

if TYPE_CHECKING:
    from .results import Results

Number = int | float
Options = tuple[Any, ...]

_said = WarningCache()

REDUCTIONS: dict[Any, str] = {
    "mean": "mean", "avg": "mean", torch.mean: "mean",
    "sum": "sum", torch.sum: "sum", sum: "sum",
    "max": "max", torch.max: "max", max: "max",
    "min": "min", torch.min: "min", min: "min",
}  # fmt: skip

# Where `self.log` may be called. BATCH hooks decide between step and epoch, EDGE hooks can only mean the epoch.
_TRAIN_BATCH_HOOKS = frozenset({
    "training_step", "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward",
    "on_after_backward", "on_before_optimizer_step", "optimizer_step", "backward", "optimizer_zero_grad",
    "configure_gradient_clipping",
})  # fmt: skip
_EVAL_BATCH_HOOKS = frozenset(
    name.format(stage)
    for stage in ("validation", "test")
    for name in ("{}_step", "on_{}_batch_start", "on_{}_batch_end")
)
_EDGE_HOOKS = frozenset(
    {"on_train_start", "on_train_epoch_start", "on_train_epoch_end"}
    | {f"on_{stage}_{edge}" for stage in ("validation", "test") for edge in ("start", "epoch_start", "epoch_end")}
)


def logging_levels(hook: str, on_step: bool | None, on_epoch: bool | None) -> tuple[bool, bool]:
    """The `on_step` and `on_epoch` that hold in a hook, its defaults filled in.

    Raises:
        MisconfigurationException: the hook cannot log, or not in this way.
    """
    if hook in _TRAIN_BATCH_HOOKS:
        step, epoch = (True, False)
    elif hook in _EVAL_BATCH_HOOKS or hook in _EDGE_HOOKS:
        step, epoch = (False, True)
    else:
        raise MisconfigurationException(
            f"You can't `self.log()` inside `{hook}`. HINT: You can still log directly to the logger by using"
            " `self.logger.experiment`."
        )
    step = step if on_step is None else on_step
    epoch = epoch if on_epoch is None else on_epoch
    if hook in _EDGE_HOOKS and (step or not epoch):
        wrong, allowed = (f"on_step={step}", (False,)) if step else (f"on_epoch={epoch}", (True,))
        raise MisconfigurationException(f"You can't `self.log({wrong})` inside `{hook}`, must be one of {allowed}.")
    if not step and not epoch:
        raise MisconfigurationException("`self.log(on_step=False, on_epoch=False)` is not useful.")
    return step, epoch


def is_metric(value: object) -> bool:
    """Whether a value is a torchmetrics object, asked without importing torchmetrics."""
    return isinstance(value, torch.nn.Module) and hasattr(value, "compute") and hasattr(value, "_forward_cache")


def default_dtype() -> torch.dtype:
    """What logged numbers become: torch's default, but no less than float32."""
    dtype = torch.get_default_dtype()
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def _batch_sizes(batch: Any) -> Iterator[int]:
    if isinstance(batch, Tensor):
        yield batch.size(0) if batch.ndim else 1
    elif isinstance(batch, (str, bytes)):
        return  # a text's length says nothing of the batch
    elif isinstance(batch, (Mapping, list, tuple)):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _batch_sizes(part)
    elif is_dataclass(batch) and not isinstance(batch, type):
        for field in fields(batch):
            yield from _batch_sizes(getattr(batch, field.name))
    elif hasattr(batch, "__iter__") and hasattr(batch, "__len__"):
        for part in batch:
            yield from _batch_sizes(part)


def extract_batch_size(batch: Any) -> int:
    """The size of the first dimension of the first tensor in a batch.

    Raises:
        MisconfigurationException: the batch holds no tensor.
    """
    message = (
        "We could not infer the batch_size from the batch. Either simplify its structure or provide the batch_size"
        " as `self.log(..., batch_size=batch_size)`."
    )
    size: int | None = None
    try:
        for found in _batch_sizes(batch):
            if size is None:
                size = found
            elif size != found:
                _said.warn(
                    "Trying to infer the `batch_size` from an ambiguous collection. The batch size we"
                    f" found is {size}. To avoid any miscalculations, use `self.log(..., batch_size=batch_size)`.",
                    category=PossibleUserWarning,
                )
                break
    except RecursionError:
        raise RecursionError(message) from None
    if size is None:
        raise MisconfigurationException(message)
    return size


# What a checkpoint keeps of an entry: how it was declared, and its sums.
DECLARED = (
    "hook", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "dataloader_idx", "suffix",
    "attribute",
)  # fmt: skip
_SUMS = ("last", "total", "weight", "fresh", "dtype")
_REDUCED = (torch.float32, torch.float64)


class Entry:
    """One logged name of one hook, and what has been logged under it since the last reset."""

    __slots__ = (
        "add",
        "attribute",
        "computed",
        "dataloader_idx",
        "dtype",
        "enable_graph",
        "epoch_name",
        "fresh",
        "hook",
        "last",
        "logger",
        "metric",
        "name",
        "on_epoch",
        "on_step",
        "options",
        "plain_name",
        "prog_bar",
        "reduction",
        "step_name",
        "suffix",
        "sync",
        "total",
        "weight",
    )  # fmt: skip

    def __init__(
        self,
        hook: str,
        name: str,
        options: Options | None,
        *,
        prog_bar: bool,
        logger: bool,
        on_step: bool,
        on_epoch: bool,
        reduce_fx: Any,
        enable_graph: bool,
        dataloader_idx: int | None,
        suffix: str,
        sync: Callable[[Tensor], Tensor] | None,
        metric: Any = None,
        attribute: str | None = None,
    ) -> None:
        key = reduce_fx.lower() if isinstance(reduce_fx, str) else reduce_fx
        if key not in REDUCTIONS:
            raise MisconfigurationException(
                "Only `self.log(..., reduce_fx={min,max,mean,sum})` are supported."
                " If you need a custom reduction, please log a `torchmetrics.Metric` instance instead."
                f" Found: {reduce_fx}"
            )
        self.hook, self.name, self.options = hook, name, options
        self.prog_bar, self.logger, self.on_step, self.on_epoch = prog_bar, logger, on_step, on_epoch
        self.reduction = REDUCTIONS[key]
        self.enable_graph, self.dataloader_idx, self.suffix, self.sync = enable_graph, dataloader_idx, suffix, sync
        self.metric, self.attribute = metric, attribute
        forked = on_step and on_epoch
        self.plain_name = name + suffix
        self.step_name = f"{name}_step{suffix}" if forked else self.plain_name
        self.epoch_name = f"{name}_epoch{suffix}" if forked else self.plain_name
        self.add: Callable[[Any, Number | None, Results], None]
        if metric is not None:
            self.add = self._add_metric
        elif on_step and not on_epoch and sync is None and not enable_graph:
            self.add = self._keep_last
        else:
            self.add = self._accumulate
        self._clear()

    def reset(self) -> None:
        """Forgets the values; a torchmetrics object is reset with them."""
        self._clear()
        if self.metric is not None:
            self.metric.reset()

    def _clear(self) -> None:
        self.last: Any = None
        self.total: Any = None
        self.weight: Number = 0
        self.computed: Tensor | None = None
        self.fresh = False
        self.dtype: torch.dtype | None = None  # of a tensor that is kept as a number

    def _keep_last(self, value: Any, batch_size: Number | None, results: Results) -> None:
        if type(value) is Tensor and value.is_cpu:
            self.dtype = value.dtype
            self.last = self._number(value)
        else:
            self.last = self._kept(value)
        self.fresh = True

    def _accumulate(self, value: Any, batch_size: Number | None, results: Results) -> None:
        if type(value) is Tensor and value.is_cpu and self.sync is None and not self.enable_graph:
            self.dtype = value.dtype if value.dtype in _REDUCED else self._reduced_dtype(value)
            value = self._number(value)
        else:
            value = self._kept(value)
            if isinstance(value, Tensor) and value.dtype not in _REDUCED:
                value = value.to(self._reduced_dtype(value))
        self.fresh = True
        if self.on_step:
            self.last = value if self.sync is None else self.sync(self._tensor(value, results).clone())
        if not self.on_epoch:
            return
        self.computed = None
        if self.reduction == "mean":
            if batch_size is None:
                batch_size = results.current_batch_size()
            if self.total is None:
                self.total = value * batch_size
            elif isinstance(value, Tensor):
                self.total = torch.add(self._tensor(self.total, results), value, alpha=batch_size)
            else:
                self.total = self.total + value * batch_size
            self.weight += batch_size
        elif self.total is None:
            self.total = value
        elif self.reduction == "sum":
            self.total = self.total + value
        else:
            pick = torch.maximum if self.reduction == "max" else torch.minimum
            self.total = pick(self._tensor(self.total, results), self._tensor(value, results))

    def _number(self, value: Tensor) -> Number:
        """A tensor in memory as a number: that is exact, and costs a tenth of a copy."""
        try:
            number: Number = value.item()
        except RuntimeError:
            raise _no_scalar(self.name, value) from None
        return number

    def _kept(self, value: Any) -> Any:
        """A value as it is now; the copy stays so when `loss += other` changes the tensor after the call."""
        if isinstance(value, Tensor):
            value = value.clone() if self.enable_graph else value.detach().clone()
            if value.numel() != 1:
                raise _no_scalar(self.name, value)
            return value.squeeze()
        if type(value) is not float and type(value) is not int:
            check_loggable(self.name, value)
        self.dtype = None
        return value

    def _tensor(self, value: Any, results: Results) -> Tensor:
        if isinstance(value, Tensor):
            return value
        return torch.tensor(value, dtype=self.dtype or default_dtype(), device=results.device)

    def _add_metric(self, value: Any, batch_size: Number | None, results: Results) -> None:
        self.metric = value
        self.last = value._forward_cache
        self.computed = None
        self.fresh = True

    def _reduced_dtype(self, value: Tensor) -> torch.dtype:
        """What a value becomes that is neither float32 nor float64."""
        if not value.is_floating_point():
            _said.warn(
                f"You called `self.log({self.name!r}, ...)` in your `{self.hook}` but the value needs to"
                f" be floating to be reduced. Converting it to {default_dtype()}."
                " You can silence this warning by converting the value to floating point yourself."
                " If you don't intend to reduce the value (for instance when logging the global step or epoch) then"
                f" you can use `self.logger.log_metrics({{{self.name!r}: ...}})` instead."
            )
        return default_dtype()

    def step_value(self, results: Results) -> Any:
        """The last value, when this name is logged per step."""
        if not self.on_step or self.last is None:
            return None
        if self.metric is not None:
            return self.last
        value = self._tensor(self.last, results)
        if value.dtype not in _REDUCED:
            value = value.to(self._reduced_dtype(value))
        self.last = value
        return value

    def epoch_value(self, results: Results) -> Any:
        """The reduced value, when this name is logged per epoch; computed once until the next `add`."""
        if not self.on_epoch:
            return None
        if self.computed is None:
            if self.metric is not None:
                self.computed = self.metric.compute()
            elif self.total is not None:
                self.computed = self._reduced(results)
        value = self.computed
        if value is not None and not isinstance(value, Tensor):
            raise ValueError(
                f"The `.compute()` return of the metric logged as {self.name!r} must be a tensor. Found {value}"
            )
        return value if value is None or self.enable_graph else value.detach()

    def _reduced(self, results: Results) -> Tensor:
        weight: Any = self.weight
        if self.sync is None and not isinstance(self.total, Tensor):
            total = torch.tensor(self.total, dtype=torch.float64, device=results.device)  # rounded once, at the end
        else:
            total = self._tensor(self.total, results)
        if self.sync is not None:
            total = self.sync(total.clone())
            if self.reduction == "mean":
                weight = self.sync(torch.tensor(float(weight), device=total.device))
        reduced = total / weight if self.reduction == "mean" else total
        return reduced if isinstance(self.total, Tensor) else reduced.to(self.dtype or default_dtype())

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: getattr(self, name) for name in (*DECLARED, *_SUMS)}
        if self.metric is not None:
            names = self.metric._defaults
            state["metric"] = {name: getattr(self.metric, name) for name in names}
            state["metric_updates"] = self.metric._update_count
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in _SUMS:
            setattr(self, name, state[name])
        self.computed = None
        if self.metric is not None and "metric" in state:
            for name, value in state["metric"].items():
                setattr(self.metric, name, value)
            self.metric._update_count = state["metric_updates"]


def check_loggable(name: str, value: Any) -> None:
    """Refuses what cannot be logged.

    Raises:
        ValueError: it is neither a number nor a tensor nor a metric.
    """
    is_dict = isinstance(value, Mapping)
    if is_dict and any(isinstance(part, Mapping) for part in value.values()):
        raise ValueError(f"`self.log({name}, {value})` was called, but nested dictionaries cannot be logged")
    for part in value.values() if is_dict else (value,):
        if not isinstance(part, (int, float, Tensor)) and not hasattr(part, "__float__") and not is_metric(part):
            raise ValueError(
                f"`self.log({name}, {value})` was called, but `{type(part).__name__}` values cannot be logged"
            )
    if isinstance(value, Tensor) and value.is_complex():
        raise ValueError(f"`self.log({name}, {value})` was called, but complex values cannot be logged; take `abs()`.")
    if is_dict:
        raise ValueError(
            f"`self.log({name}, {value})` was called, but `dict` values cannot be logged; use `self.log_dict`"
        )


def _no_scalar(name: str, value: Tensor) -> ValueError:
    return ValueError(
        f"`self.log({name}, {value})` was called, but the tensor must have a single element."
        f" You can try doing `self.log({name}, {value}.mean())`"
    )
