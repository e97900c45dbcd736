"""What may be left out once nobody wants its value."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.plan.effects import is_calm, only_computes
from lightify.syntax.frames import Frame
from lightify.syntax.query import block, dotted, method_call, method_name, nodes_of, walk

_CALLS = frozenset(
    """len int float str bool min max sum abs round range list time.time time.perf_counter datetime.datetime.now
    torch.device torch.cuda.is_available torch.cuda.device_count torch.accelerator.is_available
    torch.backends.mps.is_available logging.getLogger""".split()  # noqa: SIM905, a list of words
)
_METHODS = ("size", "dim", "item", "detach", "cpu")
#: What gives a new tensor, and changes a network where it is.
_IN_PLACE = ("to", "cuda", "cpu", "float", "double", "half", "type")
#: What an expression does not run by naming an object; elements are looked at apart.
_NOT_ASKED = frozenset(
    "__init__ __new__ __call__ __del__ __enter__ __exit__ __iter__ __next__ __getitem__ __setitem__".split()  # noqa: SIM905
)


def may_go(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for an expression that does nothing but give its value; the idiomatic style knows more of them."""
    if draft.settings.style == "idiomatic":
        return only_gives(value, frame, draft)
    return _is_plain(value, draft) and not _touches_more(value, frame, draft)


def only_gives(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for an expression that does nothing but give its value, as far as that can be seen."""
    computes = _is_plain(value, draft) or only_computes(
        value, frame, draft.tree, lambda call: _measures(call, frame, draft)
    )
    return computes and not _touches_more(value, frame, draft)


def _measures(call: cst.Call, frame: Frame, draft: Draft) -> bool:
    """True for a call of a criterion that the script made of torch's own."""
    variable = draft.kinds.variable(call.func, frame)
    return variable is not None and draft.kinds.is_loss(variable)


def _touches_more(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for what looks like a mere value, and uses up batches, makes elements or changes a network."""
    return (
        _goes_over_batches(value, frame, draft)
        or _makes_elements(value, frame, draft)
        or _changes_network(value, frame, draft)
        or _runs_own_code(value, frame, draft)
    )


def _changes_network(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for `net.half()`, which a tensor would leave as it is."""
    called = filter(None, map(method_call, nodes_of(value, cst.Call)))
    changed = (owner for owner, method in called if method in _IN_PLACE)
    return any(draft.kinds.kind(owner, frame) is Kind.MODULE for owner in changed)


def _runs_own_code(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for a property, an operator, a length or a text of the script's own objects that does more than compute."""
    methods = draft.tree.methods
    asked = {one.attr.value for one in nodes_of(value, cst.Attribute)}
    if any(_acts(method, draft) for name in asked for method in methods.get(name, ()) if method.decorators):
        return True
    named = (draft.kinds.variable(one, frame) for one in nodes_of(value, cst.Name, cst.Attribute))
    made = (each for one in named if one is not None for each in draft.kinds.assigned(one))
    classes = (draft.tree.classes.get(dotted(one.func) or "") for one in made if isinstance(one, cst.Call))
    inside = (part for one in classes if one is not None for part in block(one.body))
    own = (part for part in inside if isinstance(part, cst.FunctionDef) and part.name.value.startswith("__"))
    return any(_acts(method, draft) for method in own if method.name.value not in _NOT_ASKED)


def _acts(method: cst.FunctionDef, draft: Draft) -> bool:
    return not is_calm(method.with_changes(decorators=()), draft.tree)


def _is_plain(value: cst.BaseExpression, draft: Draft) -> bool:
    """True for names, numbers and calls that are known; an element may be made when it is asked for."""
    if next(nodes_of(value, cst.Await, cst.Yield, cst.NamedExpr, cst.Subscript), None) is not None:
        return False
    calls = nodes_of(value, cst.Call)
    return all(draft.tree.qualified(call.func) in _CALLS or method_name(call) in _METHODS for call in calls)


def _goes_over_batches(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for `list(loader)` and `max(b for b in it)`: a pass draws an order, and uses an iterator up."""
    asked = {arg.value for call in nodes_of(value, cst.Call) if dotted(call.func) == "len" for arg in call.args}
    asked |= {part.value for part in nodes_of(value, cst.Attribute)}
    return any(_gives_batches(node, frame, draft) for node in walk(value) if node not in asked)


def _gives_batches(node: cst.CSTNode, frame: Frame, draft: Draft) -> bool:
    variable = draft.kinds.variable(node, frame)
    if variable is None:
        return False
    return draft.kinds.of(variable) is Kind.LOADER or any(map(_is_used_up, draft.kinds.assigned(variable)))


def _is_used_up(value: cst.CSTNode) -> bool:
    """True for an iterator, which a pass leaves empty."""
    called = dotted(value.func) if isinstance(value, cst.Call) else None
    return isinstance(value, cst.GeneratorExp) or called in ("iter", "zip", "map", "filter", "enumerate", "reversed")


def _makes_elements(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for `data[0]` of an object that the script makes: a data set may draw what it gives."""
    owners = (draft.kinds.variable(one.value, frame) for one in nodes_of(value, cst.Subscript))
    made = (each for owner in owners if owner is not None for each in draft.kinds.assigned(owner))
    return any(isinstance(one, cst.Call) and (dotted(one.func) or "").rpartition(".")[2][:1].isupper() for one in made)
