"""Progress prints become `self.log`; summaries stay, printed once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import libcst as cst

from lightify.flow import Frame, Variable
from lightify.parse import Tree
from lightify.plan.kinds import Kinds
from lightify.query import dotted, method_call, module_attribute, small, walk


@dataclass(frozen=True)
class Metric:
    """A number that the script printed: `name` in the log, the variable that holds it."""

    name: str
    variable: Variable


def printed(node: cst.CSTNode, tree: Tree) -> cst.Call | None:
    """The call of a statement that only prints."""
    inner = small(node)
    call = inner.value if isinstance(inner, cst.Expr) else None
    if not isinstance(call, cst.Call):
        return None
    return call if dotted(call.func) in ("print", "sys.stdout.write", "tqdm.write") else None


def metrics_of(call: cst.Call, frame: Frame, kinds: Kinds) -> tuple[Metric, ...]:
    """The scalars that a print shows: `x.item()`, or a name printed with a float format."""
    found: dict[str, Metric] = {}

    def add(node: cst.BaseExpression) -> None:
        variable = kinds.variable(node, frame)
        if variable is not None and isinstance(node, cst.Name) and "." not in node.value:
            found.setdefault(variable.name, Metric(variable.name, variable))

    for part in walk(call):
        used = method_call(part)
        if isinstance(part, cst.Call) and used is not None and used[1] == "item" and not part.args:
            add(used[0])
        elif isinstance(part, cst.FormattedStringExpression) and isinstance(part.expression, cst.Name):
            spec = "".join(getattr(piece, "value", "") for piece in part.format_spec or ())
            if spec[-1:] in ("f", "e", "g"):
                add(part.expression)
        elif isinstance(part, cst.Call) and used is not None and used[1] == "format":
            for value in _by_format(used[0], [arg.value for arg in part.args if arg.keyword is None]):
                add(value)
        elif isinstance(part, cst.BinaryOperation) and isinstance(part.operator, cst.Modulo):
            values = [e.value for e in part.right.elements] if isinstance(part.right, cst.Tuple) else [part.right]
            for value in _by_percent(part.left, values):
                add(value)
    return tuple(found.values())


def _text(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    if isinstance(node, cst.ConcatenatedString):
        return _text(node.left) + _text(node.right)
    return ""


def _by_format(text: cst.BaseExpression, values: list[cst.BaseExpression]) -> list[cst.BaseExpression]:
    slots = re.findall(r"\{([^{}]*)\}", _text(text).replace("{{", "").replace("}}", ""))
    if any(slot.partition(":")[0] for slot in slots) or len(slots) != len(values):
        return []
    return [value for slot, value in zip(slots, values) if slot[-1:] in ("f", "e", "g")]


def _by_percent(text: cst.BaseExpression, values: list[cst.BaseExpression]) -> list[cst.BaseExpression]:
    slots = re.findall(r"%[-+ #0]*[0-9]*(?:\.[0-9]+)?([a-zA-Z])", _text(text).replace("%%", ""))
    if len(slots) != len(values):
        return []
    return [value for slot, value in zip(slots, values) if slot in "feg"]


def log_statement(metric: Metric) -> cst.SimpleStatementLine:
    """`self.log("loss", loss, prog_bar=True)`."""
    call = cst.Call(
        module_attribute("log"),
        [
            cst.Arg(cst.SimpleString(f'"{metric.name}"')),
            cst.Arg(cst.Name(metric.variable.name)),
            cst.Arg(cst.Name("True"), cst.Name("prog_bar")),
        ],
    )
    return cst.SimpleStatementLine([cst.Expr(call)])
