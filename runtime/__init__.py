"""A lean Trainer with the public names, arguments and meanings of Lightning 2.x."""

import gc
import importlib
from typing import TYPE_CHECKING, Any

# Importing makes no garbage, but a collection in its midst walks through all that torch made: 0.2 s for nothing.
_collects = gc.isenabled()
gc.disable()

from .callbacks import Callback, EarlyStopping, ModelCheckpoint  # noqa: E402
from .datamodule import LightningDataModule  # noqa: E402
from .errors import MisconfigurationException  # noqa: E402
from .module import LightningModule  # noqa: E402
from .randomness import seed_everything  # noqa: E402
from .snapshot import LIGHTNING_VERSION as __lightning_version__  # noqa: E402, F401
from .trainer import Trainer  # noqa: E402

if _collects:
    gc.enable()

if TYPE_CHECKING:
    from . import cli, core, demos, plugins, serve, tuner, utilities  # noqa: F401
else:
    # What a script reaches as `L.utilities.rank_zero_only` and the like, loaded when it is.
    def __getattr__(name: str) -> Any:
        if name in {"cli", "core", "demos", "plugins", "serve", "tuner", "utilities"}:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Callback",
    "EarlyStopping",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "ModelCheckpoint",
    "Trainer",
    "seed_everything",
]
