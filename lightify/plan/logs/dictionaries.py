"""Dictionaries that functions return, and the entries that are read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import libcst as cst

from lightify.syntax.frames import Binding, Step


def without_dictionary(made: Sequence[Step], later: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """The end of an opened function and what follows, where its dictionary gives names their values at once."""
    last = made[-1] if made else None
    if not isinstance(last, Binding) or not isinstance(last.value, cst.Dict):
        return made, later
    values = dict(entries(last.value))
    taken = list(_takes(later[: len(values)], last.target))
    if len(taken) < len(values):
        return made, later
    parts = [replace(last, target=part.target, value=values[key]) for part, key in taken]
    return (*made[:-1], *parts), later[len(taken) :]


def _takes(steps: Sequence[Step], whole: cst.BaseExpression) -> Iterator[tuple[Binding, str]]:
    """The steps that give a name to an entry of a dictionary, with its key."""
    for step in steps:
        key = key_of(step.value) if isinstance(step, Binding) else None
        if not isinstance(step, Binding) or key is None or not step.value.value.deep_equals(whole):  # type: ignore[attr-defined]
            return
        yield step, key


def entries(whole: cst.Dict) -> Iterator[tuple[str, cst.BaseExpression]]:
    for element in whole.elements:
        if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString):
            text = str(element.key.raw_value)
            if text.isidentifier():
                yield text, element.value


def key_of(node: cst.CSTNode) -> str | None:
    """`loss` of `metrics["loss"]`."""
    if not isinstance(node, cst.Subscript) or len(node.slice) != 1 or not isinstance(node.value, cst.Name):
        return None
    index = node.slice[0].slice
    text = index.value if isinstance(index, cst.Index) else None
    return str(text.raw_value) if isinstance(text, cst.SimpleString) else None
