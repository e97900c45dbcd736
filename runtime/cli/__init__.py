"""A command line made from a module's, a data module's and the Trainer's arguments.

``LightningCLI(MyModule, MyData)`` reads the command line and YAML files, makes the objects and runs ``fit``,
``validate``, ``test`` or ``predict``. Importing this package needs jsonargparse.
"""

try:
    import jsonargparse  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("LightningCLI needs jsonargparse: pip install 'jsonargparse[signatures]'") from error

from ..instantiation import instantiate_module
from .command import LightningCLI, instantiate_class
from .parser import (
    ArgsType,
    LightningArgumentParser,
    LRSchedulerCallable,
    LRSchedulerTypeTuple,
    LRSchedulerTypeUnion,
    OptimizerCallable,
    ReduceLROnPlateau,
)
from .save_config import SaveConfigCallback

__all__ = [
    "ArgsType",
    "LRSchedulerCallable",
    "LRSchedulerTypeTuple",
    "LRSchedulerTypeUnion",
    "LightningArgumentParser",
    "LightningCLI",
    "OptimizerCallable",
    "ReduceLROnPlateau",
    "SaveConfigCallback",
    "instantiate_class",
    "instantiate_module",
]
