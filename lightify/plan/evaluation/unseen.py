"""Evaluations that stay by hand: which statements they are, and why the Trainer does not run them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from lightify.analysis.calls import called_statement, callee, class_of
from lightify.analysis.opening import gradients, open_call
from lightify.facts import Kind
from lightify.loops.nest import trains
from lightify.plan.draft import Draft
from lightify.plan.evaluation.periodic import guarded_evaluation
from lightify.plan.evaluation.seen import first_evaluation
from lightify.plan.types import Stays
from lightify.recognisers.base import is_module_class
from lightify.syntax.frames import Frame, Item, Step, live_nodes
from lightify.syntax.query import dotted, method_name, small, walk

_OFF = ("torch.no_grad", "torch.inference_mode")


def staying(draft: Draft, reason: str) -> Stays | None:
    """The first evaluation of an epoch that is no validation.

    Args:
        reason: why the one at the epoch's end is none, as far as it was read.
    """
    nest = draft.nest
    seen = first_evaluation(nest.epoch_end, nest, draft.analysis, draft.tree) or guarded_evaluation(
        draft, nest.epoch_end
    )
    if seen is not None:
        return Stays(_written(seen.node, draft), "on_train_epoch_end", reason)
    by_hand = _by_hand(nest.epoch_end, draft)
    if by_hand is not None:
        return Stays(_written(by_hand.node, draft), "on_train_epoch_end", _why(by_hand, draft))
    within = _by_hand(nest.body, draft)
    if within is not None:
        return Stays(_written(within.node, draft), "the step", _why_within(within, draft))
    return None


def _written(node: cst.CSTNode, draft: Draft) -> cst.CSTNode:
    """A statement as it stands in the source, or the first of its parts that does."""
    spans = draft.tree.spans
    return next((part for part in walk(node) if isinstance(part, cst.BaseStatement) and part in spans), node)


def _by_hand(steps: Sequence[Step], draft: Draft) -> Item | None:
    """The first statement that goes over data with a network in evaluation mode, or without gradients."""
    items = (step for step in steps if isinstance(step, Item) and not trains(step, draft.nest.sites, draft.tree))
    return next((step for step in items if _evaluates(step, draft)), None)


def _evaluates(step: Item, draft: Draft) -> bool:
    parts = list(_surely_run(step, draft))
    if not any(_is_evaluating(node, draft) for node, _ in parts):
        return False
    return any(isinstance(node, cst.For) and _goes_over_data(node, frame, step, draft) for node, frame in parts)


def _surely_run(step: Item, draft: Draft) -> Iterator[tuple[cst.CSTNode, Frame]]:
    """The nodes of a statement and of the functions that it calls, as far as they are known."""
    parts: list[tuple[cst.CSTNode, Frame]] = [(step.node, step.frame)]
    seen: set[cst.FunctionDef] = set()
    for part, frame in parts:
        for node in live_nodes(part, frame):
            yield node, frame
            found = callee(node, frame, draft.tree) if isinstance(node, cst.Call) else None
            if found is not None and found[0] not in seen:
                seen.add(found[0])
                parts.append((found[0], Frame(found[0].name.value, found[0], step.frame.outermost)))


def _is_evaluating(node: cst.CSTNode, draft: Draft) -> bool:
    if method_name(node) == "eval" and not node.args:  # type: ignore[attr-defined]
        return True
    return isinstance(node, (cst.Name, cst.Attribute)) and draft.tree.qualified(node) in _OFF


def _goes_over_data(loop: cst.For, frame: Frame, step: Item, draft: Draft) -> bool:
    """True where a network runs for each element of something that is no count."""
    around = class_of(frame.function, draft.tree) if frame.function is not None else None
    if around is not None and is_module_class(around, draft.tree):
        return False  # it is how the network computes
    counts = isinstance(loop.iter, cst.Call) and dotted(loop.iter.func) in ("range", "reversed", "trange")
    if counts and len(loop.iter.args) < 3:  # type: ignore[attr-defined]
        return False
    return any(_runs_network(node, frame, step, draft) for node in walk(loop.body))


def _runs_network(node: cst.CSTNode, frame: Frame, step: Item, draft: Draft) -> bool:
    if not isinstance(node, cst.Call):
        return False
    kinds = draft.kinds
    if frame is step.frame:
        variable = kinds.variable(node.func, frame)
        return variable is not None and kinds.of(variable) is Kind.MODULE and not kinds.is_loss(variable)
    return kinds.in_scope(dotted(node.func), frame.function) is Kind.MODULE


def _why(step: Item, draft: Draft) -> str:
    """Why an evaluation was not seen."""
    for call in _own_calls(step, draft):
        found = called_statement(step.node)
        plain = found is not None and found[0] is call
        opened = open_call(step, draft.tree, draft.nest.module, evaluating=True, within=None if plain else call)
        if isinstance(opened, str):
            return opened
    if isinstance(step.node, cst.With) and gradients(step.node, step.frame, draft.tree) is None:
        return "it stands in another context than that of its gradients"
    if small(step.node) is None and not isinstance(step.node, (cst.For, cst.With)):
        return "it stands inside of another statement"
    return "what it goes over is not known to be a loader"


def _own_calls(step: Item, draft: Draft) -> Iterator[cst.Call]:
    """The calls of a statement that go over something in a function of the script."""
    for node in walk(step.node):
        found = callee(node, step.frame, draft.tree) if isinstance(node, cst.Call) else None
        if found is not None and any(isinstance(part, cst.For) for part in walk(found[0].body)):
            yield node  # type: ignore[misc]


def _why_within(step: Item, draft: Draft) -> str:
    """Why an evaluation between the batches stays there."""
    if isinstance(step.node, cst.If) and any(isinstance(part, cst.Modulo) for part in walk(step.node.test)):
        return "val_check_interval counts batches, the k-th first, and evaluates when all of a batch is done"
    if draft.nest.epoch_loop is None:
        return next(iter(draft.nest.notes), "there are no epochs")
    return "the Trainer evaluates between epochs, or every k batches"
