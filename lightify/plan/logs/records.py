"""Means that a script writes down at the end of a pass are read from where the Trainer keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.facts import Kind
from lightify.plan.draft import Draft
from lightify.plan.logs.means import Mean, plain
from lightify.plan.logs.metrics import metric_name, printed
from lightify.plan.logs.texts import measures
from lightify.syntax.flow import usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.query import (
    MODULE_SELF,
    block,
    children,
    code,
    expression_of,
    map_children,
    method_call,
    method_name,
    module_attribute,
    root_name,
    small,
    walk,
)

#: Where the Trainer keeps what it has logged.
KEPT = f"{MODULE_SELF}.trainer.callback_metrics"

_WRITES = ("append", "add_scalar", "add_scalars")
_TRACKERS = ("wandb.log", "mlflow.log_metric")
_LOOPLESS = (cst.SimpleStatementLine, cst.If)

MeanOf = Callable[[cst.CSTNode, Frame], Mean | None]


@dataclass(frozen=True, eq=False)
class Record:
    """A statement that writes means down or hands them on: into a list, a logger, as the best one, to a scheduler.

    Attributes:
        values: the parts of it that are means; others: what else it reads.
        named: what it calls the means, where it says so.
    """

    step: Item
    values: Mapping[cst.CSTNode, Mean]
    others: frozenset[Variable]
    named: str


def records(draft: Draft, after: Sequence[Step], training: bool, mean_of: MeanOf) -> list[Record]:
    """What the end of a pass writes down, where that is all that becomes of it.

    A training's means are ready when its epoch ends, after what evaluates within it.
    """
    loops = [n for n, one in enumerate(after) if isinstance(one, Item) and not isinstance(one.node, _LOOPLESS)]
    first = max(loops, default=-1) + 1 if training else 0
    found = [one for step in after[first:] if (one := _record(draft, step, mean_of)) is not None]
    rest = usage([step for step in draft.whole() if not _only_tells(draft, step)]).reads
    return [one for one in found if _receiver(one.step) not in rest]


def _record(draft: Draft, step: Step, mean_of: MeanOf) -> Record | None:
    if not isinstance(step, Item) or not any(tells(draft, step) for tells in (_writes, _keeps_best, _steps_scheduler)):
        return None
    values = dict(_means(step.node, step.frame, mean_of))
    rest = _changed(step.node, dict.fromkeys(values, cst.Name("None")))
    others = usage([Item(rest, step.frame)]).reads  # type: ignore[arg-type]
    return Record(step, values, frozenset(others), _name(draft, step)) if values else None


def _writes(draft: Draft, step: Item) -> bool:
    """True for `losses.append(...)`, `losses[epoch] = ...`, `writer.add_scalar(...)`."""
    inner, call = small(step.node), expression_of(step.node)
    if isinstance(call, cst.Call):
        method = method_name(call)
        return method in _WRITES or draft.tree.qualified(call.func) in _TRACKERS
    return isinstance(inner, cst.Assign) and [type(one.target) for one in inner.targets] == [cst.Subscript]


def _keeps_best(draft: Draft, step: Item) -> bool:
    """True for `if accuracy > best: best = accuracy` where a callback keeps the best one, too."""
    node = step.node
    if not isinstance(node, cst.If) or node.orelse is not None or not isinstance(node.test, cst.Comparison):
        return False
    asked = {part.value for part in walk(node.test) if isinstance(part, cst.Name)}
    lines = [small(line) for line in block(node.body)]
    plain = all(
        isinstance(line, cst.Assign) and all(isinstance(target.target, cst.Name) for target in line.targets)
        for line in lines
    )
    return plain and bool(asked & draft.monitored)


def _steps_scheduler(draft: Draft, step: Item) -> bool:
    """True for `scheduler.step(loss)`."""
    used = method_call(expression_of(step.node))
    return used is not None and used[1] == "step" and draft.kinds.kind(used[0], step.frame) is Kind.SCHEDULER


def _means(node: cst.CSTNode, frame: Frame, mean_of: MeanOf) -> Iterator[tuple[cst.CSTNode, Mean]]:
    """The largest parts of a statement that are means."""
    mean = mean_of(node, frame) if isinstance(node, cst.BaseExpression) else None
    if mean is not None:
        yield node, mean
    else:
        for child in children(node):
            yield from _means(child, frame, mean_of)


def _receiver(step: Item) -> Variable | None:
    """The list that is written to."""
    inner, used = small(step.node), method_call(expression_of(step.node))
    target = inner.targets[0].target if isinstance(inner, cst.Assign) else None
    owner = used[0] if used is not None and used[1] == "append" else target
    meaning = step.frame.resolve(root_name(owner) or "") if owner is not None else None
    return meaning if isinstance(meaning, Variable) else None


def _name(draft: Draft, step: Item) -> str:
    """`loss` for `losses.append(...)`, `train_loss` for `history["train_loss"].append(...)`."""
    used = method_call(expression_of(step.node))
    owner = used[0] if used is not None and used[1] == "append" else None
    if isinstance(owner, cst.Subscript):
        index = owner.slice[0].slice
        key = index.value if isinstance(index, cst.Index) else None
        text = str(key.raw_value) if isinstance(key, cst.SimpleString) else ""
        return text if text.isidentifier() else ""
    variable = draft.kinds.variable(owner, step.frame) if owner is not None else None
    return metric_name(variable) if variable is not None and measures(variable.name) else ""


def _only_tells(draft: Draft, step: Step) -> bool:
    return isinstance(step, Item) and (_writes(draft, step) or printed(step.node, step.frame, draft.kinds) is not None)


def read_back(
    draft: Draft, found: Sequence[Record], names: Mapping[tuple[Variable, str], str]
) -> dict[Step, tuple[Step, ...]]:
    """The records, of what `self.log` has kept; a variable that several need is set before the first of them.

    Args:
        names: what each mean is logged as, by its sum and scale.
    """
    reads = [code(plain(value)) for one in found for value in one.values]
    known: set[str] = set()
    new: dict[Step, tuple[Step, ...]] = {}
    for one in found:
        lines: list[Step] = []
        change: dict[cst.CSTNode, cst.CSTNode] = {}
        for value, mean in one.values.items():
            kept = _kept(names[mean.total.variable, mean.scale], is_tensor=not _is_plain_number(value, mean))
            holder = plain(value)
            if not isinstance(holder, cst.Name) or reads.count(holder.value) < 2:
                change[value] = kept
                continue
            if value is not holder:
                change[value] = cst.Name(holder.value)
            if holder.value not in known:
                known.add(holder.value)
                target = cst.AssignTarget(cst.Name(holder.value))
                lines.append(Item(cst.SimpleStatementLine([cst.Assign([target], kept)]), one.step.frame))
        node = _changed(one.step.node, change)
        if node is not one.step.node:
            draft.stripped.origins[small(node) or node] = small(one.step.node) or one.step.node
        new[one.step] = (*lines, Item(node, one.step.frame) if node is not one.step.node else one.step)  # type: ignore[arg-type]
    return new


def asks_for_means(step: Step) -> bool:
    """True for what reads back what the Trainer has logged over a pass."""
    return isinstance(step, Item) and any(
        isinstance(part, cst.Attribute) and code(part) == KEPT for part in walk(step.node)
    )


def _is_plain_number(value: cst.CSTNode, mean: Mean) -> bool:
    """True for what was taken out of its tensor, by `loss.item()` or `float(loss)`."""
    return plain(value) is not value or any(plain(part) is not part for part in walk(mean.total.value))


def _kept(name: str, *, is_tensor: bool) -> cst.BaseExpression:
    """`self.trainer.callback_metrics["loss"].item()`."""
    index = cst.SubscriptElement(cst.Index(cst.SimpleString(f'"{name}"')))
    metrics = cst.Attribute(module_attribute("trainer"), cst.Name("callback_metrics"))
    kept = cst.Subscript(metrics, [index])
    return kept if is_tensor else cst.Call(cst.Attribute(kept, cst.Name("item")))


def _changed(node: cst.CSTNode, change: Mapping[cst.CSTNode, cst.CSTNode]) -> cst.CSTNode:
    if node in change:
        return change[node]
    return map_children(node, lambda child: _changed(child, change)) if change else node
