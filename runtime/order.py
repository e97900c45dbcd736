"""The order of a pass and the place in it: what a checkpoint keeps of a loader, and how a pass goes on from there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from . import randomness
from .combined import CombinedLoader
from .loaders import has_iterable_dataset


def is_stateful(loader: Any) -> bool:
    """Whether the loader keeps its own position, as torchdata's StatefulDataLoader does."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


def keeps_its_place(loader: Any) -> bool:
    """Whether `loader_state` knows where the loader is in its pass."""
    return is_stateful(loader) or _is_stateful_stream(loader)


def _is_stateful_stream(loader: Any) -> bool:
    """Whether the data set, read in this process, keeps the position in its state."""
    return (
        has_iterable_dataset(loader)
        and is_stateful(loader.dataset)
        and not is_stateful(loader)
        and not getattr(loader, "num_workers", 0)
    )


def loader_state(loader: Any) -> dict[str, Any] | None:
    """The position of a loader that keeps it itself (or of the loaders of a CombinedLoader); None if none does."""
    if isinstance(loader, CombinedLoader):
        states = [loader_state(part) for part in loader.flattened]
        return {"loaders": states} if any(state is not None for state in states) else None
    if _is_stateful_stream(loader):
        return {"dataset": loader.dataset.state_dict()}
    return loader.state_dict() if is_stateful(loader) else None


def load_loader_state(loader: Any, state: dict[str, Any] | None) -> bool:
    """Gives a loader its position back, for its next `iter`. False when it cannot keep one."""
    if isinstance(loader, CombinedLoader):
        states = (state or {}).get("loaders", [])
        if len(states) != len(loader.flattened):
            return False
        loaded = [load_loader_state(part, part_state) for part, part_state in zip(loader.flattened, states)]
        return all(loaded)
    if state is not None and _is_stateful_stream(loader):
        loader.dataset.load_state_dict(state["dataset"])
        return True
    if state is None or not is_stateful(loader):
        return False
    loader.load_state_dict(state)
    return True


def restore_streams(loaders: list[Any], states: list[dict[str, Any] | None]) -> None:
    """Between two passes: gives data sets that go on where the last pass ended their place back."""
    for loader, state in zip(loaders, states):
        if _is_stateful_stream(loader):
            load_loader_state(loader, state)


def order_state(loader: Any) -> dict[str, Any]:
    """The states of the generators and stateful samplers that a loader has for its own."""
    parts = _order_parts(loader)
    generators = [part.get_state() for part in parts if isinstance(part, torch.Generator)]
    samplers = [part.state_dict() for part in parts if not isinstance(part, torch.Generator)]
    return {"generators": generators, "samplers": samplers, "workers": [_has_workers(each) for each in _each(loader)]}


def pass_state(loader: Any) -> dict[str, Any]:
    """What decides the order of the pass that is about to start. To be taken right before `iter(loader)`."""
    return {"rng": randomness.capture(include_cuda=False), **order_state(loader)}


def running_pass_state(loader: Any, start: dict[str, Any]) -> dict[str, Any]:
    """`pass_state` as it was at the start, with what the pass has drawn for its order since."""
    return {**start, "restarts": list(loader.restarts)} if isinstance(loader, CombinedLoader) else start


def restore_pass(loader: Any, state: dict[str, Any]) -> None:
    """Puts everything back that `pass_state` took, so that the next `iter(loader)` yields the same batches again."""
    restore_order(loader, state)
    if isinstance(loader, CombinedLoader):
        loader.restarts_to_replay = list(state.get("restarts", []))
    randomness.restore(state["rng"])


def restore_order(loader: Any, state: dict[str, Any]) -> None:
    """Puts back what `order_state` took. To be followed by `randomness.restore`."""
    for each, had_workers in zip(_each(loader), state["workers"]):
        if had_workers and not _has_workers(each):
            iter(each)  # workers that persist were seeded by an earlier pass, and this one draws no seed
    parts = _order_parts(loader)
    generators = [part for part in parts if isinstance(part, torch.Generator)]
    samplers = [part for part in parts if not isinstance(part, torch.Generator)]
    for generator, generator_state in zip(generators, state["generators"]):
        generator.set_state(generator_state.cpu())
    for sampler, sampler_state in zip(samplers, state["samplers"]):
        sampler.load_state_dict(sampler_state)


def _each(loader: Any) -> list[Any]:
    return loader.flattened if isinstance(loader, CombinedLoader) else [loader]


def _has_workers(loader: Any) -> bool:
    """Whether workers wait for the next pass."""
    return getattr(loader, "persistent_workers", False) and getattr(loader, "_iterator", None) is not None


def _order_parts(loader: Any) -> list[Any]:
    """The generators and stateful samplers of a loader, each once, in a fixed order."""
    if isinstance(loader, CombinedLoader):
        found = [part for each in loader.flattened for part in _order_parts(each)]
    else:
        batch_sampler = getattr(loader, "batch_sampler", None)
        samplers = [getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
        samplers += [getattr(sampler, "sampler", None) for sampler in samplers[:]]
        found = [getattr(part, "generator", None) for part in (loader, *samplers)]
        found += [sampler for sampler in samplers if is_stateful(sampler)]
    unique = {id(part): part for part in found if part is not None}
    return list(unique.values())


def advance(iterator: Iterator[Any], batches: int) -> None:
    """Takes `batches` off a pass as the interrupted run did; reading and dropping them replays their randomness."""
    for _ in range(batches):
        next(iterator, None)


def inexact_reason(loader: Any) -> str | None:
    """Why a pass over `loader` cannot be taken up in its middle bit for bit; None when it can."""
    if isinstance(loader, CombinedLoader):
        return next((reason for reason in map(inexact_reason, loader.flattened) if reason), None)
    if is_stateful(loader):
        return "its workers' random states are not in its state" if getattr(loader, "num_workers", 0) else None
    if has_iterable_dataset(loader) and not _is_stateful_stream(loader):
        where = "its state is in the workers" if is_stateful(loader.dataset) else "keeps no state"
        return (
            f"the data set {type(loader.dataset).__name__} is iterable and {where}: its batches are read again"
            " up to the position, which is exact only if it yields the same each time."
            " torchdata's StatefulDataLoader keeps the position"
        )
    if isinstance(loader, DataLoader) and loader.persistent_workers and loader.num_workers > 0:
        return "its workers persist, and their random states from earlier passes are not known"
    return None
