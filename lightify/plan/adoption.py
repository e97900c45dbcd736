"""What the script takes over from other files of its repository, beyond the bodies that move to the hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.callers import callers
from lightify.errors import Refusal
from lightify.loops.nest import Nest
from lightify.loops.runs import Loop
from lightify.plan.types import Plans
from lightify.syntax.frames import Item
from lightify.syntax.names import read_names
from lightify.syntax.parse import Once, Tree
from lightify.syntax.query import walk


def adopted(nest: Nest, tree: Tree) -> tuple[cst.BaseStatement, ...] | Refusal:
    """The definitions of other files that must stand in the script, those that others need first.

    The function or class that holds the run changes, and the other file must not; so whatever leads to it has to
    know the script's version.
    """
    holder = tree.linked(nest.host_loop)
    if holder is None:
        return ()
    taken: list[cst.CSTNode] = [holder]
    for definition in taken:
        name = definition.name.value  # type: ignore[attr-defined]
        taken.extend(d for d in tree.links.definitions if d not in taken and name in read_names(d))
    for definition in taken:
        reason = tree.links.fixed.get(definition)
        if reason or not isinstance(definition, (cst.FunctionDef, cst.ClassDef)):
            return _refusal(nest.host_loop, reason or "a variable of its file leads to it", definition, tree)
    return tuple(taken)  # type: ignore[arg-type]


def unreached(nest: Nest, taken: Sequence[cst.CSTNode], tree: Tree) -> Refusal | None:
    """Refuses a loop of another file that trains, that the run only calls, and whose code can't move."""
    moved = set(run_nodes(nest))
    for site in nest.sites:
        holder = tree.linked(site)
        if holder is None or holder in taken or site in moved:
            continue
        loop = next((a for a in tree.ancestors(site) if isinstance(a, Loop)), None)
        why = tree.links.fixed.get(holder)
        if loop is not None and why is not None:
            return _refusal(loop, why, holder, tree)
    return None


def run_nodes(nest: Nest) -> Iterator[cst.CSTNode]:
    """All nodes of the run's statements."""
    for step in (*nest.epoch_start, *nest.body, *nest.epoch_end):
        yield from walk(step.node if isinstance(step, Item) else step.origin)


def moved_from_elsewhere(plans: Plans, tree: Tree) -> tuple[cst.CSTNode, ...]:
    """Functions and classes of other files whose code is now in the script."""
    functions = (opened.function for plan in plans.runs for opened in plan.nest.opened)
    linked = (f for f in functions if (holder := tree.linked(f)) is not None and holder not in plans.adopted)
    return tuple(dict.fromkeys([*linked, *plans.adopted]))


@dataclass(frozen=True)
class Moved:
    """What moved to the script from another file, which stays as it is."""

    path: str
    text: str
    names: tuple[str, ...]


def moved_by_file(plans: Plans, tree: Tree) -> tuple[Moved, ...]:
    """The functions and classes of other files whose code is now in the script, by file."""
    names: dict[str, list[str]] = {}
    for node in moved_from_elsewhere(plans, tree):
        around = (a.name.value for a in tree.ancestors(node) if isinstance(a, cst.ClassDef))
        name = ".".join([*around, node.name.value])  # type: ignore[attr-defined]
        names.setdefault(tree.span(node).path, []).append(name)
    return tuple(Moved(path, tree.links.texts[path], tuple(found)) for path, found in sorted(names.items()))


def starts_itself(nest: Nest, tree: Tree) -> bool:
    """True when the top level of the script leads to the run."""
    calls = callers(tree)
    todo: list[cst.CSTNode] = [nest.host_loop]
    seen: set[cst.CSTNode] = set()
    while todo:
        node = todo.pop()
        function = tree.function_of(node)
        if not isinstance(function, cst.FunctionDef):
            return True
        if function not in seen:
            seen.add(function)
            todo.extend(calls.get(function, ()))
    return False


def concerned(elsewhere: Sequence[cst.CSTNode], tree: Tree) -> frozenset[cst.CSTNode]:
    """The statements of the script, and those of other files whose code is now in it."""
    return frozenset(
        node
        for node in tree.spans
        if not isinstance(node, Once)
        and (tree.linked(node) is None or any(around in elsewhere for around in (node, *tree.ancestors(node))))
    )


def _refusal(loop: cst.CSTNode, why: str, definition: cst.CSTNode, tree: Tree) -> Refusal:
    name = definition.name.value if isinstance(definition, (cst.FunctionDef, cst.ClassDef)) else "its file"
    return Refusal(
        "LF230",
        f"the loop stands in another file, and the code of {name} cannot move to the script: {why}",
        tree.span(loop),
        "hand over what it needs as arguments, or move the loop to the script",
    )
