"""Gradient scalers of the script's own: the step that one takes, and runs that do without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.weights import touches_weights
from lightify.plan.types import FateNote
from lightify.syntax.comments import uncommented
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Variable
from lightify.syntax.names import scope_nodes
from lightify.syntax.query import (
    atom,
    block,
    code,
    dotted,
    expression_of,
    map_children,
    method_call,
    target_names,
    walk,
)

_NOTE = FateNote(Fate.REPLACED, "Trainer(plugins=...)", "the Trainer scales where there is a scaler")


@dataclass(frozen=True, eq=False)
class Scaled:
    """The steps of a scaler in a batch: where each stands, and the plain calls in the place of two of them."""

    scaler: Variable
    unscaled: int | None
    updated: int
    plain: dict[int, cst.Call]


@dataclass(frozen=True, eq=False)
class Alone:
    """The loops in which the step that a scaler takes stands without its other form.

    Attributes:
        scaler: what the condition asks for.
    """

    nest: Nest
    analysis: Analysis
    scaler: Variable
    fates: dict[cst.CSTNode, FateNote]


def scaler_alone(nest: Nest, analysis: Analysis, kinds: Kinds) -> Alone | None:
    """Reads `if scaler is not None: <its step> else: <the same step without it>`."""
    for number, step in enumerate(nest.body):
        node = step.node if isinstance(step, Item) else None
        if not isinstance(step, Item) or not isinstance(node, cst.If) or not isinstance(node.orelse, cst.Else):
            continue
        scaler = _asked(node.test, step.frame, kinds)
        scaled, bare = block(node.body), block(node.orelse.body)
        if scaler is None or _text(_without(line, scaler, step.frame, kinds) for line in scaled) != _text(bare):
            continue
        origins: dict[cst.CSTNode, cst.CSTNode] = {}
        lines = [line for one in scaled for line in _unscaled_first(one, scaler, step.frame, kinds, origins)]
        head = node.with_changes(body=cst.IndentedBlock([]), orelse=None)
        origins[head] = node
        other = {part for line in bare for part in walk(line)}
        fates: dict[cst.CSTNode, FateNote] = {head: _NOTE}
        fates |= {
            part: _NOTE for part in other if isinstance(part, (cst.BaseSmallStatement, cst.BaseCompoundStatement))
        }
        told = replace(
            nest,
            body=(*nest.body[:number], *(Item(line, step.frame) for line in lines), *nest.body[number + 1 :]),
            sites=tuple(site for site in nest.sites if site not in other),
            origins={**nest.origins, **origins},
        )
        backwards = tuple(fact for fact in analysis.backwards if fact.call not in other)
        return Alone(told, replace(analysis, backwards=backwards), scaler, fates)
    return None


def made_for(draft: Draft, scaler: Variable) -> str | None:
    """When the host makes a scaler before the run, as text: empty for always; None when that can't be told."""
    if isinstance(scaler, Field) or draft.around.repeated or scaler in usage(draft.whole()).writes:
        return None
    if scaler.frame is not draft.nest.host and not scaler.frame.is_module:
        return None
    values = [
        node.value
        for node in scope_nodes(scaler.frame.function or draft.tree.scope)
        if isinstance(node, (cst.Assign, cst.AnnAssign))
        for target in (node.targets if isinstance(node, cst.Assign) else [node])  # type: ignore[list-item]
        if scaler.name in target_names(target.target)
    ]
    made = [value for value in values if value is not None and dotted(value) != "None"]
    if len(made) != 1 or len(values) > 2:
        return None
    if isinstance(made[0], cst.Call):
        return "" if len(values) == 1 else f"{scaler.path} is not None"
    return f"{scaler.path} is not None" if isinstance(made[0], cst.IfExp) and len(values) == 1 else None


def condition_of(draft: Draft, test: cst.BaseExpression, frame: Frame) -> str | None:
    """A question for a scaler in terms of the host: `scaler is not None`."""
    scaler = _asked(test, frame, draft.kinds)
    known = scaler is not None and in_host(draft, test, frame) is not None
    return f"{scaler.path} is not None" if scaler is not None and known else None


def _asked(test: cst.BaseExpression, frame: Frame, kinds: Kinds) -> Variable | None:
    """The scaler in `scaler is not None` and `if scaler:`."""
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        one = test.comparisons[0]
        if not isinstance(one.operator, cst.IsNot) or dotted(one.comparator) != "None":
            return None
        test = test.left
    variable = kinds.variable(test, frame)
    return variable if variable is not None and kinds.of(variable) is Kind.SCALER else None


def _calls(node: cst.CSTNode | None, scaler: Variable, frame: Frame, kinds: Kinds) -> str:
    """The scaler's method that an expression calls."""
    used = method_call(node)
    return used[1] if used is not None and kinds.variable(used[0], frame) is scaler else ""


def _without(node: cst.CSTNode, scaler: Variable, frame: Frame, kinds: Kinds) -> cst.CSTNode:
    """A statement as it reads in full precision."""

    def change(part: cst.CSTNode) -> cst.CSTNode:
        if isinstance(part, cst.IndentedBlock):
            kept = [line for line in part.body if _calls(expression_of(line), scaler, frame, kinds) not in _OWN]
            part = part.with_changes(body=kept)
        if isinstance(part, cst.Call) and part.args:
            called = _calls(part, scaler, frame, kinds)
            if called == "scale":
                return part.args[0].value
            if called == "step":
                return cst.Call(cst.Attribute(part.args[0].value, cst.Name("step")), part.args[1:])
        return map_children(part, change)

    return cst.Pass() if _calls(expression_of(node), scaler, frame, kinds) in _OWN else change(node)


_OWN = ("unscale_", "update")


def _text(lines: Iterator[cst.CSTNode] | Sequence[cst.CSTNode]) -> list[str]:
    return [code(uncommented(line)).strip() for line in lines if not isinstance(line, cst.Pass)]


def _unscaled_first(
    node: cst.BaseStatement, scaler: Variable, frame: Frame, kinds: Kinds, origins: dict[cst.CSTNode, cst.CSTNode]
) -> list[cst.BaseStatement]:
    """`if clip: scaler.unscale_(optimizer); clip(...)` with the gradients unscaled before: the Trainer always does."""
    if not isinstance(node, cst.If) or node.orelse is not None:
        return [node]
    body = block(node.body)
    if _calls(expression_of(body[0]), scaler, frame, kinds) != "unscale_" or len(body) < 2:
        return [node]
    rest = node.with_changes(body=node.body.with_changes(body=body[1:]))
    origins[rest] = node
    return [body[0], rest]


def scaled_step(draft: Draft) -> Scaled | str | None:
    """Reads `scale(loss).backward()`, perhaps `unscale_(optimizer)`, `step`, `update`; None without a scaler."""
    places: dict[str, list[int]] = {"scale": [], "unscale_": [], "step": [], "update": []}
    plain: dict[int, cst.Call] = {}
    scalers: set[Variable] = set()
    optimizers: set[Variable | None] = set()
    for number, step in enumerate(draft.nest.body):
        call = expression_of(step.node) if isinstance(step, Item) else None
        used = method_call(call)
        if not isinstance(step, Item) or not isinstance(call, cst.Call) or used is None:
            continue
        inner = method_call(used[0]) if used[1] == "backward" and not call.args else None
        receiver, method = inner if inner is not None else used
        given = used[0].args if inner is not None else call.args  # type: ignore[attr-defined]
        scaler = draft.kinds.variable(receiver, step.frame)
        if scaler is None or draft.kinds.of(scaler) is not Kind.SCALER or method not in places:
            continue
        if len(given) != (method != "update") or any(arg.keyword is not None or arg.star for arg in given):
            return "a call of the scaler has other arguments"
        if (method == "scale") != (inner is not None):
            return "the scaled loss is used otherwise"
        scalers.add(scaler)
        places[method].append(number)
        if method in ("unscale_", "step"):
            optimizers.add(draft.kinds.variable(given[0].value, step.frame))
        if method in ("scale", "step"):
            name = "backward" if method == "scale" else "step"
            plain[number] = cst.Call(cst.Attribute(atom(given[0].value), cst.Name(name)))
    if not scalers:
        return None
    counts = [len(places[method]) for method in ("scale", "step", "update")]
    if len(scalers) != 1 or counts != [1, 1, 1] or len(places["unscale_"]) > 1 or len(optimizers) != 1:
        return "the scaler takes no single step"
    unscaled = next(iter(places["unscale_"]), None)
    backward, update = places["scale"][0], places["update"][0]
    order = [backward, *([unscaled] if unscaled is not None else []), places["step"][0], update]
    if order != sorted(order):
        return "the scaler's calls stand in another order"
    between = draft.nest.body[backward + 1 : unscaled] if unscaled is not None else ()
    if any(not isinstance(step, Item) or touches_weights(step, draft.kinds, draft.tree) for step in between):
        return "gradients are touched before they are unscaled"
    return Scaled(scalers.pop(), unscaled, update, plain)
