"""Steps that take `dataloader_iter` and fetch their batches themselves, several at a time if they like."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import outputs
from .position import start_pass
from .profilers.base import FETCHES

if TYPE_CHECKING:
    from .run import TrainingRun

ARGUMENT = "dataloader_iter"


def is_wanted(step: Callable[..., Any]) -> bool:
    """Whether a step takes the iterator in place of a batch."""
    return ARGUMENT in inspect.signature(step).parameters


class BatchIterator:
    """Yields ``(batch, batch_idx, dataloader_idx)`` and remembers the last, which is what hooks get."""

    def __init__(
        self,
        batches: Iterator[Any],
        length: int | float,
        to_device: Callable[[Any], Any] | None,
        index: int = 0,
        before: BatchIterator | None = None,
    ) -> None:
        self.batches, self.length, self.to_device, self.index = batches, length, to_device, index
        self.fetched = 0
        # Until the first batch is fetched, hooks get the last one of the loader before.
        self.batch: Any = before.batch if before is not None else None
        self.batch_idx: int = before.batch_idx if before is not None else 0
        self.dataloader_idx: int = before.dataloader_idx if before is not None else 0

    @property
    def done(self) -> bool:
        """Whether all batches that the loader promised have been fetched."""
        return self.fetched >= self.length

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> tuple[Any, int, int]:
        if self.done:
            raise StopIteration
        batch = next(self.batches)
        self.batch = batch if self.to_device is None else self.to_device(batch)
        self.batch_idx, self.dataloader_idx = self.fetched, self.index
        self.fetched += 1
        return self.batch, self.batch_idx, self.dataloader_idx


def train_epoch(run: TrainingRun) -> None:
    """`loops.train_epoch` for such a step: one call per step, until the batches are used up."""
    state, results, hooks = run.state, run.results, run.hooks
    batches = run.trainer.profiler.fetched(FETCHES["train"], start_pass(run), run.num_batches)
    iterator = BatchIterator(batches, run.num_batches, run.to_device)
    iterator.fetched = state.batches_done
    while not iterator.done:
        results.start_batch(iterator.batch)
        start_hooks = hooks["on_train_batch_start"]
        if start_hooks and run.skips_rest_of_epoch(start_hooks, iterator.batch, iterator.batch_idx):
            return
        try:
            output = run.take_step(run, iterator, iterator.batch_idx)
        except StopIteration:
            break
        state.batch_idx = iterator.batch_idx
        if run.schedulers.per_step and run.closes:
            run.schedulers.update("step")
        state.batches_done = iterator.fetched
        state.total_batches += 1
        state.hook = "on_train_batch_end"
        given = outputs.for_hooks(run, output)
        for hook in hooks["on_train_batch_end"]:
            hook(given, iterator.batch, iterator.batch_idx)
        state.hook = results.batch = None
        if run.closes:
            if run.logs_steps and ((state.logged_steps + 1) % run.log_every == 0 or state.should_stop):
                run.write_step_metrics()
            state.logged_steps += 1
        if iterator.done:
            break
        run.check_batch(state.batch_idx)
        if run.stops_within_epoch():
            return
    run.finish_pass()
