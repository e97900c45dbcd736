"""What a Trainer does to the user's loaders: counts, limits, shares among processes, position."""

from __future__ import annotations

import copy
import functools
import math
import os
from collections.abc import Callable, Iterator, Sized
from typing import Any, cast

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from . import randomness
from .combined import CombinedLoader
from .errors import MisconfigurationException, PossibleUserWarning, rank_zero_warn
from .samplers import DistributedSamplerWrapper, IndexTracker, ShardedBatches, UnrepeatedSamplerWrapper
from .strategies import environment

__all__ = ["CombinedLoader"]

_END = object()
EMPTY = "Total length of `{}` across ranks is zero. Please make sure this was your intention."


# --- counts and limits -----------------------------------------------------------------------------------------------


def batch_count(loader: Any, warn: bool = False) -> int | float:
    """Batches of one pass over `loader`; infinity when it does not know."""
    try:
        count = len(loader)
    except (TypeError, NotImplementedError):
        return float("inf")
    if warn and count == 0:
        rank_zero_warn(EMPTY.format(type(loader).__name__))
    if warn:
        warn_of_iterable_length(loader)
    return count


def warn_of_iterable_length(loader: Any) -> None:
    """Warns where a length may not hold for several workers."""
    if has_iterable_dataset(loader):
        rank_zero_warn(
            "Your `IterableDataset` has `__len__` defined."
            " In combination with multi-process data loading (when num_workers > 1),"
            " `__len__` could be inaccurate if each worker is not configured independently"
            " to avoid having duplicate data."
        )


def limited_count(count: int | float, limit: int | float, stage_name: str) -> int | float:
    """How many of `count` batches `limit_<stage_name>_batches=limit` leaves: an int counts, a float is a share."""
    if count == 0:
        return 0
    if isinstance(limit, int):
        return min(count, limit)
    if count == float("inf"):
        if limit not in (1.0, 0.0):
            raise MisconfigurationException(
                f"When using an `IterableDataset`, `Trainer(limit_{stage_name}_batches)` must be"
                f" `1.0` or an int. An int specifies `num_{stage_name}_batches` to use."
            )
        return count if limit else 0
    limited = int(count * limit)
    if limited == 0 and limit > 0.0:
        raise MisconfigurationException(
            f"You requested to check {limit} of the `{stage_name}_dataloader` but"
            f" {limit} * {count} < 1. Please increase the `limit_{stage_name}_batches` argument. Try at least"
            f" `limit_{stage_name}_batches={1.0 / count}`"
        )
    return limited


def has_iterable_dataset(loader: Any) -> bool:
    return isinstance(getattr(loader, "dataset", None), IterableDataset)


def is_shuffled(loader: Any) -> bool:
    """Whether the loader draws its order at random."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    if batch_sampler is not None and not isinstance(sampler, RandomSampler):
        sampler = getattr(batch_sampler, "sampler", sampler)
    return isinstance(sampler, RandomSampler)


# --- advice ----------------------------------------------------------------------------------------------------------


def check_loader(loader: Any, name: str, num_devices: int = 1, reloads: bool = False) -> None:
    """Warns of a loader that is probably slow or wrong.

    Args:
        loader: What the user gave.
        name: How the warning calls it: "train_dataloader", "val_dataloader", ...
        num_devices: Processes that share this machine's cores.
        reloads: Whether the loader is made anew from time to time.
    """
    if not name.startswith("train") and is_shuffled(loader):
        rank_zero_warn(
            f"Your `{name}`'s sampler has shuffling enabled,"
            " it is strongly recommended that you turn shuffling off for val/test dataloaders.",
            category=PossibleUserWarning,
        )
    if not isinstance(loader, DataLoader):
        return
    suggested = suggested_max_num_workers(num_devices)
    context = loader.multiprocessing_context
    start_method = (
        context.get_start_method() if context is not None else torch.multiprocessing.get_start_method(allow_none=True)
    )
    if loader.num_workers > 0 and start_method == "spawn" and not loader.persistent_workers:
        rank_zero_warn(
            f"Consider setting `persistent_workers=True` in '{name}' to speed up the dataloader worker initialization."
        )
    elif loader.num_workers < 2 and suggested > 1:
        rank_zero_warn(
            f"The '{name}' does not have many workers which may be a bottleneck. Consider increasing the value of the"
            f" `num_workers` argument` to `num_workers={suggested}` in the `DataLoader` to improve performance.",
            category=PossibleUserWarning,
        )
    if loader.persistent_workers and loader.pin_memory and reloads:
        rank_zero_warn(
            "The combination of `DataLoader(`pin_memory=True`, `persistent_workers=True`) and `Trainer("
            "reload_dataloaders_every_n_epochs > 0)` can lead to instability due to limitations in PyTorch"
            " (https://github.com/pytorch/pytorch/issues/91252). We recommend setting `pin_memory=False` in this case.",
            category=PossibleUserWarning,
        )


def suggested_max_num_workers(local_world_size: int) -> int:
    """Workers per loader so that all `local_world_size` processes of this machine together use its cores."""
    if local_world_size < 1:
        raise ValueError(f"`local_world_size` should be >= 1, got {local_world_size}.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # The main process of each rank is busy too.
    return max(1, cores // local_world_size - 1)


# --- changed copies --------------------------------------------------------------------------------------------------


def changed(loader: DataLoader, **attributes: Any) -> DataLoader:
    """A copy of `loader` with other attributes.

    A shallow copy rather than a new object: whatever class the loader is of, and whatever its constructor takes, stays.
    """
    result = copy.copy(loader)
    for name, value in attributes.items():
        object.__setattr__(result, name, value)  # DataLoader forbids the plain assignment after its constructor
    object.__setattr__(result, "_iterator", None)  # workers of the original stay the original's
    return result


def with_sampler(loader: DataLoader, sampler: Any) -> DataLoader:
    """A copy of `loader` that draws its indices from `sampler`, batched by whatever batched them."""
    batch_sampler: Any = loader.batch_sampler
    if batch_sampler is None:
        return changed(loader, sampler=sampler)
    inner = copy.copy(batch_sampler)
    inner.sampler = sampler
    return changed(loader, sampler=sampler, batch_sampler=inner)


def without_shuffle(loader: Any, prefix: str) -> Any:
    """`loader` in the order of its data, so that a pass over a few batches has the same ones each time."""
    if not isinstance(loader, DataLoader) or has_iterable_dataset(loader):
        return loader
    if isinstance(loader.sampler, SequentialSampler) and not is_shuffled(loader):
        return loader
    rank_zero_warn(
        f"You requested to overfit but enabled {prefix} dataloader shuffling."
        f" We are turning off the {prefix} dataloader shuffling for you."
    )
    return with_sampler(loader, SequentialSampler(cast(Sized, loader.dataset)))


def with_distributed_sampler(
    loader: Any, kwargs: dict[str, int], shuffle: bool | None = None, mode: str | None = None
) -> Any:
    """A copy of `loader` that yields this process's share; itself when it is shared out already.

    The plain samplers become torch's `DistributedSampler`. A sampler of the user's own (weighted, subset, custom) is
    asked for its whole order, the same in all processes, of which each takes its part. A batch sampler without a
    sampler is asked for its batches, and each process takes every n-th.

    Args:
        loader: Anything; only a DataLoader over a map-style data set is changed.
        kwargs: `num_replicas` and `rank`.
        shuffle: Whether a plain sampler shuffles; as the loader does when None.
        mode: The stage. In prediction nothing is repeated to make the shares even.
    """
    if not isinstance(loader, DataLoader) or has_iterable_dataset(loader):
        return loader
    sampler: Any = loader.sampler
    batch_sampler: Any = loader.batch_sampler
    if any(_is_distributed(part) for part in (sampler, batch_sampler, getattr(batch_sampler, "sampler", None))):
        return loader
    shuffle = is_shuffled(loader) if shuffle is None else shuffle
    seed = int(environment.read("PL_GLOBAL_SEED") or 0)
    custom_batches = batch_sampler is not None and type(batch_sampler) is not BatchSampler
    if custom_batches and not hasattr(batch_sampler, "sampler"):
        return changed(loader, batch_sampler=ShardedBatches(batch_sampler, seed=seed, **kwargs))
    source = batch_sampler.sampler if custom_batches else sampler
    if mode == "predict":
        return with_sampler(loader, UnrepeatedSamplerWrapper(source, seed=seed, **kwargs))
    if not _is_plain(source, loader.dataset):
        return with_sampler(loader, DistributedSamplerWrapper(source, seed=seed, **kwargs))
    generator = getattr(source, "generator", None)
    seed = seed if generator is None else generator.initial_seed()
    replicas, rank = kwargs["num_replicas"], kwargs["rank"]
    return with_sampler(loader, DistributedSampler(loader.dataset, replicas, rank, shuffle=shuffle, seed=seed))


def _is_distributed(sampler: Any) -> bool:
    return isinstance(sampler, DistributedSampler) or hasattr(sampler, "num_replicas")


def _is_plain(sampler: Any, dataset: Any) -> bool:
    """Whether the sampler yields each index of the data set once."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(dataset)
    return type(sampler) is SequentialSampler


def for_prediction(loader: Any) -> Any:
    """A copy of `loader` whose `batch_sampler.seen_batch_indices` tells which samples each batch of a pass held.

    An incomplete last batch is kept: every sample wants its prediction.
    """
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None or has_iterable_dataset(loader):
        return loader
    batch_sampler: Any = loader.batch_sampler
    if isinstance(batch_sampler, BatchSampler) and batch_sampler.drop_last:
        batch_sampler = copy.copy(batch_sampler)
        batch_sampler.drop_last = False
    return changed(loader, batch_sampler=IndexTracker(batch_sampler), drop_last=False)


def seed_workers(loader: Any, rank: int) -> None:
    """Gives the loader's workers streams of their own, after `seed_everything(workers=True)`; the user's way wins."""
    if isinstance(loader, DataLoader) and randomness.workers_are_seeded() and loader.worker_init_fn is None:
        loader.worker_init_fn = functools.partial(randomness.pl_worker_init_function, rank=rank)


class InStep:
    """A loader of unknown length that ends in all processes together, after the shortest of their passes.

    Each batch costs one exchange of a flag; without it the others would wait for ever for one that has ended.
    """

    def __init__(self, loader: Any, all_agree: Callable[[bool], bool]) -> None:
        self.loader, self.all_agree = loader, all_agree

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.loader)
        while True:
            batch = next(iterator, _END)
            if not self.all_agree(batch is not _END):
                return
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)  # sampler, dataset, state_dict, ...


def in_step(loader: Any, strategy: Any) -> Any:
    """`loader`, or an `InStep` of it when it does not know its length and there are several processes."""
    if strategy.world_size == 1 or batch_count(loader) != float("inf"):
        return loader
    return InStep(loader, strategy.reduce_boolean_decision)


def counts_of_all(counts: list[int | float], strategy: Any) -> list[int | float]:
    """The batches of each loader that all processes have; those of the one with the fewest."""
    if strategy.world_size == 1:
        return counts
    fewest = strategy.reduce(torch.tensor(counts, dtype=torch.float64), reduce_op="min").tolist()
    if fewest != [float(count) for count in counts]:
        rank_zero_warn(f"The processes have different numbers of batches; an epoch ends with the fewest: {fewest}.")
    return [count if math.isinf(count) else int(count) for count in fewest]


def set_epoch(loader: Any, epoch: int) -> None:
    """Tells the samplers of `loader` which pass comes next."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    told: list[int] = []
    for sampler in (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
        set_epoch_of = getattr(sampler, "set_epoch", None)
        if callable(set_epoch_of) and id(sampler) not in told:
            told.append(id(sampler))
            set_epoch_of(epoch)
