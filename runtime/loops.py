"""The training loop: fit, train_epoch and one function per way to take a step. What they call was chosen in `run.py`.

A batch travels `Trainer.fit -> fit -> train_epoch -> automatic_step -> training_step`. The order of everything a user
can see is in docs/runtime-order.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import outputs
from .position import start_pass
from .profilers.base import FETCHES

if TYPE_CHECKING:
    from .run import TrainingRun


def fit(run: TrainingRun) -> None:
    """Trains until a limit is reached or someone asks to stop."""
    if run.nothing_to_do():
        return
    run.hooks.call("on_train_start")
    while not run.is_done():
        run.start_epoch()
        if not run.stops():  # the hooks at an epoch's start may ask to
            run.epoch_loop(run)  # train_epoch, unless the step fetches its batches itself
        run.end_epoch()
    run.hooks.call("on_train_end")


def train_epoch(run: TrainingRun) -> None:
    """One pass over the training data, or what is left of it."""
    state, results, take_step, to_device = run.state, run.results, run.take_step, run.to_device
    start_hooks, end_hooks = run.hooks["on_train_batch_start"], run.hooks["on_train_batch_end"]
    batches = run.trainer.profiler.fetched(FETCHES["train"], start_pass(run), run.num_batches)
    results.in_batches = True
    for batch_idx, batch in enumerate(batches, state.batches_done):
        state.batch_idx = batch_idx
        if to_device is not None:
            batch = to_device(batch)
        results.batch, results.batch_size = batch, None
        if batch is None:
            output = run.note_missing_batch()
        elif start_hooks and run.skips_rest_of_epoch(start_hooks, batch, batch_idx):
            return
        else:
            output = take_step(run, batch, batch_idx)
        if results.pending:
            run.store_compiled_logs()
        if run.schedulers.per_step and run.closes:
            run.schedulers.update("step")
        state.batches_done = batch_idx + 1
        state.total_batches += 1
        if end_hooks:
            state.hook = "on_train_batch_end"
            given = outputs.for_hooks(run, output)
            for hook in end_hooks:
                hook(given, batch, batch_idx)
        state.hook = results.batch = None
        if run.closes:
            if run.logs_steps and ((state.logged_steps + 1) % run.log_every == 0 or state.should_stop):
                run.write_step_metrics()
            state.logged_steps += 1
        if batch_idx + 1 == run.num_batches:
            continue  # to the pass's own end; what is due after the last batch is in `finish_pass`
        if run.has_due_checks or state.should_stop:
            run.check_batch(batch_idx)
        asked = state.should_stop or state.global_step >= run.max_steps or run.wants_out
        if asked and run.stops_within_epoch():
            return
    run.finish_pass()


def automatic_step(run: TrainingRun, batch: Any, batch_idx: int) -> Any:
    """Forward, zero, backward and step, as a plain loop has them; hooks only where somebody overrides them."""
    state = run.state
    state.hook = "training_step"
    output = run.training_step(batch, batch_idx)
    loss = output if type(output) is Tensor and run.window == 1 else outputs.read_loss(run, output)
    if run.opens:
        run.zero_grad()
    if loss is not None:
        if run.backward is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            run.backward(loss)
    if run.closes:
        if run.step is None:
            run.optimizer.step()
        else:
            run.step()
        state.global_step += 1
    return output


def accumulating_step(run: TrainingRun, batch: Any, batch_idx: int) -> Any:
    """`automatic_step` (or `closure_step`) where several batches share one optimizer step."""
    run.opens = batch_idx % run.window == 0
    run.closes = (batch_idx + 1) % run.window == 0 or batch_idx + 1 == run.num_batches
    if run.closes or not run.strategy.handles_sync:
        return run.window_step(run, batch, batch_idx)
    with run.strategy.block_backward_sync():
        return run.window_step(run, batch, batch_idx)


def closure_step(run: TrainingRun, batch: Any, batch_idx: int) -> Any:
    """For optimizers that evaluate the loss themselves (LBFGS) and modules that override `optimizer_step`."""
    output: Any = None
    was_called = False

    @torch.enable_grad()
    def closure() -> Tensor | None:
        nonlocal output, was_called
        was_called = True
        run.state.hook = "training_step"
        output = run.training_step(batch, batch_idx)
        loss = outputs.read_loss(run, output)
        if run.opens:
            run.zero_grad()
        if loss is None:
            return None
        if run.backward is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            run.backward(loss)
        return loss.detach()

    if not run.closes:
        closure()
        return output
    run.state.hook = "optimizer_step"
    run.module.optimizer_step(run.state.epoch, batch_idx, run.wrapped_optimizer, closure)
    if not was_called:
        run.refuse_uncalled_closure()
    run.state.global_step += 1
    return output


def manual_step(run: TrainingRun, batch: Any, batch_idx: int) -> Any:
    """The module's own step; `LightningOptimizer.step` counts."""
    run.state.hook = "training_step"
    return run.training_step(batch, batch_idx)
