"""What an epoch does after its evaluation, in that mode still: the Trainer's validation can end with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.changes import may_run
from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.effects import only_writes
from lightify.plan.evaluation.modes import ignores_mode
from lightify.plan.evaluation.networks_used import may_run_network
from lightify.plan.kinds import Kinds
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Expression, Frame, Item, Step, Variable, live_nodes
from lightify.syntax.query import dotted, is_constant, method_call, root_of, target_names, walk


def obstacle(steps: Sequence[Step], modules: Set[Variable], without: Set[Step], nest: Nest, kinds: Kinds) -> str:
    """Why steps can't run at the end of a validation, where all networks evaluate without gradients; empty if they can.

    Args:
        modules: the networks that evaluate.
        without: steps that the script itself runs without gradients.
    """
    training = usage((*nest.epoch_start, *nest.body))
    others = bool(steps) and kinds.others_than(modules)
    for step in steps:
        if not isinstance(step, Item):
            continue
        if any(True for _ in exits_of(step.node)):
            return "the epoch may be left before its network is back in training mode"
        if any(_may_step(node, step.frame, kinds) for node in walk(step.node)):
            return "what follows the evaluation steps before the network is used again"
        given = usage([step]).writes & training.reads
        if step not in without and given - (_numbers_of(step) - training.writes):
            return "what follows the evaluation gives the training what may have gradients"
        parts = [(node, frame) for node, frame in runs(step, kinds) if not _only_saves(frame, kinds)] if others else []
        if any(_uses_another(node, frame, modules, kinds) for node, frame in parts):
            return "what follows the evaluation may use another network, which trains on"
    return ""


def _numbers_of(step: Item) -> set[Variable]:
    """What a step sets to numbers, or changes by numbers alone: `count = 0`, `rate /= 4`."""
    numbers: set[str] = set()
    others: set[str] = set()
    for node in walk(step.node):
        if isinstance(node, (cst.Assign, cst.AugAssign)):
            targets = [one.target for one in node.targets] if isinstance(node, cst.Assign) else [node.target]
            names = [name for target in targets for name in target_names(target)]
            (numbers if is_constant(node.value) else others).update(names)
        elif isinstance(node, (cst.For, cst.NamedExpr, cst.AnnAssign)):
            others.update(target_names(node.target))
    return {step.frame.variable(name) for name in numbers - others}


def _may_step(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> bool:
    """True for `x.step()`, but that of a schedule which stays a call of the script's own."""
    used = method_call(node)
    if used is None or used[1] != "step":
        return False
    return kinds.kind(used[0], frame) is not None or "sched" not in (dotted(used[0]) or "").lower()


def runs(step: Item, kinds: Kinds) -> Iterator[tuple[cst.CSTNode, Frame]]:
    """The nodes of a statement and of the script's functions that they may run."""
    parts: list[tuple[cst.CSTNode, Frame]] = [(step.node, step.frame)]
    seen: set[cst.CSTNode] = set()
    for part, frame in parts:
        for node in live_nodes(part, frame):
            yield node, frame
            called = may_run(node, kinds.tree) if isinstance(node, (cst.Call, cst.Attribute)) else []
            for function in (*called, *(run_by(node, kinds.tree) if isinstance(node, cst.Call) else ())):
                if function not in seen:
                    seen.add(function)
                    own = _same_object(node, frame)
                    parts.append((function.body, Frame(function.name.value, function, step.frame.outermost, own)))


def _same_object(node: cst.CSTNode, frame: Frame) -> dict[str, Variable | Expression]:
    """What `self` is in a method that another of the same object calls."""
    called = isinstance(node, cst.Call) and (dotted(node.func) or "").rpartition(".")[0] == "self"
    return {"self": frame.resolve("self")} if called else {}


def _uses_another(node: cst.CSTNode, frame: Frame, modules: Set[Variable], kinds: Kinds) -> bool:
    """True for another network, and for a call that may run one in code which is not in sight."""
    if isinstance(node, cst.Call):
        known = kinds.kind(_receiver(node), frame) is Kind.MODULE or any(True for _ in run_by(node, kinds.tree))
        return not known and may_run_network(node, frame, kinds, asking=True)
    if not isinstance(node, (cst.Name, cst.Attribute)):
        return False
    variable = kinds.variable(node, frame)
    if variable is None and isinstance(node, cst.Attribute) and kinds.variable(root_of(node), frame) in modules:
        return False  # a part of one that evaluates
    if variable is not None:
        return kinds.of(variable) is Kind.MODULE and not ignores_mode(variable, kinds) and variable not in modules
    return kinds.in_scope(dotted(node), frame.function) is Kind.MODULE  # which one, nothing tells


def _only_saves(frame: Frame, kinds: Kinds) -> bool:
    """True within a function that writes what networks have, and runs none."""
    return frame.function is not None and only_writes(frame.function, kinds.tree)


def _receiver(call: cst.Call) -> cst.BaseExpression:
    return call.func.value if isinstance(call.func, cst.Attribute) else call.func
