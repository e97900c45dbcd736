"""What statements may do to the weights that the step changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.held import held_by
from lightify.facts import Kind
from lightify.plan.constructions import construction
from lightify.plan.effects import BUILTINS, keeps_to_itself
from lightify.plan.hidden import runs_apart
from lightify.plan.kinds import Kinds
from lightify.syntax.flow import usage
from lightify.syntax.frames import Expression, Field, Frame, Item, Step, Variable
from lightify.syntax.names import parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    MODULE_SELF,
    dotted,
    method_call,
    nodes_of,
    walk,
)

#: What may end the batch where it stands.
LEAVING = (cst.Break, cst.Continue, cst.Return, cst.Raise, cst.Assert)
_WEIGHTS = (Kind.MODULE, Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER)


def may_come_early(until: Sequence[Step], kinds: Kinds, tree: Tree) -> Callable[[Step], bool]:
    """Tells of what stands after backward whether it may as well run before; `until` ends with backward."""
    made, loss = usage(until).writes, usage(until[-1:]).reads

    def may(step: Step) -> bool:
        if not isinstance(step, Item) or touches_weights(step, kinds, tree) or not runs_apart(step, (), tree):
            return False
        changed = (part.target for part in walk(step.node) if isinstance(part, cst.AugAssign))
        in_place = {step.frame.resolve(dotted(target) or "_") for target in changed}
        return not usage([step]).writes & loss and not in_place & made

    return may


def touches_weights(step: Item, kinds: Kinds, tree: Tree) -> bool:
    """True when a statement may read or change weights or gradients, or run code that does."""
    for part in walk(step.node):
        if isinstance(part, (cst.FunctionDef, cst.ClassDef, cst.Try, cst.Del, *LEAVING)):
            return True
        if isinstance(part, cst.Name) and holds_weights(part, step.frame, kinds):
            return True
        if isinstance(part, cst.Attribute) and part.attr.value in ("grad", "parameters"):
            return True
        if isinstance(part, cst.AssignTarget) and not isinstance(part.target, (cst.Name, cst.Tuple)):
            return True
        if isinstance(part, cst.Call) and calls_out(part, step.frame, tree):
            return True
    return False


def holds_weights(node: cst.Name, frame: Frame, kinds: Kinds) -> bool:
    """True for networks, what trains them, and what was built from them before the loops: `EMA(model)`."""
    variable = kinds.meaning(node, frame)
    if isinstance(variable, Expression):
        return any(holds_weights(name, variable.frame, kinds) for name in nodes_of(variable.node, cst.Name))
    if kinds.of(variable) in _WEIGHTS or kinds.shares_weights(variable):
        return True
    if variable in kinds.assigned_in_loops or isinstance(variable, Field) or _is_local_there(variable, kinds):
        return False
    if kinds.of(variable) is None and variable.name in _called(variable.frame.function):
        return True
    found = construction(variable, kinds.tree, kinds.host_loop)
    return found is not None and any(
        kinds.kind(name, variable.frame) in _WEIGHTS or name.value in _called(variable.frame.function)
        for name in nodes_of(found[1], cst.Name)
    )


def _is_local_there(variable: Variable, kinds: Kinds) -> bool:
    """True for a local of a function that the loops define."""
    function = variable.frame.function
    return function is not None and kinds.host_loop in kinds.tree.ancestors(function)


@lru_cache(maxsize=64)
def _called(function: cst.FunctionDef | None) -> frozenset[str]:
    """The parameters of a function that it calls: they may well be networks."""
    if function is None:
        return frozenset()
    calls = (node for node in walk(function.body) if isinstance(node, cst.Call))
    return frozenset(one.name.value for one in parameters(function)) & {dotted(call.func) or "" for call in calls}


def calls_out(call: cst.Call, frame: Frame, tree: Tree) -> bool:
    """True for own functions that do more than compute, in-place tensor methods, what leaves or saves, the unknown."""
    used = method_call(call)
    if used is not None and used[1].endswith("_") and not used[1].endswith("__"):
        return True
    name = dotted(call.func)
    if name is not None and name.startswith(MODULE_SELF):
        return False
    own = [*run_by(call, tree), *handed_on(call, tree)]
    if own:
        return not all(keeps_to_itself(one, tree) for one in own)
    if name is None:
        return not isinstance(call.func, cst.Attribute)  # `tools[0](x)`, `getattr(tool, "draw")(x)`
    if name.startswith("self."):
        return True
    head = frame.resolve(name.partition(".")[0])
    full = tree.qualified(call.func) or name
    if full in ("torch.save", "sys.exit", "exit", "quit") or not isinstance(head, Variable):
        return True
    known = head.name in tree.classes or head.name in tree.imports or head.name in BUILTINS
    return name == head.name and (head.frame.name != "" or not known)


def handed_on(call: cst.Call, tree: Tree) -> list[cst.FunctionDef]:
    """The script's functions that a call hands on: `map(show, names)`."""
    named = (arg.value for arg in call.args if isinstance(arg.value, (cst.Name, cst.Attribute)))
    things = (thing for node in named for thing in held_by(node, tree))
    return [thing for thing in things if isinstance(thing, cst.FunctionDef) and not _is_property(thing)]


def _is_property(function: cst.FunctionDef) -> bool:
    return any(dotted(mark.decorator) == "property" for mark in function.decorators)
