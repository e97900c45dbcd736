"""A flag for the best epoch so far, `is_best = acc > best`, read as the comparison that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import libcst as cst

from lightify.loops.nest import Nest
from lightify.plan.callbacks.comparisons import COMPARES
from lightify.plan.callbacks.saves import Saved, flagged_save
from lightify.plan.draft import Draft
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.syntax.flow import usage
from lightify.syntax.frames import Field, Item, Step, Variable
from lightify.syntax.query import assigned_pairs, block, code, dotted, small, walk


@dataclass(frozen=True, eq=False)
class Flagged:
    """The loops with `if acc > best: best = acc; ...` in the place of a flag and what asks it.

    Attributes:
        flag: the statement that sets it.
        saved: what a function saves that is handed the flag, and its statement.
    """

    nest: Nest
    flag: cst.BaseStatement
    saved: Saved | None
    call: cst.BaseStatement | None


def flagged(draft: Draft, nest: Nest) -> Flagged | None:
    """Reads `is_best = acc > best`, `best = max(acc, best)` and `if is_best: ...` or `save(state, is_best)`."""
    for number, step in enumerate(nest.epoch_end):
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(step, Item) and isinstance(inner, cst.Assign) and isinstance(inner.value, cst.Comparison):
            found = _read(draft, nest, number, step, inner, inner.value)
            if found is not None:
                return found
    return None


def with_patience(nest: Nest) -> Nest | None:
    """The loops with `if wait >= patience: ... break` in the branch that counts, where it follows the comparison."""
    if len(nest.epoch_end) < 2:
        return None
    compares, asks = nest.epoch_end[-2:]
    if not isinstance(compares, Item) or not isinstance(asks, Item) or compares.frame is not asks.frame:
        return None
    node, test = compares.node, asks.node
    if not isinstance(node, cst.If) or not isinstance(node.orelse, cst.Else) or not isinstance(test, cst.If):
        return None
    left = code(test.test.left) if isinstance(test.test, cst.Comparison) else ""
    grows = [small(line) for line in block(node.orelse.body)]
    counted = [code(one.target) for one in grows if isinstance(one, cst.AugAssign)]
    if counted != [left] or test.orelse is not None or not isinstance(small(block(test.body)[-1]), cst.Break):
        return None
    body = node.orelse.body.with_changes(body=[*block(node.orelse.body), test])
    new = node.with_changes(orelse=node.orelse.with_changes(body=body))
    return replace(
        nest, epoch_end=(*nest.epoch_end[:-2], Item(new, compares.frame)), origins={**nest.origins, new: node}
    )


def with_singles(nest: Nest) -> Nest | None:
    """The loops with `best, wait = loss, 0` as two statements, where it follows a comparison."""
    origins: dict[cst.CSTNode, cst.CSTNode] = {}
    end: list[Step] = []
    for step in nest.epoch_end:
        node = step.node if isinstance(step, Item) else None
        if isinstance(step, Item) and isinstance(node, cst.If) and isinstance(node.test, cst.Comparison):
            body = [single for line in block(node.body) for single in _singles(line, origins)]
            if len(body) > len(block(node.body)):
                new = node.with_changes(body=node.body.with_changes(body=body))
                origins[new] = node
                step = Item(new, step.frame)
        end.append(step)
    return replace(nest, epoch_end=tuple(end), origins={**nest.origins, **origins}) if origins else None


def _singles(line: cst.BaseStatement, origins: dict[cst.CSTNode, cst.CSTNode]) -> list[cst.BaseStatement]:
    """The assignments of `a, b = x, y`, where none of them needs what another sets."""
    inner = small(line)
    pairs = assigned_pairs(inner.targets[0].target, inner.value) if isinstance(inner, cst.Assign) else []
    names = {code(target) for target, _ in pairs}
    read = {part.value for _, value in pairs for part in walk(value) if isinstance(part, cst.Name)}
    plain = isinstance(inner, cst.Assign) and len(inner.targets) == 1 and not names & read
    if len(pairs) < 2 or not plain or not all(isinstance(target, cst.Name) for target, _ in pairs):
        return [line]
    lines: list[cst.BaseStatement] = []
    for target, value in pairs:
        single = cst.Assign([cst.AssignTarget(target)], value)  # type: ignore[arg-type]
        origins[single] = inner  # type: ignore[assignment]
        lines.append(cst.SimpleStatementLine([single]))
    return lines


def _read(draft: Draft, nest: Nest, number: int, step: Item, sets: cst.Assign, test: cst.Comparison) -> Flagged | None:
    frame, target = step.frame, sets.targets[0].target
    flag = frame.resolve(target.value) if isinstance(target, cst.Name) and len(sets.targets) == 1 else None
    update = _update(nest, number, step, test)
    if not isinstance(flag, Variable) or isinstance(flag, Field) or update is None:
        return None
    others = [one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not step]
    asking = [place for place, one in enumerate(nest.epoch_end) if one is not step and flag in usage([one]).reads]
    if len(asking) != 1 or flag in draft.read_elsewhere() or flag in usage(others).writes:
        return None
    asks = nest.epoch_end[asking[0]]
    between = nest.epoch_end[update + 1 : asking[0]]
    if asking[0] < update or not isinstance(asks, Item) or any(uses_modules(one, draft.kinds) for one in between):
        return None
    if usage(between).writes & usage([asks]).reads or asks.frame is not frame:
        return None
    saved: Saved | None = None
    body: tuple[cst.BaseStatement, ...]
    if isinstance(asks.node, cst.If) and code(asks.node.test) == code(target) and asks.node.orelse is None:
        body = block(asks.node.body)
    else:
        saved = flagged_save(draft, asks, code(target))
        if saved is None:
            return None
        body = (asks.node,)
    updates = nest.epoch_end[update]
    assert isinstance(updates, Item)
    kept = small(updates.node)
    assert isinstance(kept, cst.Assign)
    best = cst.Assign([cst.AssignTarget(kept.targets[0].target)], _metric(test, kept.targets[0].target))
    line = cst.SimpleStatementLine([best])
    node = cst.If(test.with_changes(lpar=[], rpar=[]), cst.IndentedBlock([line, *body]))
    lines = getattr(step.node, "leading_lines", ())
    node = node.with_changes(leading_lines=lines)
    origins: dict[cst.CSTNode, cst.CSTNode] = {**nest.origins, best: kept}
    origins[node] = asks.node if isinstance(asks.node, cst.If) else sets
    gone = (step, updates, asks)
    end = [one for place, one in enumerate(nest.epoch_end) if one not in gone or place == update]
    end = [Item(node, frame) if one is updates else one for one in end]
    new = replace(nest, epoch_end=tuple(end), origins=origins)
    return Flagged(new, step.node, saved, asks.node if saved is not None else None)


def _update(nest: Nest, number: int, step: Item, test: cst.Comparison) -> int | None:
    """Where `best = max(acc, best)` follows; nothing before it may need the old or the new best."""
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    if len(test.comparisons) != 1 or not isinstance(operator, COMPARES):
        return None
    names = {code(test.left), code(right)}
    for place in range(number + 1, len(nest.epoch_end)):
        one = nest.epoch_end[place]
        inner = small(one.node) if isinstance(one, Item) else None
        value = inner.value if isinstance(inner, cst.Assign) and len(inner.targets) == 1 else None
        if isinstance(value, cst.Call) and dotted(value.func) in ("max", "min") and len(value.args) == 2:
            target = code(inner.targets[0].target)  # type: ignore[union-attr]
            greater = isinstance(operator, (cst.GreaterThan, cst.GreaterThanEqual)) is (code(right) == target)
            same = {code(arg.value) for arg in value.args} == names and target in names and one.frame is step.frame  # type: ignore[union-attr]
            if same and dotted(value.func) == ("max" if greater else "min"):
                return place
        used = usage([one])
        if (used.reads | used.writes) & usage([step]).reads:
            return None
    return None


def _metric(test: cst.Comparison, best: cst.BaseExpression) -> cst.BaseExpression:
    right = test.comparisons[0].comparator
    return right if code(test.left) == code(best) else test.left
