"""A call taken out of the expression that it stands in, where nothing can tell the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import libcst as cst

from lightify.analysis.changes import Changes, changes_of
from lightify.analysis.opening import Opened, open_call
from lightify.analysis.passing import named_in_all
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import FieldName, atom, children, is_constant, map_children, small, walk
from lightify.syntax.substitute import substitute


def call_within(statement: cst.CSTNode, leads: Callable[[cst.Call], bool]) -> cst.Call | None:
    """The first call of a kind that a statement surely makes, before it does anything but evaluate."""
    for head in _heads(statement):
        for node in _evaluated(head):
            if isinstance(node, cst.Call) and leads(node):
                return node
    return None


def evaluated_first(statement: cst.CSTNode, wanted: Callable[[cst.CSTNode], bool]) -> cst.CSTNode | None:
    """The first part of a kind that a statement evaluates, where only names and constants come before it."""
    for head in _heads(statement):
        for node in _evaluated(head):
            if wanted(node):
                earlier = [
                    one.value if isinstance(one, (cst.Arg, cst.Element)) else one for one in _before(statement, node)
                ]
                return node if all(isinstance(one, cst.Name) or is_constant(one) for one in earlier) else None
    return None


def open_within(
    item: Item,
    call: cst.Call,
    tree: Tree,
    module: Frame,
    kept: cst.CSTNode | None = None,
    named: Callable[[cst.BaseExpression, Frame], bool] = lambda result, frame: False,
    *,
    evaluating: bool = False,
    title: str = "",
) -> Opened | str:
    """Opens a call in front of its statement, which then reads the result.

    Args:
        named: which results are bound to a name before the statement, and are opened themselves.
        evaluating: the body runs where gradients are off, and the statement gets the result as it is written.
        title: the name that the result is bound to before the statement; else it is read there.
    """
    opened = open_call(item, tree, module, within=call, straight=True, kept=kept, evaluating=evaluating)
    if isinstance(opened, str):
        return opened
    earlier = _before(item.node, call)
    changes = changes_of(opened.function, tree)
    if not all(_spared(node, changes) for node in earlier):
        return "what is evaluated before the call may change in it"
    name = f"<result {len(module.aliases)} of {opened.function.name.value}>"
    result = opened.result or cst.Name("None")
    if _breaks_text(item.node, call, result):
        return "its result does not fit into the text"
    before: tuple[Step, ...] = ()
    if title or named(result, opened.frame):
        variable = Variable(title or f"{opened.function.name.value}_result", opened.frame)
        opened.frame.stand_for(variable.name, variable)
        module.stand_for(name, variable)
        before = (Binding(FieldName(name), module, result, opened.frame, small(item.node) or item.node),)
    else:
        module.stand_for(name, Expression(result, opened.frame))

    def put(node: cst.CSTNode) -> cst.CSTNode:
        return FieldName(name) if node is call else map_children(node, put)

    new = put(item.node)
    if evaluating and not before:
        written = atom(named_in_all(result, opened.frame, module, item.frame))
        new = substitute(new, lambda one: written if one == name else None)
    origins = {**opened.origins, small(new) or new: small(item.node) or item.node}
    return replace(opened, after=(*before, Item(new, item.frame)), origins=origins)  # type: ignore[arg-type]


def _heads(statement: cst.CSTNode) -> tuple[cst.BaseExpression, ...]:
    """What a statement evaluates first, in order."""
    inner = small(statement) or statement
    if isinstance(inner, cst.AugAssign):
        return inner.target, inner.value
    if isinstance(inner, (cst.Expr, cst.Assign, cst.AnnAssign, cst.Return)):
        return (inner.value,) if inner.value is not None else ()
    if isinstance(inner, (cst.If, cst.Assert)):
        return (inner.test,)
    return (inner.iter,) if isinstance(inner, cst.For) else ()


def _operands(node: cst.CSTNode) -> list[cst.CSTNode]:
    """What an expression surely evaluates, in order."""
    if isinstance(node, (cst.Lambda, cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)):
        return []
    if isinstance(node, cst.IfExp):
        return [node.test]
    if isinstance(node, cst.BooleanOperation):
        return [node.left]
    if isinstance(node, cst.Comparison):
        return [node.left, node.comparisons[0].comparator]
    if isinstance(node, (cst.Attribute, cst.NamedExpr, cst.Arg)):
        return [node.value]
    return children(node)


def _evaluated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for operand in _operands(node):
        yield from _evaluated(operand)
    yield node


def _before(statement: cst.CSTNode, call: cst.CSTNode) -> list[cst.CSTNode]:
    """The whole expressions that a statement evaluates before a part of it, such as a call."""
    earlier: list[cst.CSTNode] = []

    def descend(node: cst.CSTNode) -> bool:
        if node is call:
            return True
        for operand in _operands(node):
            if descend(operand):
                return True
            earlier.append(operand.value if _is_method(node, operand) else operand)  # type: ignore[attr-defined]
        return False

    for head in _heads(statement):
        if descend(head):
            break
        earlier.append(head)
    return [node for node in earlier if isinstance(node, cst.BaseExpression | cst.Arg | cst.BaseElement)]


def _is_method(node: cst.CSTNode, operand: cst.CSTNode) -> bool:
    """True for `losses.append` in `losses.append(...)`: which method it is does not change."""
    return isinstance(node, cst.Call) and operand is node.func and isinstance(operand, cst.Attribute)


def _spared(node: cst.CSTNode, changes: Changes) -> bool:
    """True when an expression has the same value after a function has run."""
    if is_constant(node):
        return True
    if isinstance(node, cst.Name):
        field = node.value.rpartition(".")[2] if "." in node.value else ""
        return node.value not in changes.names and field not in changes.fields
    if isinstance(node, cst.Attribute):
        return node.attr.value not in changes.fields and _spared(node.value, changes)
    if isinstance(node, cst.Subscript) and changes.items:
        return False
    if isinstance(node, cst.Call) and not (isinstance(node.func, cst.Name) and node.func.value in _PURE):
        return False
    if isinstance(node, (cst.Lambda, cst.Await, cst.Yield, cst.NamedExpr, cst.ListComp, cst.GeneratorExp)):
        return False
    return all(_spared(child, changes) for child in _operands(node) if not _is_token(child))


_PURE = ("len", "int", "float", "str", "range", "min", "max", "round", "abs")


def _is_token(node: cst.CSTNode) -> bool:
    return isinstance(node, (cst.BaseBinaryOp, cst.BaseUnaryOp, cst.BaseCompOp, cst.FormattedStringText))


def _breaks_text(statement: cst.CSTNode, call: cst.Call, result: cst.BaseExpression) -> bool:
    """True when an expression can't stand in an f-string as it is."""
    texts = (node for node in walk(statement) if isinstance(node, cst.FormattedString))
    if not any(part is call for text in texts for part in walk(text)):
        return False
    return any(isinstance(part, (cst.BaseString, cst.Dict, cst.Set, cst.Lambda)) for part in walk(result))
