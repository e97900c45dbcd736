"""What an epoch does after its evaluation, in that mode still: the Trainer's validation can end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.changes import may_run
from lightify.analysis.opening import gradients, without_gradients
from lightify.facts import Kind
from lightify.plan.evaluation.networks_used import may_run_network
from lightify.plan.kinds import Kinds
from lightify.syntax.flow import exits_of
from lightify.syntax.frames import Frame, Item, Step, Variable, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import children, dotted, method_call

_CHANGING = ("train", "eval", "step", "backward")


def obstacle(steps: Sequence[Step], modules: Set[Variable], without: Set[Step], kinds: Kinds) -> str:
    """Why steps can't run at the end of a validation, where gradients are off; empty when they can.

    Args:
        modules: the networks that evaluate.
        without: steps that the script itself runs without gradients.
    """
    tree = kinds.tree
    graded = partial(_graded, tree=tree)
    for step in steps:
        if not isinstance(step, Item):
            continue
        if any(True for _ in exits_of(step.node)):
            return "the epoch may be left before its network is back in training mode"
        run = list(_run(step, live_nodes, tree))
        if any(_changes(node) for node, _ in run):
            return "what follows the evaluation changes modes or steps while the network evaluates"
        if any(_is_another(node, frame, step.frame, modules, kinds) for node, frame in run):
            return "what follows the evaluation may use another network"
        if not all(_is_known(node, frame, kinds) for node, frame in run):
            return "what follows the evaluation uses the network in evaluation mode"
        if step not in without and any(_keeps_graph(node, frame, kinds) for node, frame in _run(step, graded, tree)):
            return "what follows the evaluation runs the network with gradients"
    return ""


def _run(
    step: Item, nodes: Callable[[cst.CSTNode, Frame], Iterator[cst.CSTNode]], tree: Tree
) -> Iterator[tuple[cst.CSTNode, Frame]]:
    """The nodes of a statement and of the script's functions that they may run."""
    parts: list[tuple[cst.CSTNode, Frame]] = [(step.node, step.frame)]
    seen: set[cst.CSTNode] = set()
    for part, frame in parts:
        for node in nodes(part, frame):
            yield node, frame
            for function in may_run(node, tree) if isinstance(node, (cst.Call, cst.Attribute)) else ():
                if function not in seen:
                    seen.add(function)
                    parts.append((function, Frame(function.name.value, function, step.frame.outermost)))


def _changes(node: cst.CSTNode) -> bool:
    used = method_call(node)
    return used is not None and used[1] in _CHANGING


def _is_another(node: cst.CSTNode, frame: Frame, here: Frame, modules: Set[Variable], kinds: Kinds) -> bool:
    """True for a network that may train on; which one a name of a called function means, a single network tells."""
    if not isinstance(node, (cst.Name, cst.Attribute)) or (frame is not here and len(kinds.networks) == 1):
        return False
    variable = kinds.variable(node, frame)
    known = variable is not None and kinds.of(variable) is Kind.MODULE and not kinds.is_loss(variable)
    named = dotted(node) in kinds.networks and kinds.in_scope(dotted(node), frame.function) is Kind.MODULE
    return (known or named) and variable not in modules


def _is_known(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> bool:
    """False for a call that may run the network in code which is not in sight."""
    if not isinstance(node, cst.Call) or not may_run_network(node, frame, kinds, asking=True):
        return True
    return _of_network(node, frame, kinds) or any(True for _ in run_by(node, kinds.tree))


def _graded(node: cst.CSTNode, frame: Frame, tree: Tree) -> Iterator[cst.CSTNode]:
    """A node and all below it, without what runs without gradients."""
    if isinstance(node, cst.With) and gradients(node, frame, tree) is False:
        return
    if isinstance(node, cst.FunctionDef) and without_gradients(node, tree):
        return
    yield node
    for child in children(node):
        yield from _graded(child, frame, tree)


def _keeps_graph(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> bool:
    """True for a call that may run a network: what it returns knows of gradients, and shows so when it is printed."""
    if not isinstance(node, cst.Call) or may_run(node, kinds.tree):
        return False
    return _of_network(node, frame, kinds) or may_run_network(node, frame, kinds, asking=True)


def _of_network(call: cst.Call, frame: Frame, kinds: Kinds) -> bool:
    """True for `model(x)` and `model.decode(x)`."""
    receiver = call.func.value if isinstance(call.func, cst.Attribute) else call.func
    return Kind.MODULE in (kinds.kind(receiver, frame), kinds.in_scope(dotted(receiver), frame.function))
