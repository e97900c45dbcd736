"""Seeds, and random states captured, restored and isolated."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .errors import rank_zero_only, rank_zero_warn
from .strategies import environment

log = logging.getLogger(__name__)

SEED_RANGE = (0, 2**32 - 1)  # what NumPy accepts

RandomState = dict[str, Any]


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seeds Python, NumPy and torch on all devices, and the processes started from here on.

    Args:
        seed: Taken from the environment (``PL_GLOBAL_SEED``) when None, else 0.
        workers: Also give each DataLoader worker of each rank a stream of its own.
        verbose: Log the seed.

    Raises:
        ValueError: The seed is no integer that NumPy accepts.
    """
    if seed is None:
        published = environment.read("PL_GLOBAL_SEED")
        if published is None:
            seed = 0
            if verbose:
                rank_zero_warn(f"No seed found, seed set to {seed}")
        else:
            try:
                seed = int(published)
            except ValueError:
                raise ValueError(f"Invalid seed specified via PL_GLOBAL_SEED: {published!r}") from None
    seed = int(seed)
    low, high = SEED_RANGE
    if not low <= seed <= high:
        raise ValueError(f"{seed} is not in bounds, numpy accepts from {low} to {high}")
    if verbose:
        log.info("Seed set to %d", seed)
    environment.publish("PL_GLOBAL_SEED", str(seed))
    environment.publish("PL_SEED_WORKERS", str(int(workers)))
    random.seed(seed)
    # Also when the script imports NumPy only later: its stream must not depend on the order of imports.
    if importlib.util.find_spec("numpy") is not None:
        import numpy as np

        np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def reset_seed() -> None:
    """Seeds again with what `seed_everything` was last given; does nothing when it never ran."""
    seed = environment.read("PL_GLOBAL_SEED")
    if seed is not None:
        seed_everything(int(seed), workers=workers_are_seeded(), verbose=False)


def workers_are_seeded() -> bool:
    return bool(int(environment.read("PL_SEED_WORKERS") or "0"))


def pl_worker_init_function(worker_id: int, rank: int | None = None) -> None:
    """Seeds a DataLoader worker so that no two workers of any two ranks share a stream."""
    rank = int(getattr(rank_zero_only, "rank", 0) or 0) if rank is None else rank
    base_seed = torch.initial_seed() - worker_id
    digest = hashlib.sha256(f"{base_seed}/{worker_id}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))
    random.seed(digest[8:24])
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed([int.from_bytes(digest[i : i + 4], "little") for i in range(16, 32, 4)])


def _packed(words: tuple[int, ...]) -> bytes:
    """Words of 32 bits as bytes: a checkpoint holds several states, and writes each object in it on its own."""
    return struct.pack(f"<{len(words)}I", *words)


def capture(include_cuda: bool = True) -> RandomState:
    """The random states of Python, NumPy (if imported) and torch, made of types that `weights_only` loads."""
    version, words, gauss = random.getstate()
    states: RandomState = {"python": (version, _packed(words), gauss), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        import numpy as np

        name, keys, *rest = np.random.get_state(legacy=True)
        states["numpy"] = (name, np.asarray(keys, "<u4").tobytes(), *rest)
    if include_cuda:
        states["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    if include_cuda and torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore(states: RandomState) -> None:
    """Sets what `capture` returned. A device that is absent here keeps its state."""
    version, words, gauss = states["python"]
    random.setstate((version, struct.unpack(f"<{len(words) // 4}I", words), gauss))
    torch.set_rng_state(states["torch"].cpu())
    if "numpy" in states and importlib.util.find_spec("numpy") is not None:
        import numpy as np

        name, keys, *rest = states["numpy"]
        np.random.set_state((name, np.frombuffer(keys, "<u4"), *rest))
    if "cuda" in states:
        here = states["cuda"][: torch.cuda.device_count()]
        torch.cuda.set_rng_state_all([state.cpu() for state in here])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"].cpu())


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Gives every random stream back, as it was, at the end of the block."""
    states = capture(include_cuda)
    try:
        yield
    finally:
        restore(states)
