"""Several loaders as one."""

from ..combined import CombinedLoader

__all__ = [
    "CombinedLoader",
]
