"""Takes out what moves batches and networks between devices: the Trainer does that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.plan.idiom.plain_data import is_variable
from lightify.plan.idiom.replacing import Replacing
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote, Stripped
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.query import (
    assigned_pairs,
    block,
    code,
    dotted,
    map_children,
    method_call,
    root_name,
    small,
    target_names,
    walk,
    words,
)

MOVES = FateNote(Fate.REPLACED, "Trainer: moves the batch")

#: Types that are of the CPU, by the method that changes the type alone.
_CPU_TYPES = frozenset({"float", "double", "half", "long", "int", "short", "char", "byte", "bool"})


def is_device(node: cst.BaseExpression, frame: Frame, kinds: Kinds) -> bool:
    """True for what names the device that the script trains on."""
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value).startswith("cuda")
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        if isinstance(meaning, Expression):
            return is_device(meaning.node, meaning.frame, kinds)
        return kinds.of(meaning) is Kind.DEVICE or _names_device(meaning.name)
    return _names_device(dotted(node) or "")


def _names_device(name: str) -> bool:
    """True for `device`, `self.gpu_id` and `local_rank`."""
    return name.lower().endswith("device") or bool(words(name) & {"gpu", "rank"})


def moved(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> cst.BaseExpression | None:
    """`x` for `x.to(device)` and `x.cuda()`, `x.to(dtype=d)` for `x.to(device, dtype=d)`, else None."""
    used = method_call(node)
    if used is None or not isinstance(node, cst.Call):
        return None
    if used[1] == "cuda":
        return _typed(used[0], kinds)
    plain = [arg for arg in node.args if arg.keyword is None and not arg.star]
    named = {arg.keyword.value: arg for arg in node.args if arg.keyword is not None}
    targets = [*plain[:1], *([named["device"]] if "device" in named else [])]
    types = [*plain[1:], *([named["dtype"]] if "dtype" in named else [])]
    if used[1] != "to" or len(targets) != 1 or len(types) > 1 or named.keys() - {"non_blocking", "device", "dtype"}:
        return None
    if not is_device(targets[0].value, frame, kinds):
        return None
    if not types:
        return _typed(used[0], kinds)
    last = types[0].with_changes(comma=cst.MaybeSentinel.DEFAULT, whitespace_after_arg=cst.SimpleWhitespace(""))
    return node.with_changes(args=[last], whitespace_before_args=cst.SimpleWhitespace(""))


def _root(node: cst.CSTNode | None, kinds: Kinds) -> str | None:
    """The name that a part of a batch is taken from; `Variable(x)` is x."""
    while isinstance(node, cst.Call) and node.args and is_variable(node, kinds):
        node = node.args[0].value
    return root_name(node)


def _typed(node: cst.BaseExpression, kinds: Kinds) -> cst.BaseExpression:
    """`x.long()` for `x.type(torch.LongTensor)`, which would take what has moved already back to the CPU."""
    used = method_call(node)
    if used is None or not isinstance(node, cst.Call):
        return node
    value, method = _typed(used[0], kinds), used[1]
    if method == "type" and len(node.args) == 1 and (name := _cpu_type(node.args[0].value, kinds)) is not None:
        return cst.Call(cst.Attribute(value, cst.Name(name)))
    return node if value is used[0] else node.with_changes(func=node.func.with_changes(value=value))


def _cpu_type(node: cst.BaseExpression, kinds: Kinds) -> str | None:
    """`long` for `torch.LongTensor` and its name as a string."""
    name = str(node.raw_value) if isinstance(node, cst.SimpleString) else kinds.tree.qualified(node) or ""
    kind = name.removeprefix("torch.").removesuffix("Tensor").lower()
    return kind if name == f"torch.{kind.capitalize()}Tensor" and kind in _CPU_TYPES else None


def unpacked(steps: Sequence[Step], batch: set[Variable]) -> set[Variable]:
    """A batch's names, those of its parts for one that is only taken apart: `x, y = data`, `x = data["image"]`."""
    parts: dict[Variable, set[Variable]] = {}
    whole: set[Variable] = set()  # what is used in other ways, too
    for step in steps:
        inner = small(step.node) if isinstance(step, Item) else None
        if not isinstance(step, Item) or not isinstance(inner, cst.Assign) or len(inner.targets) > 1:
            whole |= usage([step]).reads & batch
            continue
        for target, value in assigned_pairs(inner.targets[0].target, inner.value):
            source = _taken_apart(target, value, step.frame)
            names = {step.frame.variable(name) for name in target_names(target)}
            if source is None or source in names:
                whole |= expression_usage(value, step.frame).reads & batch  # type: ignore[arg-type]
            else:
                parts.setdefault(source, set()).update(names)
    return {part for name in batch for part in (parts.get(name, {name}) if name not in whole else {name})}


def _taken_apart(target: cst.CSTNode, value: cst.CSTNode, frame: Frame) -> Variable | None:
    """`data` of `x, y = data` and of `x = data[0]`."""
    held: cst.CSTNode | None = None
    if isinstance(value, cst.Subscript) and isinstance(target, cst.Name):
        held = value.value
    elif isinstance(target, (cst.Tuple, cst.List)):
        held = value
    meaning = frame.resolve(held.value) if isinstance(held, cst.Name) else None
    return meaning if isinstance(meaning, Variable) else None


def moved_parts(steps: Sequence[Step], batch: set[Variable], kinds: Kinds) -> set[Variable]:
    """The names of a batch that the script moves to its device."""
    found: set[Variable] = set()
    for step in steps:
        if isinstance(step, Binding):
            handed = _moved_argument(step, batch, kinds)
            found |= {handed} if handed is not None else set()
        else:
            for node in walk(step.node):
                value = moved(node, step.frame, kinds)
                if value is not None and (name := _root(value, kinds)) is not None:
                    variable = kinds.variable(cst.Name(name), step.frame) if "." not in name else None
                    if variable in batch:
                        found.add(variable)
                if isinstance(node, (cst.DictComp, cst.ListComp)) and (source := _moved_whole(node, step.frame, kinds)):
                    variable = kinds.variable(cst.Name(source), step.frame)
                    if variable in batch:
                        found.add(variable)
    return found


def strip_moves(steps: Sequence[Step], batch: set[Variable], kinds: Kinds, out: Stripped) -> tuple[Step, ...]:
    """Steps without the moves of the batch's names."""
    batch = unpacked(steps, batch)
    replacing = Replacing(lambda node, frame: _values(node, frame, batch, kinds), MOVES, kinds.tree, out)
    result: list[Step] = []
    for step in steps:
        if isinstance(step, Item):
            result.extend(replacing.items(step))
            continue
        handed = _moved_argument(step, batch, kinds)
        if handed is None:
            result.append(step)
        elif _is_only_read(step, handed, steps):
            step.target_frame.stand_for(step.target.value, handed)  # type: ignore[attr-defined]
        else:
            value = moved(step.value, step.value_frame, kinds)
            assert value is not None
            result.append(replace(step, value=value))
    return tuple(result)


def _moved_argument(step: Binding, batch: set[Variable], kinds: Kinds) -> Variable | None:
    """The part of the batch that a function gets on the device: `run(x.to(device))`."""
    value = moved(step.value, step.value_frame, kinds)
    variable = kinds.variable(value, step.value_frame) if isinstance(value, cst.Name) else None
    return variable if variable in batch and isinstance(step.target, cst.Name) else None


def _is_only_read(step: Binding, handed: Variable, steps: Sequence[Step]) -> bool:
    """True when neither the parameter nor what it gets changes: they are one, once nothing moves."""
    written = usage([one for one in steps if one is not step]).writes
    return not {handed, step.target_frame.resolve(step.target.value)} & written  # type: ignore[attr-defined]


def _values(node: cst.CSTNode, frame: Frame, batch: set[Variable], kinds: Kinds) -> cst.CSTNode:
    """An expression without the moves of the batch's names."""

    def holds_batch(name: str) -> bool:
        return kinds.variable(cst.Name(name), frame) in batch

    def change(child: cst.CSTNode) -> cst.CSTNode:
        child = map_children(child, change)
        value = moved(child, frame, kinds)
        name = _root(value, kinds)
        if value is not None and name is not None and "." not in name and holds_batch(name):
            return value
        source = _moved_whole(child, frame, kinds) if isinstance(child, (cst.DictComp, cst.ListComp)) else None
        return cst.Name(source) if source and holds_batch(source) else child

    return change(node)


def _moved_whole(node: cst.DictComp | cst.ListComp, frame: Frame, kinds: Kinds) -> str | None:
    """`batch` for `{k: v.to(device) for k, v in batch.items()}` and `[t.to(device) for t in batch]`."""
    loop = node.for_in
    if loop.ifs or loop.inner_for_in is not None:
        return None
    if isinstance(node, cst.DictComp):
        value, source = moved(node.value, frame, kinds), method_call(loop.iter)
        names = target_names(loop.target)
        fits = (
            source is not None
            and source[1] == "items"
            and len(names) == 2
            and isinstance(value, cst.Name)
            and value.value == names[1]
            and isinstance(node.key, cst.Name)
            and node.key.value == names[0]
        )
        return dotted(source[0]) if fits and source is not None else None
    value = moved(node.elt, frame, kinds)
    names = target_names(loop.target)
    fits = isinstance(value, cst.Name) and [value.value] == names and isinstance(loop.iter, cst.Name)
    return dotted(loop.iter) if fits else None


@dataclass(frozen=True, eq=False)
class HostMoves:
    """Statements of the host that only move networks: gone, made anew, and needed again after fit."""

    removed: tuple[cst.BaseStatement, ...]
    edits: dict[cst.CSTNode, cst.CSTNode]
    again: tuple[str, ...]


def host_moves(before: Iterable[Item], used_later: set[Variable], handed: set[Variable], kinds: Kinds) -> HostMoves:
    """Finds `model.to(device)` in the host for networks that the Trainer gets.

    Args:
        used_later: networks that the host runs after fit; they go back to the device then.
        handed: networks that the module owns.
    """
    removed: list[cst.BaseStatement] = []
    edits: dict[cst.CSTNode, cst.CSTNode] = {}
    again: list[str] = []
    for item in before:
        node, inner = item.node, small(item.node)
        if isinstance(inner, cst.Expr):
            variable = _moved_network(inner.value, item.frame, handed, kinds)
            if variable is not None:
                removed.append(node)
                again.extend([code(inner)] if variable in used_later else [])
        elif (
            isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name)
        ):
            variable = item.frame.variable(inner.targets[0].target.value)
            value = moved(inner.value, item.frame, kinds)
            if value is None or variable not in handed or not kinds.built_here(variable):
                continue
            if isinstance(value, cst.Name) and value.value == variable.name:
                removed.append(node)
            elif isinstance(value, cst.Call):
                edits[node] = node.with_changes(body=[inner.with_changes(value=value)])
            else:
                continue
            if variable in used_later:
                argument = ", ".join(code(arg) for arg in inner.value.args)  # type: ignore[attr-defined]
                again.append(f"{variable.name}.{inner.value.func.attr.value}({argument})")  # type: ignore[attr-defined]
        elif isinstance(node, cst.If) and node.orelse is None and isinstance(node.test, (cst.Name, cst.Attribute)):
            values = [getattr(small(s), "value", None) for s in block(node.body)]
            moves = [_moved_network(value, item.frame, handed, kinds) for value in values]
            if moves and all(variable is not None for variable in moves):
                removed.append(node)
                if any(variable in used_later for variable in moves):
                    again.append(f"if {code(node.test)}:")
                    again.extend(f"    {code(s).strip()}" for s, v in zip(block(node.body), moves) if v in used_later)
    return HostMoves(tuple(removed), edits, tuple(again))


def _moved_network(node: cst.CSTNode | None, frame: Frame, handed: set[Variable], kinds: Kinds) -> Variable | None:
    value = moved(node, frame, kinds) if node is not None else None
    variable = kinds.variable(value, frame) if isinstance(value, cst.Name) and "." not in value.value else None
    return variable if variable in handed else None
