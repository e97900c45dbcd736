"""Whether a batch, unpacked again at its end, gives the parts that the step had."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.syntax.frames import Frame
from lightify.syntax.names import same_scope
from lightify.syntax.query import block, dotted, method_call, walk

#: What hands on what it goes over, its first argument.
_HANDS_ON = ("list", "tuple", "iter", "reversed", "sorted")


def unpacks_alike(target: cst.CSTNode, source: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for names of a batch that is no iterator, no object of the script's own and no list that others change."""
    if isinstance(target, cst.Name):
        return True
    starred = any(isinstance(part, cst.StarredElement) for part in walk(target))  # makes a new list
    return not starred and _gives_tuples(source, frame, draft)


def _gives_tuples(source: cst.CSTNode, frame: Frame, draft: Draft, names: frozenset[str] = frozenset()) -> bool:
    """True for loaders, what gives tuples as far as it can be seen, and what is not known."""
    if isinstance(source, (cst.List, cst.Tuple)):
        return all(isinstance(one.value, cst.Tuple) for one in source.elements)
    if isinstance(source, (cst.ListComp, cst.GeneratorExp)):
        return isinstance(source.elt, cst.Tuple)
    if isinstance(source, cst.Call):
        return _call_gives_tuples(source, frame, draft, names)
    variable = draft.kinds.variable(source, frame)
    if variable is None or draft.kinds.of(variable) is Kind.LOADER or variable.name in names:
        return True
    names |= {variable.name}
    return all(_gives_tuples(value, variable.frame, draft, names) for value in draft.kinds.assigned(variable))


def _call_gives_tuples(call: cst.Call, frame: Frame, draft: Draft, names: frozenset[str]) -> bool:
    name, tree = dotted(call.func) or "", draft.tree
    if name in _HANDS_ON and call.args:
        return _gives_tuples(call.args[0].value, frame, draft, names)
    if name in tree.classes:
        defined = [part for part in block(tree.classes[name].body) if isinstance(part, cst.FunctionDef)]
        gives = [one for one in defined if one.name.value in ("__iter__", "__next__", "__getitem__")]
        return all(_makes_tuples(one) for one in gives)
    used = method_call(call)
    own = [tree.functions[name]] if name in tree.functions else tree.methods.get(used[1], ()) if used else ()
    return name != "map" and all(_makes_tuples(one) for one in own)


def _makes_tuples(function: cst.FunctionDef) -> bool:
    """True for a function that yields nothing but tuples; one that yields nothing may give a loader."""
    given = [node.value for node in same_scope(block(function.body)) if isinstance(node, cst.Yield)]
    return all(isinstance(value, cst.Tuple) for value in given)
