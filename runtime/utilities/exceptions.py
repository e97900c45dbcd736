"""The errors that scripts catch."""

from ..errors import MisconfigurationException, SIGTERMException

__all__ = [
    "MisconfigurationException",
    "SIGTERMException",
]
