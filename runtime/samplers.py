"""Samplers that share an order out among processes; the user's own sampler decides the order."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from . import randomness


def draw_in_common(sampler: Iterable[Any], seed: int) -> list[Any]:
    """Everything `sampler` yields in one pass, the same in each process that passes the same seed.

    The global random streams are seeded for the draw and given back afterwards. A generator of the sampler's own is
    used as it is: it must be seeded alike in all processes.
    """
    with randomness.isolate_rng(include_cuda=False):
        torch.manual_seed(seed)
        random.seed(seed)
        if "numpy" in sys.modules:
            import numpy as np

            np.random.seed(seed % 2**32)
        return list(sampler)


class DistributedSamplerWrapper(DistributedSampler):
    """This process's part of what another sampler yields; the last indices are repeated to make the parts even."""

    repeats = True

    def __init__(self, sampler: Any, num_replicas: int | None, rank: int | None, seed: int = 0) -> None:
        super().__init__(sampler, num_replicas=num_replicas, rank=rank, shuffle=False, seed=seed)
        self.sampler = sampler

    def __len__(self) -> int:
        count = len(self.sampler)
        if self.repeats:
            return math.ceil(count / self.num_replicas)
        return len(range(self.rank, count, self.num_replicas))

    def __iter__(self) -> Iterator[Any]:
        order = draw_in_common(self.sampler, self.seed + self.epoch)
        if self.repeats and order:
            even = math.ceil(len(order) / self.num_replicas) * self.num_replicas
            order = list(itertools.islice(itertools.cycle(order), even))
        return iter(order[self.rank :: self.num_replicas])

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


class UnrepeatedDistributedSampler(DistributedSamplerWrapper):
    """This process's part of a data set's indices, each once: a prediction must not come twice."""

    repeats = False

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(RandomSampler(dataset) if shuffle else SequentialSampler(dataset), num_replicas, rank, seed)


class UnrepeatedSamplerWrapper(UnrepeatedDistributedSampler):
    """The same of what another sampler yields."""

    def __init__(self, sampler: Any, num_replicas: int, rank: int, seed: int = 0) -> None:
        DistributedSamplerWrapper.__init__(self, sampler, num_replicas, rank, seed)


class ShardedBatches:
    """Every n-th batch of a batch sampler that draws its indices itself; batches are repeated to make shares even."""

    def __init__(self, batch_sampler: Any, num_replicas: int, rank: int, seed: int = 0) -> None:
        self.batch_sampler, self.num_replicas, self.rank, self.seed = batch_sampler, num_replicas, rank, seed
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.batch_sampler) / self.num_replicas)

    def __iter__(self) -> Iterator[Any]:
        batches = draw_in_common(self.batch_sampler, self.seed + self.epoch)
        even = math.ceil(len(batches) / self.num_replicas) * self.num_replicas
        return itertools.islice(itertools.cycle(batches), self.rank, even, self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.batch_sampler, "set_epoch"):
            self.batch_sampler.set_epoch(epoch)


class IndexTracker(BatchSampler):
    """Passes batches of indices on and remembers them, so that predictions can be put back in order."""

    def __init__(self, batch_sampler: Any) -> None:
        # Not the base class's constructor: the batches come ready-made.
        self.batch_sampler = batch_sampler
        self.sampler: Any = getattr(batch_sampler, "sampler", None)
        self.batch_size: Any = getattr(batch_sampler, "batch_size", None)
        self.drop_last: Any = getattr(batch_sampler, "drop_last", False)
        self.seen_batch_indices: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        self.seen_batch_indices = []
        for batch in self.batch_sampler:
            self.seen_batch_indices.append(batch)
            yield batch
