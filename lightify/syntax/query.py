"""Read-only questions to a tree; never edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

import libcst as cst
from libcst._nodes.internal import CodegenState

_WHITESPACE_FIELDS = {
    "leading_lines",
    "lines_after_decorators",
    "header",
    "footer",
    "lpar",
    "rpar",
    "semicolon",
    "lbracket",
    "rbracket",
    "lbrace",
    "rbrace",
    "comma",
    "equal",
    "dot",
    "colon",
    "star",
    "trailing_whitespace",
    "indent",
    "asynchronous",
    "default_indent",
    "default_newline",
}

_EMPTY = cst.Module(body=[])

Node = TypeVar("Node", bound=cst.CSTNode)


class FieldName(cst.Name):
    """`self.x` taken as one name."""

    def _validate(self) -> None:
        pass


@dataclass(frozen=True)
class LinkedName(cst.Name):
    """`engine.train` of an imported file taken as one name, which the text goes on to write as it was."""

    written: str = ""

    def _codegen_impl(self, state: CodegenState) -> None:
        with self._parenthesize(state):
            state.add_token(self.written)


#: Stands for the generated module's own self, whatever the script calls self.
MODULE_SELF = "<module>"


def module_attribute(name: str) -> cst.Attribute:
    """`self.name` of the generated module, in any frame."""
    return cst.Attribute(FieldName(MODULE_SELF), cst.Name(name))


def name_node(name: str) -> cst.Name:
    """A node for a name or for `self.x` taken as one."""
    return FieldName(name) if "." in name else cst.Name(name)


def path_node(path: str) -> cst.BaseExpression:
    """A node for `x`, for `self.x` taken as one name, or for the field of another object."""
    return name_node(path) if "." not in path or path.startswith("self.") else cst.parse_expression(path)


@cache
def _child_fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in fields(kind)
        if field.name not in _WHITESPACE_FIELDS
        and not field.name.startswith("whitespace")
        and field.name != "star"
        and field.type is not str
    )


@cache
def _read_children(kind: type[cst.CSTNode]) -> Callable[[cst.CSTNode], tuple[object, ...]]:
    """Reads all fields with children at once, as a tuple even of one or none."""
    names = _child_fields(kind)
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda node: (getattr(node, names[0]),)) if names else (lambda node: ())


@cache
def class_test(*classes: type) -> Callable[[type], bool]:
    """A test of a node's class, for questions that are asked of every node.

    isinstance on libcst's abstract classes is slow, and slowest where the answer is no.
    """
    return cache(lambda kind: issubclass(kind, classes))


_is_node = class_test(cst.CSTNode)
_is_name = class_test(cst.Name)


def children(node: cst.CSTNode) -> list[cst.CSTNode]:
    """The direct children in source order, without whitespace and punctuation."""
    found: list[cst.CSTNode] = []
    for value in _read_children(node.__class__)(node):
        kind: Any = value.__class__
        if kind is tuple or kind is list:
            found += [element for element in value if _is_node(element.__class__)]  # type: ignore[attr-defined]
        elif _is_node(kind):
            found.append(value)  # type: ignore[arg-type]
    return found


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yields the node and all below it, parents first."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack += reversed(children(current))


def nodes_of(node: cst.CSTNode, *kinds: type[Node]) -> Iterator[Node]:
    """Yields those of some classes among the node and all below it, parents first."""
    is_one = class_test(*kinds)
    return (found for found in walk(node) if is_one(found.__class__))  # type: ignore[misc]


Changed = cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel


def map_children(node: cst.CSTNode, change: Callable[[cst.CSTNode], Changed]) -> cst.CSTNode:
    """Returns the node with `change` applied to each direct child; the node itself when nothing changed.

    Within a list a child may also become nothing or several.
    """
    changes: dict[str, object] = {}
    for name in _child_fields(type(node)):
        value = getattr(node, name)
        kind = value.__class__
        if _is_node(kind):
            new = change(value)
            if new is not value:
                changes[name] = new
        elif (kind is tuple or kind is list) and value:
            replaced: list[object] = []
            for element in value:
                became = change(element) if _is_node(element.__class__) else element
                if isinstance(became, cst.FlattenSentinel):
                    replaced.extend(became)
                elif became is not cst.RemovalSentinel.REMOVE:
                    replaced.append(became)
            if len(replaced) != len(value) or any(new is not old for new, old in zip(replaced, value)):
                changes[name] = replaced
    return node.with_changes(**changes) if changes else node


def code(node: cst.CSTNode) -> str:
    """The text of a node."""
    return _EMPTY.code_for_node(node)


def atom(node: cst.BaseExpression) -> cst.BaseExpression:
    """Puts parentheses around what would not bind tightly."""
    loose = (
        cst.BinaryOperation,
        cst.BooleanOperation,
        cst.Comparison,
        cst.IfExp,
        cst.UnaryOperation,
        cst.NamedExpr,
        cst.Await,
        cst.Yield,
        cst.Lambda,
        cst.Tuple,
    )
    if isinstance(node, loose) and not node.lpar:
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node


def dotted(node: cst.CSTNode | None) -> str | None:
    """`a.b.c` for a name or a chain of attributes, else None."""
    parts: list[str] = []
    current: Any = node
    while current.__class__ is cst.Attribute:  # as class_test says
        parts.append(current.attr.value)
        current = current.value
    if not _is_name(current.__class__):
        return None
    parts.append(current.value)
    return ".".join(reversed(parts))


def root_of(node: cst.CSTNode | None) -> cst.Name | None:
    """The name that an attribute, subscript or call chain starts from: `a` for `a.b[0].c()`."""
    while isinstance(node, (cst.Attribute, cst.Subscript, cst.Call)):
        node = node.func if isinstance(node, cst.Call) else node.value
    return node if isinstance(node, cst.Name) else None


def root_name(node: cst.CSTNode | None) -> str | None:
    """The text of `root_of`."""
    root = root_of(node)
    return root.value if root is not None else None


#: Methods of a network that return it.
IN_PLACE = frozenset({"cuda", "to", "cpu", "double", "half", "float", "apply", "train", "eval"})


def made_by(value: cst.BaseExpression | None) -> cst.Call | None:
    """The construction in an expression, without the moves behind it: `Net(3)` of `Net(3).to(device)`."""
    while (used := method_call(value)) is not None and used[1] in IN_PLACE:
        value = used[0]
    return value if isinstance(value, cst.Call) else None


def method_call(node: cst.CSTNode | None) -> tuple[cst.BaseExpression, str] | None:
    """(receiver, method name) of `receiver.method(...)`, else None."""
    called: Any = node.func if node.__class__ is cst.Call else None  # type: ignore[union-attr]
    if called.__class__ is cst.Attribute:
        return called.value, called.attr.value
    return None


def is_import(node: cst.CSTNode) -> bool:
    """True for a statement that imports."""
    return isinstance(small(node), (cst.Import, cst.ImportFrom))


def method_name(node: cst.CSTNode | None) -> str:
    """The name of the method that a node calls, or an empty one."""
    used = method_call(node)
    return "" if used is None else used[1]


@dataclass(frozen=True)
class Arguments:
    """Arguments of a call; `starred` when `*x` or `**x` hide some."""

    positional: tuple[cst.BaseExpression, ...]
    keyword: Mapping[str, cst.BaseExpression]
    starred: bool

    def get(self, position: int, keyword: str) -> cst.BaseExpression | None:
        """The argument by position or by keyword."""
        if keyword in self.keyword:
            return self.keyword[keyword]
        return self.positional[position] if 0 <= position < len(self.positional) else None

    def __len__(self) -> int:
        return len(self.positional) + len(self.keyword)


def arguments(call: cst.Call) -> Arguments:
    """Sorts the arguments of a call."""
    positional = tuple(arg.value for arg in call.args if arg.keyword is None and not arg.star)
    keyword = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    return Arguments(positional, keyword, any(arg.star for arg in call.args))


def assigned_pairs(target: cst.CSTNode, value: cst.CSTNode) -> list[tuple[cst.CSTNode, cst.CSTNode]]:
    """What is assigned to what: `a, b = x, y` are two."""
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        return [(one.value, other.value) for one, other in zip(target.elements, value.elements)]
    return [(target, value)]


def one_or_tuple(nodes: Sequence[cst.CSTNode]) -> cst.BaseExpression:
    """A target or value by itself, or several as one."""
    return nodes[0] if len(nodes) == 1 else cst.Tuple([cst.Element(node) for node in nodes])  # type: ignore[arg-type,return-value]


def target_names(target: cst.CSTNode) -> list[str]:
    """Names that an assignment target binds: `a, b` for `(a, *b)`; nothing for `a.x` and `a[0]`."""
    if isinstance(target, cst.Name):
        return [target.value]
    if isinstance(target, (cst.Tuple, cst.List)):
        return [name for element in target.elements for name in target_names(element.value)]
    if isinstance(target, cst.StarredElement):
        return target_names(target.value)
    return []


def block(node: cst.BaseSuite | cst.Module) -> tuple[cst.BaseStatement, ...]:
    """The statements of a suite of a parsed tree (there every suite is indented, every line one statement)."""
    return tuple(node.body)  # type: ignore[arg-type]


def small(statement: cst.CSTNode) -> cst.BaseSmallStatement | None:
    """The only small statement of a line, else None."""
    if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
        return statement.body[0]
    return None


def expression_of(statement: cst.CSTNode) -> cst.BaseExpression | None:
    """The expression of an expression statement."""
    inner = small(statement)
    return inner.value if isinstance(inner, cst.Expr) else None


def is_docstring(statement: cst.CSTNode) -> bool:
    return isinstance(expression_of(statement), (cst.SimpleString, cst.ConcatenatedString))


_LITERALS = (cst.Integer, cst.Float, cst.SimpleString, cst.Imaginary)


def is_constant(node: cst.CSTNode) -> bool:
    """True for what can be evaluated anywhere with the same result: literals, displays and arithmetic of them."""
    if isinstance(node, _LITERALS):
        return True
    if isinstance(node, cst.Name):
        return node.value in ("True", "False", "None")
    if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
        return all(isinstance(e, cst.Element) and is_constant(e.value) for e in node.elements)
    if isinstance(node, cst.Dict):
        return all(
            isinstance(e, cst.DictElement) and is_constant(e.key) and is_constant(e.value) for e in node.elements
        )
    if isinstance(node, cst.UnaryOperation):
        return is_constant(node.expression)
    if isinstance(node, cst.BinaryOperation):
        return is_constant(node.left) and is_constant(node.right)
    if isinstance(node, cst.Call) and dotted(node.func) in ("float", "int", "list", "dict", "set", "str"):
        return all(is_constant(arg.value) for arg in node.args)
    return dotted(node) in ("np.inf", "math.inf", "numpy.inf", "torch.inf", "float.inf")


def joined(tests: Sequence[str]) -> str:
    """The text of a test that holds when all do."""
    parts = []
    for test in tests:
        node = cst.parse_expression(test)
        loose = isinstance(node, cst.IfExp) or (
            isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.Or)
        )
        parts.append(f"({test})" if loose and len(tests) > 1 and not node.lpar else test)
    return " and ".join(parts)


_OPPOSITE: Mapping[type, type[cst.BaseCompOp]] = {
    cst.Equal: cst.NotEqual,
    cst.NotEqual: cst.Equal,
    cst.Is: cst.IsNot,
    cst.IsNot: cst.Is,
    cst.In: cst.NotIn,
    cst.NotIn: cst.In,
}


def opposite(test: cst.BaseExpression) -> cst.BaseExpression:
    """The opposite test."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return test.expression
    if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
        target = test.comparisons[0]
        if (operator := _OPPOSITE.get(type(target.operator))) is not None:
            return test.with_changes(comparisons=[target.with_changes(operator=operator())])
    return cst.UnaryOperation(cst.Not(), atom(test))


def negated(test: cst.BaseExpression) -> str:
    """The text of the opposite test."""
    return code(opposite(test))


def call_name(call: cst.CSTNode) -> str | None:
    """`c` for a call of `c`, `a.b.c` or `self.c`."""
    func = call.func if isinstance(call, cst.Call) else None
    if isinstance(func, cst.Attribute):
        return func.attr.value
    return func.value.rpartition(".")[2] if isinstance(func, cst.Name) else None


def literal(node: cst.CSTNode | None) -> str | None:
    """The text of a name or plain string: `True` for True, `sum` for "sum"."""
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    return node.value if isinstance(node, (cst.Name, cst.Integer, cst.Float)) else None


def words(name: str) -> set[str]:
    """The words of a name: {"val", "loader"} for `self.val_loader` and `valLoader`."""
    last = name.rpartition(".")[2]
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in last)
    return set(spaced.lower().split())
