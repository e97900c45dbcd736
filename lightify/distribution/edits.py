"""What a use of the wrapper is without one: edits of calls and conditions."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from lightify.parse import Tree
from lightify.query import code, walk

Edit = Callable[[cst.CSTNode], cst.CSTNode]


def module_argument(call: cst.CSTNode) -> int:
    args = call.args  # type: ignore[attr-defined]
    named = [n for n, arg in enumerate(args) if arg.keyword is not None and arg.keyword.value == "module"]
    return named[0] if named else 0


def merged(node: cst.CSTNode) -> cst.CSTNode:
    """`model` for `model if ddp else model`."""
    assert isinstance(node, cst.IfExp)
    return node.body if code(node.body) == code(node.orelse) else node


def with_argument(name: str, value: str) -> Edit:
    def change(call: cst.CSTNode) -> cst.CSTNode:
        equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        return call.with_changes(args=[cst.Arg(cst.parse_expression(value), cst.Name(name), equal)])

    return change


def free_quote(node: cst.CSTNode, tree: Tree) -> str:
    """A quotation mark that does not end the f-string around a node."""
    strings = [a for a in tree.ancestors(node) if isinstance(a, cst.FormattedString)]
    return "'" if strings and strings[0].start.endswith('"') else '"'


def stripping_prefix(call: cst.CSTNode, quote: str, condition: str) -> cst.CSTNode:
    """`net.load_state_dict({name.removeprefix("module."): ...})` for what a wrapper has saved."""
    assert isinstance(call, cst.Call)
    source = code(call.args[0].value)
    taken = {node.value for node in walk(call) if isinstance(node, cst.Name)}
    key, value = ("name", "value") if not taken & {"name", "value"} else ("key_", "value_")
    prefix = f"{quote}module.{quote}"
    text = f"{{{key}.removeprefix({prefix}): {value} for {key}, {value} in {_bracketed(source)}.items()}}"
    if condition:
        text = f"{text} if {condition} else {source}"
    return call.with_changes(args=[call.args[0].with_changes(value=cst.parse_expression(text)), *call.args[1:]])


def _bracketed(source: str) -> str:
    node: cst.BaseExpression = cst.parse_expression(source)
    tight = isinstance(node, (cst.Name, cst.Attribute, cst.Call, cst.Subscript))
    return source if tight or node.lpar else f"({source})"
