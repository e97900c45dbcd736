"""Code that asks which names are bound: the names of a loop that moves are the module's, not where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from lightify.flow import usage
from lightify.frames import Frame, Item, Step, Variable
from lightify.plan.draft import Draft, Flatten
from lightify.plan.homes import Homes
from lightify.plan.types import Attribute
from lightify.query import block, dotted, walk

_UNBOUND = frozenset(("NameError", "UnboundLocalError"))


def asks_for_names(draft: Draft) -> Flatten | None:
    """Says so where names of the loops are looked up by their text: `"ema" in locals()`, `eval("loss")`."""
    of_host = ("locals", "vars", "dir", *(("globals",) if draft.nest.host.is_module else ()))
    for steps, where in ((draft.whole(), "in"), (draft.around.after, "after")):
        texts = ("eval", "exec") if where == "in" else ()
        for step in steps:
            for node in walk(step.node) if isinstance(step, Item) else ():
                name = node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) else ""
                if name in texts or (name in of_host and not node.args):  # type: ignore[attr-defined]
                    return Flatten(
                        f"{name}() {where} the loop looks for names, and those of the loop become the module's",
                        draft.tree.span(node),
                        "read the names themselves, bound before the loop",
                    )
    return None


def catches_unbound(draft: Draft, homes: Homes) -> Flatten | None:
    """Says so where `except NameError` asks whether something is bound that the module is to keep."""
    for frame, caught in _catching(draft.whole()):
        for variable in usage([Item(node, frame) for node in block(caught.body)]).reads:
            if isinstance(homes.of.get(variable), Attribute):
                return _refused(draft, caught, variable)
    for frame, caught in _catching(draft.around.after):
        for variable in usage([Item(node, frame) for node in block(caught.body)]).reads & set(homes.results):
            return _refused(draft, caught, variable)
    return None


def _catching(steps: Sequence[Step]) -> Iterator[tuple[Frame, cst.Try]]:
    """The `try` statements that catch a name which is not bound."""
    for step in steps:
        for node in walk(step.node) if isinstance(step, Item) else ():
            if isinstance(node, cst.Try) and any(
                dotted(part) in _UNBOUND
                for handler in node.handlers
                if handler.type is not None
                for part in walk(handler.type)
            ):
                yield step.frame, node  # type: ignore[union-attr]


def _refused(draft: Draft, node: cst.Try, variable: Variable) -> Flatten:
    return Flatten(
        f"except NameError asks whether {variable.name} is bound, and the module is to keep it",
        draft.tree.span(node),
        f"bind {variable.name} before the loop, to None",
    )
