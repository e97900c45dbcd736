"""Random states."""

from ..randomness import isolate_rng, seed_everything

__all__ = [
    "isolate_rng",
    "seed_everything",
]
