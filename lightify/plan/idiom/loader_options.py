"""Options that a script collects in dictionaries are given where they are used, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.types import FateNote
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Item
from lightify.syntax.query import block, code, literal, map_children, method_call, small, walk

_GIVEN = FateNote(Fate.REPLACED, "arguments", "options are given where they are used")


@dataclass(frozen=True, eq=False)
class _Options:
    """`name = {"batch_size": n}` that one call takes, as `**name`; `updates` are calls of `name.update`."""

    item: Item
    values: cst.Dict
    taker: Item
    arg: cst.Arg
    updates: frozenset[cst.CSTNode]


@dataclass(frozen=True, eq=False)
class _Extra:
    """`if test: extra = {...}; name.update(extra)`; `updates` by the name that they change."""

    test: cst.If
    name: str
    values: cst.Dict
    updates: Mapping[str, cst.CSTNode]


def inline_options(draft: Draft, edited: Collection[cst.CSTNode]) -> dict[cst.CSTNode, cst.CSTNode]:
    """Statements of the host made anew, by what they replace; the dictionaries are gone.

    Args:
        edited: statements that are made anew for another reason.
    """
    if draft.settings.style == "faithful":
        return {}
    made = (pair for item in draft.around.before for pair in _options(draft, item))
    found = {name: one for name, one in made if one.taker.node not in edited}
    extras = [extra for item in draft.around.before if (extra := _extra(draft, item)) is not None]
    while True:
        known = {update for extra in extras for update in extra.updates.values()}
        rest = {
            name: one for name, one in found.items() if one.updates <= known and _are_free(draft, name, one, extras)
        }
        left = [extra for extra in extras if extra.updates.keys() <= rest.keys()]
        if len(rest) == len(found) and len(left) == len(extras):
            break
        found, extras = rest, left
    edits: dict[cst.CSTNode, cst.CSTNode] = {}
    for name, one in found.items():
        more = [extra.name for extra in extras if name in extra.updates]
        statement = edits.get(one.taker.node, one.taker.node)
        edits[one.taker.node] = _with_arguments(statement, one, more)
        draft.fates.setdefault(small(one.taker.node) or statement, FateNote(Fate.KEPT))
        draft.removed.add(one.item.node)
        draft.fates[small(one.item.node) or one.item.node] = _GIVEN
    for extra in extras:
        edits[extra.test] = _in_one_line(extra)
        draft.fates.update({n: _GIVEN for n in walk(extra.test) if isinstance(n, (cst.BaseSmallStatement, cst.If))})
    return edits


def _options(draft: Draft, item: Item) -> list[tuple[str, _Options]]:
    name, values = _dictionary(item.node)
    if values is None or item.node in draft.removed:
        return []
    takers: list[cst.Arg] = []
    updates: set[cst.CSTNode] = set()
    for node in _mentions(draft, name, item.node):
        parent = draft.tree.parents[node]
        if isinstance(parent, cst.Arg) and parent.star == "**":
            takers.append(parent)
        elif isinstance(parent, cst.Attribute) and parent.attr.value == "update":
            updates.add(draft.tree.parents[parent])
        else:
            return []
    call = draft.tree.parents[takers[0]] if len(takers) == 1 else None
    full = draft.tree.qualified(call.func) if isinstance(call, cst.Call) else None
    where = [one for one in draft.around.before if call in set(walk(one.node)) and small(one.node)]
    if not (full or "").endswith("DataLoader") or not where or where[0].node in draft.removed:
        return []
    return [(name, _Options(item, values, where[0], takers[0], frozenset(updates)))]


def _extra(draft: Draft, item: Item) -> _Extra | None:
    test = item.node
    if not isinstance(test, cst.If) or test.orelse is not None or item.node in draft.removed:
        return None
    first, *rest = block(test.body)
    name, values = _dictionary(first)
    updates: dict[str, cst.CSTNode] = {}
    for line in rest:
        inner = small(line)
        call = inner.value if isinstance(inner, cst.Expr) else None
        used = method_call(call)
        given = [code(arg) for arg in call.args] if isinstance(call, cst.Call) else []
        if call is None or used is None or used[1] != "update" or given != [name]:
            return None
        updates[code(used[0])] = call
    if values is None or not updates or len(_mentions(draft, name, first)) != len(rest):
        return None
    return _Extra(test, name, values, updates)


def _dictionary(node: cst.CSTNode) -> tuple[str, cst.Dict | None]:
    """`name` and the dictionary of an assignment whose keys are plain strings that may be keywords."""
    inner = small(node)
    if not isinstance(inner, cst.Assign) or len(inner.targets) != 1 or not isinstance(inner.value, cst.Dict):
        return "", None
    target = inner.targets[0].target
    plain = all(
        isinstance(e, cst.DictElement) and isinstance(e.key, cst.SimpleString) and str(literal(e.key)).isidentifier()
        for e in inner.value.elements
    )
    calls = any(isinstance(part, (cst.Call, cst.NamedExpr, cst.Await)) for part in walk(inner.value))
    return (target.value, inner.value) if isinstance(target, cst.Name) and plain and not calls else ("", None)


def _pairs(values: cst.Dict) -> list[tuple[str, cst.BaseExpression]]:
    pairs = [element for element in values.elements if isinstance(element, cst.DictElement)]
    return [(str(literal(element.key)), element.value) for element in pairs]


def _mentions(draft: Draft, name: str, definition: cst.CSTNode) -> list[cst.CSTNode]:
    """Where a name of the definition's scope stands, but for the definition and what is gone."""
    scope = draft.tree.function_of(definition)
    found: list[cst.CSTNode] = []
    for node in draft.tree.mentions.get(name, ()):
        parent = draft.tree.parents[node]
        if getattr(parent, "keyword", None) is node or getattr(parent, "attr", None) is node:
            continue
        around = set(draft.tree.ancestors(node))
        own = scope is None or scope in around
        if own and definition not in around and not around & draft.removed:
            found.append(node)
    return found


def _are_free(draft: Draft, name: str, one: _Options, extras: list[_Extra]) -> bool:
    """True when each option is given once, and says the same in the call."""
    call = draft.tree.parents[one.arg]
    more = [extra for extra in extras if name in extra.updates]
    keys = [key for given in (one.values, *(extra.values for extra in more)) for key, _ in _pairs(given)]
    keys += [arg.keyword.value for arg in call.args if arg.keyword is not None]  # type: ignore[attr-defined]
    starred = sum(bool(arg.star) for arg in call.args)  # type: ignore[attr-defined]
    items = list(draft.around.before)
    between = items[items.index(one.item) + 1 : items.index(one.taker)]
    changed = usage(between).writes & expression_usage(one.values, one.item.frame).reads
    return len(set(keys)) == len(keys) and starred == 1 and not changed


def _with_arguments(statement: cst.CSTNode, one: _Options, more: list[str]) -> cst.CSTNode:
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    given = [cst.Arg(cst.parse_expression(code(value)), cst.Name(key), equal) for key, value in _pairs(one.values)]
    given += [cst.Arg(cst.Name(name), star="**") for name in more]

    def change(node: cst.CSTNode) -> cst.CSTNode:
        if isinstance(node, cst.Call) and one.arg in node.args:
            place = list(node.args).index(one.arg)
            before = [arg.with_changes(comma=cst.MaybeSentinel.DEFAULT) for arg in node.args[:place]]
            return node.with_changes(args=[*before, *given, *node.args[place + 1 :]])
        return map_children(node, change)

    return change(statement)


def _in_one_line(extra: _Extra) -> cst.CSTNode:
    """`extra = {...} if test else {}`."""
    pairs = [f'"{key}": {code(value)}' for key, value in _pairs(extra.values)]
    line = cst.parse_statement(f"{extra.name} = {{{', '.join(pairs)}}} if {code(extra.test.test)} else {{}}")
    return line.with_changes(leading_lines=extra.test.leading_lines)  # type: ignore[attr-defined]
