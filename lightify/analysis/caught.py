"""`try` statements that ask whether a name is bound: `except NameError`, and those that catch anything."""

from __future__ import annotations

from collections.abc import Collection

import libcst as cst

from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Frame, Item
from lightify.syntax.names import parameters
from lightify.syntax.query import block, dotted, walk

UNBOUND = frozenset(("NameError", "UnboundLocalError"))
_ANYTHING = UNBOUND | {"", "Exception", "BaseException"}


def catches(handler: cst.ExceptHandler, kinds: Collection[str] = UNBOUND) -> bool:
    """True when a handler names one of some exceptions; a bare `except` has an empty name."""
    if handler.type is None:
        return "" in kinds
    return any(dotted(part) in kinds for part in walk(handler.type))


def asks_for_own_names(frame: Frame) -> bool:
    """True when a function asks whether it has bound a name of its own, which each call of it forgets."""
    assert frame.function is not None
    body = block(frame.function.body)
    tries = [node for statement in body for node in walk(statement) if isinstance(node, cst.Try)]
    tries = [node for node in tries if any(catches(handler, _ANYTHING) for handler in node.handlers)]
    if not tries:
        return False
    unsure = usage([Item(node, frame) for node in body]).exposed
    asked = {v for node in tries for v in usage([Item(line, frame) for line in block(node.body)]).exposed}
    given = {param.name.value for param in parameters(frame.function)}
    return any(v.frame is frame and not isinstance(v, Field) and v.name not in given for v in asked & unsure)
