"""The device that the script trains on, as the Trainer's `accelerator=` and `devices=`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import libcst as cst

from lightify.analysis.handed import origin_of
from lightify.facts import Kind
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.trainer import acceleration
from lightify.plan.trainer.cards import AVAILABLE, CURRENT, card_of, chooses_card, devices_of
from lightify.plan.trainer.places import moves_nothing
from lightify.plan.trainer.strategy import strategy_options
from lightify.plan.types import TrainerOption
from lightify.syntax.flow import usage
from lightify.syntax.frames import Item, Variable
from lightify.syntax.names import assignments, parameters, read_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, dotted, method_call, method_name, root_name, small, walk


@dataclass(frozen=True)
class _Place:
    """Where the host says that it trains.

    Attributes:
        accelerator: the Trainer's option.
        on_card: what tells that it is a card; empty when it never is.
        numbered: the `torch.device` that may be a card with a number.
        number: the card's number, which may be 0 or None.
        told: False where the script does not tell, as far as it was read.
    """

    accelerator: str
    on_card: str
    numbered: str = ""
    number: str = ""
    told: bool = True


def device_options(draft: Draft) -> list[TrainerOption]:
    if draft.analysis.accelerated and (own := acceleration.device_options(draft)) is not None:
        return own
    place = _place(draft)
    text = place.accelerator
    idiomatic = draft.settings.style == "idiomatic" and text != '"auto"' and _single(place, draft) == "1"
    chosen = automatic_choice(draft, text) if idiomatic else None
    if chosen is not None:
        draft.steps_away.append("the Trainer chooses the accelerator")
        text = chosen
    accelerator = TrainerOption("accelerator", text)
    single = _single(place, draft) if chosen is None else "1"
    return [*([] if chosen == "" else [accelerator]), *strategy_options(draft, single)]


def _single(place: _Place, draft: Draft) -> str:
    """The `devices=` of one process: the card that the script takes, where it need not be the first."""
    if place.numbered:
        return f"[{place.numbered}.index] if {place.numbered}.index else 1"
    if draft.distribution is not None:
        return "1"  # its processes choose
    number = place.number or (CURRENT if chooses_card(draft) else "")
    return devices_of(number, place.on_card) if number and place.on_card else "1"


_ASK = frozenset(
    """torch.cuda.is_available torch.cuda.device_count torch.backends.mps.is_available torch.accelerator.is_available
    torch.accelerator.current_accelerator""".split()  # noqa: SIM905, a list of words
)
#: A text that names another card than the first.
_NUMBERED = re.compile(r"cuda:(?!0$)")


def _on_first_card(value: cst.BaseExpression, draft: Draft, around: tuple[cst.BaseExpression, ...] = ()) -> bool:
    """False for a device that may be a card with a number of its own.

    Args:
        around: what is asked already; `device = torch.device(device)` tells nothing of itself.
    """
    if value in around:
        return True
    inner = partial(_on_first_card, draft=draft, around=(*around, value))
    if text := _literal(value, draft):
        return not _NUMBERED.match(text)
    if isinstance(value, cst.IfExp):
        return inner(value.body) and inner(value.orelse)
    if isinstance(value, cst.Call):
        made = draft.tree.qualified(value.func) == "torch.device"
        return all(inner(arg.value) for arg in value.args) if made else True
    if isinstance(value, cst.Name):
        values = _values_of(value, draft)
        return bool(values) and all(inner(one) for one in values)
    return False


def automatic_choice(draft: Draft, text: str) -> str | None:
    """The accelerator's option where the script takes a GPU if there is one; empty for the Trainer's default."""
    names = read_names(cst.parse_expression(text)) - {"torch"}
    return _choice(draft, cst.Name(next(iter(names)))) if len(names) == 1 else None


def _choice(draft: Draft, node: cst.BaseExpression, depth: int = 0) -> str | None:
    if isinstance(node, cst.Name) and depth < 4:
        found = [
            inner.value
            for item in draft.around.before
            if draft.nest.host.resolve(node.value) in usage([item]).writes
            and isinstance(inner := small(item.node), cst.Assign)
        ]
        return _choice(draft, found[0], depth + 1) if len(found) == 1 else None
    full = draft.tree.qualified(node.func) if isinstance(node, cst.Call) else None
    if full == "torch.cuda.is_available":
        return ""
    if isinstance(node, cst.Call) and full == "torch.device" and len(node.args) == 1:
        return _choice(draft, node.args[0].value, depth)
    if isinstance(node, cst.IfExp):
        places = [str(p.raw_value) if isinstance(p, cst.SimpleString) else code(p) for p in (node.body, node.orelse)]
        both = places in (["cuda", "cpu"], ["cuda:0", "cpu"], ["True", "False"])
        return _choice(draft, node.test, depth) if both else None
    if isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.And):
        for other, gpu in ((node.left, node.right), (node.right, node.left)):
            if _choice(draft, gpu, depth) == "" and _choice(draft, other, depth) is None:
                if isinstance(other, cst.UnaryOperation) and isinstance(other.operator, cst.Not):
                    return f'"cpu" if {code(other.expression)} else "auto"'
                return f'"auto" if {code(other)} else "cpu"'
    return None


def device_text(draft: Draft) -> str | None:
    """The accelerator in the host's own terms; None when only the Trainer can tell."""
    text = _place(draft).accelerator
    return text if text != '"auto"' else None


def places_network(draft: Draft) -> bool:
    """True when the Trainer puts the network where the script does."""
    return _place(draft).told


def _place(draft: Draft) -> _Place:
    if moves_nothing(draft.tree):
        return _Place('"cpu"', "")
    device = device_variable(draft)
    if device is not None:
        name = device.path
        values = _values(device, draft)
        first = all(_on_first_card(value, draft) for value in values)
        if values and all(_literal(value, draft).startswith("cuda") for value in values):
            return _always_card(draft, "" if first else f"{name}.index")
        if _never_asks_for_card(draft):
            return _Place(_unless_cpu(f"{name}.type"), _available(draft), number="" if first else f"{name}.index")
        return _Place(f"{name}.type", f'{name}.type == "cuda"', "" if first else name)
    card = card_of(draft)
    number = card.number if card is not None else ""
    for item in draft.around.before:
        inner = small(item.node)
        if isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name):
            target = inner.targets[0].target.value
            if _tells_of_cards(inner.value, draft) and (card is None or card.condition == target):
                return _Place(f'"cuda" if {target} else "cpu"', target, number=number)
            if _may_name_torch(draft.tree) and _chooses_by_name(inner.value):
                made = f"torch.device({target})"
                numbered = "" if _on_first_card(inner.value, draft) else made
                return _Place(f"{made}.type", f'{made}.type == "cuda"', numbered)
    if card is not None and card.condition:
        return _Place(f'"auto" if {card.condition} else "cpu"', " and ".join(card.tests), number=number)
    move = _move(draft) or _move_of_batches(draft)
    if move is not None:
        return _moved_to(move, draft)
    return _Place('"auto"', _available(draft), number=number, told=card is not None)


def _tells_of_cards(value: cst.BaseExpression, draft: Draft) -> bool:
    """True for `torch.cuda.is_available()`, alone or among other conditions, and `True if ... else False`."""
    if not isinstance(value, (cst.IfExp, cst.Call, cst.BooleanOperation)):
        return False
    names = [draft.tree.qualified(node.func) for node in walk(value) if isinstance(node, cst.Call)]
    if "torch.cuda.is_available" not in names or (isinstance(value, cst.Call) and len(names) > 1):
        return False
    return not isinstance(value, cst.IfExp) or code(value.body) == "True"


def _moved_to(place: cst.BaseExpression, draft: Draft) -> _Place:
    """What `model.to(place)` says; a place that is always a card leaves the choice to the Trainer."""
    meaning = draft.nest.host.resolve(place.value) if isinstance(place, cst.Name) else None
    values = _values(meaning, draft) if isinstance(meaning, Variable) else []
    literal = [_literal(value, draft) for value in values]
    if literal and all(text == "cpu" for text in literal):
        return _Place('"cpu"', "")
    text = code(place)
    made = f"torch.device({text})"
    first = _on_first_card(place, draft)
    if literal and all(one.startswith("cuda") for one in literal):
        numbers = {one.partition(":")[2] for one in literal}
        number = numbers.pop() if len(numbers) == 1 else ""
        return _always_card(draft, "" if first else number if number.isdigit() else f"{made}.index")
    if _never_asks_for_card(draft):
        return _Place(_unless_cpu(f"str({text})"), _available(draft), number="" if first else f"{made}.index")
    return _Place(_unless_cpu(f"str({text})"), f'{made}.type == "cuda"', "" if first else made)


def _always_card(draft: Draft, number: str) -> _Place:
    """A script that never trains without a card; its result does, where there is none."""
    return _Place('"auto"', _available(draft), number=number)


def _available(draft: Draft) -> str:
    return AVAILABLE if _may_name_torch(draft.tree) else ""


def _may_name_torch(tree: Tree) -> bool:
    """True where `torch` means torch, or nothing: the result imports it."""
    if "torch" in tree.imports:
        return tree.imports["torch"] == "torch"
    return all(isinstance(tree.parents[one], (cst.ImportFrom, cst.Attribute)) for one in tree.mentions.get("torch", ()))


def _unless_cpu(text: str) -> str:
    return f'"cpu" if {text} == "cpu" else "auto"'


def _never_asks_for_card(draft: Draft) -> bool:
    """True when nothing in the script asks whether there is a card: what it chooses may not be there."""
    return not any(draft.tree.qualified(call.func) in _ASK for call in draft.tree.nodes(cst.Call))


def _literal(value: cst.BaseExpression, draft: Draft) -> str:
    """The text of a device as far as it is written out, `cuda:` where its number is not; else empty."""
    if isinstance(value, cst.Call) and draft.tree.qualified(value.func) == "torch.device" and value.args:
        text = _literal(value.args[0].value, draft)
        return f"{text}:" if text and len(value.args) > 1 else text
    if isinstance(value, cst.BinaryOperation):
        return _beginning(_fixed_text(value.left, draft))
    if isinstance(value, cst.Call) and (filled := method_call(value)) is not None and filled[1] == "format":
        return _beginning(_fixed_text(filled[0], draft))
    if isinstance(value, cst.FormattedString):
        first = value.parts[0] if value.parts else None
        return first.value if isinstance(first, cst.FormattedStringText) else ""
    return _fixed_text(value, draft)


def _beginning(text: str) -> str:
    """A text up to the first place that is filled in."""
    return re.split(r"[{%]", text)[0]


def _fixed_text(value: cst.BaseExpression, draft: Draft) -> str:
    """The text that an expression is, or that a name was set to once; else empty."""
    if isinstance(value, cst.Name):
        values = _values_of(value, draft)
        value = values[0] if len(values) == 1 else value
    return str(value.raw_value) if isinstance(value, cst.SimpleString) else ""


def _move(draft: Draft) -> cst.BaseExpression | None:
    """`device` of the host's `model.to(device)`, where it is a name that still means the same before `fit`."""
    found: cst.BaseExpression | None = None
    for item in draft.around.before:
        if found is not None and draft.nest.host.resolve(root_name(found) or "") in usage([item]).writes:
            found = None
        inner = small(item.node)
        value = inner.value if isinstance(inner, (cst.Assign, cst.Expr)) else None
        used = method_call(value) if value is not None else None
        if used is None or used[1] != "to" or not isinstance(value, cst.Call) or len(value.args) != 1:
            continue
        network = inner.targets[0].target if isinstance(inner, cst.Assign) else used[0]
        place = value.args[0].value
        name = dotted(network)
        if name is None or draft.kinds.kind(network, item.frame) is not Kind.MODULE or value.args[0].star:
            continue
        if _is_device(place):
            found = place
    return found if _may_name_torch(draft.tree) and draft.distribution is None else None


def _move_of_batches(draft: Draft) -> cst.BaseExpression | None:
    """`self.device` of the `x.to(self.device)` in the host's loop, where the host can ask for it before `fit`."""
    if not _may_name_torch(draft.tree) or draft.distribution is not None:
        return None
    host = draft.nest.host
    changed = usage([Item(draft.nest.host_loop, host)]).writes
    for call in walk(draft.nest.host_loop):
        method = method_name(call)
        if method != "to" or not isinstance(call, cst.Call) or len(call.args) != 1:
            continue
        place = call.args[0].value
        if _is_device(place) and changed.isdisjoint(map(host.resolve, (root_name(place) or "", dotted(place) or ""))):
            return place
    return None


def _is_device(place: cst.BaseExpression) -> bool:
    return isinstance(place, (cst.Name, cst.Attribute)) and (dotted(place) or "").lower().endswith("device")


def _chooses_by_name(value: cst.BaseExpression) -> bool:
    """True for `"cuda" if ... else "cpu"`."""
    return isinstance(value, cst.IfExp) and all(
        isinstance(part, cst.SimpleString) and str(part.raw_value).startswith(("cuda", "cpu", "mps"))
        for part in (value.body, value.orelse)
    )


def device_variable(draft: Draft) -> Variable | None:
    """The host's or the module's `torch.device(...)` that the script chose by a condition."""
    candidates = [variable for item in draft.around.before for variable in sorted(usage([item]).writes, key=repr)]
    if not draft.nest.host.is_module:
        names = [fact.name for fact in draft.analysis.named if fact.kind is Kind.DEVICE and fact.scope is None]
        names.sort(key=lambda name: name in draft.tree.links.imports)  # the script's own before other files'
        candidates += [draft.nest.module.variable(name) for name in names if "." not in name]
        candidates += [v for v in map(draft.nest.host.variable, _parameters(draft)) if _handed(v, draft) is not None]
    for variable in candidates:
        of_host = variable.frame is draft.nest.host or variable.frame.is_module
        known = draft.kinds.of(variable) is Kind.DEVICE or _handed(variable, draft) is not None
        if known and of_host and _chosen(variable, draft):
            return variable
    return None


def _chosen(variable: Variable, draft: Draft) -> bool:
    """True when a name is always a `torch.device(...)`, and which one is not fixed."""
    values = _values(variable, draft)
    calls = [draft.tree.qualified(value.func) for value in values if isinstance(value, cst.Call)]
    if len(calls) != len(values) or not set(calls) <= {"torch.device", "torch.accelerator.current_accelerator"}:
        return False
    if _handed(variable, draft) is not None:
        return len(values) > 1 or not all(_fixed_text(arg.value, draft) for arg in values[0].args)  # type: ignore[attr-defined]
    found = construction(variable, draft.tree, draft.nest.host_loop)
    fixed = found is not None and all(_fixed_text(arg.value, draft) for arg in found[1].args)
    return not fixed or len(values) > 1


def _values_of(name: cst.Name, draft: Draft) -> list[cst.BaseExpression]:
    """What a name of the host is set to, by who calls it where it is a parameter; empty where that is not known."""
    meaning = draft.nest.host.resolve(name.value)
    return _of_origin(meaning, draft) if isinstance(meaning, Variable) else []


def _of_origin(variable: Variable, draft: Draft) -> list[cst.BaseExpression]:
    origin = origin_of(variable.name, variable.frame.function, draft.tree)
    return _assigned(origin.name, origin.scope, draft.tree) if origin is not None else []


def _values(variable: Variable, draft: Draft) -> list[cst.BaseExpression]:
    """What a name is set to in its own scope, or by who calls the host where it is a parameter of that."""
    return _handed(variable, draft) or _assigned(variable.name, variable.frame.function, draft.tree)


def _parameters(draft: Draft) -> list[str]:
    function = draft.nest.host.function
    return [param.name.value for param in parameters(function)] if function is not None else []


def _handed(variable: Variable, draft: Draft) -> list[cst.BaseExpression] | None:
    """What a parameter of the host is given, where it keeps that and one call tells it."""
    if variable.frame is not draft.nest.host or variable.name not in _parameters(draft):
        return None
    written = usage((*draft.around.before, *draft.whole())).writes
    return (_of_origin(variable, draft) or None) if variable not in written else None


def _assigned(name: str, scope: cst.FunctionDef | None, tree: Tree) -> list[cst.BaseExpression]:
    found = assignments(scope or tree.scope).get(name, ())
    return [node.value for node in found if any(dotted(t.target) == name for t in node.targets)]
