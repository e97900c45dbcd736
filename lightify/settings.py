"""What the user may choose; frozen, checked when made, opens no file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from lightify.errors import Diagnostic, LightifyError

RuntimeName = Literal["bundled", "lightning"]
Style = Literal["faithful", "idiomatic"]

RUNTIME_MODULES: dict[str, str] = {"bundled": "lightify.runtime", "lightning": "lightning.pytorch"}
VENDORED_MODULE = "lightify_runtime"  # also the name of the folder


@dataclass(frozen=True)
class Settings:
    """Options of a conversion.

    Raises:
        LightifyError: LF002, a value that is not one of the allowed ones.
    """

    runtime: RuntimeName = "bundled"
    style: Style = "faithful"
    data_module: bool = False
    line_length: int = 100
    vendor: bool = False  # the result imports a copy of the runtime that stands beside it

    def __post_init__(self) -> None:
        hints = get_type_hints(Settings)
        for field in fields(self):
            value, allowed = getattr(self, field.name), get_args(hints[field.name])
            wrong = value not in allowed if allowed else type(value) is not hints[field.name]
            if wrong or (field.name == "line_length" and not 40 <= value <= 400):
                expected = " or ".join(map(repr, allowed)) if allowed else f"a {hints[field.name].__name__}"
                raise LightifyError(Diagnostic("LF002", f"setting {field.name} is {value!r}", hint=f"give {expected}"))

        if self.vendor and self.runtime != "bundled":
            message = "only the bundled runtime can be copied beside a script"
            raise LightifyError(Diagnostic("LF002", message, hint="leave out vendor, or choose the bundled runtime"))

    def runtime_module(self, neighbours: frozenset[str] = frozenset()) -> str:
        """The module that the converted script imports as `L`.

        Args:
            neighbours: modules beside the script; one called `lightning` hides the package, which has a second name.
        """
        if self.runtime == "lightning" and "lightning" in neighbours:
            return "pytorch_lightning"
        return VENDORED_MODULE if self.vendor else RUNTIME_MODULES[self.runtime]
