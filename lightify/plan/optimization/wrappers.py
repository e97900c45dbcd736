"""Objects of the script's own class around an optimizer of torch: `NoamOpt(512, 1, 400, torch.optim.Adam(...))`.

The script steps them as before; the Trainer is told the optimizer within, so that its checkpoints hold the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from lightify.analysis.calls import family_of
from lightify.analysis.held import Place, flows, objects_at, place_of
from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.plan.types import Made
from lightify.recognisers.optimizers import kind_of
from lightify.syntax.frames import Field, Variable
from lightify.syntax.query import dotted, path_node


def wrapped_optimizers(draft: Draft, used: Iterable[Variable]) -> list[Made]:
    """The optimizers within the wrappers among some variables, where each of them has one for good."""
    owners = {variable.owner if isinstance(variable, Field) else variable for variable in used}
    candidates = sorted({*used, *owners}, key=lambda v: v.order)
    fields = {variable: field for variable in candidates if (field := _optimizer_field(draft, variable))}
    given = [name for variable in fields for name in _given(draft, variable)]
    if len(given) > len({*given}):
        return []  # two wrappers may have one optimizer
    return [Made(variable, None, None, False, field) for variable, field in fields.items()]


def _given(draft: Draft, variable: Variable) -> set[str]:
    """Names of optimizers that what a variable holds is made around."""
    calls = (value for value in draft.kinds.values(variable) if isinstance(value, cst.Call))
    named = (arg.value for call in calls for arg in call.args if isinstance(arg.value, (cst.Name, cst.Attribute)))
    return {dotted(value) or "" for value in named if _is_optimizer(draft, value, frozenset())}


def _optimizer_field(draft: Draft, variable: Variable) -> str:
    """The one field of the object in a variable that is an optimizer and stays the same; empty for any other object."""
    if draft.kinds.of(variable) is not Kind.OBJECT:
        return ""
    classes = {*_classes(draft, variable)}
    if len(classes) != 1:
        return ""
    definition = classes.pop()
    family = family_of(definition, draft.tree)
    names = dict.fromkeys(
        name
        for (place, name), _ in flows(draft.tree)
        if isinstance(place, cst.ClassDef) and place in family and _holds_optimizer(draft, place, name, frozenset())
    )
    if len(names) != 1:
        return ""
    name = next(iter(names))
    return "" if draft.may_change(path_node(f"{variable.name}.{name}"), variable.frame) else name


def _classes(draft: Draft, variable: Variable) -> Iterator[cst.ClassDef]:
    """The script's classes that the object in a variable may be of."""
    made = [draft.tree.classes.get(dotted(maker) or "") for maker in draft.kinds.makers(variable)]
    yield from filter(None, made)
    if not made and not isinstance(variable, Field):
        yield from objects_at(variable.frame.function, variable.name, draft.tree)


def _holds_optimizer(draft: Draft, place: Place, name: str, within: frozenset[tuple[Place, str]]) -> bool:
    """True for a place that gets nothing but optimizers of torch."""
    if (place, name) in within:
        return True
    values = [value for where, value in flows(draft.tree) if where == (place, name)]
    return bool(values) and all(_is_optimizer(draft, value, within | {(place, name)}) for value in values)


def _is_optimizer(draft: Draft, value: cst.BaseExpression, within: frozenset[tuple[Place, str]]) -> bool:
    if kind_of(value, draft.tree) is Kind.OPTIMIZER:
        return True
    place = place_of(value, draft.tree)
    return place is not None and _holds_optimizer(draft, *place, within)
