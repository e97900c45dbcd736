"""Norms of gradients."""

from ..gradients import grad_norm

__all__ = [
    "grad_norm",
]
