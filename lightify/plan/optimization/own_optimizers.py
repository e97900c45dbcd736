"""Optimizers of the script's own class: what they do with a closure that a Trainer hands them."""

from __future__ import annotations

import libcst as cst

from lightify.analysis.calls import family_of
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.syntax.frames import Variable
from lightify.syntax.names import parameters
from lightify.syntax.query import block, dotted, is_constant, is_docstring, small, walk


def steps_without_closure(draft: Draft, optimizer: Variable) -> bool:
    """True for an optimizer of the script's own class whose `step` does not evaluate a closure before all else."""
    step = _own_step(draft, optimizer)
    return step is not None and not _begins_with_closure(step)


def works_before_closure(draft: Draft, optimizer: Variable | None) -> bool:
    """True where the `step` of the script's own optimizer asks for a closure, but not before all else."""
    step = _own_step(draft, optimizer) if optimizer is not None else None
    if step is None or _begins_with_closure(step):
        return False
    names = [param.name.value for param in parameters(step)][1:2]
    return any(isinstance(node, cst.Name) and node.value in names for node in walk(step.body))


def _own_step(draft: Draft, optimizer: Variable) -> cst.FunctionDef | None:
    """The `step` of an optimizer of the script's own class."""
    made = construction(optimizer, draft.tree, draft.nest.host_loop)
    definition = draft.tree.classes.get(dotted(made[1].func) or "") if made is not None else None
    for one in family_of(definition, draft.tree) if definition is not None else ():
        for part in block(one.body):
            if isinstance(part, cst.FunctionDef) and part.name.value == "step":
                return part
    return None


def _begins_with_closure(function: cst.FunctionDef) -> bool:
    names = [param.name.value for param in parameters(function)]
    for statement in block(function.body):
        if any(isinstance(node, cst.Call) and dotted(node.func) in names[1:2] for node in walk(statement)):
            return True
        inner = small(statement)
        plain = isinstance(inner, cst.Assign) and is_constant(inner.value)
        if not plain and not is_docstring(statement):
            return False
    return False
