"""Where gradients are off when the loops are reached: `Trainer.fit` turns them on, and leaves them on."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.opening import gradients
from lightify.plan.draft import Draft, Flatten
from lightify.syntax.frames import Item
from lightify.syntax.query import dotted, expression_of, walk

_OFF = ("torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.inference_mode")
_SETS = ("torch.set_grad_enabled", "torch.autograd.set_grad_enabled")


def gradients_off(draft: Draft) -> Flatten | None:
    """Says so where the script trains under `enable_grad()` alone."""
    for node in _turned_off(draft):
        return Flatten(
            "gradients are off where the loop stands, and Trainer.fit turns them on for good",
            draft.tree.span(node),
            "turn gradients off where they are not wanted: with torch.no_grad()",
        )
    return None


def _turned_off(draft: Draft) -> Iterator[cst.CSTNode]:
    tree, nest = draft.tree, draft.nest
    steps = [step for step in draft.whole() if isinstance(step, Item)]
    moved = {node for step in steps for node in walk(step.node)}
    if any(_sets(node, draft) for node in moved):
        return  # the loops set it themselves, as they need it
    calls = callers(tree).get(nest.host.function, []) if nest.host.function is not None else []
    for outer in (around for place in (nest.host_loop, *calls) for around in tree.ancestors(place)):
        if isinstance(outer, cst.With) and gradients(outer, nest.host, tree) is False:
            yield outer
        elif isinstance(outer, cst.FunctionDef):
            managers = (getattr(d.decorator, "func", d.decorator) for d in outer.decorators)
            yield from (outer for manager in managers if tree.qualified(manager) in _OFF)
    own = [item.node for item in draft.around.before]
    whole = own if nest.host.is_module else [*own, *tree.module.body]
    last = [statement for statement in whole if _sets(statement, draft)][-1:]
    for statement in last:
        if not isinstance(call := expression_of(statement), cst.Call) or dotted(call.args[0].value) != "True":
            yield statement


def _sets(node: cst.CSTNode, draft: Draft) -> bool:
    """True for the statement `torch.set_grad_enabled(...)`."""
    call = expression_of(node) if isinstance(node, cst.SimpleStatementLine) else None
    return isinstance(call, cst.Call) and draft.tree.qualified(call.func) in _SETS
