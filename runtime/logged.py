"""The way of a logged value: taken in when its name comes first, brought from a compiled step, sent to the loggers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .entries import REDUCTIONS, Entry, check_loggable, is_metric, logging_levels
from .errors import MisconfigurationException, rank_zero_warn
from .results import Results
from .state import TrainerFn

if TYPE_CHECKING:
    from .module import LightningModule
    from .trainer import Trainer

SECONDS_BETWEEN_SAVES = 2.0  # of what loggers hold in memory


def take_in(
    module: LightningModule,
    name: str,
    value: Any,
    options: tuple[Any, ...],
    batch_size: int | None,
    metric_attribute: str | None,
) -> None:
    """Checks a name that is logged for the first time in a loop, and keeps its value."""
    prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, group, add_idx, rank_zero = options
    check_loggable(name, value)
    results = _collection(module, on_step, on_epoch)
    if results is None:
        return
    trainer, hook = module.trainer, results.state.hook
    assert hook is not None
    on_step, on_epoch = logging_levels(hook, on_step, on_epoch)
    if add_idx and "/dataloader_idx_" in name:
        raise MisconfigurationException(
            f"You called `self.log` with the key `{name}`"
            " but it should not contain information about `dataloader_idx` when `add_dataloader_idx=True`"
        )
    if is_metric(value):
        metric_attribute = _name_of_metric(module, name, value, metric_attribute)
    if logger and trainer.logger is None:
        rank_zero_warn(
            f"You called `self.log({name!r}, ..., logger=True)` but have no logger configured. You can enable one"
            " by doing `Trainer(logger=ALogger(...))`"
        )
    index = results.dataloader_idx
    suffix = f"/dataloader_idx_{index}" if add_idx and index is not None else ""
    entry = Entry(
        hook,
        name,
        options,
        prog_bar=prog_bar,
        logger=logger is None or logger,
        on_step=on_step,
        on_epoch=on_epoch,
        reduce_fx=reduce_fx,
        enable_graph=enable_graph,
        dataloader_idx=index,
        suffix=suffix,
        sync=_sync_of(trainer, reduce_fx, group) if sync_dist and not rank_zero else None,
        metric=value if is_metric(value) else None,
        attribute=metric_attribute,
    )
    results.declare(entry, (hook, name, index if add_idx else None)).add(value, batch_size, results)


def _collection(module: LightningModule, on_step: bool | None, on_epoch: bool | None) -> Results | None:
    """Where the hook that runs now may log to; None, with a warning, where nobody asks for it."""
    trainer = module._trainer
    if trainer is None:
        rank_zero_warn(
            "You are trying to `self.log()` but the `self.trainer` reference is not registered on the model yet."
            " This is most likely because the model hasn't been passed to the `Trainer`"
        )
        return None
    if trainer.barebones:
        rank_zero_warn(
            "You are trying to `self.log()` but `Trainer(barebones=True)` is configured."
            " Logging can impact raw speed so it is disabled under this setting."
        )
        return None
    results, hook = trainer._results, trainer.run.hook
    if results is None and hook is not None and not trainer.predicting:
        logging_levels(hook, on_step, on_epoch)  # says that this hook never logs
    if results is None:
        raise MisconfigurationException(
            "You are trying to `self.log()` but the loop's result collection is not registered"
            " yet. This is most likely because you are trying to log in a `predict` hook,"
            " but it doesn't support logging"
        )
    if hook is None:
        raise MisconfigurationException(
            "You are trying to `self.log()` but it is not managed by the `Trainer` control flow"
        )
    return results


def _name_of_metric(module: LightningModule, name: str, metric: Any, attribute: str | None) -> str:
    if attribute is not None:
        return attribute
    found = next((name for name, part in module.named_modules() if part is metric), None)
    if found is not None:
        return found
    message = "Could not find the `LightningModule` attribute for the `torchmetrics.Metric` logged."
    known = [name for name, part in module.named_modules() if is_metric(part)]
    if not known:
        raise MisconfigurationException(
            f"{message} You can fix this by setting an attribute for the metric in your `LightningModule`."
        )
    raise MisconfigurationException(
        f"{message} You can fix this by calling `self.log({name}, ..., metric_attribute=name)` where `name` is"
        f" one of {known}"
    )


def _sync_of(trainer: Trainer, reduce_fx: Any, group: Any) -> Callable[[Tensor], Tensor] | None:
    if trainer.world_size == 1:
        return None
    return functools.partial(trainer.strategy.reduce, group=group, reduce_op=REDUCTIONS[reduce_fx])


def store_pending(module: LightningModule, results: Results) -> None:
    """Takes in what a compiled step logged."""
    pending, results.pending = results.pending, []
    for name, value, options, batch_size in pending:
        prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, add_idx, rank_zero = options
        module.log(
            name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, add_idx,
            batch_size,  # type: ignore[arg-type]
            rank_zero_only=rank_zero,
        )  # fmt: skip


def write_metrics(trainer: Trainer, metrics: dict[str, Tensor], step: int | None = None) -> None:
    """Sends metrics to the loggers; a metric called `step` is the x axis."""
    if not trainer.loggers or not metrics:
        return
    trainer._board.logged.update(metrics)
    scalars: dict[str, Any] = {name: value.item() for name, value in metrics.items()}
    if step is None:
        given = scalars.pop("step", None)
        if given is None:
            scalars.setdefault("epoch", trainer.current_epoch)
            step = x_axis(trainer)
        else:
            step = int(given)
    now = time.monotonic()
    saves = now >= trainer._next_save  # writing to disk costs more than a step; `finalize` writes the rest
    for logger in trainer.loggers:
        logger.log_metrics(metrics=scalars, step=step)
        if saves:
            logger.save()
    if saves:
        trainer._next_save = now + SECONDS_BETWEEN_SAVES


def is_due(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a callback logs at this batch, by `log_every_n_steps`: of training, or the batches of an evaluation."""
    every, before = trainer.log_every_n_steps, trainer.run.logged_steps if trainer.training else batch_idx
    return bool(trainer.loggers) and every > 0 and ((before + 1) % every == 0 or trainer.should_stop)


def x_axis(trainer: Trainer) -> int:
    """The accumulation windows closed before this moment; for a validation in `fit`, before the batch it follows."""
    training = trainer._training
    follows = trainer.state.fn is TrainerFn.FITTING and trainer.validating and training is not None and training.closes
    return trainer.run.logged_steps - follows


def is_metric_collection(value: object) -> bool:
    """Whether a value is a torchmetrics MetricCollection, asked without importing torchmetrics."""
    return isinstance(value, torch.nn.ModuleDict) and hasattr(value, "compute") and hasattr(value, "keys")
