"""What code from other files brings along: imports of the names that it reads, definitions that it is part of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import libcst as cst

from lightify.plan.adoption import moved_from_elsewhere
from lightify.plan.types import Global, Plans
from lightify.syntax.flow import expression_usage
from lightify.syntax.names import bound_names, read_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import is_import


def with_code_from_elsewhere(tree: Tree, plans: Plans) -> tuple[cst.Module, frozenset[str]]:
    """Returns the script's module with those imports and definitions, and the names that the imports bind."""
    moved = moved_from_elsewhere(plans, tree)
    names = sorted(_names_read(plans) & tree.links.imports.keys())
    if not moved and not names:
        return tree.module, frozenset()
    place = _place(tree, moved)
    foreign = _lines(tree, (name for name in names if name in tree.links.foreign))
    own = _lines(tree, (name for name in names if name not in tree.links.foreign))
    before = list(tree.module.body)
    position = next(number for number, statement in enumerate(before) if statement is place) + 1
    end = position
    while end < len(before) and is_import(before[end]):
        end += 1
    own_files = {tree.parents[origin] for origin in tree.links.origins.values()}
    start = position - 1
    others = [n for n in range(position) if is_import(before[n]) and before[n] not in own_files]
    start = others[-1] + 1 if others else start
    body = [
        *before[:start],
        *foreign,
        *before[start:position],
        *own,
        *before[position:end],
        *in_order(plans.adopted),
        *before[end:],
    ]
    brought = bound_names([*foreign, *own]) - bound_names(before)
    return tree.module.with_changes(body=body), frozenset(names) | brought


def in_order(definitions: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
    """Definitions as they stand, but for classes whose bases stand further down."""
    waiting = list(definitions)
    while waiting:
        names = {one: bound_names([one]) for one in waiting}
        free = (one for one in waiting if not any(_bases(one) & names[other] for other in waiting if other is not one))
        following = next(free, waiting[0])
        waiting.remove(following)
        yield following


def _bases(node: cst.BaseStatement) -> set[str]:
    bases = [*node.bases, *node.keywords] if isinstance(node, cst.ClassDef) else []
    return set().union(*(read_names(base) for base in bases))


def _names_read(plans: Plans) -> set[str]:
    """Module-level names that the hooks, the runs' arguments and the adopted definitions read."""
    names: set[str] = set()
    for plan in plans.runs:
        names |= {v.name for v, home in plan.homes.items() if isinstance(home, Global) and v.frame.is_module}
        names |= {v.path.partition(".")[0] for v, _ in plan.captured if v.frame.is_module}
        sources = (plan.train_source, plan.validation_source, plan.test_source)
        for node in (*sources, *(one.value for one in plan.initial)):
            if node is not None:
                names |= read_names(node)
        for option in plan.options:
            if isinstance(option.value, str):
                names |= read_names(cst.parse_expression(option.value))
            elif option.frame is not None:
                names |= {v.name for v in expression_usage(option.value, option.frame).reads}
    for definition in plans.adopted:
        names |= read_names(definition)
    return names


def _place(tree: Tree, moved: Iterable[cst.CSTNode]) -> cst.CSTNode | None:
    """The last statement of the script that imports one of the files whose code moves."""
    origins = {tree.links.origins[holder] for node in moved if (holder := tree.linked(node)) is not None}
    found = None
    for origin in origins or set(tree.links.origins.values()):
        top = origin
        while tree.parents[top] is not tree.module:
            top = tree.parents[top]
        if found is None or tree.module.body.index(top) > tree.module.body.index(found):  # type: ignore[arg-type]
            found = top
    return found


def _lines(tree: Tree, names: Iterable[str]) -> list[cst.SimpleStatementLine]:
    """Import statements, those from one module as one."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        for line in tree.links.imports[name]:
            head, found, what = line.partition(" import ")
            grouped.setdefault(head if found else line, []).extend([what] if found else [])
    texts = (f"{head} import {', '.join(dict.fromkeys(what))}" if what else head for head, what in grouped.items())
    return [cst.SimpleStatementLine([statement]) for text in texts for statement in _parsed(text)]


def _parsed(text: str) -> Iterator[cst.BaseSmallStatement]:
    line = cst.parse_statement(text)
    assert isinstance(line, cst.SimpleStatementLine)
    yield from line.body
