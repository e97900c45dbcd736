"""Forms of Lightning 1.x, accepted with a `DeprecationWarning` that names the new spelling. The one adapter for them.

Trainer arguments are translated before the Trainer is made; methods of modules are adapted for the time of one call.
"""

from .adapter import adapted
from .arguments import DROPPED, RENAMED, SPECIAL, modern_arguments, modern_loaders
from .attributes import ATTRIBUTES, old_attribute
from .hooks import EDGES
from .said import said as _said
from .steps import STEPS, log_returned

__all__ = [
    "ATTRIBUTES",
    "DROPPED",
    "EDGES",
    "RENAMED",
    "SPECIAL",
    "STEPS",
    "_said",
    "adapted",
    "log_returned",
    "modern_arguments",
    "modern_loaders",
    "old_attribute",
]
