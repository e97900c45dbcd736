"""Seeds and random states."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from lightify.runtime import randomness
from lightify.runtime.loaders import seed_workers
from lightify.runtime.randomness import isolate_rng, pl_worker_init_function, seed_everything
from torch.utils.data import DataLoader, Dataset


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_fixes_every_stream_as_the_three_seeders_do() -> None:
    seed_everything(7, verbose=False)
    ours = draw()
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert ours == draw()


def test_the_seed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    assert seed_everything(verbose=False) == 11
    monkeypatch.delenv("PL_GLOBAL_SEED")
    with pytest.warns(UserWarning, match="No seed found"):
        assert seed_everything() == 0


@pytest.mark.parametrize(
    ("seed", "message"), [(-1, "not in bounds"), (2**32, "not in bounds"), ("x", "invalid literal")]
)
def test_wrong_seeds_are_refused(seed: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seed_everything(seed, verbose=False)  # type: ignore[arg-type]


def test_isolated_draws_leave_no_trace() -> None:
    seed_everything(1, verbose=False)
    expected = draw()
    seed_everything(1, verbose=False)
    with isolate_rng():
        draw()
    assert draw() == expected


def test_capture_and_restore_are_inverse() -> None:
    states = randomness.capture()
    expected = draw()
    draw()
    randomness.restore(states)
    assert draw() == expected


class Draws(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[float]:
        return list(draw())


@pytest.mark.parametrize("rank", [0, 1])
def test_workers_of_all_ranks_have_streams_of_their_own(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    seed_everything(3, workers=True, verbose=False)
    first = {name: [] for name in (0, 1)}
    for each in (rank, 1 - rank):
        torch.manual_seed(3)
        loader = DataLoader(Draws(), batch_size=1, num_workers=2)
        seed_workers(loader, each)
        first[each] = [tuple(float(value) for value in batch) for batch in loader]
    every = [number for batches in first.values() for batch in batches for number in batch]
    assert len(set(every)) == len(every) == 24


def test_the_users_worker_init_wins() -> None:
    seed_everything(3, workers=True, verbose=False)
    loader = DataLoader(Draws(), worker_init_fn=pl_worker_init_function)
    seed_workers(loader, 1)
    assert loader.worker_init_fn is pl_worker_init_function
    seed_everything(3, workers=False, verbose=False)
