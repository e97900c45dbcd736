"""How the Trainer runs the body of a batch loop under automatic optimization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.types import FateNote
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable

Clip = tuple[cst.BaseExpression, Frame, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Automatic:
    """The body of a batch loop as the Trainer runs it.

    Attributes:
        before: up to the loss; early: what stood after backward and may run before it.
        middle: what runs between backward and step; after: what followed the step.
        clip: (value, frame, "norm" or "value").
        scheduler: stepped right after the optimizer, each batch.
    """

    before: tuple[Step, ...]
    loss: cst.BaseExpression
    loss_frame: Frame
    early: tuple[Step, ...] = ()
    middle: tuple[Step, ...] = ()
    after: tuple[Step, ...]
    optimizer: Variable | None
    clip: Clip | None = None
    scheduler: Variable | None = None
    fates: Mapping[cst.CSTNode, FateNote] = field(default_factory=dict)
    start: tuple[Step, ...] = ()  # with a closure: what runs once a batch, before the step
    closure: cst.FunctionDef | None = None
    end: tuple[Step, ...] = ()  # what leaves no gradients behind, where someone may notice
    step: tuple[Step, ...] = ()  # between backward and the last use of gradients, when the script steps in its own way
    zero: tuple[Step, ...] | None = None  # the script's own zeroing, none where it has none; None: the Trainer zeroes
    backward: Item | None = None  # how the script takes the backward pass of `loss`; None: plainly
    itself: bool = False  # `step` takes the optimizer without the wrapper of the Trainer
    unseen: bool = False  # what steps is not known, nor what it reads
    leaves: bool = False  # a batch may be left before its step
    always: tuple[Step, ...] = ()  # what runs at the end of such a batch, too


def done_by_trainer(what: str) -> FateNote:
    """The fate of a statement whose work is the Trainer's."""
    return FateNote(Fate.REPLACED, f"Trainer: {what}", "automatic optimization")


def is_made_anew(optimizer: Variable | None, nest: Nest) -> bool:
    """True when the loops bind the optimizer's name, or that of the object which holds it."""
    anew = usage(nest.body + nest.epoch_start + nest.epoch_end).writes | nest.taken
    return optimizer in anew or (isinstance(optimizer, Field) and optimizer.owner in anew)


def is_rebound(read: Automatic, rebound: frozenset[str]) -> bool:
    """True when functions which stay bind the optimizer's name anew."""
    optimizer = read.optimizer
    if isinstance(optimizer, Field):
        return f".{optimizer.name}" in rebound
    return optimizer is not None and optimizer.frame.is_module and optimizer.name in rebound
