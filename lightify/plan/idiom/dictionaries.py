"""What a pass returns in a dictionary gets names of its own, in the idiomatic style.

`metrics = evaluate(...)`, of which only `metrics["loss"]` and such are read, is told as `val_loss, val_acc = ...`:
values with names are averaged, monitored and logged as those of any other script.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.loops.nest import Nest
from lightify.plan.draft import Draft
from lightify.plan.logs.dictionaries import entries, key_of
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, map_children, small, walk

#: First words of names that say which pass a dictionary is of.
_STAGES = {"train": "train", "tr": "train", "training": "train", "test": "test"}
_STAGES |= dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "val")


def with_named_parts(draft: Draft, nest: Nest) -> Nest:
    """The loops in which values have names that the epoch's end took from dictionaries of its passes."""
    end = list(nest.epoch_end)
    origins = dict(nest.origins)
    for number, step in enumerate(nest.epoch_end):
        found = _returned(draft, step)
        if found is None or not _is_read_by_key(draft, nest, number, *found):
            continue
        variable, keys = found
        names = _names(draft, variable.name, list(keys), evaluates=isinstance(step, Item))
        if names is None:
            continue
        for name in names.values():
            nest.module.stand_for(name, Variable(name, variable.frame))
        parts = _parts(step, variable, keys, names)
        place = end.index(step)
        later = [_renamed(one, variable, names, origins) for one in end[place + 1 :]]
        end[place:] = [*([step] if isinstance(step, Item) else []), *parts, *later]
    return replace(nest, epoch_end=tuple(end), origins=origins)


def _returned(draft: Draft, step: Step) -> tuple[Variable, Mapping[str, cst.BaseExpression]] | None:
    """The variable that gets a function's dictionary, and what stands in it."""
    if isinstance(step, Binding):
        target, frame, value = step.target, step.target_frame, step.value
    else:
        found = called_statement(step.node)
        called = callee(found[0], step.frame, draft.tree) if found is not None else None
        lines = block(called[0].body) if called is not None else ()
        last = small(lines[-1]) if lines else None
        if found is None or found[1] is None or not isinstance(last, cst.Return) or last.value is None:
            return None
        target, frame, value = found[1], step.frame, last.value
    meaning = frame.resolve(target.value) if isinstance(target, cst.Name) else None
    if not isinstance(meaning, Variable) or not isinstance(value, cst.Dict):
        return None
    keys = dict(entries(value))
    return (meaning, keys) if len(keys) == len(value.elements) > 0 else None


def _is_read_by_key(
    draft: Draft, nest: Nest, number: int, variable: Variable, keys: Mapping[str, cst.BaseExpression]
) -> bool:
    """True when nothing but its entries is read, by what follows in the epoch."""
    others = (*nest.epoch_start, *nest.body, *nest.epoch_end[:number])
    later = nest.epoch_end[number + 1 :]
    own = usage([nest.epoch_end[number]]).reads
    if variable in draft.read_elsewhere() | usage(others).reads | own or variable in usage((*others, *later)).writes:
        return False
    return all(
        isinstance(step, Item) and _asks_for(step, variable, keys, draft.tree)
        for step in later
        if _reads(step, variable)
    )


def _asks_for(step: Item, variable: Variable, keys: Mapping[str, cst.BaseExpression], tree: Tree) -> bool:
    """True when a step reads nothing of a dictionary but some of its entries."""
    for node in walk(step.node):
        if not _is(node, variable, step.frame):
            continue
        outer, inside = tree.parents.get(node), tree.around(node, cst.FunctionDef, cst.Lambda)
        if outer is None or key_of(outer) not in keys or inside is not step.frame.function:
            return False
        if isinstance(tree.parents[outer], (cst.AssignTarget, cst.AugAssign, cst.Del)):
            return False
    return True


def _reads(step: Step, variable: Variable) -> bool:
    return variable in usage([step]).reads


def _is(node: cst.CSTNode, variable: Variable, frame: Frame) -> bool:
    return isinstance(node, cst.Name) and node.value == variable.name and frame.resolve(node.value) is variable


def _names(draft: Draft, whole: str, keys: Sequence[str], *, evaluates: bool) -> dict[str, str] | None:
    """A name for each entry that the script has not, by key; None when there is none."""
    stage = _STAGES.get(whole.partition("_")[0].lower(), "val" if evaluates else "train")
    names: dict[str, str] = {}
    for key in keys:
        own = key if key.partition("_")[0] == stage else f"{stage}_{key}"
        choices = [
            name for name in (own, f"{whole}_{key}") if name not in draft.tree.names and not keyword.iskeyword(name)
        ]
        if not choices or draft.nest.module.aliases.keys() & set(choices):
            return None
        names[key] = choices[0]
    return names if len(set(names.values())) == len(keys) else None


def _parts(
    step: Step, variable: Variable, keys: Mapping[str, cst.BaseExpression], names: Mapping[str, str]
) -> list[Binding]:
    """The steps that give the names their values."""
    if isinstance(step, Binding):
        return [replace(step, target=cst.Name(names[key]), value=value) for key, value in keys.items()]
    origin = small(step.node) or step.node
    parts = []
    for key in keys:
        index = cst.SubscriptElement(cst.Index(cst.SimpleString(f'"{key}"')))
        value = cst.Subscript(cst.Name(variable.name), [index])
        parts.append(Binding(cst.Name(names[key]), step.frame, value, step.frame, origin))
    return parts


def _renamed(step: Step, variable: Variable, names: Mapping[str, str], origins: dict[cst.CSTNode, cst.CSTNode]) -> Step:
    """A step that reads the names."""
    if not isinstance(step, Item) or not _reads(step, variable):
        return step

    def change(node: cst.CSTNode) -> cst.CSTNode:
        key = key_of(node)
        if key is not None and _is(node.value, variable, step.frame):  # type: ignore[attr-defined]
            return cst.Name(names[key])
        new = map_children(node, change)
        if new is not node and isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
            origins[new] = origins.get(node, node)
        return new

    return replace(step, node=change(step.node))  # type: ignore[arg-type]
