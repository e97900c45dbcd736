"""The bar that an evaluation holds in a variable: `bar = tqdm(loader)`, `for x, y in bar:`, `bar.set_postfix(...)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.plan.idiom.bars import is_bar, is_shown, iterable
from lightify.plan.types import Bar
from lightify.syntax.flow import expression_usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import small, walk
from lightify.syntax.substitute import substitute


@dataclass(frozen=True)
class Held:
    """A bar that only shows, and the loop over what it goes over."""

    variable: Variable
    bar: Bar
    loop: cst.For


def held_bar(loop: cst.For, frame: Frame, steps: Sequence[Step], tree: Tree, counted: Tree | None) -> Held | None:
    """The bar of a loop in a function, where nothing but the loop and what shows names it.

    Args:
        steps: what the function does before the loop.
        counted: what tells the bars that are more than bars.
    """
    for step in steps:
        inner = small(step.node) if isinstance(step, Item) and step.frame is frame else None
        target = inner.targets[0].target if isinstance(inner, cst.Assign) and len(inner.targets) == 1 else None
        if not isinstance(step, Item) or not isinstance(inner, cst.Assign) or not isinstance(target, cst.Name):
            continue
        variable, value = frame.variable(target.value), inner.value
        if variable not in expression_usage(loop.iter, frame).reads or not is_bar(value, tree, counted):
            continue
        if frame.function is None or iterable(value) is None or not _only_shows(target.value, frame, tree):
            return None
        bare = loop.with_changes(iter=substitute(loop.iter, {target.value: value}.get))
        return Held(variable, Bar(value, step), bare)
    return None


def _only_shows(name: str, frame: Frame, tree: Tree) -> bool:
    """True for a name that is set once, is one loop's head, and else is what shows something."""
    made = heads = 0
    for node in tree.mentions.get(name, ()):
        if not any(around is frame.function for around in tree.ancestors(node)):
            continue
        parent = tree.parents[node]
        loops = (one for one in tree.ancestors(node) if isinstance(one, cst.For))
        if isinstance(parent, cst.AssignTarget):
            made += 1
        elif any(node in walk(one.iter) for one in loops):
            heads += 1
        elif not is_shown(parent, frame, tree):
            return False
    return made == heads == 1
