"""Runs that an Accelerator drives: it stays the owner of devices, batches, gradients and steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.draft import Draft
from lightify.plan.kinds import Kinds
from lightify.plan.types import TrainerOption
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Variable
from lightify.syntax.names import local_names
from lightify.syntax.query import children, method_call, method_name, walk

OWNS_STEPS = "accelerate takes the backward pass and the optimizer steps, in its own precision and windows"


#: Methods that read or write the networks that were prepared.
_SAVES = {"save_state", "load_state", "save_model", "prepare"}


def device_options(draft: Draft) -> list[TrainerOption] | None:
    """The Accelerator's own device, in terms of the host; None when the host does not know the Accelerator."""
    name = _in_host(draft)
    if name is None:
        return None
    index = f"{name}.device.index"
    return [
        TrainerOption("accelerator", f"{name}.device.type"),
        TrainerOption("devices", f"[{index}] if {index} else 1"),  # each process has a device of its own
    ]


def _in_host(draft: Draft) -> str | None:
    """The Accelerator, as the host names it."""
    known = usage(draft.around.before)
    used = usage(draft.whole()).reads | known.reads | known.writes
    for variable in sorted(used, key=lambda v: v.order):
        frame = variable.frame
        if draft.kinds.of(variable) is not Kind.ACCELERATOR:
            continue
        if isinstance(variable, Field) or frame is draft.nest.host or frame.is_module:
            return variable.path
    return None


def back_on_device(draft: Draft, handed: Iterable[Variable]) -> tuple[str, ...]:
    """Moves for after fit, which leaves its networks on the CPU, where the script goes on with them."""
    name, after = _in_host(draft), draft.around.after
    reads = usage(after).reads
    saved = any(method_name(node) in _SAVES for item in after for node in walk(item.node))
    used = sorted((v for v in handed if saved or v in reads), key=lambda v: v.order)
    return tuple(f"{one.path}.to({name}.device)" for one in used if name is not None)


def backwards_of_others(nest: Nest, kinds: Kinds) -> frozenset[cst.Call]:
    """Calls like `accelerator.backward(loss)`: of an object that is handed a loss, and is none."""
    steps = [step for step in (*nest.epoch_start, *nest.body, *nest.epoch_end) if isinstance(step, Item)]
    return frozenset(call for step in steps for call in _given_a_loss(step.node, step.frame, frozenset(), nest, kinds))


def _given_a_loss(
    node: cst.CSTNode, frame: Frame, local: frozenset[str], nest: Nest, kinds: Kinds
) -> Iterator[cst.Call]:
    if isinstance(node, cst.FunctionDef):
        local |= local_names(node)
    used = method_call(node)
    if isinstance(node, cst.Call) and used is not None and used[1] == "backward" and node in nest.sites:
        variable = kinds.variable(used[0], frame)
        computed = variable is None or variable.name in local or variable in kinds.assigned_in_loops
        accelerated = variable is not None and kinds.of(variable) is Kind.ACCELERATOR
        if accelerated or (node.args and not computed):
            yield node
    for child in children(node):
        yield from _given_a_loss(child, frame, local, nest, kinds)
