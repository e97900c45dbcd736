"""What a Trainer's validation would do otherwise than the script's own pass."""

from __future__ import annotations

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.evaluation.afterwards import runs
from lightify.plan.evaluation.modes import ignores_mode, mode_call
from lightify.plan.evaluation.networks_used import QUIET, uses_modules
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.evaluation.wants_gradients import computes_faster_without, wants_gradients
from lightify.plan.kinds import Kinds
from lightify.plan.touched import item_of
from lightify.syntax.flow import usage
from lightify.syntax.frames import Frame, Item, Step, Variable, live_nodes
from lightify.syntax.query import dotted, method_call, walk


def problem(found: Evaluation, nest: Nest, kinds: Kinds) -> str:
    """Why a Trainer's validation would not be the same."""
    called = {v for turn in found.turns for v in _called_modules(Item(turn.loop, turn.frame), kinds)}
    if found.modules and not all(ignores_mode(v, kinds) for v in called - found.modules):
        return "not every network is put into evaluation mode"
    for step in found.batches:
        assert isinstance(step, Item)
        if any(mode_call(Item(s, step.frame), kinds, m) for s in _lines(step.node) for m in ("eval", "train")):
            return "the mode changes inside the evaluation"
        if any(isinstance(n, cst.Attribute) and n.attr.value == "backward" for n in live_nodes(step.node, step.frame)):
            return "the evaluation takes gradients"
    graded = [step for step in (*found.before, *found.batches, *found.after) if step not in found.without]
    if any(_wants_gradients(step, kinds) for step in graded):
        return "the evaluation takes gradients, or asks for them"
    ran = any(step in graded and uses_modules(step, kinds) for step in found.batches)
    ran |= any(step in graded and _may_compute(step, kinds) for step in (*found.before, *found.after))
    if ran and computes_faster_without(kinds.tree, evaluating=bool(found.modules)):
        return "the network computes otherwise without gradients"
    if not found.modules and called and called.isdisjoint(usage(nest.body).reads):
        return "the evaluation is of another network"
    return ""


def _may_compute(step: Step, kinds: Kinds) -> bool:
    """True for what may run a network's layers; a method of its own that asks for its weights alone runs none."""

    def is_network(node: cst.BaseExpression, frame: Frame) -> bool:
        return Kind.MODULE in (kinds.kind(node, frame), kinds.in_scope(dotted(node), frame.function))

    for call, frame in runs(item_of(step), kinds):
        if isinstance(call, cst.Call) and dotted(call.func) != "torch.save":
            used = method_call(call)
            asked = used is not None and used[1] in QUIET
            given = [*(arg.value for arg in call.args), *([used[0]] if used is not None and not asked else [])]
            unseen = not any(True for _ in run_by(call, kinds.tree))
            if is_network(call.func, frame) or (unseen and any(is_network(one, frame) for one in given)):
                return True
    return False


def _wants_gradients(step: Step, kinds: Kinds) -> bool:
    return isinstance(step, Item) and wants_gradients(step, kinds.tree, network=uses_modules(step, kinds))


def _lines(node: cst.CSTNode) -> list[cst.SimpleStatementLine]:
    return [part for part in walk(node) if isinstance(part, cst.SimpleStatementLine)]


def _called_modules(step: Item, kinds: Kinds) -> set[Variable]:
    found = set()
    for node in walk(step.node):
        if isinstance(node, cst.Name) and kinds.kind(node, step.frame) is Kind.MODULE:
            variable = kinds.variable(node, step.frame)
            if variable is not None:
                found.add(variable)
    return found
