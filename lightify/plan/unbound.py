"""Code that asks which names are bound: the names of a loop that moves are the module's, not where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

import libcst as cst

from lightify.analysis.caught import catches
from lightify.plan.draft import Draft, Flatten
from lightify.plan.homes import Homes
from lightify.plan.types import Attribute, Home
from lightify.syntax.flow import usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import bound_names, declared_elsewhere, free_names, local_names
from lightify.syntax.query import block, dotted, walk


def asks_for_names(draft: Draft) -> Flatten | None:
    """Says so where names of the loops are looked up by their text: `"ema" in locals()`, `eval("loss")`."""
    own = _own_names(draft)
    of_host = ("locals", "vars", "dir", *(("globals",) if draft.nest.host.is_module else ()))
    for steps, where in ((draft.whole(), "in"), (draft.around.after, "after")):
        texts = ("eval", "exec") if where == "in" else ()
        for step in steps:
            for node in walk(step.node) if isinstance(step, Item) else ():
                name = node.func.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) else ""
                if name in own:
                    continue
                if name in texts or (name in of_host and not node.args):  # type: ignore[attr-defined]
                    return Flatten(
                        f"{name}() {where} the loop looks for names, and those of the loop become the module's",
                        draft.tree.span(node),
                        "read the names themselves, bound before the loop",
                    )
    return None


def _own_names(draft: Draft) -> set[str]:
    """What the script binds itself: a function of its own that is called `eval` evaluates the network."""
    own = bound_names(draft.tree.module.body) | draft.tree.imports.keys() | draft.tree.functions.keys()
    function = draft.nest.host.function
    return own | (local_names(function) if function is not None else set())


def catches_unbound(draft: Draft, homes: Homes) -> Flatten | None:
    """Says so where `except NameError` asks whether something is bound that the module is to keep.

    Where it only takes from an iterator, it goes on to ask the module.
    """
    before = draft.around.set_before(draft.nest.host)
    for frame, caught in _catching(draft.whole()):
        for variable in usage([Item(node, frame) for node in block(caught.body)]).reads:
            new = not draft.around.repeated and variable not in before
            if isinstance(homes.of.get(variable), Attribute) and not (new and _is_plain(caught)):
                return _refused(draft, caught, variable)
    for frame, caught in _catching(draft.around.after):
        for variable in usage([Item(node, frame) for node in block(caught.body)]).reads & set(homes.results):
            return _refused(draft, caught, variable)
    return None


def seen_by_functions(draft: Draft, homes: Homes) -> Flatten | None:
    """Says so where a function that stays shares a name with the loops, which keep their own.

    The name is one of the host, or of a function around it; one of the module stays a global.
    """
    frame: Frame | None = draft.nest.host
    mentioned, sets = homes.of.keys(), usage([Item(draft.nest.host_loop, draft.nest.host)]).writes
    while frame is not None and frame.function is not None:
        for function in _staying(draft, frame):
            for name in sorted(free_names(function) & local_names(frame.function)):
                variable = frame.resolve(name)
                binds = isinstance(function, cst.FunctionDef) and name in declared_elsewhere(function)
                if variable in sets or (binds and variable in mentioned):
                    kind = "a lambda" if isinstance(function, cst.Lambda) else f"{function.name.value}()"
                    return Flatten(
                        f"{kind} of {frame.name}() {'sets' if binds else 'reads'} {name}, which the loop "
                        f"{'uses' if binds else 'sets'}, too",
                        draft.tree.span(function),
                        f"hand {name} to it, or keep {name} in an object that both hold",
                    )
        frame = frame.outer
    return None


def _staying(draft: Draft, frame: Frame) -> Iterator[cst.FunctionDef | cst.ClassDef | cst.Lambda]:
    """Functions made in a frame, outside of the loop, which the loop or what follows it may call."""
    function = frame.function
    assert function is not None
    read = usage(draft.whole()).reads | usage(draft.around.after).reads
    inside = list(takewhile(lambda outer: outer is not function, draft.tree.ancestors(draft.nest.host_loop)))
    for node in walk(function.body):
        if not isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)) or node in draft.around.removed:
            continue
        around = list(takewhile(lambda outer: outer is not function, draft.tree.ancestors(node)))
        if node in inside or draft.nest.host_loop in around:
            continue
        if any(isinstance(a, (cst.FunctionDef, cst.Lambda)) for a in around):
            continue
        if isinstance(node, cst.Lambda) or frame.resolve(node.name.value) in read or _is_handed_on(node, function):
            yield node


def _is_handed_on(definition: cst.FunctionDef | cst.ClassDef, host: cst.FunctionDef) -> bool:
    """True when anything but a call names a definition."""
    name = definition.name.value
    called = {call.func for call in walk(host.body) if isinstance(call, cst.Call)}
    named = (node for node in walk(host.body) if isinstance(node, cst.Name) and node.value == name)
    return any(node is not definition.name and node not in called for node in named)


def asked_by(caught: cst.Try, frame: Frame, homes: Mapping[Variable, Home]) -> bool:
    """True when a `try` asks whether an attribute of the module is set, as `except NameError` did for its name."""
    tried = usage([Item(node, frame) for node in block(caught.body)]).exposed
    return any(isinstance(homes.get(variable), Attribute) for variable in tried)


def _is_plain(caught: cst.Try) -> bool:
    """True when nothing in a `try` is likely to raise an AttributeError of its own: it takes from iterators."""
    parts = [node for node in walk(caught.body) if isinstance(node, (cst.Call, cst.Attribute))]
    taking = [node.func for node in parts if isinstance(node, cst.Call)]
    takes = all(dotted(func) == "next" or (dotted(func) or "").endswith(".__next__") for func in taking)
    return takes and all(node in taking for node in parts if isinstance(node, cst.Attribute))


def _catching(steps: Sequence[Step]) -> Iterator[tuple[Frame, cst.Try]]:
    """The `try` statements that catch a name which is not bound."""
    for step in steps:
        for node in walk(step.node) if isinstance(step, Item) else ():
            if isinstance(node, cst.Try) and any(catches(handler) for handler in node.handlers):
                yield step.frame, node  # type: ignore[union-attr]


def _refused(draft: Draft, node: cst.Try, variable: Variable) -> Flatten:
    return Flatten(
        f"except NameError asks whether {variable.name} is bound, and the module is to keep it",
        draft.tree.span(node),
        f"bind {variable.name} before the loop, to None",
    )
