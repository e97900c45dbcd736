"""Edits of a tree that leave everything else as it is: the user's layout and comments stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from textwrap import dedent
from typing import TypeVar, cast

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import Changed, children, code, is_docstring, map_children, small, target_names

Node = cst.CSTNode
Line = cst.BaseStatement
Change = Callable[[Node], Changed]
N = TypeVar("N", bound=Node)


def become(new: Changed) -> Change:
    """The change into something that is there already."""
    return lambda _: new


def into(**fields: object) -> Change:
    """The change of some fields of a node."""
    return lambda node: node.with_changes(**fields)


def edit(node: N, edits: Mapping[Node, Change]) -> N:
    """The node with each change applied to the node it is filed under, the innermost first.

    What holds no change stays the very same node, and so keeps its place in the source.
    """

    def changed(part: Node) -> Changed:
        new = map_children(part, changed)
        if isinstance(new, cst.IndentedBlock) and not new.body:
            new = new.with_changes(body=lines("pass"))
        change = edits.get(part)
        return change(new) if change is not None else new

    return cast(N, changed(node)) if edits else node


def lines(text: str) -> list[Line]:
    """Statements from text, whatever its indentation."""
    return list(cst.parse_module(dedent(text).strip("\n") + "\n").body)


def method(text: str) -> cst.FunctionDef:
    """A method from text, with the blank line that stands before one."""
    (function,) = lines(text)
    assert isinstance(function, cst.FunctionDef)
    return function.with_changes(leading_lines=[cst.EmptyLine(indent=False), *function.leading_lines])


def returns(function: cst.FunctionDef) -> list[cst.Return]:
    return [node for node in scope_nodes(function) if isinstance(node, cst.Return)]


def assignments(function: cst.FunctionDef, name: str) -> list[cst.Assign]:
    """The assignments of a name within a function."""
    return [
        node
        for node in scope_nodes(function)
        if isinstance(node, cst.Assign) and any(name in target_names(target.target) for target in node.targets)
    ]


def body_of(function: cst.FunctionDef | cst.ClassDef) -> list[Line]:
    """The statements of a body; `def f(): a; b` counts as a block."""
    if isinstance(function.body, cst.SimpleStatementSuite):
        return [cst.SimpleStatementLine([part.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)])
                for part in function.body.body]  # fmt: skip
    return cast(list[Line], list(function.body.body))


def with_body(function: N, body: Sequence[Line]) -> N:
    suite = function.body  # type: ignore[attr-defined]
    if not isinstance(suite, cst.IndentedBlock):
        return function.with_changes(body=cst.IndentedBlock(body))
    return function.with_changes(body=suite.with_changes(body=body))


def prepend(function: cst.FunctionDef, text: str) -> cst.FunctionDef:
    """Puts statements at the start of a body, after its docstring."""
    body = body_of(function)
    place = 1 if body and is_docstring(body[0]) else 0
    if isinstance(small(body[-1]), cst.Pass):
        body.pop()
    return with_body(function, [*body[:place], *lines(text), *body[place:]])


def append(function: cst.FunctionDef, text: str) -> cst.FunctionDef:
    """Puts statements at the end of a body."""
    return with_body(function, [*body_of(function), *lines(text)])


def after_super_init(function: cst.FunctionDef, text: str) -> cst.FunctionDef:
    """Puts statements after `super().__init__(...)`, or at the end of an `__init__` that has none of its own."""
    body = body_of(function)
    for place, statement in enumerate(body):
        if isinstance(statement, cst.SimpleStatementLine) and "__init__(" in code(statement):
            return with_body(function, [*body[: place + 1], *lines(text), *body[place + 1 :]])
    return append(function, text)


def parameters(function: cst.FunctionDef) -> list[str]:
    """Names of the parameters that a caller may give by position, without `self`."""
    params = [*function.params.posonly_params, *function.params.params]
    return [param.name.value for param in params[1:]]


def takes_any(function: cst.FunctionDef) -> bool:
    return isinstance(function.params.star_arg, cst.Param)


def without_parameters(function: cst.FunctionDef, names: Collection[str]) -> cst.FunctionDef:
    kept = [param for param in function.params.params if param.name.value not in names]
    keyword = [param for param in function.params.kwonly_params if param.name.value not in names]
    if kept and kept[-1] is not function.params.params[-1]:
        kept[-1] = kept[-1].with_changes(
            comma=function.params.params[-1].comma,
            whitespace_after_param=function.params.params[-1].whitespace_after_param,
        )
    return function.with_changes(params=function.params.with_changes(params=kept, kwonly_params=keyword))


def with_parameters(function: cst.FunctionDef, names: Sequence[str]) -> cst.FunctionDef:
    """Adds parameters at the end; `name=value` gives a default."""
    params = list(function.params.params)
    if params:
        params[-1] = params[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    for name in names:
        word, _, default = name.partition("=")
        equal = (
            cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
            if default
            else cst.MaybeSentinel.DEFAULT
        )
        params.append(
            cst.Param(cst.Name(word), default=cst.parse_expression(default) if default else None, equal=equal)
        )
    return function.with_changes(params=function.params.with_changes(params=params))


def uses(node: Node, name: str) -> bool:
    """Whether a name is read or written below a node, apart from its place as a keyword or an attribute."""
    return any(True for _ in occurrences(node, name))


def occurrences(node: Node, name: str) -> Iterator[cst.Name]:
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, cst.Name):
            if current.value == name:
                yield current
        elif isinstance(current, (cst.Attribute, cst.Arg)):
            stack.append(current.value)
        else:
            stack.extend(reversed(list(children(current))))


def renamed(function: cst.FunctionDef, name: str) -> cst.FunctionDef:
    return function.with_changes(name=function.name.with_changes(value=name))


def argument(name: str, value: cst.BaseExpression) -> cst.Arg:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(value, keyword=cst.Name(name), equal=equal)


def with_arguments(call: cst.Call, args: Sequence[cst.Arg]) -> cst.Call:
    """The call with other arguments, laid out as its own: one per line where they were."""
    if not args:
        return call.with_changes(args=[], whitespace_before_args=cst.SimpleWhitespace(""))
    last = call.args[-1]
    between = separator([arg.comma for arg in call.args[:-1]])
    laid_out = [
        arg if isinstance(arg.comma, cst.Comma) and arg.comma is not last.comma else arg.with_changes(comma=between)
        for arg in args[:-1]
    ]
    ending = args[-1].with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
    return call.with_changes(args=[*laid_out, ending])


def separator(commas: Sequence[cst.Comma | cst.MaybeSentinel]) -> cst.Comma | cst.MaybeSentinel:
    """What stands between the elements of a list: its first comma, without the comment that may follow it."""
    comma = next((comma for comma in commas if isinstance(comma, cst.Comma)), None)
    if comma is None:
        return cst.MaybeSentinel.DEFAULT
    after = comma.whitespace_after
    if isinstance(after, cst.ParenthesizedWhitespace):
        bare = cst.TrailingWhitespace(newline=after.first_line.newline)
        comma = comma.with_changes(whitespace_after=after.with_changes(first_line=bare, empty_lines=[]))
    return comma
