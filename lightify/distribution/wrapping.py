"""Where a script wraps its network for several devices, and under which condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, code, dotted, is_constant, joined, negated, walk

#: Arguments that a strategy decides itself.
_PLACES = ("device_ids", "output_device", "dim", "check_reduction")
_POSITIONS = ("module", "device_ids", "output_device", "dim", "broadcast_buffers")
_DEFAULTS = {
    "find_unused_parameters": "False",
    "gradient_as_bucket_view": "False",
    "static_graph": "False",
    "broadcast_buffers": "True",
    "bucket_cap_mb": "None",
}
_ASKED = ("is_available", "device_count", "is_initialized", "len", "int", "bool", "get", "getenv", "get_world_size")


@dataclass(frozen=True, eq=False)
class Wrapping:
    """The constructions of the wrapper; more than one only where one of them runs.

    Attributes:
        function: where they stand; None for the module.
        condition: when there is a wrapper at all; None for always.
        arguments: what the strategy must know of the constructor's arguments, as text.
    """

    calls: tuple[cst.Call, ...]
    function: cst.FunctionDef | None
    condition: cst.BaseExpression | None
    arguments: tuple[tuple[str, str], ...]


def wraps(node: cst.CSTNode, wrapper: str, tree: Tree) -> bool:
    """True for a call of one of torch's wrappers."""
    full = tree.qualified(node.func) if isinstance(node, cst.Call) else None
    return full is not None and full.startswith("torch.") and full.endswith(f".{wrapper}")


def find_wrapping(tree: Tree, wrapper: str) -> Wrapping | str | None:
    """Reads how the network is wrapped; a text says why that is not clear, None that it is not."""
    calls = [node for node in tree.nodes(cst.Call) if wraps(node, wrapper, tree)]
    if not calls:
        return None
    functions = {tree.function_of(call) for call in calls}
    given = [_arguments(call) for call in calls]
    conditions = [path_condition(call, tree) for call in calls]
    if len(functions) > 1 or any(one != given[0] for one in given):
        return "several networks are wrapped, or one in several ways"
    if any(isinstance(one, str) for one in (given[0], *conditions)):
        return next(one for one in (given[0], *conditions) if isinstance(one, str))
    condition = _either([list(one) for one in conditions])
    if isinstance(condition, str):
        return condition
    assert not isinstance(given[0], str)
    return Wrapping(tuple(calls), functions.pop(), condition, given[0])


def path_condition(node: cst.CSTNode, tree: Tree) -> tuple[str, ...] | str:
    """The tests that lead to a node in its function, outermost first; a text when something else decides."""
    tests: list[str] = []
    below: cst.CSTNode = node
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, cst.FunctionDef):
            break
        if isinstance(ancestor, (cst.For, cst.While, cst.Lambda, cst.Match)):
            return "the network is wrapped in a loop"
        guards_script = isinstance(ancestor, cst.If) and code(ancestor.test).startswith("__name__")
        if isinstance(ancestor, (cst.If, cst.IfExp)) and below is not ancestor.test and not guards_script:
            if not is_repeatable(ancestor.test):
                return f"whether the network is wrapped depends on `{code(ancestor.test)}`"
            tests.append(code(ancestor.test) if below is ancestor.body else negated(ancestor.test))
        below = ancestor
    return tuple(reversed(tests))


def is_repeatable(test: cst.BaseExpression) -> bool:
    """True for a test that can be asked again: names, attributes, constants and what is known to change nothing."""
    for node in walk(test):
        if isinstance(node, cst.Call) and (dotted(node.func) or "").rpartition(".")[2] not in _ASKED:
            return False
        if isinstance(node, (cst.NamedExpr, cst.Await, cst.Yield, cst.Lambda)):
            return False
    return True


def _either(ways: list[list[str]]) -> cst.BaseExpression | str | None:
    """One condition for all constructions; None when there is always one."""
    while len(ways) > 1:
        first, second = ways[0], ways[1]
        opposite = first and second and first[:-1] == second[:-1] and _are_opposite(first[-1], second[-1])
        if not opposite:
            return "several networks are wrapped, or one in several places"
        ways[:2] = [first[:-1]]
    tests = list(dict.fromkeys(ways[0]))
    if not tests:
        return None
    return cst.parse_expression(joined(tests))


def _are_opposite(one: str, other: str) -> bool:
    return negated(cst.parse_expression(one)) == other or negated(cst.parse_expression(other)) == one


def _arguments(call: cst.Call) -> tuple[tuple[str, str], ...] | str:
    given = arguments(call)
    if given.starred:
        return "the wrapper's arguments are hidden behind a star"
    if given.get(0, "module") is None:
        return "the wrapper is made of nothing"
    named = {**dict(zip(_POSITIONS, given.positional)), **given.keyword}
    kept = []
    for name, value in named.items():
        if name == "module" or name in _PLACES or (name in _DEFAULTS and code(value) == _DEFAULTS[name]):
            continue
        if name not in _DEFAULTS or not is_constant(value):
            return f"the wrapper is made with {name}={code(value)}"
        kept.append((name, code(value)))
    return tuple(kept)


def names_of(node: cst.CSTNode, tree: Tree) -> Sequence[str]:
    """Names that an expression reads, `self.x` as one, without those of imported modules."""
    found: list[str] = []
    inside: set[cst.CSTNode] = set()
    for part in walk(node):
        if part in inside:
            continue
        if isinstance(part, cst.Attribute):
            inside.add(part.attr)
            name = dotted(part)
            if name is not None and name.startswith("self."):
                found.append(".".join(name.split(".")[:2]))
                inside.update(walk(part))
        elif isinstance(part, cst.Arg) and part.keyword is not None:
            inside.add(part.keyword)
        elif isinstance(part, cst.Name) and part.value not in tree.imports:
            found.append(part.value)
    return [name for name in found if name not in ("True", "False", "None", "len", "int", "bool")]
