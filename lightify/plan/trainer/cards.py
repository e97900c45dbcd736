"""The card that the host's networks are moved to by `.cuda()`, and the condition under which they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.syntax.flow import usage
from lightify.syntax.frames import Item
from lightify.syntax.names import read_names
from lightify.syntax.query import (
    arguments,
    block,
    code,
    dotted,
    is_constant,
    method_call,
    nodes_of,
    opposite,
    small,
    walk,
)

AVAILABLE = "torch.cuda.is_available()"
CURRENT = "torch.cuda.current_device()"


@dataclass(frozen=True)
class Card:
    """Where `model.cuda(number)` puts a network, in the host's own terms.

    Attributes:
        tests: what must be true for the move; none where it always happens.
        number: the card, which may be 0 or None; empty for the current one.
    """

    tests: tuple[str, ...] = ()
    number: str = ""

    @property
    def condition(self) -> str:
        """The tests without that for a card at all, which is the Trainer's own."""
        return " and ".join(test for test in self.tests if test != AVAILABLE)


def card_of(draft: Draft) -> Card | None:
    """The one card that the host moves its networks to; None when that is not known."""
    found: set[Card] = set()
    for position, item in enumerate(draft.around.before):
        for value, target, tests in _assigned(item.node, ()):
            place = _moved(value, target, item, draft)
            if place is None or not all(_is_plain(test, draft) for test in tests):
                continue
            texts = tuple(part for test in tests for part in _conjuncts(test))
            if not _means_the_same((*tests, place), draft.around.before[position:], draft):
                return None
            number = "" if isinstance(place, cst.Name) and place.value == "None" else code(place)
            found.add(Card(texts, "" if number == "0" else number))
    return found.pop() if len(found) == 1 else None


def chooses_card(draft: Draft) -> bool:
    """True when the script sets the current card, which a Trainer does not ask for."""
    if "set_device" not in draft.tree.text or draft.tree.imports.get("torch") != "torch":
        return False
    calls = (node for node in draft.tree.nodes(cst.Call) if draft.tree.linked(node) is None)
    return any(
        draft.tree.qualified(call.func) == "torch.cuda.set_device" and [code(a.value) for a in call.args] != ["0"]
        for call in calls
    )


def devices_of(number: str, on_card: str) -> str:
    """`devices=` for a card by number, where the run is on a card at all; the first one is anybody's."""
    if number == CURRENT or number.isdigit():
        return f"[{number}] if {on_card} else 1"
    return f"[{number}] if {on_card} and {number} else 1"


def _assigned(
    node: cst.CSTNode, tests: tuple[cst.BaseExpression, ...]
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression | None, tuple[cst.BaseExpression, ...]]]:
    """Values that a statement gives to a target, or to none, and the tests around each."""
    inner = small(node)
    if isinstance(node, cst.If):
        for part in block(node.body):
            yield from _assigned(part, (*tests, node.test))
        other = node.orelse
        rest = block(other.body) if isinstance(other, cst.Else) else (other,) if other is not None else ()
        for part in rest:
            yield from _assigned(part, (*tests, opposite(node.test)))
    elif isinstance(inner, cst.Expr):
        yield inner.value, None, tests
    elif isinstance(inner, cst.Assign) and len(inner.targets) == 1:
        value, target = inner.value, inner.targets[0].target
        if isinstance(value, cst.IfExp) and code(value.orelse) == code(target):
            yield value.body, target, (*tests, value.test)
        else:
            yield value, target, tests


def _moved(
    value: cst.BaseExpression, target: cst.BaseExpression | None, item: Item, draft: Draft
) -> cst.BaseExpression | None:
    """The card of `net.cuda(card)` and `net = Net().cuda(card)`; `None` for the current one."""
    used = method_call(value)
    if used is None or used[1] != "cuda" or not isinstance(value, cst.Call):
        return None
    variable = draft.kinds.variable(target if target is not None else used[0], item.frame)
    if variable is None or draft.kinds.of(variable) is not Kind.MODULE or draft.kinds.is_loss(variable):
        return None
    place = arguments(value).get(0, "device") or cst.Name("None")
    return place if is_constant(place) or _is_number(place, draft) else None


def _is_number(place: cst.BaseExpression, draft: Draft) -> bool:
    """True for a name that stands for a card's number, as far as its own name and values tell."""
    name = dotted(place)
    return name is not None and not name.lower().endswith("device") and _is_plain(place, draft)


def _is_plain(test: cst.BaseExpression, draft: Draft) -> bool:
    """True for what may be asked again: names, constants and whether there is a card."""
    for node in walk(test):
        if isinstance(node, cst.Call) and draft.tree.qualified(node.func) != "torch.cuda.is_available":
            return False
        if isinstance(node, (cst.Subscript, cst.Lambda, cst.NamedExpr, cst.IfExp, cst.Await, cst.FormattedString)):
            return False
    return True


def _conjuncts(test: cst.BaseExpression) -> Iterator[str]:
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        yield from _conjuncts(test.left)
        yield from _conjuncts(test.right)
    else:
        text = code(test)
        yield f"({text})" if isinstance(test, cst.BooleanOperation) and not test.lpar else text


def _means_the_same(asked: Sequence[cst.BaseExpression], later: Sequence[Item], draft: Draft) -> bool:
    """True when what is asked has kept its value until the Trainer is made."""
    names = {name for node in asked for name in read_names(node)}
    paths = {path for node in asked for part in walk(node) if (path := dotted(part)) is not None}
    variables = {draft.nest.host.resolve(name) for name in names}
    targets = (node.target for item in later for node in nodes_of(item.node, *_BINDS))  # type: ignore[attr-defined]
    return variables.isdisjoint(usage(later).writes) and paths.isdisjoint(dotted(target) for target in targets)


_BINDS: tuple[type[cst.CSTNode], ...] = (cst.AssignTarget, cst.AugAssign, cst.AnnAssign)
