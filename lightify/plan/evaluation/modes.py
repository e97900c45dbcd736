"""Calls that put a network into a mode."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.plan.kinds import Kinds
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.query import dotted, expression_of, method_call


def mode_call(step: Step, kinds: Kinds, mode: str) -> Variable | None:
    """The network that `net.eval()` or `net.train()` is called on, as a statement of its own."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    used = method_call(call)
    if not isinstance(step, Item) or not isinstance(call, cst.Call) or used is None:
        return None
    argument = dotted(call.args[0].value) if len(call.args) == 1 else None
    fits = {"eval": (("eval", None), ("train", "False")), "train": (("train", None), ("train", "True"))}[mode]
    if not any(used[1] == name and argument == value and (value is not None or not call.args) for name, value in fits):
        return None
    variable = kinds.variable(used[0], step.frame)
    return variable if variable is not None and kinds.of(variable) is Kind.MODULE else None
