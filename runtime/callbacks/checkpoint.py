"""The mark of every callback that saves checkpoints."""

from __future__ import annotations

from .base import Callback


class Checkpoint(Callback):
    """Base class of checkpoint callbacks: the Trainer runs these after all others and adds none of its own."""
