"""The plan as a value: which statement goes where, and where each name lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import libcst as cst

from lightify.errors import Diagnostic
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.syntax.frames import Frame, Item, Step, Variable

Mode = Literal["automatic", "manual"]


@dataclass(frozen=True)
class Local:
    """A local of the hooks that use it."""

    name: str


@dataclass(frozen=True)
class Attribute:
    """`self.name` of the module, or `self.holder.name`."""

    name: str
    holder: str = ""

    @property
    def path(self) -> str:
        """Where it is, as seen from the module."""
        return f"{self.holder}.{self.name}" if self.holder else self.name


@dataclass(frozen=True)
class Global:
    """A global of the script, as before; hooks that assign it declare it."""

    name: str


@dataclass(frozen=True)
class Computed:
    """Never stored: an expression in terms of the module, such as `self.current_epoch + 1`."""

    text: str


Home = Local | Attribute | Global | Computed


@dataclass(frozen=True, eq=False)
class Hook:
    """A method of the module.

    Attributes:
        steps: user code, in order.
        first, last: generated statements around it.
        leaves: it may end before its last step.
    """

    name: str
    parameters: tuple[str, ...]
    steps: tuple[Step, ...]
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    result: tuple[cst.BaseExpression, Frame] | None = None
    on_break: tuple[str, ...] = ()
    on_continue: tuple[str, ...] = ()
    on_return: tuple[str, ...] = ()  # after the value was kept
    leaves: bool = False


@dataclass(frozen=True, eq=False)
class Made:
    """An optimizer or scheduler: `statement` builds it; `moved` when configure_optimizers does so now.

    Attributes:
        field: the variable holds a wrapper of the script's own, which has the optimizer in this field.
    """

    variable: Variable
    statement: cst.BaseStatement | None
    value: cst.BaseExpression | None
    moved: bool
    field: str = ""


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A scheduler that the Trainer steps, each batch or each epoch, by a metric where it monitors one."""

    made: Made
    interval: Literal["step", "epoch"]
    monitor: str = ""


@dataclass(frozen=True, eq=False)
class Initial:
    """An attribute that starts with a constant: `statement` set it before the loop, alone or with others."""

    name: str
    value: cst.CSTNode
    statement: cst.BaseStatement


@dataclass(frozen=True)
class Bar:
    """A progress bar that only shows: what it goes over, and the statement that makes it."""

    iterable: cst.BaseExpression | None
    made: Item | None


@dataclass(frozen=True, eq=False)
class TrainerOption:
    """`name=value` of the Trainer; the value is user code of the host when it is a node."""

    name: str
    value: str | cst.BaseExpression
    frame: Frame | None = None


@dataclass(frozen=True)
class Mixed:
    """A script's own mixed precision.

    Attributes:
        device: the kind of device that it names; empty when it asks for the kind.
        enabled: its condition in terms of the host; empty when there is none.
    """

    precision: str
    device: str
    enabled: str


@dataclass
class FateNote:
    fate: Fate
    target: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Stays:
    """An evaluation that is no validation of the Trainer's: the place that it keeps, and why."""

    node: cst.CSTNode
    place: str
    reason: str


@dataclass
class Stripped:
    """What taking moves out changed: fates of statements that are gone, and originals of those made anew."""

    fates: dict[cst.CSTNode, FateNote] = field(default_factory=dict)
    origins: dict[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)


@dataclass(frozen=True)
class Distributed:
    """What a strategy in place of the script's own wrapper needs.

    Attributes:
        before_fit: lines that set what the Trainer looks for.
        imports: lines that the script lacks.
        group: the name by which the script calls `torch.distributed`.
        syncs_buffers: evaluation reads statistics that the wrapper kept equal.
        changed: statements that say now without the wrapper what they said with it.
        problem: why the strategy would not do what the wrapper did; empty when it does.
        asked: names that stand for what the Trainer is asked, by its attribute.
    """

    before_fit: tuple[str, ...]
    imports: tuple[str, ...]
    group: str
    syncs_buffers: bool
    changed: frozenset[cst.CSTNode]
    problem: str
    asked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of a script."""

    nest: Nest
    mode: Mode
    reasons: tuple[str, ...]
    hooks: tuple[Hook, ...]
    homes: Mapping[Variable, Home]
    captured: tuple[tuple[Variable, str], ...]  # variables handed to __init__, with the parameter's name
    initial: tuple[Initial, ...]
    unset: Mapping[cst.CSTNode, tuple[str, ...]]  # names to bind to None before a statement of the host
    missing: frozenset[Variable]  # fields of those handed over that only some objects have
    results: tuple[Variable, ...]  # variables that the host reads back after fit
    optimizers: tuple[Made, ...]
    schedulers: tuple[Scheduled, ...]
    options: tuple[TrainerOption, ...]
    train_source: cst.BaseExpression | None
    fates: Mapping[cst.CSTNode, FateNote]
    removed: frozenset[cst.CSTNode]  # statements that no hook needs
    class_name: str
    endable: bool = False
    keeps_gradients: bool = False  # when gradients are zeroed is the script's own affair
    own_sigterm: str = ""  # the signal module's name, where the script handles SIGTERM itself
    finds_gradients: bool = False  # some may be there when the run begins
    steps_raw: bool = False  # the script's own optimizers take no closure
    validation_source: cst.BaseExpression | None = None
    test_source: cst.BaseExpression | None = None
    before_fit: tuple[str, ...] = ()
    after_fit: tuple[str, ...] = ()
    distributed: Distributed | None = None
    sized_lazily: bool = False  # the pass starts when the first batch is asked for
    interruptible: bool = False  # the host goes on after an exception
    departures: tuple[str, ...] = ()
    batch_mover: str = ""  # who moves the batch, where the Trainer must not
    prints_everywhere: bool = False  # each process of the script prints for itself, a Trainer once
    incomparable: tuple[str, ...] = ()  # parameters whose == is no truth
    backwards_of_others: frozenset[cst.Call] = frozenset()  # sites of objects that are handed the loss
    host_edits: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    origins: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)  # statements made anew to the source's
    steps_while: cst.BaseExpression | None = None
    lazy: bool = False
    epochs_while: cst.BaseExpression | None = None
    returns: bool = False  # the host returns what the loop returned
    stays: Stays | None = None
    unbroken: str = ""  # the module's flag that a break in the host's loop sets, when the loop's else asks for it


@dataclass(frozen=True, eq=False)
class Plans:
    """What becomes of a script.

    Attributes:
        runs: one plan for each training run, in source order.
        removed: what the script loses, over all runs.
        left: loops that train, too, and stay as they are, with the reason; inline: such evaluations.
        adopted: definitions of other files that the script takes over.
    """

    runs: tuple[Plan, ...]
    removed: frozenset[cst.CSTNode]
    left: tuple[Diagnostic, ...] = ()
    inline: tuple[Diagnostic, ...] = ()
    adopted: tuple[cst.BaseStatement, ...] = ()
