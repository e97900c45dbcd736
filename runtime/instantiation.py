"""Makes an object again from what a command line noted of it in a checkpoint."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

T = TypeVar("T")

# Lightning's name for `instantiate_module`, so that it reads our checkpoints as we read its own.
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
TRUSTED_INSTANTIATORS = (INSTANTIATOR, "pytorch_lightning.cli.instantiate_module")


def check_instantiator(cls: type, name: Any, class_path: Any) -> None:
    """Refuses names from a file that would decide what is called.

    Raises:
        ValueError: the instantiator is none of Lightning's, or the class is no known subclass of `cls`.
    """
    if name not in TRUSTED_INSTANTIATORS:
        raise ValueError(
            f"The instantiator {name!r} from the checkpoint is not in the allowlist of trusted instantiators"
            f" {TRUSTED_INSTANTIATORS} and was blocked to prevent arbitrary code execution."
            " Load the module with its own arguments instead."
        )
    if class_path is None:
        return
    module, _, attribute = str(class_path).rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, cls)):
        raise ValueError(
            f"The class {class_path!r} requested by the checkpoint does not resolve to an already imported subclass of"
            f" {cls.__name__} and was blocked to prevent arbitrary code execution. Import its module first."
        )


def instantiate_module(class_type: type[T], config: dict[str, Any]) -> T:
    """Makes a `class_type`, or its subclass of ``config["_class_path"]``, from a command line's description."""
    try:
        from jsonargparse import ArgumentParser
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The checkpoint's module was made by a LightningCLI, which needs jsonargparse:"
            " pip install 'jsonargparse[signatures]'"
        ) from error
    parser = ArgumentParser(exit_on_error=False)
    if "_class_path" in config:
        parser.add_subclass_arguments(class_type, "module", fail_untyped=False)
        rest = {name: value for name, value in config.items() if name != "_class_path"}
        config = {"class_path": config["_class_path"], "dict_kwargs": rest}
    else:
        parser.add_class_arguments(class_type, "module", fail_untyped=False)
    return parser.instantiate_classes(parser.parse_object({"module": config})).module
