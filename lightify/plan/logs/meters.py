"""Objects of the script that keep an average, `losses.update(value, n)` and `losses.avg`, and those that only show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.effects import is_calm
from lightify.recognisers.base import is_module_class
from lightify.syntax.frames import Field, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    assigned_pairs,
    atom,
    block,
    code,
    dotted,
    expression_of,
    is_docstring,
    method_call,
    small,
    walk,
)


@dataclass(frozen=True)
class Meter:
    """A class that adds up values and how many they count for.

    Attributes:
        update: its method that adds, with the names of its two parameters.
        means: fields that hold the average.
    """

    update: str
    value: str
    count: str
    means: frozenset[str]


@dataclass(frozen=True, eq=False)
class Added:
    """What a batch adds to a meter: `value`, that counts for `size`; both together are `weighted`."""

    variable: Variable
    meter: Meter
    value: cst.BaseExpression
    size: str
    weighted: cst.BaseExpression


def begun(draft: Draft, step: Step) -> dict[Variable, cst.Call]:
    """The variables to which a statement gives new objects of the script's classes, and nothing else."""
    inner = small(step.node) if isinstance(step, Item) else None
    if not isinstance(step, Item) or not isinstance(inner, cst.Assign) or len(inner.targets) != 1:
        return {}
    found: dict[Variable, cst.Call] = {}
    for name, made in assigned_pairs(inner.targets[0].target, inner.value):
        variable = step.frame.resolve(name.value) if isinstance(name, cst.Name) else None
        if not isinstance(variable, Variable) or isinstance(variable, Field) or _class_of(made, draft.tree) is None:
            return {}
        found[variable] = made  # type: ignore[assignment]
    return found


def meters_begun(draft: Draft, step: Step) -> dict[Variable, Meter]:
    """The meters that a statement makes; empty when it makes anything else."""
    made = begun(draft, step)
    found = {variable: _meter_of(call, draft.tree) for variable, call in made.items()}
    return {variable: meter for variable, meter in found.items() if meter is not None} if all(found.values()) else {}


def shown_begun(draft: Draft, step: Step, steps: Sequence[Step]) -> set[Variable]:
    """The variables to which a statement gives objects of which `steps` want nothing but that they print."""
    made = begun(draft, step)
    asked: dict[Variable, set[str]] = {variable: set() for variable in made}
    for one in steps:
        for node in walk(one.node) if isinstance(one, Item) else ():
            used = method_call(node)
            variable = draft.kinds.variable(used[0], one.frame) if used is not None else None  # type: ignore[union-attr]
            if used is not None and variable in asked:
                asked[variable].add(used[1])
    classes = {variable: _class_of(call, draft.tree) for variable, call in made.items()}
    shows = (d and _only_shows(d, frozenset(asked[variable]), draft.tree) for variable, d in classes.items())
    return set(made) if all(shows) else set()


def called_on(draft: Draft, step: Item, node: cst.CSTNode) -> Variable | None:
    """The variable that a statement calls a method of: `progress` in `progress.display(i)`."""
    used = method_call(expression_of(node))
    return draft.kinds.variable(used[0], step.frame) if used is not None and isinstance(used[0], cst.Name) else None


def added(draft: Draft, step: Step, meters: dict[Variable, Meter]) -> Added | None:
    """Reads `losses.update(value, n)`."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    used = method_call(call)
    if not isinstance(step, Item) or not isinstance(call, cst.Call) or used is None:
        return None
    variable = draft.kinds.variable(used[0], step.frame)
    meter = meters.get(variable) if variable is not None else None
    given = arguments(call)
    if variable is None or meter is None or used[1] != meter.update or given.starred or len(given) not in (1, 2):
        return None
    value, count = given.get(0, meter.value), given.get(1, meter.count)
    if value is None:
        return None
    if count is None or code(count) == "1":
        return Added(variable, meter, value, "1", value)
    return Added(variable, meter, value, code(count), cst.BinaryOperation(atom(value), cst.Multiply(), count))


def measures_time(draft: Draft, node: cst.CSTNode) -> bool:
    """True for `time.time() - end`."""
    calls = (part for part in walk(node) if isinstance(part, cst.Call))
    return any((draft.tree.qualified(call.func) or "").startswith(("time.", "datetime.")) for call in calls)


def shows_numbers(call: cst.Call) -> bool:
    """True for a meter that is told how to write its number: `AverageMeter("Loss", ":.4e")`."""
    texts = (str(arg.value.raw_value) for arg in call.args if isinstance(arg.value, cst.SimpleString))
    return any(text.startswith(":") and text[-1:] in ("e", "f", "g") for text in texts)


def label_of(call: cst.Call) -> str | None:
    """What a meter is called, where that is a name: `loss` for `AverageMeter("Loss", ":.4e")`."""
    first = call.args[0].value if call.args else None
    text = str(first.raw_value).lower().replace(" ", "_") if isinstance(first, cst.SimpleString) else ""
    return text if text.isidentifier() else None


def _class_of(made: cst.CSTNode, tree: Tree) -> cst.ClassDef | None:
    return tree.classes.get(dotted(made.func) or "") if isinstance(made, cst.Call) else None


def _meter_of(call: cst.Call, tree: Tree) -> Meter | None:
    definition = _class_of(call, tree)
    return _meter(definition, tree) if definition is not None else None


@lru_cache(maxsize=256)
def _meter(definition: cst.ClassDef, tree: Tree) -> Meter | None:
    """A class that starts at zero, and whose one adding method does nothing else.

    Accepts `self.sum += val * n; self.count += n; self.avg = self.sum / self.count`, refuses moving averages.
    """
    if not is_calm(definition, tree):
        return None
    methods = [node for node in block(definition.body) if isinstance(node, cst.FunctionDef)]
    for method in methods:
        found = _adding(method)
        if found is None:
            continue
        meter, total, count = found
        others = [node for other in methods if other is not method for node in walk(other)]
        starts = [node for node in others if isinstance(node, cst.Assign)]
        zero = {
            code(target.target) for node in starts if code(node.value) in ("0", "0.0", "0.") for target in node.targets
        }
        ratios = [f"{total} / {count}", f"{total} / max({count}, 1)"]
        properties = {other.name.value for other in methods if _returned(other) in ratios}
        meter = Meter(meter.update, meter.value, meter.count, meter.means | properties)
        return meter if {total, count} <= zero and meter.means else None
    return None


def _returned(method: cst.FunctionDef) -> str:
    """What a property computes, as text; empty for other methods."""
    lines = block(method.body)
    inner = small(lines[-1])
    plain = len(lines) == 1 and any(dotted(mark.decorator) == "property" for mark in method.decorators)
    return code(inner.value) if plain and isinstance(inner, cst.Return) and inner.value is not None else ""


def _adding(method: cst.FunctionDef) -> tuple[Meter, str, str] | None:
    """The method that adds to a sum and a count, and their names."""
    params = method.params.params
    plain = len(params) == 3 and not method.params.kwonly_params and params[1].default is None and not method.decorators
    if not plain or (params[2].default is not None and code(params[2].default) != "1"):
        return None
    value, size = params[1].name.value, params[2].name.value
    sums: list[str] = []
    counts: list[str] = []
    means: set[str] = set()
    for line in block(method.body):
        inner = small(line)
        if is_docstring(line):
            continue
        if isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.AddAssign):
            text, name = code(inner.value), code(inner.target)
            if text in (f"{value} * {size}", f"{size} * {value}"):
                sums.append(name)
            elif text == size:
                counts.append(name)
            else:
                return None
        elif isinstance(inner, cst.Assign) and len(inner.targets) == 1 and code(inner.value) == value:
            continue  # the last value
        elif isinstance(inner, cst.Assign) and len(inner.targets) == 1 and sums and counts:
            if code(inner.value) != f"{sums[0]} / {counts[0]}":
                return None
            means.add(code(inner.targets[0].target).removeprefix("self."))
        else:
            return None
    if len(sums) != 1 or len(counts) != 1 or sums == counts:
        return None
    return Meter(method.name.value, value, size, frozenset(means)), sums[0], counts[0]


@lru_cache(maxsize=256)
def _only_shows(definition: cst.ClassDef, asked: frozenset[str], tree: Tree) -> bool:
    """True for a class whose methods `asked` print, and keep nothing that its objects were not made with."""
    methods = [
        node for node in block(definition.body) if isinstance(node, cst.FunctionDef) and node.name.value in asked
    ]
    prints = any(isinstance(node, cst.Call) and dotted(node.func) == "print" for m in methods for node in walk(m))
    return (
        prints
        and len(methods) == len(asked)
        and not is_module_class(definition, tree)
        and is_calm(definition, tree)
        and all(is_calm(method, tree) for method in methods)
    )
