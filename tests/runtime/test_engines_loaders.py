"""Loaders: combined, limited, shared out among processes, taken up in their middle."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightify.runtime import Trainer, loaders, randomness
from lightify.runtime.combined import CombinedLoader
from lightify.runtime.data import Loaders, prepare_loaders
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.loaders import (
    batch_count,
    changed,
    check_loader,
    for_prediction,
    limited_count,
    set_epoch,
    with_distributed_sampler,
    without_shuffle,
)
from lightify.runtime.order import advance, inexact_reason, load_loader_state, loader_state, pass_state, restore_pass
from lightify.runtime.samplers import UnrepeatedDistributedSampler
from lightify.runtime.state import RunningStage, TrainerFn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

A, B = [0, 1, 2], ["a", "b"]

MODES = {
    "min_size": [([0, "a"], 0, 0), ([1, "b"], 1, 0)],
    "max_size": [([0, "a"], 0, 0), ([1, "b"], 1, 0), ([2, None], 2, 0)],
    "max_size_cycle": [([0, "a"], 0, 0), ([1, "b"], 1, 0), ([2, "a"], 2, 0)],
    "sequential": [(0, 0, 0), (1, 1, 0), (2, 2, 0), ("a", 0, 1), ("b", 1, 1)],
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    combined = CombinedLoader([A, B], mode)
    assert len(combined) == len(MODES[mode])
    assert list(combined) == MODES[mode]
    assert list(combined) == MODES[mode]  # a second pass is like the first


@pytest.mark.parametrize(
    ("mode", "limits", "count"),
    [("min_size", 1, 1), ("max_size", [1, 2], 2), ("max_size_cycle", [1, 2], 2), ("sequential", [2, 0], 2), ("sequential", [0, 1], 1)],
)  # fmt: skip
def test_limits(mode: str, limits: Any, count: int) -> None:
    combined = CombinedLoader([A, B], mode)
    combined.limits = limits
    assert len(list(combined)) == len(combined) == count


def test_the_batch_has_the_shape_of_the_collection() -> None:
    assert next(iter(CombinedLoader({"x": A, "y": [B, A]})))[0] == {"x": 0, "y": ["a", 0]}


def test_one_iter_per_pass_and_nothing_read_ahead() -> None:
    log: list[str] = []

    class Source:
        def __init__(self, name: str) -> None:
            self.name = name

        def __iter__(self) -> Iterator[int]:
            log.append(f"iter {self.name}")
            for i in range(2):
                log.append(f"read {self.name}{i}")
                yield i

    for batch, _, _ in CombinedLoader([Source("a"), Source("b")], "sequential"):
        log.append(f"use {batch}")
    assert log == [
        "iter a", "read a0", "use 0", "read a1", "use 1",
        "iter b", "read b0", "use 0", "read b1", "use 1",
    ]  # fmt: skip


def test_wrong_uses_of_combined_loaders() -> None:
    with pytest.raises(ValueError, match="Unsupported mode 'zip'"):
        CombinedLoader([A], "zip")
    with pytest.raises(ValueError, match="Mismatch in number of limits"):
        CombinedLoader([A]).limits = [1, 2]
    with pytest.raises(ValueError, match="Mismatch in flattened length"):
        CombinedLoader([A]).flattened = []
    with pytest.raises(RuntimeError, match="Please call `iter"):
        next(CombinedLoader([A]))
    with pytest.raises(TypeError, match="no length"):
        len(CombinedLoader([iter(A)]))


# --- counts ----------------------------------------------------------------------------------------------------------

LIMITS = [
    (10, 1.0, 10),
    (10, 0.5, 5),
    (10, 3, 3),
    (10, 20, 10),
    (10, 0.0, 0),
    (10, 0, 0),
    (0, 1.0, 0),
    (math.inf, 1.0, math.inf),
    (math.inf, 3, 3),
    (math.inf, 0.0, 0),
]


@pytest.mark.parametrize(("count", "limit", "expected"), LIMITS)
def test_limited_counts(count: float, limit: float, expected: float) -> None:
    assert limited_count(count, limit, "train") == expected


@pytest.mark.parametrize(
    ("count", "limit", "message"),
    [(math.inf, 0.5, "`1.0` or an int"), (10, 0.01, r"Try at least `limit_train_batches=0\.1`")],
)
def test_limits_that_mean_nothing(count: float, limit: float, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        limited_count(count, limit, "train")


class NoLength:
    def __iter__(self) -> Iterator[int]:
        return iter(A)


def test_batch_counts() -> None:
    assert batch_count(A) == 3
    assert batch_count(NoLength()) == math.inf
    with pytest.warns(UserWarning, match="Total length of `list` across ranks is zero"):
        batch_count([], warn=True)


def test_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "suggested_max_num_workers", lambda _: 7)
    with pytest.warns(UserWarning, match="'train_dataloader' does not have many workers.*`num_workers=7`"):
        check_loader(DataLoader(A), "train_dataloader")
    with pytest.warns(UserWarning, match="`val_dataloader`'s sampler has shuffling enabled"):
        check_loader(DataLoader(A, shuffle=True, num_workers=2), "val_dataloader")


# --- shares ----------------------------------------------------------------------------------------------------------


class Numbers(Dataset):
    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class Backwards(Sampler):
    def __init__(self, data: Numbers) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data) - 1, -1, -1))


class Buckets:
    """A batch sampler that draws its indices itself."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[0, 1], [2], [3, 4, 5]])


class OwnLoader(DataLoader):
    def __init__(self, anything: str) -> None:
        super().__init__(Numbers(), batch_size=2, collate_fn=lambda items: tuple(items))
        self.anything = anything


def shares(loader: DataLoader, world_size: int = 2, **kwargs: Any) -> list[list[Any]]:
    parts = []
    for rank in range(world_size):
        torch.manual_seed(rank)  # ranks need not be at one point of their streams
        part = with_distributed_sampler(loader, {"num_replicas": world_size, "rank": rank}, **kwargs)
        parts.append([batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in part])
    return parts


def test_a_sequential_loader_in_two_processes_is_one_with_batches_of_twice_the_size() -> None:
    first, second = shares(DataLoader(Numbers(), batch_size=2))
    together = [sorted(a + b) for a, b in zip(first, second)]
    assert together == [batch.tolist() for batch in DataLoader(Numbers(), batch_size=4)] or together[:2] == [
        [0, 1, 2, 3], [4, 5, 6, 7],
    ]  # fmt: skip


def test_shuffled_shares_are_disjoint_and_change_with_the_epoch() -> None:
    loader = DataLoader(Numbers(), batch_size=1, shuffle=True)
    first, second = shares(loader)
    assert sorted(index for batch in first + second for index in batch) == list(range(10))
    part = with_distributed_sampler(loader, {"num_replicas": 2, "rank": 0})
    before = [batch.tolist() for batch in part]
    set_epoch(part, 1)
    assert [batch.tolist() for batch in part] != before


CUSTOM = {
    "custom": lambda data: Backwards(data),
    "weighted": lambda data: WeightedRandomSampler([1.0] * 9 + [100.0], 20),
    "subset": lambda data: SubsetRandomSampler([1, 3, 5, 7]),
    "random with replacement": lambda data: RandomSampler(data, replacement=True, num_samples=30),
    "random, fewer samples": lambda data: RandomSampler(data, num_samples=4),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_a_sampler_of_the_users_own_decides_what_all_processes_see(name: str) -> None:
    sampler = CUSTOM[name](Numbers())
    parts = shares(DataLoader(Numbers(), sampler=sampler))
    interleaved = [
        index for pair in zip(*([index for batch in part for index in batch] for part in parts)) for index in pair
    ]
    assert len(interleaved) == len(sampler)
    if name == "custom":
        assert interleaved == list(range(9, -1, -1))
    if name == "weighted":
        assert Counter(interleaved)[9] > 10
    if name == "subset":
        assert sorted(interleaved) == [1, 3, 5, 7]


def test_drawing_a_share_leaves_the_random_streams_alone() -> None:
    loader = DataLoader(Numbers(), sampler=WeightedRandomSampler([1.0] * 10, 10))
    part = with_distributed_sampler(loader, {"num_replicas": 2, "rank": 0})
    before = randomness.capture()["torch"]
    list(part.sampler)
    assert torch.equal(randomness.capture()["torch"], before)


def test_batches_of_a_batch_sampler_are_shared_as_they_are() -> None:
    parts = shares(DataLoader(Numbers(), batch_sampler=Buckets()))
    assert parts == [[[0, 1], [3, 4, 5]], [[2], [0, 1]]]  # repeated once, to be even


def test_a_batch_sampler_over_a_sampler_keeps_its_way_of_batching() -> None:
    class Pairs(BatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            for index in self.sampler:
                yield [index, index]

    parts = shares(DataLoader(Numbers(4), batch_sampler=Pairs(Backwards(Numbers(4)), 2, False)))
    assert parts == [[[3, 3], [1, 1]], [[2, 2], [0, 0]]]


def test_prediction_repeats_nothing() -> None:
    parts = shares(DataLoader(Numbers(5)), mode="predict")
    assert parts == [[[0], [2], [4]], [[1], [3]]]
    assert shares(DataLoader(Numbers(5)))[1] == [[1], [3], [0]]
    for shuffle in (False, True):
        ranks = [UnrepeatedDistributedSampler(Numbers(103), 4, rank, shuffle=shuffle) for rank in range(4)]
        orders = [list(sampler) for sampler in ranks]
        assert [len(sampler) for sampler in ranks] == [len(order) for order in orders] == [26, 26, 26, 25]
        assert sorted(index for order in orders for index in order) == list(range(103))
        assert (orders[0] == list(range(0, 103, 4))) is not shuffle


def test_a_loader_of_any_class_keeps_its_class_and_attributes() -> None:
    part = with_distributed_sampler(OwnLoader("kept"), {"num_replicas": 2, "rank": 1})
    assert type(part) is OwnLoader and part.anything == "kept"
    assert list(part) == [(1, 3), (5, 7), (9,)]


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Stream()),
        A,
        DataLoader(Numbers(), sampler=DistributedSampler(Numbers(), 2, 0)),
        DataLoader(Numbers(), batch_sampler=BatchSampler(DistributedSampler(Numbers(), 2, 0), 2, False)),
    ],
    ids=["iterable data set", "no DataLoader", "shared already", "batches shared already"],
)
def test_what_is_not_ours_to_share_stays(loader: Any) -> None:
    assert with_distributed_sampler(loader, {"num_replicas": 2, "rank": 0}) is loader


def test_the_users_loader_is_not_changed() -> None:
    loader = DataLoader(Numbers(), batch_size=3, shuffle=True)
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    for copy in (
        with_distributed_sampler(loader, {"num_replicas": 2, "rank": 0}),
        for_prediction(loader),
        changed(loader, sampler=SequentialSampler(Numbers())),
    ):
        list(copy)
        assert copy is not loader
    assert loader.sampler is sampler and loader.batch_sampler is batch_sampler
    assert len(loader) == 4


@pytest.mark.parametrize("sampler", [None, WeightedRandomSampler([1.0] * 4, 4), [3, 2, 1, 0]])
def test_overfitting_takes_the_data_in_order(sampler: Any) -> None:
    with pytest.warns(UserWarning, match="overfit but enabled val dataloader shuffling"):
        ordered = without_shuffle(DataLoader(Numbers(4), shuffle=sampler is None, sampler=sampler), "val")
    assert [batch.tolist() for batch in ordered] == [[0], [1], [2], [3]]
    plain = DataLoader(Numbers())
    assert without_shuffle(plain, "train") is plain


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_sample_is_predicted_and_the_indices_of_each_batch_are_known(drop_last: bool) -> None:
    given = DataLoader(Numbers(5), batch_size=2, drop_last=drop_last)
    loader = for_prediction(given)
    assert [batch.tolist() for batch in loader] == loader.batch_sampler.seen_batch_indices == [[0, 1], [2, 3], [4]]
    assert len(given) == (2 if drop_last else 3) and len(loader) == 3


# --- position --------------------------------------------------------------------------------------------------------


class Noisy(Dataset):
    """Draws in every item, from all three streams."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        return index, float(torch.rand(())), random.random()


class ShufflesItself(Sampler):
    """Draws from the global stream in every step."""

    def __len__(self) -> int:
        return 12

    def __iter__(self) -> Iterator[int]:
        for _ in range(12):
            yield int(torch.randint(12, ()))


LOADERS = {
    "shuffled": lambda: DataLoader(Noisy(), batch_size=2, shuffle=True),
    "shuffled, own generator": lambda: DataLoader(
        Noisy(), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
    "weighted": lambda: DataLoader(Noisy(), batch_size=2, sampler=WeightedRandomSampler([1.0] * 12, 12)),
    "draws while it goes": lambda: DataLoader(Noisy(), batch_size=2, sampler=ShufflesItself()),
    "two workers": lambda: DataLoader(Noisy(), batch_size=2, shuffle=True, num_workers=2),
    "two loaders": lambda: CombinedLoader(
        [DataLoader(Noisy(), batch_size=2, shuffle=True), DataLoader(Noisy(), batch_size=3, shuffle=True)],
        "max_size_cycle",
    ),
}


def run(loader: Any, passes: int, stop_after: int | None = None) -> tuple[list[Any], dict[str, Any] | None]:
    """A training that draws between batches; what it saw, and the state when it stopped in its last pass."""
    seen: list[Any] = []
    for number in range(passes):
        start = pass_state(loader)
        for count, batch in enumerate(iter(loader), start=1):
            seen.append((str(batch), float(torch.rand(()))))
            if number == passes - 1 and count == stop_after:
                return seen, {"start": start, "rng": randomness.capture(), "count": count}
    return seen, None


@pytest.mark.parametrize("stop_after", [1, 4])
@pytest.mark.parametrize("name", LOADERS)
def test_a_pass_taken_up_in_its_middle_goes_on_bit_for_bit(name: str, stop_after: int) -> None:
    randomness.seed_everything(1, verbose=False)
    whole, _ = run(LOADERS[name](), passes=2)
    randomness.seed_everything(1, verbose=False)
    seen, saved = run(LOADERS[name](), passes=2, stop_after=stop_after)
    assert saved is not None and seen == whole[: len(seen)]
    randomness.seed_everything(99, verbose=False)  # another process
    loader = LOADERS[name]()
    restore_pass(loader, saved["start"])
    iterator = iter(loader)
    advance(iterator, saved["count"])
    randomness.restore(saved["rng"])
    rest = [(str(batch), float(torch.rand(()))) for batch in iterator]
    assert seen + rest == whole
    assert inexact_reason(loader) is None


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_loader_keeps_its_own_position(num_workers: int) -> None:
    def make() -> StatefulDataLoader:
        return StatefulDataLoader(Numbers(), batch_size=2, shuffle=True, num_workers=num_workers)

    torch.manual_seed(1)
    loader = make()
    iterator = iter(loader)
    next(iterator)
    state = loader_state(loader)
    expected = [batch.tolist() for batch in iterator]
    torch.manual_seed(2)
    fresh = make()
    assert load_loader_state(fresh, state)
    assert [batch.tolist() for batch in fresh] == expected
    assert ("random states" in (inexact_reason(fresh) or "")) == (num_workers > 0)


def test_loaders_without_state() -> None:
    loader = CombinedLoader([DataLoader(Numbers())])
    assert loader_state(loader) is None
    assert not load_loader_state(DataLoader(Numbers()), {})


def test_what_cannot_be_exact_is_named() -> None:
    reason = inexact_reason(DataLoader(Stream()))
    assert reason is not None and "Stream is iterable and keeps no state" in reason
    persistent = DataLoader(Numbers(), num_workers=1, persistent_workers=True)
    assert "persist" in (inexact_reason(persistent) or "")


def test_a_loader_that_is_its_own_iterator_is_begun_once() -> None:
    class Own:
        begun = 0

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            self.begun, self.left = self.begun + 1, [2, 1, 0]
            return self  # type: ignore[return-value]

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            return self.left.pop()

    loader = Own()
    assert list(Loaders(CombinedLoader(loader, "max_size_cycle"), [3]).batches()) == [0, 1, 2]
    assert loader.begun == 1


@pytest.mark.parametrize(
    ("fn", "repeats"), [(TrainerFn.FITTING, False), (TrainerFn.VALIDATING, True), (TrainerFn.PREDICTING, False)]
)
def test_an_evaluation_that_repeats_samples_says_so(fn: TrainerFn, repeats: bool) -> None:
    trainer = Trainer(accelerator="cpu", strategy="ddp", devices=2, logger=False)
    trainer.state.fn = fn
    stage = RunningStage.PREDICTING if fn is TrainerFn.PREDICTING else RunningStage.VALIDATING
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare_loaders(trainer, stage, DataLoader(range(3)), 1.0, "sequential")  # type: ignore[arg-type]
    assert any("exactly once" in str(one.message) for one in caught) is repeats
