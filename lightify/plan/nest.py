"""Opens the loops of a run: what stands before, in and after its batches, through calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import libcst as cst

from lightify.calls import Opened, called_statement, callee, live, open_call
from lightify.facts import Analysis
from lightify.flow import Frame, Item, Step, bound_names, fixed_value, live_nodes, own_exits
from lightify.parse import Tree
from lightify.plan.runs import Loop, Run, is_over_data
from lightify.query import block, module_attribute, walk


@dataclass(frozen=True, eq=False)
class Nest:
    """The loops of one training run, opened up.

    Attributes:
        host: the frame in which the run is started; its loop statement gives way to `trainer.fit`.
        epoch_loop: None when one loop does all steps.
        epoch_start, body, epoch_end: what runs before the batch loop, in it and after it, calls opened.
        opened: the calls whose bodies moved.
        notes: why the loops were not read in a better way.
    """

    host: Frame
    module: Frame
    epoch_loop: Loop | None
    batch_loop: Loop
    batch_frame: Frame
    epoch_start: tuple[Step, ...]
    body: tuple[Step, ...]
    epoch_end: tuple[Step, ...]
    opened: tuple[Opened, ...]
    sites: tuple[cst.Call, ...]
    notes: tuple[str, ...] = ()

    @property
    def host_loop(self) -> Loop:
        """The statement of the host that is replaced."""
        return self.epoch_loop or self.batch_loop


def open_nest(run: Run, tree: Tree, analysis: Analysis, flat: str = "") -> Nest:
    """Opens the loops of a run.

    Args:
        flat: why the two loops can't be taken apart: the outer one is then the only loop.
    """
    loops, notes = run.loops, [flat] if flat else []
    number = _batch_loop(loops, analysis)
    module = Frame("")
    if flat:
        number = max(number - 1, 0)
    elif number > 0:
        outer = number - 1
        while outer > 0 and _is_phases(loops[outer]):
            outer -= 1
        nest = _open_nest(loops[outer], loops[number], run.sites, tree, module)
        if isinstance(nest, Nest):
            return nest
        notes.append(nest)
        number -= 1
    batch_loop = loops[number]
    host = _frame_of(batch_loop, tree, module)
    body, opened = _open_steps([Item(node, host) for node in block(batch_loop.body)], run.sites, tree, module)
    return Nest(host, module, None, batch_loop, host, (), tuple(body), (), tuple(opened), run.sites, tuple(notes))


def _batch_loop(loops: Sequence[Loop], analysis: Analysis) -> int:
    """The innermost loop over data, or the innermost loop."""
    for number in reversed(range(len(loops))):
        if is_over_data(loops[number], analysis):
            return number
    return len(loops) - 1


def _is_phases(loop: Loop) -> bool:
    """True for `for phase in ["train", "val"]`."""
    return isinstance(loop, cst.For) and isinstance(loop.iter, (cst.List, cst.Tuple))


def _frame_of(node: cst.CSTNode, tree: Tree, module: Frame) -> Frame:
    functions = [a for a in tree.ancestors(node) if isinstance(a, cst.FunctionDef)]
    frame = module
    for function in reversed(functions):
        frame = Frame(function.name.value, function, frame)
    return frame


def _open_nest(epoch_loop: Loop, batch_loop: Loop, sites: Sequence[cst.Call], tree: Tree, module: Frame) -> Nest | str:
    host = _frame_of(epoch_loop, tree, module)
    found = _reach([Item(node, host) for node in block(epoch_loop.body)], batch_loop, tree, module)
    if isinstance(found, str):
        return found
    before, loop, after, opened = found
    body, more = _open_steps(
        live([Item(node, loop.frame) for node in block(batch_loop.body)], tree), sites, tree, module
    )
    after = [*_otherwise(batch_loop, loop.frame), *after]
    before, early = _open_steps(before, sites, tree, module)
    after, late = _open_steps(after, sites, tree, module)
    for step in (*before, *after):
        if isinstance(step, Item) and _trains(step, sites, tree):
            return "parameters are updated outside the batch loop, too"
    return Nest(
        host,
        module,
        epoch_loop,
        batch_loop,
        loop.frame,
        tuple(before),
        tuple(body),
        tuple(after),
        (*opened, *more, *early, *late),
        tuple(sites),
    )


def _otherwise(loop: Loop, frame: Frame) -> list[Step]:
    """The `else` of the batch loop as it runs at the end of an epoch: when no break has ended the pass."""
    if loop.orelse is None:
        return []
    if not any(isinstance(leaving, cst.Break) for leaving in own_exits(loop)):
        return [Item(node, frame) for node in block(loop.orelse.body)]
    unbroken = cst.UnaryOperation(cst.Not(), module_attribute("pass_ended"))
    return [Item(cst.If(unbroken, loop.orelse.body), frame)]


def _trains(step: Item, sites: Sequence[cst.Call], tree: Tree) -> bool:
    for node in live_nodes(step.node, step.frame):
        if any(node is site for site in sites):
            return True
        found = callee(node, step.frame, tree) if isinstance(node, cst.Call) else None
        if found is not None and contains(found[0], sites, tree):
            return True
    return False


class _Reached(NamedTuple):
    """The steps around a loop, and the calls opened on the way to it."""

    before: list[Step]
    loop: Item
    after: list[Step]
    opened: list[Opened]


def _reach(steps: Sequence[Step], goal: Loop, tree: Tree, module: Frame, depth: int = 0) -> _Reached | str:
    """Splits steps around the loop, opening the calls on the way; a text says what stands in between."""
    for number, step in enumerate(steps):
        if not isinstance(step, Item):
            continue
        before, after = list(steps[:number]), list(steps[number + 1 :])
        if step.node is goal:
            return _Reached(before, step, after, [])
        if isinstance(step.node, cst.For) and any(node is goal for node in walk(step.node)):
            passes = _unrolled(step.node, step, tree)
            if passes:
                return _reach([*before, *passes, *after], goal, tree, module, depth + 1)
        if any(node is goal for node in walk(step.node)):
            kind = type(step.node).__name__.lower()
            return f"the batch loop stands inside a {kind} statement of the epoch loop"
        if depth < 6 and _leads_to(step, goal, tree):
            opened = open_call(step, tree, module)
            if isinstance(opened, str):
                return f"the call that runs the batch loop is not opened: {opened}"
            inner = _reach(opened.steps, goal, tree, module, depth + 1)
            if isinstance(inner, str):
                return inner
            return _Reached([*before, *inner.before], inner.loop, [*inner.after, *after], [opened, *inner.opened])
    return "the batch loop is called from inside an expression or another statement"


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


def _leads_to(step: Item, goal: Loop, tree: Tree) -> bool:
    found = called_statement(step.node)
    resolved = callee(found[0], step.frame, tree) if found is not None else None
    if resolved is None:
        return False
    return contains(resolved[0], [goal], tree)


def contains(function: cst.FunctionDef, goals: Sequence[cst.CSTNode], tree: Tree) -> bool:
    """True when a function holds one of the nodes, itself or in a function that it calls."""
    inside = _reachable(function, tree)
    return any(goal in inside for goal in goals)


@lru_cache(maxsize=256)
def _reachable(function: cst.FunctionDef, tree: Tree, depth: int = 0) -> frozenset[cst.CSTNode]:
    """Calls and loops of a function and of the functions that it calls."""
    nodes: set[cst.CSTNode] = set()
    frame = Frame(function.name.value, function, Frame(""))
    for node in walk(function):
        if isinstance(node, Loop):
            nodes.add(node)
        elif isinstance(node, cst.Call):
            nodes.add(node)
            found = callee(node, frame, tree) if depth < 4 else None
            if found is not None and found[0] is not function:
                nodes |= _reachable(found[0], tree, depth + 1)
    return frozenset(nodes)


def _open_steps(
    steps: Sequence[Step], sites: Sequence[cst.Call], tree: Tree, module: Frame, depth: int = 0
) -> tuple[list[Step], list[Opened]]:
    """Opens the statements of the batch loop that call a function which trains."""
    result: list[Step] = []
    opened_calls: list[Opened] = []
    for step in steps:
        opened = None
        if isinstance(step, Item) and depth < 4 and (found := called_statement(step.node)) is not None:
            resolved = callee(found[0], step.frame, tree)
            if resolved is not None and contains(resolved[0], sites, tree):
                opened = open_call(step, tree, module)
        if isinstance(opened, Opened):
            inner, more = _open_steps(opened.steps, sites, tree, module, depth + 1)
            result.extend(inner)
            opened_calls.extend([opened, *more])
        else:
            result.append(step)
    return result, opened_calls
