"""What the forms share that end in manual optimization: the switch, the schedulers, and what forbids it."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from lightify.syntax.query import arguments, code, dotted, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import after_super_init, assignments, body_of, method, returns, with_body
from lightify.upgrade.script import Script, methods


@dataclass(frozen=True)
class Optimizers:
    """What `configure_optimizers` returns, read off its text.

    Attributes:
        count: of the optimizers.
        frequencies: expression of each optimizer's frequency; empty without.
        frequency_entries: the dicts that hold them, with the entry.
        interval: of all schedulers.
        schedulers: how many there are.
    """

    frequencies: tuple[str, ...] = ()
    frequency_entries: tuple[tuple[cst.Dict, cst.DictElement], ...] = ()
    count: int = 1
    schedulers: int = 0
    interval: str = "epoch"


class Unreadable(Exception):
    """`configure_optimizers` has a form whose schedulers or frequencies cannot be read; says which."""


def read_optimizers(function: cst.FunctionDef) -> Optimizers:
    """Raises: Unreadable."""
    found = returns(function)
    if len(found) != 1 or found[0].value is None:
        raise Unreadable("it returns in several places")
    value = _resolved(function, found[0].value)
    parts = _elements(function, value)
    if parts is None:
        if isinstance(value, cst.Dict):
            parts = [value]
        else:
            raise Unreadable("what it returns is not written out")
    listed = [_elements(function, part) for part in parts]
    configs: list[cst.BaseExpression] = []
    if len(parts) == 2 and listed[0] is not None and listed[1] is not None:
        optimizers, configs = listed[0], listed[1]
    else:
        optimizers = parts
    frequencies, entries = [], []
    for optimizer in optimizers:
        if isinstance(optimizer, cst.Dict):
            keys = _keys(optimizer)
            if "frequency" in keys:
                frequencies.append(_plain(function, keys["frequency"].value))
                entries.append((optimizer, keys["frequency"]))
            if "lr_scheduler" in keys:
                configs.append(_resolved(function, keys["lr_scheduler"].value))
    if frequencies and len(frequencies) != len(optimizers):
        raise Unreadable("some optimizers have a frequency and some have none")
    intervals = {_interval(config) for config in configs}
    if len(intervals) > 1:
        raise Unreadable("its schedulers have different intervals")
    return Optimizers(tuple(frequencies), tuple(entries), len(optimizers), len(configs), *intervals)


def _resolved(function: cst.FunctionDef, value: cst.BaseExpression) -> cst.BaseExpression:
    """A name that is assigned once, by what it is assigned when that is a display."""
    if isinstance(value, cst.Name):
        made = assignments(function, value.value)
        if len(made) == 1 and _is_plain(made[0]) and isinstance(made[0].value, (cst.Dict, cst.List, cst.Tuple)):
            return made[0].value
    return value


def _is_plain(assignment: cst.Assign) -> bool:
    return all(isinstance(target.target, cst.Name) for target in assignment.targets)


def _elements(function: cst.FunctionDef, value: cst.BaseExpression) -> list[cst.BaseExpression] | None:
    if not isinstance(value, (cst.List, cst.Tuple)):
        return None
    if any(isinstance(element, cst.StarredElement) for element in value.elements):
        raise Unreadable("what it returns is not written out")
    return [_resolved(function, element.value) for element in value.elements]


def _keys(display: cst.Dict) -> dict[str, cst.DictElement]:
    return {
        code(element.key).strip("'\""): element for element in display.elements if isinstance(element, cst.DictElement)
    }


def _plain(function: cst.FunctionDef, value: cst.BaseExpression) -> str:
    """An expression that means the same in a step: a number or a field of the module."""
    if isinstance(value, cst.Name):
        made = assignments(function, value.value)
        if len(made) != 1 or not _is_plain(made[0]):
            raise Unreadable(f"the frequency `{value.value}` is not written out")
        value = made[0].value
    if not isinstance(value, cst.Integer) and not (dotted(value) or "").startswith("self."):
        raise Unreadable(f"the frequency `{code(value)}` is not known in `training_step`")
    return code(value)


def _interval(config: cst.BaseExpression) -> str:
    if isinstance(config, cst.Dict):
        keys = _keys(config)
        if {"monitor", "reduce_on_plateau"} & keys.keys():
            raise Unreadable("a scheduler follows a metric")
        if "frequency" in keys and code(keys["frequency"].value) != "1":
            raise Unreadable("a scheduler has a frequency")
        interval = keys.get("interval")
        return code(interval.value).strip("'\"") if interval is not None else "epoch"
    if isinstance(config, cst.Call) and (dotted(config.func) or "").endswith("ReduceLROnPlateau"):
        raise Unreadable("a scheduler follows a metric")
    return "epoch"


def scheduler_lines(found: Optimizers) -> str:
    """Steps the schedulers as automatic optimization did, at the end of `training_step`."""
    if not found.schedulers:
        return ""
    one = "self.lr_schedulers().step()"
    text = one if found.schedulers == 1 else "for scheduler in self.lr_schedulers():\n    scheduler.step()"
    if found.interval == "step":
        return text
    return "if self.trainer.is_last_batch:\n    " + text.replace("\n", "\n    ")


def forbidden(script: Script, owner: cst.ClassDef, log: Log) -> bool:
    """Refuses what manual optimization does not do: clipping and accumulation by the Trainer, overridden steps."""
    before = len(log.refusals)
    for call in script.trainer_calls():
        for name in ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip"):
            value = arguments(call).keyword.get(name)
            if value is not None and code(value) not in ("1", "None", "0", "0.0"):
                log.refuse(value, f"`{name}` does nothing under manual optimization, which this needs",
                           "clip or accumulate in `training_step`")  # fmt: skip
    for name in ("optimizer_step", "optimizer_zero_grad", "backward", "configure_gradient_clipping"):
        if name in methods(owner):
            log.refuse(methods(owner)[name], f"`{name}` is not called under manual optimization, which this needs",
                       "move its lines into `training_step`")  # fmt: skip
    return len(log.refusals) > before


def switched(owner: cst.ClassDef, is_direct: bool, more: str = "") -> cst.ClassDef:
    """The class with `self.automatic_optimization = False` in its constructor."""
    text = "self.automatic_optimization = False" + (f"\n{more}" if more else "")
    constructor, body = methods(owner).get("__init__"), body_of(owner)
    if constructor is not None:
        body[body.index(constructor)] = after_super_init(constructor, text)
        return with_body(owner, body)
    given = "" if is_direct else "*args, **kwargs"
    head = f"def __init__({', '.join(filter(None, ('self', given)))}):\n    super().__init__({given})\n    "
    added = method(head + text.replace("\n", "\n    "))
    place = next(i for i, part in enumerate(body) if isinstance(part, cst.FunctionDef))
    if place == 0:
        added = added.with_changes(leading_lines=[])
        body[0] = body[0].with_changes(leading_lines=[cst.EmptyLine(indent=False), *body[0].leading_lines])  # type: ignore[attr-defined,call-arg]
    body.insert(place, added)
    return with_body(owner, body)


def loss_of(owner: cst.ClassDef, function: cst.FunctionDef, name: str = "output") -> str:
    """The loss within what a step returned: itself, its entry, or one of both when that cannot be read."""
    kinds = {_kind(owner, function, node.value) for node in returns(function)} - {"none"}
    if kinds == {"dict"}:
        return f'{name}["loss"]'
    return name if kinds == {"tensor"} else f'{name}["loss"] if isinstance({name}, dict) else {name}'


def _kind(owner: cst.ClassDef, function: cst.FunctionDef, value: cst.BaseExpression | None, depth: int = 0) -> str:
    if value is None or dotted(value) == "None":
        return "none"
    if isinstance(value, (cst.Dict, cst.DictComp)):
        return "dict"
    if isinstance(value, (cst.BinaryOperation, cst.UnaryOperation)):
        return "tensor"
    if isinstance(value, cst.Name) and depth < 3:
        kinds = {_kind(owner, function, node.value, depth + 1) for node in assignments(function, value.value)}
        return kinds.pop() if len(kinds) == 1 else "unknown"
    if isinstance(value, cst.Call):
        name = dotted(value.func) or ""
        if name in ("dict", "OrderedDict", "collections.OrderedDict"):
            return "dict"
        called = method_call(value)
        if name.startswith(("F.", "torch.", "nn.functional.")) or (called is not None and called[1] in ("mean", "sum")):
            return "tensor"
        own = methods(owner).get(name.removeprefix("self.")) if name.startswith("self.") else None
        if own is not None and depth < 3:
            kinds = {_kind(owner, own, node.value, depth + 1) for node in returns(own)}
            return kinds.pop() if len(kinds) == 1 else "unknown"
        words = name.lower()
        return "tensor" if "loss" in words or "criterion" in words else "unknown"
    return "unknown"
