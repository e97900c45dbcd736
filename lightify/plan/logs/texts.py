"""What a text shows: the values that stand in it, and the words for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from string import Formatter
from typing import NamedTuple

import libcst as cst

from lightify.plan.logs.loggers import LEVELS
from lightify.syntax.query import Arguments, arguments, dotted, method_call, method_name, walk

#: Ends of formats that show a number with decimals.
FLOATS = ("f", "e", "g")


class Slot(NamedTuple):
    """A place in a text where a value goes; `since` is the text from the last such place on."""

    value: cst.BaseExpression
    spec: str
    since: str


@lru_cache(maxsize=4096)
def slots(node: cst.CSTNode) -> tuple[Slot, ...]:
    """The values of an f-string, of `text.format(...)`, of `text % values` and of `logger.info(text, *values)`."""
    used = method_call(node)
    if isinstance(node, (cst.FormattedString, cst.ConcatenatedString)):
        parts, since = [], ""
        for piece in _pieces(node):
            if isinstance(piece, cst.FormattedStringExpression):
                parts.append(Slot(piece.expression, spec_of(piece), since))
                since = ""
            elif isinstance(piece, cst.FormattedStringText):
                since += re.sub(r"\\[tnr]", "\n", piece.value)
        return tuple(parts)
    if isinstance(node, cst.Call) and used is not None and used[1] == "format":
        return tuple(_format_slots(_text(used[0]), arguments(node)))
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Modulo):
        values = [e.value for e in node.right.elements] if isinstance(node.right, cst.Tuple) else [node.right]
        text = _text(node.left)
    elif isinstance(node, cst.Call) and used is not None and used[1] in LEVELS and len(node.args) > 1:
        values, text = [arg.value for arg in node.args[1:]], _text(node.args[0].value)
    else:
        return ()
    text, pattern = text.replace("%%", ""), r"%[-+ #0]*[0-9]*(?:\.[0-9]+)?([a-zA-Z])"
    found = list(re.finditer(pattern, text))
    if len(found) != len(values):
        return ()
    starts = [0, *(match.end() for match in found)]
    return tuple(
        Slot(value, match.group(1), text[start : match.start()]) for value, match, start in zip(values, found, starts)
    )


def spoken(call: cst.Call) -> Iterator[Slot]:
    """The values of `print("loss:", loss)`, each with the text before it."""
    since = ""
    for arg in call.args if dotted(call.func) == "print" else ():
        if isinstance(arg.value, cst.SimpleString):
            since = str(arg.value.raw_value)
        elif arg.keyword is None:
            yield Slot(arg.value, "", since)
            since = ""


def _pieces(
    node: cst.BaseExpression,
) -> Iterator[cst.FormattedStringExpression | cst.FormattedStringText]:
    """The pieces of an f-string, and of texts that stand side by side."""
    if isinstance(node, cst.ConcatenatedString):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    elif isinstance(node, cst.FormattedString):
        yield from node.parts  # type: ignore[misc]
    elif isinstance(node, cst.SimpleString):
        yield cst.FormattedStringText(str(node.raw_value))


def _format_slots(text: str, given: Arguments) -> list[Slot]:
    """The values of `text.format(...)`, as the text names them: in order, by number, by keyword, with their fields."""
    found: list[Slot] = []
    since, unnamed = "", 0
    try:
        pieces = list(Formatter().parse(text))
    except ValueError:
        return []
    for literal, name, spec, _ in pieces:
        since += literal
        if name is None:
            continue
        head, *fields = name.split(".")
        number = unnamed if not head else int(head) if head.isdigit() else -1
        unnamed += not head
        value = given.get(number, head)
        if value is None or given.starred or not all(field.isidentifier() for field in fields):
            return []
        for field in fields:
            value = cst.Attribute(value, cst.Name(field))
        found.append(Slot(value, spec or "", since))
        since = ""
    return found


def spec_of(piece: cst.FormattedStringExpression) -> str:
    return "".join(getattr(part, "value", "") for part in piece.format_spec or ())


def _text(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    if isinstance(node, cst.ConcatenatedString):
        return _text(node.left) + _text(node.right)
    return ""


def slots_in(node: cst.CSTNode) -> list[cst.BaseExpression]:
    """The values that a text shows."""
    return [slot.value for slot in slots(node)]


def slots_of(call: cst.Call) -> Iterator[cst.BaseExpression]:
    """The values that the texts in a call show."""
    yield from (value for part in walk(call) for value in slots_in(part))


_TEXTS = ("print", "sys.stdout.write", "tqdm.write", "str", "round")


def shown(node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The values that a text is made of."""
    parts = slots(node)
    if parts:
        for slot in parts:
            yield from shown(slot.value)
    elif isinstance(node, cst.Call) and (dotted(node.func) in _TEXTS or method_name(node) in LEVELS):
        for arg in node.args if dotted(node.func) == "print" else node.args[:1]:
            if arg.keyword is None:
                yield from shown(arg.value)
    elif isinstance(node, cst.ConcatenatedString) or (
        isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add)
    ):
        yield from shown(node.left)
        yield from shown(node.right)
    elif isinstance(node, cst.BaseExpression) and not isinstance(node, (cst.BaseString, cst.BaseNumber)):
        yield node


def formatted(call: cst.Call) -> Iterator[cst.BaseExpression]:
    """What a print shows as one number: by a float format, or by `x.item()` and `float(x)`."""
    for part in walk(call):
        for slot in slots(part):
            if slot.spec[-1:] in FLOATS:
                yield slot.value
        used = method_call(part)
        if isinstance(part, cst.Call) and used is not None and used[1] == "item" and not part.args:
            yield used[0]
        elif isinstance(part, cst.Call) and dotted(part.func) in ("float", "math.exp", "math.sqrt"):
            yield part.args[0].value


#: Words for what training scripts measure; the last one before a number in a text names it.
_MEASURES = re.compile(
    r"(?:prec|precision|acc|accuracy|recall|hits?|map|ndcg|err|error)@\d+|top-?[15]\b"
    r"|accuracy|acc|loss|error|err|f1|precision|recall|perplexity|ppl|mse|mae|rmse|bleu|auc|iou|dice|psnr|score|reward",
    re.IGNORECASE,
)


def measures(text: str) -> list[str]:
    """The words for what scripts measure in a text, the last one first."""
    return [_word(match) for match in _MEASURES.finditer(text)][::-1]


def _word(match: re.Match[str]) -> str:
    """`prec1` for `Prec@1`."""
    return re.sub(r"\W", "", match.group().lower())


#: Words for the pass that a number is of, right before the word for what it measures.
_STAGE = re.compile(r"(?<![a-z])(train|val|test)(?:ing|id|idation)?\.?[ _,:-]+$", re.IGNORECASE)


_PASSES = re.compile(r"(train|val|test|dev|eval)(ing|id|idation|uation)?", re.IGNORECASE)


def names_pass(word: str) -> bool:
    """True for `train` and `Validation`."""
    return _PASSES.fullmatch(word) is not None


def tells_pass(name: str) -> bool:
    """True for `val_loss`, false for `value`."""
    return any(map(names_pass, name.split("_")))


#: What a name says of the pass over the batches, not of what it measures.
_OVER = re.compile(
    r"(avg|average|epoch|mean|running|total|sum|batch|iter|step|cur|current)_|_(avg|average|mean|total|sum)$"
)


def label(text: str) -> str:
    """The last word for a measure in a text, after the pass that it is of: `val_loss` for `| Validation loss:`.

    A name that it is part of is taken as it stands: `loss_d` for `loss_D:`.
    """
    found = list(_MEASURES.finditer(text))
    if not found:
        return ""
    last = found[-1]
    stage = _STAGE.search(text[: last.start()])
    if stage is not None:
        return f"{stage.group(1).lower()}_{_word(last)}"
    name = next(one.group().lower() for one in re.finditer(r"\w+", text) if one.start() <= last.start() < one.end())
    parted = "_" in name and name.isidentifier() and name.isascii() and not _OVER.search(name)
    return name if parted else _word(last)


def is_rule(call: cst.Call | None) -> bool:
    """True for `print("-" * 80)` and `print()`, which only set off what others print."""
    parts = [part for arg in call.args for part in walk(arg.value)] if call is not None else []
    if call is None or any(isinstance(part, (cst.Name, cst.FormattedString)) for part in parts):
        return False
    texts = (str(part.raw_value) for part in parts if isinstance(part, cst.SimpleString))
    return not any(sign.isalnum() for text in texts for sign in re.sub(r"\\.", "", text))
