"""LightningModules that `torch.compile` wrapped."""

from ..compiled import from_compiled, to_uncompiled

__all__ = [
    "from_compiled",
    "to_uncompiled",
]
