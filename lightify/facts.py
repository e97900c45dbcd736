"""What was read in a script: frozen facts and the Analysis that joins them; the shared vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import libcst as cst

Scope = cst.FunctionDef | cst.ClassDef | None


class Kind(Enum):
    """What a name holds."""

    MODULE = "model"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    LOADER = "data loader"
    COLLECTION = "collection"
    DEVICE = "device"
    NAMESPACE = "arguments"
    SCALER = "gradient scaler"
    TENSOR_TYPE = "tensor type"
    OBJECT = "object of the script"
    ACCELERATOR = "accelerator"


@dataclass(frozen=True, eq=False)
class Named:
    """A name that is seen to hold something; `sure` when its construction is seen, not only its use."""

    scope: Scope
    name: str  # dotted for attributes of self: "self.model"
    kind: Kind
    node: cst.CSTNode
    sure: bool = False


@dataclass(frozen=True, eq=False)
class Backward:
    """`loss.backward(...)` or `torch.autograd.backward(...)`; `loss` is None for the latter."""

    call: cst.Call
    loss: cst.BaseExpression | None


@dataclass(frozen=True, eq=False)
class Update:
    """A call that may update parameters: `x.step(...)` of something that is not known to be no optimizer."""

    call: cst.Call
    receiver: cst.BaseExpression


@dataclass(frozen=True, eq=False)
class Foreign:
    """A sign that the script trains by means that are not converted, with the reason."""

    node: cst.CSTNode
    code: str
    reason: str
    hint: str = ""


Fact = Named | Backward | Update | Foreign


@dataclass(frozen=True, eq=False)
class Analysis:
    """The facts of one script, joined.

    Attributes:
        kinds: (scope, name) to what it holds; the module's scope is None.
    """

    kinds: Mapping[tuple[Scope, str], Kind]
    sure: frozenset[tuple[Scope, str]]
    backwards: tuple[Backward, ...]
    updates: tuple[Update, ...]
    foreign: tuple[Foreign, ...]
    named: tuple[Named, ...]

    @property
    def accelerated(self) -> bool:
        """True when an Accelerator of the script owns devices, gradients and steps."""
        return Kind.ACCELERATOR in self.kinds.values()
