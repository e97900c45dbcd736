"""The bar that an evaluation holds in a variable: `bar = tqdm(loader)`, `for x, y in bar:`, `bar.set_postfix(...)`.

Or the one that it enters: `with tqdm(total=len(data)) as bar:`, `for x, y in loader:`, `bar.update(len(x))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.plan.idiom.bars import is_bar, is_shown, iterable
from lightify.plan.types import Bar
from lightify.syntax.flow import expression_usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, small, walk
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
        if iterable(value) is None or not _only_shows(target.value, frame, tree, heads=1):
            return None
        bare = loop.with_changes(iter=substitute(loop.iter, {target.value: value}.get))
        return Held(variable, Bar(value, step), bare)
    return None


def entered_bars(
    steps: Sequence[Step], wanted: Callable[[Item], bool], tree: Tree, counted: Tree | None
) -> tuple[list[Step], Mapping[Variable, Bar]]:
    """Steps with those that are wanted taken out of a `with tqdm(...) as bar:` that only shows, and such bars."""
    flat: list[Step] = []
    bars: dict[Variable, Bar] = {}
    for step in steps:
        named = _entered(step.node, tree, counted) if isinstance(step, Item) and wanted(step) else None
        if isinstance(step, Item) and named is not None and _only_shows(named[0], step.frame, tree, heads=0):
            bars[step.frame.variable(named[0])] = Bar(named[1], step)
            flat.extend(Item(node, step.frame) for node in block(step.node.body))  # type: ignore[attr-defined]
        else:
            flat.append(step)
    return flat, bars


def _entered(node: cst.BaseStatement, tree: Tree, counted: Tree | None) -> tuple[str, cst.BaseExpression] | None:
    """The name of the bar that a statement enters, and what makes it."""
    only = node.items[0] if isinstance(node, cst.With) and len(node.items) == 1 else None
    name = only.asname.name if only is not None and only.asname is not None else None
    known = only is not None and isinstance(name, cst.Name) and is_bar(only.item, tree, counted)
    return (name.value, only.item) if known else None  # type: ignore[union-attr]


def over_bars(loop: cst.For, frame: Frame, bars: Mapping[Variable, Bar]) -> cst.For:
    """A loop over what its bar goes over."""

    def put(name: str) -> cst.BaseExpression | None:
        meaning = frame.resolve(name)
        return bars[meaning].iterable if isinstance(meaning, Variable) and meaning in bars else None

    return loop.with_changes(iter=substitute(loop.iter, put)) if bars else loop


def _only_shows(name: str, frame: Frame, tree: Tree, *, heads: int) -> bool:
    """True for a name of a function that is set once, is a loop's head, and else is what shows something.

    Args:
        heads: the least number of heads.
    """
    if frame.function is None:
        return False
    made = led = 0
    for node in tree.mentions.get(name, ()):
        if frame.function not in tree.ancestors(node):
            continue
        parent = tree.parents[node]
        loops = (one for one in tree.ancestors(node) if isinstance(one, cst.For))
        if isinstance(parent, (cst.AssignTarget, cst.AsName)):
            made += 1
        elif any(node in walk(one.iter) for one in loops):
            led += 1
        elif not is_shown(parent, frame, tree):
            return False
    return made == 1 and heads <= led <= 1
