"""The way from an epoch loop down to its batches: what stands before and after them, through calls and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.opening import Opened, gradients, live, open_call
from lightify.loops.contexts import entered
from lightify.loops.reachable import contains
from lightify.loops.runs import Loop
from lightify.loops.within import call_within, open_within
from lightify.syntax.flow import own_exits
from lightify.syntax.frames import Frame, Item, Step, fixed_value
from lightify.syntax.names import bound_names, local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, module_attribute, opposite, target_names, walk

#: What an epoch leaves out when it is left before its batches: all of it, or the batches alone.
Skips = Literal["", "epoch", "batches"]


@dataclass(frozen=True)
class Reached:
    """The steps around a loop, and the calls opened on the way to it.

    Attributes:
        origins: statements made anew, to those of the source.
        contexts: what a `with` enters is entered and left by steps of their own.
    """

    before: list[Step]
    loop: Item
    after: list[Step]
    opened: list[Opened] = field(default_factory=list)
    origins: dict[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    contexts: bool = False
    skips: Skips = ""


def reach(steps: Sequence[Step], goal: Loop, tree: Tree, module: Frame, depth: int = 0) -> Reached | str:
    """Splits steps around the loop, opening the calls on the way; a text says what stands in between."""
    for number, step in enumerate(steps):
        if not isinstance(step, Item):
            continue
        before, after = list(steps[:number]), list(steps[number + 1 :])
        if step.node is goal:
            return Reached(before, step, after)
        found = _through(step, goal, tree, module, depth)
        if isinstance(found, str):
            return found
        if found is not None:
            return replace(found, before=[*before, *found.before], after=[*found.after, *after])
    return "the batch loop is called from inside an expression or another statement"


def _through(step: Item, goal: Loop, tree: Tree, module: Frame, depth: int) -> Reached | str | None:
    """What stands around the loop within one statement; None when the loop is not there."""
    node = step.node
    inside = any(part is goal for part in walk(node))
    if not inside and not (depth < 6 and _leads_to(step, goal, tree)):
        return None
    if isinstance(node, cst.For) and inside:
        passes = _unrolled(node, step, tree)
        if passes:
            left = _value_left(node, step, tree)
            found = reach([*passes, *left], goal, tree, module, depth + 1)
            origins: dict[cst.CSTNode, cst.CSTNode] = {item.node: node for item in left}
            return found if isinstance(found, str) else replace(found, origins={**found.origins, **origins})
    if isinstance(node, cst.With):
        return _through_with(step, goal, tree, module, depth)
    call = call_within(node, lambda call: _call_leads_to(call, step.frame, goal, tree))
    if call is not None:
        return _through_call(step, call, goal, tree, module, depth)
    if isinstance(node, cst.If):
        return _through_if(step, goal, tree, module, depth)
    if inside:
        return f"the batch loop stands inside a {type(node).__name__.lower()} statement of the epoch loop"
    return "the batch loop is called from inside an expression or another statement"


def _through_call(step: Item, call: cst.Call, goal: Loop, tree: Tree, module: Frame, depth: int) -> Reached | str:
    """Opens the call that leads to the loop; what its statement does with the result comes after."""
    plain = called_statement(step.node)
    if plain is not None and plain[0] is call:
        opened = open_call(step, tree, module, straight=True, kept=goal)
    else:
        opened = open_within(step, call, tree, module, kept=goal)
    if isinstance(opened, str):
        return f"the call that runs the batch loop is not opened: {opened}"
    inner = reach(opened.steps, goal, tree, module, depth + 1)
    if isinstance(inner, str):
        return inner
    return replace(inner, opened=[opened, *inner.opened], origins={**opened.origins, **inner.origins})


def _through_with(step: Item, goal: Loop, tree: Tree, module: Frame, depth: int) -> Reached | str:
    """Enters what a `with` enters before the batches, and leaves it after its last statement."""
    node = step.node
    assert isinstance(node, cst.With)
    inner = reach([Item(part, step.frame) for part in block(node.body)], goal, tree, module, depth + 1)
    if isinstance(inner, str) or gradients(node, step.frame, tree) is True:
        return inner
    if inner.contexts:
        return "the batch loop stands inside several with statements of the epoch loop"
    context = entered(step, inner.after, tree)
    if isinstance(context, str):
        return context
    return replace(
        inner,
        before=[*context.enter, *inner.before],
        after=[*inner.after, *context.leave],
        origins={**inner.origins, **context.origins},
        contexts=True,
    )


def _through_if(step: Item, goal: Loop, tree: Tree, module: Frame, depth: int) -> Reached | str:
    """Reads `if test:` around the batches as an epoch without batches where the test fails."""
    node = step.node
    assert isinstance(node, cst.If)
    other = block(node.orelse.body) if isinstance(node.orelse, cst.Else) else (node.orelse,) if node.orelse else ()
    branches = [block(node.body), other]
    opposites = [opposite(node.test), node.test]
    for number, (branch, otherwise) in enumerate(zip(branches, opposites)):
        inner = reach([Item(part, step.frame) for part in branch], goal, tree, module, depth + 1)
        if isinstance(inner, str):
            continue
        if inner.skips or inner.contexts:
            return "the batch loop stands inside several statements of the epoch loop"
        leave = cst.If(otherwise, _suite([cst.SimpleStatementLine([cst.Continue()])]), leading_lines=node.leading_lines)
        after = _in_its_branch(inner.after, branches[1 - number], step.frame)
        if isinstance(after, str):
            return after
        before: list[Step] = [Item(leave, step.frame), *inner.before]
        origins = {**inner.origins, leave: node}
        return replace(inner, before=before, after=after, origins=origins, skips="batches")
    return "the batch loop stands inside an if statement of the epoch loop"


def _in_its_branch(after: Sequence[Step], other: Sequence[cst.BaseStatement], frame: Frame) -> list[Step] | str:
    """What a branch does after its batches, where it had any, and what the other branch does."""
    frames = {step.frame for step in after if isinstance(step, Item)}
    if len(frames) > 1 or any(not isinstance(step, Item) for step in after):
        return "what follows the batches stands inside an if statement and in several functions"
    skipped = module_attribute("pass_skipped")
    trained: cst.BaseExpression = cst.UnaryOperation(cst.Not(), skipped)
    own = [step.node for step in after if isinstance(step, Item)]
    orelse = cst.Else(_suite(other)) if other else None
    if own and (frames == {frame} or not other):
        return [Item(cst.If(trained, _suite(own), orelse), frames.pop())]
    steps: list[Step] = [Item(cst.If(trained, _suite(own)), frames.pop())] if own else []
    return [*steps, *([Item(cst.If(skipped, _suite(other)), frame)] if other else [])]


def _suite(nodes: Sequence[cst.BaseStatement]) -> cst.IndentedBlock:
    return cst.IndentedBlock(list(nodes))


def _unrolled(loop: cst.For, step: Item, tree: Tree) -> list[Step]:
    """The passes of `for phase in ["train", "val"]:` one after the other; none for other loops."""
    values = fixed_value(loop.iter, step.frame)
    if not (isinstance(loop.iter, (cst.List, cst.Tuple)) and isinstance(values, tuple) and len(values) <= 4):
        return []
    if not isinstance(loop.target, cst.Name) or loop.target.value in bound_names(block(loop.body)) or loop.orelse:
        return []
    if any(isinstance(leaving, (cst.Break, cst.Continue, cst.Return)) for leaving in own_exits(loop)):
        return []
    passes: list[Step] = []
    for element in loop.iter.elements:
        frame = step.frame.with_fixed(loop.target.value, element.value)
        passes.extend(live([Item(node, frame) for node in block(loop.body)], tree))
    return passes


def _value_left(loop: cst.For, step: Item, tree: Tree) -> list[Item]:
    """What the loop leaves its name bound to, where anything but a loop over that name reads it."""
    assert isinstance(loop.target, cst.Name) and isinstance(loop.iter, (cst.List, cst.Tuple))
    name, function = loop.target.value, step.frame.function
    for node in tree.mentions.get(name, ()):
        parent, around = tree.parents[node], list(tree.ancestors(node))
        if isinstance(parent, (cst.Attribute, cst.Arg)) and node is not parent.value:
            continue
        inside = [a for a in around if isinstance(a, cst.FunctionDef)]
        if function not in (None, *inside) or any(name in local_names(a) for a in inside if a is not function):
            continue
        if not any(isinstance(a, cst.For) and name in target_names(a.target) for a in around):
            value = cst.Assign([cst.AssignTarget(loop.target)], loop.iter.elements[-1].value)
            return [Item(cst.SimpleStatementLine([value]), step.frame)]
    return []


def _leads_to(step: Item, goal: Loop, tree: Tree) -> bool:
    return any(isinstance(node, cst.Call) and _call_leads_to(node, step.frame, goal, tree) for node in walk(step.node))


def _call_leads_to(call: cst.Call, frame: Frame, goal: Loop, tree: Tree) -> bool:
    resolved = callee(call, frame, tree)
    return resolved is not None and contains(resolved[0], [goal], tree)
