"""What a variable of the loops holds before them: infinity, 0, a path."""

from __future__ import annotations

import libcst as cst

from lightify.plan.draft import Draft
from lightify.syntax.flow import usage
from lightify.syntax.frames import Variable
from lightify.syntax.names import declared_elsewhere, scope_nodes
from lightify.syntax.query import assigned_pairs, code, small

_INFINITIES = ("float('inf')", "math.inf", "numpy.inf", "numpy.Inf", "torch.inf")


def start_of(draft: Draft, variable: Variable) -> str:
    """The value that the host gives a variable before the run, as text; empty when that can't be told."""
    repeated = any(isinstance(one, (cst.For, cst.While)) for one in draft.tree.ancestors(draft.nest.host_loop))
    of_host = variable.frame is draft.nest.host or (variable.frame.is_module and _runs_once(draft, variable.name))
    if not of_host or repeated:
        return ""
    owner = variable.frame.function or draft.tree.scope
    found = [
        (node, value)
        for node in scope_nodes(owner)
        if isinstance(node, cst.Assign) and len(node.targets) == 1
        for target, value in assigned_pairs(node.targets[0].target, node.value)
        if isinstance(target, cst.Name) and target.value == variable.name
    ]
    before = [small(item.node) for item in draft.around.before]
    own = variable.frame is draft.nest.host
    first = [value for node, value in found if node in before or not own]
    written = [one for one in draft.around.before if variable in usage([one]).writes]
    if len(first) != 1 or len(written) != own:
        return ""
    value = first[0]
    sign = "-" if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus) else ""
    inner = value.expression if isinstance(value, cst.UnaryOperation) else value
    if isinstance(inner, cst.Call):
        text = code(inner).replace('"', "'")
        return {"float('-inf')": "-inf", "float('inf')": f"{sign}inf"}.get(text, "")
    if draft.tree.qualified(inner) in _INFINITIES:
        return f"{sign}inf"
    return f"{sign}{inner.value}" if isinstance(inner, (cst.Integer, cst.Float, cst.SimpleString)) else ""


def _runs_once(draft: Draft, name: str) -> bool:
    """True when the host's function is called once, and no other function that stays assigns a global."""
    function, tree = draft.nest.host.function, draft.tree
    opened = {opened.function for opened in draft.nest.opened}
    others = [one for one in tree.functions.values() if one is not function and one not in opened]
    if any(name in declared_elsewhere(one) for one in others):
        return False
    while function is not None:
        named = [node for node in tree.mentions.get(function.name.value, ()) if node is not function.name]
        around = list(tree.ancestors(named[0])) if len(named) == 1 else None
        if around is None or any(isinstance(one, (cst.For, cst.While, cst.Lambda)) for one in around):
            return False
        function = next((one for one in around if isinstance(one, cst.FunctionDef)), None)
    return True


def infinite(mode: str) -> tuple[str, ...]:
    return ("inf",) if mode == "min" else ("-inf",)


def starts_below(start: str, mode: str) -> bool:
    """True for a start that the first epoch surpasses: infinity, 0 for an accuracy, 1e9 for a loss."""
    try:
        value = float(start)
    except ValueError:
        return False
    return value <= 0 if mode == "max" else value >= 1e3
