"""What to call the result of an evaluation that stands inside of an expression."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import pairwise

import libcst as cst

from lightify.plan.logs.metrics import labels, phrases
from lightify.plan.logs.texts import label
from lightify.syntax.query import call_name, expression_of, walk


def title_of(call: cst.Call, statement: cst.CSTNode, several: bool, taken: Set[str]) -> str:
    """A name for what a call gives: as a print tells it, or as its function does; empty where none is needed, or free.

    Args:
        several: another call of the statement evaluates, too.
        taken: names that are something else.
    """
    names = list(_told(call, statement))
    if several:
        name = call_name(call) or "evaluation"
        word = label(name.replace("_", " ")) or f"{name}_result"
        names += [word, *(f"{word}_{number}" for number in range(2, 10))]
    return next((name for name in names if name and name not in taken), "")


def _told(call: cst.Call, statement: cst.CSTNode) -> Iterator[str]:
    """What a print calls a value that it shows."""
    shows = expression_of(statement)
    if not isinstance(shows, cst.Call):
        return
    values = [arg.value for arg in shows.args]
    texts = (before for before, after in pairwise(values) if after is call and isinstance(before, cst.SimpleString))
    named = [*labels(shows).items(), *phrases(shows).items()]
    yield from (word for value, word in named if any(part is call for part in walk(value)))
    yield from (label(str(text.raw_value)) for text in texts)
