"""`return {"loss": ..., "log": {...}, "progress_bar": {...}}`: `self.log` before the return.

Of what an epoch end returned, other numbers were there for callbacks to monitor: `self.log(..., logger=False)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import Changed, code, dotted, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import (
    Change,
    assignments,
    become,
    body_of,
    edit,
    into,
    lines,
    occurrences,
    returns,
)
from lightify.upgrade.script import STAGES, Script, methods

LOGGED = ("log", "progress_bar")
_EPOCH_ENDS = tuple(f"{stage}_epoch_end" for stage in STAGES)
_Edits = dict[cst.CSTNode, Change]
_DICTS = ("dict", "OrderedDict", "collections.OrderedDict")


class _Unclear(Exception):
    """What is returned cannot be read off the text."""


@dataclass(frozen=True)
class _Returned:
    """A returned dict: where it is written (the return, or the assignment of its name), and its entries by key."""

    statement: cst.Return | cst.Assign
    display: cst.Dict
    entries: dict[str, cst.DictElement]


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: _Edits = {}
    for owner in script.modules:
        own = methods(owner)
        ends = "training_step_end" in own
        for name in ("training_step_end" if ends else "training_step", *_EPOCH_ENDS):
            if name in own:
                _rewrite_method(own[name], log, edits)
        if ends and "training_step" in own and _mentions(own["training_step"]):
            log.refuse(own["training_step"], "`training_step` returns what to log, and `training_step_end` follows it",
                       "write self.log(...) in `training_step`")  # fmt: skip
    return edit(script.module, edits)


def _rewrite_method(function: cst.FunctionDef, log: Log, edits: _Edits) -> None:
    is_end = function.name.value in _EPOCH_ENDS
    found = []
    for statement in returns(function):
        try:
            returned = _read(function, statement)
        except _Unclear as unclear:
            if _mentions(function):
                log.refuse(statement, f"what is returned to be logged cannot be read: {unclear}",
                           "write self.log(...) for each value, and return the loss")  # fmt: skip
            continue
        if returned is not None and (is_end or any(key in returned.entries for key in LOGGED)):
            found.append((statement, returned))
    for statement, returned in found:
        try:
            logs = _logs(function, returned, is_end)
        except _Unclear as unclear:
            log.refuse(statement, str(unclear), "write self.log(...) for each value")
            continue
        if returned.statement in edits:
            continue  # two returns of one name
        drop = {*LOGGED} if not is_end else set(returned.entries)
        log.rewrote(returned.statement, "returned " + ", ".join(f"'{key}'" for key in returned.entries if key in drop),
                    "; ".join(logs) or "nothing")  # fmt: skip
        line = next(node for node in scope_nodes(function)
                    if isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite))
                    and returned.statement in node.body)  # fmt: skip
        if isinstance(line, cst.SimpleStatementSuite) or len(line.body) > 1:
            log.refuse(statement, "the dict stands on a line with other statements", "give it a line of its own")
            continue
        edits[line] = _rewritten(returned, logs, drop, is_end, line is body_of(function)[-1])
        if is_end and returned.statement is not statement:
            edits[statement] = into(value=None, whitespace_after_return=cst.SimpleWhitespace(""))


def _rewritten(returned: _Returned, logs: list[str], drop: set[str], is_end: bool, is_last: bool) -> Change:
    def new_lines(line: cst.CSTNode) -> Changed:
        assert isinstance(line, cst.SimpleStatementLine)
        before = lines("\n".join(logs)) if logs else []
        if is_end:
            if isinstance(returned.statement, cst.Return) and not (is_last and before):
                before += lines("return")
            kept: list[cst.BaseStatement] = before
        else:
            elements = [entry for key, entry in returned.entries.items() if key not in drop]
            if elements:
                elements[-1] = elements[-1].with_changes(comma=returned.display.elements[-1].comma)
            shorter = returned.display.with_changes(elements=elements)
            if len(elements) == 1 and isinstance(line.body[0], cst.Return) and "loss" in returned.entries:
                small: cst.BaseSmallStatement = line.body[0].with_changes(value=elements[0].value)
            else:
                small = edit(line.body[0], {returned.display: become(shorter)})
            kept = [*before, line.with_changes(body=[small], leading_lines=() if before else line.leading_lines)]
        if not kept:
            return cst.RemoveFromParent()
        kept[0] = kept[0].with_changes(leading_lines=line.leading_lines)  # type: ignore[call-arg]
        return cst.FlattenSentinel(kept)

    return new_lines


def _read(function: cst.FunctionDef, statement: cst.Return) -> _Returned | None:
    value = statement.value
    place: cst.Return | cst.Assign = statement
    if isinstance(value, cst.Name):
        made = assignments(function, value.value)
        if len(made) != 1 or _display(made[0].value) is None:
            if any(_display(node.value) is not None for node in made):
                raise _Unclear(f"`{value.value}` is assigned more than once")
            return None
        reads = list(occurrences(function.body, value.value))
        if len(reads) != 1 + len([r for r in returns(function) if dotted(r.value) == value.value]):
            raise _Unclear(f"`{value.value}` is changed or used in other places")
        place, value = made[0], made[0].value
    display = _display(value)
    if display is None:
        return None
    entries: dict[str, cst.DictElement] = {}
    for element in display.elements:
        if not isinstance(element, cst.DictElement) or not isinstance(element.key, cst.SimpleString):
            raise _Unclear("the dict has entries without a written name")
        entries[str(element.key.raw_value)] = element
    return _Returned(place, display, entries)


def _display(value: cst.CSTNode | None) -> cst.Dict | None:
    """The dict display of `{...}` or `OrderedDict({...})`."""
    if (
        isinstance(value, cst.Call)
        and dotted(value.func) in _DICTS
        and len(value.args) == 1
        and not value.args[0].keyword
    ):
        value = value.args[0].value
    return value if isinstance(value, cst.Dict) else None


@dataclass(frozen=True)
class _Logged:
    """A dict of values to log.

    Attributes:
        text: an expression for it; empty for none.
        values: key to key and value as text, for the entries that it surely has; None when it cannot be read.
        maybe: further keys that it may have.
    """

    text: str = ""
    values: dict[str, tuple[str, str]] | None = field(default_factory=dict)
    maybe: frozenset[str] = frozenset()

    @property
    def is_read(self) -> bool:
        return self.values is not None and not self.maybe

    @property
    def keys(self) -> set[str]:
        return {*(self.values or ()), *self.maybe}


def _logs(function: cst.FunctionDef, returned: _Returned, is_end: bool) -> list[str]:
    entries = returned.entries
    logged = _values(function, entries["log"].value) if "log" in entries else _Logged()
    shown = _values(function, entries["progress_bar"].value) if "progress_bar" in entries else _Logged()
    if (logged.is_read and shown.is_read) or (logged.text != shown.text and logged.text and shown.text):
        logs = _one_by_one(logged, shown)
    else:
        options = (", prog_bar=True" if shown.text else "") + ("" if logged.text else ", logger=False")
        logs = [f"self.log_dict({logged.text or shown.text}{options})"]
    for name, entry in entries.items() if is_end else ():
        if name in ("loss", *LOGGED, *(logged.values or ()), *(shown.values or ())) or not _may_be_number(entry.value):
            continue
        unsure = [part.text for part in (logged, shown) if part.values is None or name in part.maybe]
        if unsure:
            raise _Unclear(f"whether `{unsure[0]}` holds '{name}', too, cannot be read")
        logs.append(f"self.log({code(entry.key)}, {code(entry.value)}, logger=False)")
    return logs


def _one_by_one(logged: _Logged, shown: _Logged) -> list[str]:
    """A line for each entry; a dict that is not read whole stays together when the other shares no name with it."""
    if (
        logged.values is None
        or shown.values is None
        or (not (logged.is_read and shown.is_read) and logged.keys & shown.keys)
    ):
        raise _Unclear("two dicts are logged, and one cannot be read: a name in both would be logged twice")
    logs = [] if logged.is_read else [f"self.log_dict({logged.text})"]
    logs += [] if shown.is_read else [f"self.log_dict({shown.text}, prog_bar=True, logger=False)"]
    of_log = logged.values if logged.is_read else {}
    of_bar = shown.values if shown.is_read else {}
    for key, (written, value) in {**of_bar, **of_log}.items():
        options = (", prog_bar=True" if key in of_bar else "") + ("" if key in of_log else ", logger=False")
        logs.append(f"self.log({written}, {value}{options})")
    return logs


def _values(function: cst.FunctionDef, value: cst.BaseExpression) -> _Logged:
    name, display = dotted(value), _display(value)
    stored: set[str] | None = set()
    if name is not None:
        made = assignments(function, name)
        if len(made) == 1 and isinstance(made[0].value, cst.Name):
            return _values(function, made[0].value)
        if len(made) == 1:
            display, stored = _display(made[0].value), _stored(function, name)
    unread = _Logged(code(value), None)
    if display is None or stored is None:
        return unread
    found = {}
    for element in display.elements:
        if not isinstance(element, cst.DictElement) or not isinstance(element.key, cst.SimpleString):
            return unread
        key = code(element.key)
        found[str(element.key.raw_value)] = (key, code(element.value) if name is None else f"{name}[{key}]")
    return _Logged(code(value), found, frozenset(stored - found.keys()))


def _stored(function: cst.FunctionDef, name: str) -> set[str] | None:
    """The keys that a dict may get after it was made; None when they cannot be read."""
    keys = set()
    for node in scope_nodes(function):
        if isinstance(node, (cst.AssignTarget, cst.AugAssign)) and isinstance(node.target, cst.Subscript):
            if dotted(node.target.value) == name:
                key = getattr(node.target.slice[0].slice, "value", None)
                if not isinstance(key, cst.SimpleString):
                    return None
                keys.add(str(key.raw_value))
        elif isinstance(node, cst.Call) and (used := method_call(node)) is not None and dotted(used[0]) == name:
            if used[1] not in ("items", "keys", "values", "get"):
                return None
        elif isinstance(node, cst.Arg) and dotted(node.value) == name and not node.star:
            return None
    return keys


def _may_be_number(value: cst.BaseExpression) -> bool:
    return not isinstance(
        value, (cst.Dict, cst.List, cst.Tuple, cst.ListComp, cst.SimpleString, cst.ConcatenatedString)
    )


def _mentions(function: cst.FunctionDef) -> bool:
    return any(
        isinstance(node, cst.DictElement) and code(node.key).strip("'\"") in LOGGED for node in scope_nodes(function)
    ) or any(
        isinstance(node, cst.Subscript)
        and code(node).endswith(tuple(f"[{q}{key}{q}]" for key in LOGGED for q in "'\""))
        for node in scope_nodes(function)
    )
