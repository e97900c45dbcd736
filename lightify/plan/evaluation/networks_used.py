"""Which statements may run a network, and so notice whether it trains or evaluates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.facts import Kind, Scope
from lightify.plan.constructions import construction
from lightify.plan.effects import computes_from, keeps_to_itself, only_writes
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.weights import calls_out, handed_on
from lightify.syntax.frames import Binding, Field, Frame, Item, Step, Variable, live_nodes
from lightify.syntax.query import IN_PLACE, assigned_pairs, dotted, expression_of, method_call, root_of, walk

#: Attributes of a network that its mode does not change.
QUIET = ("state_dict", "parameters", "named_parameters", "zero_grad")
#: Made from a network's parameters, but they run none.
_APART = (Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER, Kind.LOADER)


def uses_modules(step: Step, kinds: Kinds, *, asking: bool = False) -> bool:
    """True when a step may run a network or hand it to something that does.

    Args:
        asking: the script's own functions are asked whether they may, too.
    """
    if not isinstance(step, Item):
        pairs = assigned_pairs(step.target, step.value)
        values = [value for target, value in pairs if not _is_itself(step, target, value, kinds)]
        names = [node for value in values for node in walk(value) if isinstance(node, cst.Name)]
        return any(kinds.kind(node, step.value_frame) is Kind.MODULE for node in names)
    nodes = list(live_nodes(step.node, step.frame))
    moved = method_call(expression_of(step.node))
    if moved is not None and moved[1] in IN_PLACE and isinstance(moved[0], cst.Name):
        return False  # `model.to(device)`, a statement
    asked = (node.value for node in nodes if isinstance(node, cst.Attribute) and node.attr.value in QUIET)
    quiet: set[cst.CSTNode | None] = {root_of(node) for node in asked if dotted(node)}  # `net.module.state_dict()`
    quiet |= {node.target for node in nodes if isinstance(node, cst.AssignTarget)}
    return any(
        (isinstance(node, cst.Name) and node not in quiet and kinds.kind(node, step.frame) is Kind.MODULE)
        or (isinstance(node, cst.Call) and may_run_network(node, step.frame, kinds, asking))
        for node in nodes
    )


def _is_itself(step: Binding, target: cst.CSTNode, value: cst.CSTNode, kinds: Kinds) -> bool:
    """True where a name gets what it holds: `net = train(net)`."""
    variable = kinds.variable(value, step.value_frame)
    return variable is not None and kinds.variable(target, step.target_frame) is variable


def may_run_network(call: cst.Call, frame: Frame, kinds: Kinds, asking: bool) -> bool:
    """True for a call that may run a network by what it is given, or by what its object holds."""
    tree, used = kinds.tree, method_call(call)
    owner = _object(used[0], frame, kinds) if used is not None else None
    if dotted(call.func) == "torch.save" or (owner is not None and kinds.of(owner) in _APART):
        return False
    own = [*run_by(call, tree), *handed_on(call, tree)]
    if own:
        busy = [one for one in own if not (keeps_to_itself(one, tree) or (asking and only_writes(one, tree)))]
        return bool(busy) and (_hands_network(call, frame, kinds) or _reaches_network(busy, kinds))
    if owner is None or used is None:
        return calls_out(call, frame, tree)
    return not computes_from(used[1]) and _holds_network(owner, kinds)


def _object(node: cst.BaseExpression, frame: Frame, kinds: Kinds) -> Variable | None:
    """The variable that an object is in, a field of `self` that nothing has asked for yet included."""
    path = dotted(node) or ""
    known = kinds.variable(node, frame)
    if known is None and path.startswith("self.") and path.count(".") == 1 and frame.function is not None:
        meaning = frame.resolve(path)
        return meaning if isinstance(meaning, Variable) else None
    return known


def _hands_network(call: cst.Call, frame: Frame, kinds: Kinds) -> bool:
    """True for a call with a network among its arguments, or of an object that may hold one."""
    used = method_call(call)
    owner = _object(used[0], frame, kinds) if used is not None else None
    if used is not None and (owner is None or _holds_network(owner, kinds)):
        return True
    return _is_given_network(call, frame.function, frame, kinds, frozenset())


def _reaches_network(functions: Iterable[cst.FunctionDef], kinds: Kinds) -> bool:
    """True where functions, or those that they run, name a network or something that may hold one."""
    seen = list(functions)
    for function in seen:
        frame = Frame(function.name.value, function, kinds.module)
        for node in walk(function.body):
            if isinstance(node, cst.Name) and _may_be_network(node, frame, kinds):
                return True
            if isinstance(node, cst.Call):
                own = [*run_by(node, kinds.tree), *handed_on(node, kinds.tree)]
                seen += [one for one in own if one not in seen]
                if not own and may_run_network(node, frame, kinds, asking=True):
                    return True
    return False


def _may_be_network(name: cst.Name, frame: Frame, kinds: Kinds) -> bool:
    """True for a network, and for a global that one may be part of."""
    if kinds.in_scope(name.value, frame.function) is Kind.MODULE:
        return True
    meaning = frame.resolve(name.value)
    if not isinstance(meaning, Variable) or isinstance(meaning, Field) or not meaning.frame.is_module:
        return False
    values = kinds.assigned(meaning)
    return any(_names_network(value, kinds.tree.around(value, cst.FunctionDef), kinds) for value in values)


def _names_network(node: cst.CSTNode, scope: Scope, kinds: Kinds) -> bool:
    quiet = {one.value for one in walk(node) if isinstance(one, cst.Attribute) and one.attr.value in QUIET}
    named = (one for one in walk(node) if isinstance(one, (cst.Name, cst.Attribute)) and one not in quiet)
    return any(kinds.in_scope(dotted(one), scope) is Kind.MODULE for one in named)


def _holds_network(owner: Variable, kinds: Kinds, seen: frozenset[Variable] = frozenset()) -> bool:
    """True for an object that was made with a network, or may have been."""
    made = list(_made(owner, kinds))
    if not made:
        return isinstance(owner, Field)
    return any(_is_given_network(value, scope, owner.frame, kinds, seen | {owner}) for value, scope in made)


def _made(owner: Variable, kinds: Kinds) -> Iterator[tuple[cst.Call, Scope]]:
    """The calls that made the object in a variable, with the functions that they stand in."""
    if not isinstance(owner, Field):
        found = construction(owner, kinds.tree, kinds.host_loop)
        if found is not None:
            yield found[1], owner.frame.function
        return
    for node in kinds.tree.nodes(cst.Assign):
        if isinstance(node.value, cst.Call) and any(dotted(one.target) == f"self.{owner.name}" for one in node.targets):
            yield node.value, kinds.tree.around(node, cst.FunctionDef)


def _is_given_network(value: cst.Call, scope: Scope, frame: Frame, kinds: Kinds, seen: frozenset[Variable]) -> bool:
    if any(_names_network(arg.value, scope, kinds) for arg in value.args):
        return True
    given = (node.value for arg in value.args for node in walk(arg.value) if isinstance(node, cst.Name))
    others = (one for one in map(frame.resolve, given) if isinstance(one, Variable) and not isinstance(one, Field))
    return any(kinds.of(one) not in _APART and _holds_network(one, kinds, seen) for one in others if one not in seen)
