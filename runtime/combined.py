"""CombinedLoader: several iterables as one, in Lightning's four modes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils._pytree import tree_flatten, tree_unflatten

from .randomness import RandomState, capture, restore

Item = tuple[Any, int, int]  # batch, batch_idx, dataloader_idx
Limits = list[int | float] | None

_NOTHING = object()


class CombinedLoader(Iterable[Item]):
    """Iterates over a collection of iterables; yields ``(batch, batch_idx, dataloader_idx)``.

    Each pass makes one `iter` of each iterable and reads nothing ahead.

    Args:
        iterables: An iterable, or any nesting of lists, tuples and dictionaries of them; the batch has its shape.
        mode: ``min_size`` ends with the shortest; ``max_size`` with the longest, None standing for the ended ones;
            ``max_size_cycle`` with the longest, the others start again; ``sequential`` takes one after the other.
    """

    def __init__(self, iterables: Any, mode: str = "min_size") -> None:
        if mode not in MODES:
            raise ValueError(f"Unsupported mode {mode!r}, please select one of: {list(MODES)}.")
        self._iterables = iterables
        self._flattened, self._spec = tree_flatten(iterables, is_leaf=_is_source)
        self._mode = mode
        self._limits: Limits = None
        self._iterator: Iterator[Item] | None = None
        # The random states in which loaders began again within this pass, and those in which they shall.
        self.restarts: list[RandomState] = []
        self.restarts_to_replay: list[RandomState] = []

    @property
    def mode(self) -> str:
        return self._mode

    @property
    def iterables(self) -> Any:
        return self._iterables

    @property
    def flattened(self) -> list[Any]:
        return self._flattened

    @flattened.setter
    def flattened(self, flattened: list[Any]) -> None:
        if len(flattened) != len(self._flattened):
            raise ValueError(
                f"Mismatch in flattened length ({len(flattened)}) and existing length ({len(self._flattened)})"
            )
        self._flattened = flattened
        self._iterables = tree_unflatten(flattened, self._spec)

    @property
    def sampler(self) -> Any:
        """The samplers of the loaders, in the shape of `iterables`; None for what has none."""
        return self._of_each("sampler")

    @property
    def batch_sampler(self) -> Any:
        return self._of_each("batch_sampler")

    def _of_each(self, attribute: str) -> Any:
        return tree_unflatten([getattr(loader, attribute, None) for loader in self._flattened], self._spec)

    @property
    def limits(self) -> Limits:
        """At most so many batches of each iterable."""
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        if isinstance(limits, (int, float)):
            limits = [limits] * len(self._flattened)
        if limits is not None and len(limits) != len(self._flattened):
            raise ValueError(
                f"Mismatch in number of limits ({len(limits)}) and number of iterables ({len(self._flattened)})"
            )
        self._limits = limits

    def __len__(self) -> int:
        """Batches of one pass. Raises TypeError when an iterable that matters has no length."""
        lengths = [min(_length(loader), limit) for loader, limit in zip(self._flattened, _bounds(self))]
        count = MODES[self._mode][1](lengths) if lengths else 0
        if count == float("inf"):
            raise TypeError("The CombinedLoader has no length: an iterable in it has none.")
        return int(count)

    def __iter__(self) -> Iterator[Item]:
        # At once, so that all workers start together; one after the other where only one is read at a time.
        self.restarts = []
        started = self._flattened[:1] if self._mode == "sequential" else self._flattened
        self._iterator = MODES[self._mode][0](self, [iter(loader) for loader in started])
        return self._iterator

    def __next__(self) -> Item:
        if self._iterator is None:
            raise RuntimeError("Please call `iter(combined_loader)` first.")
        return next(self._iterator)

    def restart(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Begins again with a loader inside a pass; noted, since its order depends on what training drew meanwhile."""
        if self.restarts_to_replay:
            restore(self.restarts_to_replay[0])
            self.restarts.append(self.restarts_to_replay.pop(0))
        else:
            self.restarts.append(capture(include_cuda=False))
        return iter(loader)

    def reset(self) -> None:
        """Ends the pass and the workers of its loaders."""
        self._iterator = None
        for loader in self._flattened:
            if getattr(loader, "_iterator", None) is not None:  # a DataLoader with persistent workers
                loader._iterator = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None}  # a pass cannot be sent to another process


def _is_source(value: Any) -> bool:
    """Whether a container is itself a source of batches: a list of plain values, not one of loaders."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, (bool, int, float, str)) for item in value)


def _length(loader: Any) -> int | float:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return float("inf")


def _bounds(loaders: CombinedLoader) -> list[int | float]:
    return loaders.limits or [float("inf")] * len(loaders.flattened)


def _first(iterator: Iterator[Any], limit: int | float) -> Iterator[Any]:
    """The first `limit` items; unlike islice it takes infinity."""
    taken = 0
    while taken < limit:
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item
        taken += 1


def _min_size(loaders: CombinedLoader, started: list[Iterator[Any]]) -> Iterator[Item]:
    iterators = [_first(iterator, limit) for iterator, limit in zip(started, _bounds(loaders))]
    spec, batch_idx = loaders._spec, 0
    if not iterators:
        return
    while True:
        items = []
        for iterator in iterators:
            item = next(iterator, _NOTHING)
            if item is _NOTHING:
                return
            items.append(item)
        yield tree_unflatten(items, spec), batch_idx, 0
        batch_idx += 1


def _max_size(loaders: CombinedLoader, started: list[Iterator[Any]]) -> Iterator[Item]:
    iterators = [_first(iterator, limit) for iterator, limit in zip(started, _bounds(loaders))]
    batch_idx = 0
    while True:
        items = [next(iterator, _NOTHING) for iterator in iterators]
        if all(item is _NOTHING for item in items):
            return
        yield tree_unflatten([None if item is _NOTHING else item for item in items], loaders._spec), batch_idx, 0
        batch_idx += 1


def _max_size_cycle(loaders: CombinedLoader, started: list[Iterator[Any]]) -> Iterator[Item]:
    limits = _bounds(loaders)
    iterators = [_first(iterator, limit) for iterator, limit in zip(started, limits)]
    ended = [False] * len(iterators)
    batch_idx = 0
    while iterators:
        items = []
        for index, loader in enumerate(loaders.flattened):
            item = next(iterators[index], _NOTHING)
            if item is _NOTHING:
                ended[index] = True
                if all(ended):
                    return
                iterators[index] = _first(loaders.restart(loader), limits[index])
                item = next(iterators[index], _NOTHING)
                if item is _NOTHING:
                    raise RuntimeError(f"The iterable {loader!r} is empty and cannot be cycled.")
            items.append(item)
        yield tree_unflatten(items, loaders._spec), batch_idx, 0
        batch_idx += 1


def _sequential(loaders: CombinedLoader, started: list[Iterator[Any]]) -> Iterator[Item]:
    for dataloader_idx, (loader, limit) in enumerate(zip(loaders.flattened, _bounds(loaders))):
        if limit == 0:
            continue
        iterator = started[0] if dataloader_idx == 0 else iter(loader)
        for batch_idx, batch in enumerate(_first(iterator, limit)):
            yield batch, batch_idx, dataloader_idx


Mode = Callable[[CombinedLoader, list[Iterator[Any]]], Iterator[Item]]
MODES: dict[str, tuple[Mode, Callable[[list[Any]], int | float]]] = {
    "min_size": (_min_size, min),
    "max_size_cycle": (_max_size_cycle, max),
    "max_size": (_max_size, max),
    "sequential": (_sequential, sum),
}
