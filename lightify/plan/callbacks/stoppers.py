"""Objects of the script that end the training, `stopper(loss)` and `if stopper.early_stop: break`, as EarlyStopping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import printed
from lightify.plan.types import FateNote
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.query import arguments, block, code, expression_of, is_docstring, method_call, small

#: Tests of a metric `m`, the best `b` and a margin `d`: what each says, and for which mode.
_BETTER = {
    **dict.fromkeys(("m < b", "m < b - d", "b - m > d"), "min"),
    **dict.fromkeys(("m > b", "m > b + d", "m - b > d"), "max"),
}
_WORSE = {
    **dict.fromkeys(("m > b", "m >= b", "m > b - d", "m >= b - d", "b - m < d", "b - m <= d"), "min"),
    **dict.fromkeys(("m < b", "m <= b", "m < b + d", "m <= b + d", "m - b < d", "m - b <= d"), "max"),
}


@dataclass(frozen=True)
class Stopper:
    """A class that counts epochs without improvement.

    Attributes:
        method: its method that takes the metric.
        flag: its field that says that it is over; empty when the method returns it.
        patience, margin: fields that hold them; margin may be empty.
        fields: its fields, by the parameter or the text that they start with.
    """

    method: str
    flag: str
    mode: str
    patience: str
    margin: str
    fields: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Stopped:
    """The loops without such an object: what EarlyStopping asks for, and its arguments."""

    nest: Nest
    metric: Variable
    frame: Frame
    mode: str
    arguments: str


def stopped(draft: Draft, nest: Nest) -> Stopped | None:
    """Reads what ends an epoch as the question whether the metric gets better still."""
    last = nest.epoch_end[-1] if nest.epoch_end else None
    node = last.node if isinstance(last, Item) else None
    if not isinstance(last, Item) or not isinstance(node, cst.If) or node.orelse is not None:
        return None
    leaving = [line for line in block(node.body) if printed(line, last.frame, draft.kinds) is None]
    if len(leaving) != 1 or not isinstance(small(leaving[0]), cst.Break):
        return None
    asks = node.test
    if isinstance(asks, cst.Attribute) and isinstance(asks.value, cst.Name):
        owner, told = asks.value, [step for step in nest.epoch_end[:-1] if _call_on(step, code(asks.value)) is not None]
        call = _call_on(told[0], owner.value) if len(told) == 1 else None
    else:
        used = method_call(asks)
        if used is None or not isinstance(used[0], cst.Name):
            return None
        owner, told, call = used[0], [], asks  # type: ignore[assignment]
    variable = draft.kinds.variable(owner, last.frame)
    made = construction(variable, draft.tree, draft.nest.host_loop) if variable is not None else None
    if (
        variable is None
        or made is None
        or not isinstance(call, cst.Call)
        or not _only_here(draft, nest, variable, told)
    ):
        return None
    definition = draft.tree.classes.get(code(made[1].func))
    found = _stopper(definition) if definition is not None and made[0] in _before(draft) else None
    flag = asks.attr.value if isinstance(asks, cst.Attribute) else ""
    method = call.func.attr.value if isinstance(call.func, cst.Attribute) else "__call__"
    metric = draft.kinds.variable(call.args[0].value, last.frame) if len(call.args) == 1 else None
    if found is None or (found.method, found.flag) != (method, flag) or metric is None or isinstance(metric, Field):
        return None
    given = _given(definition, made[1], found)  # type: ignore[arg-type]
    if given is None or metric.name != code(call.args[0].value) or draft.around.repeated:
        return None
    for step in (*told, last):
        draft.fates[small(step.node) or step.node] = FateNote(Fate.REPLACED, "EarlyStopping")  # type: ignore[union-attr]
    draft.fates[made[0]] = FateNote(Fate.REPLACED, "EarlyStopping")
    draft.removed.add(made[0])
    end = tuple(step for step in nest.epoch_end if step not in told and step is not last)
    return Stopped(replace(nest, epoch_end=end), metric, last.frame, found.mode, given)


def _call_on(step: Step, name: str) -> cst.Call | None:
    """The call of a statement that calls an object, or a method of it."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    used = method_call(call)
    called = used[0] if used is not None else call.func if isinstance(call, cst.Call) else None
    return call if isinstance(call, cst.Call) and called is not None and code(called) == name else None


def _only_here(draft: Draft, nest: Nest, variable: Variable, told: Sequence[Step]) -> bool:
    others = [step for step in (*nest.epoch_start, *nest.body, *nest.epoch_end[:-1]) if step not in told]
    return variable not in usage(others).reads | draft.read_elsewhere() and variable not in usage(others).writes


def _before(draft: Draft) -> list[cst.BaseStatement]:
    return [item.node for item in draft.around.before]


def _given(definition: cst.ClassDef, made: cst.Call, found: Stopper) -> str | None:
    """The arguments of EarlyStopping for its patience and its margin."""
    init = next((m for m in _methods(definition) if m.name.value == "__init__"), None)
    params = list(init.params.params[1:]) if init is not None else []
    handed = arguments(made)

    def value(field: str) -> str:
        start = found.fields.get(field, "")
        for number, param in enumerate(params):
            if param.name.value == start:
                node = handed.get(number, start) or param.default
                return code(node) if node is not None else ""
        return start if start.replace(".", "").isdigit() else ""

    patience, margin = value(found.patience), value(found.margin) if found.margin else "0"
    if handed.starred or not patience or not margin:
        return None
    return f"patience={patience}" + ("" if margin in ("0", "0.0") else f", min_delta={margin}")


def _methods(definition: cst.ClassDef) -> list[cst.FunctionDef]:
    return [node for node in block(definition.body) if isinstance(node, cst.FunctionDef)]


def _stopper(definition: cst.ClassDef) -> Stopper | None:
    """Reads the class: `__init__` and one method that compares, counts and says when it is over."""
    methods = {method.name.value: method for method in _methods(definition)}
    init = methods.pop("__init__", None)
    if init is None or len(methods) != 1 or definition.decorators or any(m.decorators for m in methods.values()):
        return None
    fields: dict[str, str] = {}
    for line in block(init.body):
        inner = small(line)
        if isinstance(inner, cst.Assign) and len(inner.targets) == 1:
            fields[code(inner.targets[0].target).removeprefix("self.")] = code(inner.value)
        elif not is_docstring(line):
            return None
    (method,) = methods.values()
    params = method.params.params
    if len(params) != 2 or method.params.kwonly_params:
        return None
    return _read(method, params[1].name.value, fields)


def _read(method: cst.FunctionDef, metric: str, fields: Mapping[str, str]) -> Stopper | None:
    lines = [line for line in block(method.body) if not is_docstring(line)]
    ends = [line for line in lines[1:] if code(small(line) or line) != "return False"]
    if not lines or not isinstance(lines[0], cst.If) or ends:
        return None
    branches = list(_branches(lines[0]))
    if len(branches) == 3 and branches[0][0].endswith((" is None", " == None")):
        first = [code(small(line) or line) for line in branches[0][1]]
        if first != [f"{branches[0][0].partition(' ')[0]} = {metric}"]:
            return None
        branches = branches[1:]
    if len(branches) != 2:
        return None
    for better, worse, tests in ((branches[0], branches[1], _BETTER), (branches[1], branches[0], _WORSE)):
        updates = {code(small(line) or line) for line in better[1]}
        counts = _counting(worse[1])
        if counts is None:
            continue
        counter, patience, flag = counts
        best = next((one.partition(" = ")[0] for one in updates if one.endswith(f" = {metric}")), "")
        if updates != {f"{best} = {metric}", f"self.{counter} = 0"} or fields.get(counter) != "0":
            return None
        if fields.get(best.removeprefix("self.")) not in ("None", "float('inf')", 'float("inf")', "np.inf", "np.Inf"):
            return None
        for margin in ("", *fields):
            known = {metric: "m", best: "b", f"self.{margin}": "d"}
            text = " ".join(known.get(word.strip("()"), word.strip("()")) for word in branches[0][0].split())
            if text in tests and (margin != "") is ("d" in text.split()):
                return Stopper(method.name.value, flag, tests[text], patience, margin, fields)
    return None


def _branches(node: cst.If) -> Iterator[tuple[str, list[cst.BaseStatement]]]:
    """The branches of an `if`, without what they print, under the text of their test."""
    current: cst.If | cst.Else | None = node
    while current is not None:
        lines = [line for line in block(current.body) if not code(small(line) or line).startswith("print(")]
        yield (code(current.test) if isinstance(current, cst.If) else ""), lines
        current = current.orelse if isinstance(current, cst.If) else None


def _counting(lines: Sequence[cst.BaseStatement]) -> tuple[str, str, str] | None:
    """Reads `self.counter += 1` and `if self.counter >= self.patience: self.over = True`: the three fields."""
    if len(lines) != 2 or not isinstance(lines[1], cst.If) or lines[1].orelse is not None:
        return None
    counter, _, one = code(small(lines[0]) or lines[0]).partition(" += ")
    asked, _, patience = code(lines[1].test).strip("()").partition(" >= ")
    ((_, inner),) = _branches(lines[1])
    text = code(small(inner[0]) or inner[0]) if len(inner) == 1 else ""
    flag = text.partition(" = ")[0] if text.endswith(" = True") else ""
    if one != "1" or asked != counter or not (flag or text == "return True"):
        return None
    own = (counter, patience, flag)
    return tuple(name.removeprefix("self.") for name in own) if patience.startswith("self.") else None  # type: ignore[return-value]
