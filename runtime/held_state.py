"""The state that a checkpoint holds, noted before hooks that are called a second time and put back after them.

An epoch that is taken up in its middle had its hooks of the start in the process before. They are called again for what
they make in this one (a list, a running sum); what they change of the state (a rate, a counter, a cleared buffer), they
had changed already.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from .callbacks.base import Callback
from .hooks import is_overridden

if TYPE_CHECKING:
    from .run import TrainingRun


@contextmanager
def put_back_after(run: TrainingRun, hook: str) -> Iterator[None]:
    """Puts weights, optimizers, schedulers, counters, sums and the states of callbacks that have `hook` back."""
    trainer, saved = run.trainer, run.resume
    assert saved is not None
    weights = _copies(torch.nn.Module.state_dict(run.module))
    optimizers = [(optimizer, _groups(optimizer), _states(optimizer)) for optimizer in trainer.optimizers]
    owners: list[Any] = [config.scheduler for config in trainer.lr_scheduler_configs]
    owners += [each for each in trainer.callbacks if is_overridden(hook, each, Callback) and each.state_dict()]
    states = [(owner, copy.deepcopy(owner.state_dict())) for owner in owners]
    yield
    _copy_back(weights)
    for optimizer, groups, own in optimizers:
        _put_back(optimizer, groups, own)
    for owner, state in states:
        owner.load_state_dict(state)
    run.state.load_state_dict(saved["run"])
    run.results.entries.clear()
    run.results.load_state_dict(saved["results"], run.module)
    trainer._board.callback.update(saved["metrics"])


Copies = list[tuple[Tensor, Tensor]]


def _copies(named: dict[Any, Any]) -> Copies:
    """Tensors with their values. In main memory: there may be no room for both on a device."""
    tensors = [_local(value) for value in named.values() if isinstance(value, Tensor) and not is_lazy(value)]
    return [(tensor, tensor.to("cpu", copy=True)) for tensor in tensors]


def _copy_back(copies: Copies) -> None:
    with torch.no_grad():
        for tensor, value in copies:
            tensor.copy_(value)


def _local(tensor: Tensor) -> Tensor:
    """This process's part of it."""
    part: Tensor = tensor.detach()
    return part.to_local() if hasattr(part, "to_local") else part


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{**group, "params": list(group["params"])} for group in optimizer.param_groups]


def _states(optimizer: Optimizer) -> dict[Any, tuple[dict[str, Any], Copies]]:
    return {key: (dict(state), _copies(state)) for key, state in optimizer.state.items() if isinstance(state, dict)}


def _put_back(optimizer: Optimizer, groups: list[dict[str, Any]], states: dict[Any, Any]) -> None:
    del optimizer.param_groups[len(groups) :]
    for group, own in zip(optimizer.param_groups, groups):
        group.clear()  # the same dict as before: schedulers and scripts hold it
        group.update(own)
    for key in optimizer.state.keys() - states.keys():
        del optimizer.state[key]
    for key, (state, copies) in states.items():
        optimizer.state[key] = state
        _copy_back(copies)
