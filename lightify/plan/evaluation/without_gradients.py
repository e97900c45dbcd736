"""What an evaluation runs without gradients of its own accord: the Trainer turns them off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.opening import gradients, live
from lightify.ledger import Fate
from lightify.plan.evaluation.parts import Evaluation, Turn
from lightify.plan.types import FateNote
from lightify.syntax.frames import Item, Step
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, method_call, walk

WITHOUT_GRADIENTS = FateNote(Fate.REPLACED, "Trainer: evaluates without gradients")


def laid_flat(
    steps: Sequence[Step],
    wanted: Callable[[Item], bool],
    tree: Tree,
    fates: dict[cst.CSTNode, FateNote],
    without: set[Step],
) -> list[Step]:
    """Steps with those that are wanted taken out of their `with torch.no_grad()`."""
    flat: list[Step] = []
    for step in steps:
        inner = under_no_grad(step, tree) if isinstance(step, Item) and wanted(step) else None
        if inner is not None:
            fates[step.node] = WITHOUT_GRADIENTS  # type: ignore[union-attr]
            without.update(inner)
        flat.extend(inner or [step])
    return flat


def under_no_grad(step: Item, tree: Tree) -> list[Item] | None:
    """The statements of a `with torch.no_grad()`."""
    if not isinstance(step.node, cst.With) or gradients(step.node, step.frame, tree) is not False:
        return None
    return [Item(node, step.frame) for node in block(step.node.body)]


def without_gradients(found: Evaluation, tree: Tree) -> Evaluation:
    """The evaluation whose batches need no `with torch.no_grad()`."""
    fates = dict(found.fates)
    without = set(found.without)

    def opened(turn: Turn) -> tuple[Step, ...]:
        body: list[Step] = []
        for step in turn.body:
            inner = under_no_grad(step, tree) if isinstance(step, Item) else None
            lines = [step] if inner is None else live(inner, tree)
            if inner is not None:
                fates[step.node] = WITHOUT_GRADIENTS  # type: ignore[union-attr]
                without.update(lines)
            body.extend(lines)
        return tuple(body)

    found = found.with_bodies(opened)
    return replace(found, fates=fates, without=frozenset(without))


def changes_in_place(step: Step) -> bool:
    """True for `weight.mul_(0.9)` and `weight[0] = 0`."""
    nodes = list(walk(step.node)) if isinstance(step, Item) else []
    names = [used[1] for node in nodes if (used := method_call(node)) is not None]
    if any(name.endswith("_") and not name.endswith("__") for name in names):
        return True
    targets = [node.target for node in nodes if isinstance(node, (cst.AssignTarget, cst.AugAssign))]
    return any(isinstance(target, cst.Subscript) for target in targets)
