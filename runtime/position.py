"""Where a run is in its data: a pass begun, noted for a checkpoint, taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .data import request
from .order import (
    advance,
    load_loader_state,
    loader_state,
    order_state,
    pass_state,
    restore_order,
    restore_pass,
    restore_streams,
    running_pass_state,
)
from .randomness import capture, isolate_rng, restore

if TYPE_CHECKING:
    from .run import TrainingRun
    from .state import RunningStage


def ask(run: TrainingRun, stage: RunningStage, is_due: bool) -> Any:
    """The loaders of a stage as the user gives them; asked for as the run that is taken up asked for them.

    A method that makes loaders may draw (a random split), and must draw the same again. `is_due`: those of that run
    are at their end, and new ones are asked for as things stand.
    """
    saved = None if is_due else run.made_before.pop(stage.value, None)
    run.made_before.pop(stage.value, None)
    run.made_in[stage.value] = capture() if saved is None else saved
    if saved is None:
        return request(run.trainer, stage)
    with isolate_rng():
        restore(saved)
        return request(run.trainer, stage)


def start_pass(run: TrainingRun) -> Iterator[Any]:
    """Begins, or takes up again, this epoch's one pass over the data."""
    assert run.loaders is not None
    loaders, saved, run.resume, state = run.loaders, run.resume, None, run.state
    source = loaders.given[0] if loaders.is_single else loaders.combined
    if saved is None:
        run.pass_start = pass_state(source)
        return _in_agreement(run, loaders.batches())
    run.pass_start = saved["data"]["pass_start"]
    batches: Iterator[Any] = iter(())
    if not state.epoch_closed and state.batches_done != run.num_batches:
        positions = saved["data"]["position"]
        if all(positions) and loaders.keep_their_place:
            for loader, place in zip(loaders.given, positions):
                load_loader_state(loader, place)
            batches = loaders.rest(state.batches_done)
        else:
            restore_pass(source, run.pass_start)
            batches = loaders.batches()
            advance(batches, state.batches_done)
        restore_orders(run, saved["data"], of_training=False)
    else:
        restore_orders(run, saved["data"])
    restore(saved["random"])
    if state.checked < state.batches_done != run.num_batches:
        run.check_batch(state.batch_idx)
    return _in_agreement(run, batches)


def _in_agreement(run: TrainingRun, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches, between which several processes agree on signals that they heard."""
    signals = run.trainer._signals
    if signals is None or not signals.shared:
        return batches

    def largest(numbers: list[float]) -> list[float]:
        reduced: Tensor = run.strategy.reduce(torch.tensor(numbers, dtype=torch.float64), reduce_op="max")
        return reduced.tolist()

    return signals.agreeing(batches, largest)


def position(run: TrainingRun) -> dict[str, Any]:
    """Where this process is in the data and in its random streams, for a checkpoint.

    Inside a validation it is the validation's start: that is where a resumed run begins again.
    """
    assert run.loaders is not None
    combined = run.loaders.combined
    start = run.validation_start if not run.state.validated else None
    data = {
        "pass_start": running_pass_state(combined, run.pass_start),
        "position": [loader_state(loader) for loader in run.loaders.given],
        "order": order_state(combined),
        "validation_order": validation_order(run) if start is None else start["order"],
    }
    data |= {"last_reload": run.last_reload, "validation_reload": run.validation.last_reload, "made_in": run.made_in}
    return {"random": capture() if start is None else start["random"], "data": data}


def validation_order(run: TrainingRun) -> dict[str, Any] | None:
    loaders = run.validation.loaders
    return order_state(loaders.combined) if loaders is not None else None


def restore_orders(run: TrainingRun, saved: dict[str, Any], of_training: bool = True) -> None:
    """Gives loaders with generators of their own these generators' states back."""
    if of_training and run.loaders is not None and saved["order"] is not None:
        restore_order(run.loaders.combined, saved["order"])
        restore_streams(run.loaders.given, saved["position"])
    if run.validation.loaders is not None and saved["validation_order"] is not None:
        restore_order(run.validation.loaders.combined, saved["validation_order"])
