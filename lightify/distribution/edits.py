"""What a use of the wrapper, or of a process's number, is without one: edits of calls and conditions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, code, walk

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


def called_here(call: cst.CSTNode) -> cst.CSTNode:
    """`main(a, b)` for `spawn(main, args=(a, b), nprocs=n)`."""
    assert isinstance(call, cst.Call)
    given = arguments(call)
    worker, handed = given.get(0, "fn"), given.get(1, "args")
    elements = handed.elements if isinstance(handed, cst.Tuple) else ()
    assert worker is not None
    return call.with_changes(func=worker, args=[cst.Arg(element.value) for element in elements])


def without_parameters(node: cst.CSTNode, *, names: Sequence[str]) -> cst.CSTNode:
    assert isinstance(node, cst.Parameters)
    kept, last = [param for param in node.params if param.name.value not in names], node.params[-1]
    if kept and kept[-1] is not last:
        kept[-1] = kept[-1].with_changes(comma=last.comma, whitespace_after_param=last.whitespace_after_param)
    return node.with_changes(params=kept)


def without_arguments(node: cst.CSTNode, *, places: Collection[int]) -> cst.CSTNode:
    assert isinstance(node, cst.Call)
    return node.with_changes(args=as_before(node, [a for n, a in enumerate(node.args) if n not in places]))


def as_before(call: cst.Call, args: list[cst.Arg]) -> list[cst.Arg]:
    """Arguments of which the last ends as that of the call did, with its comma and its line."""
    last = call.args[-1]
    if args and args[-1] is not last:
        args[-1] = args[-1].with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
    return args


def on_gpu(call: cst.CSTNode) -> cst.CSTNode:
    """`torch.device("cuda")` for that of a rank; `x.cuda()` for a move there."""
    assert isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)
    if call.func.attr.value == "device":
        return call.with_changes(args=[cst.Arg(cst.SimpleString('"cuda"'))])
    return call.with_changes(func=call.func.with_changes(attr=cst.Name("cuda")), args=[])


def unmoved(call: cst.CSTNode) -> cst.CSTNode:
    """`model` for `model.to(rank)`."""
    assert isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)
    return call.func.value
