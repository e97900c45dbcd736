"""Opens the loops of a run: what stands before, in and after its batches, through calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import libcst as cst

from lightify.analysis.calls import called_statement, callee, callees
from lightify.analysis.opening import Opened, live, open_call
from lightify.facts import Analysis
from lightify.loops.contexts import enters, leaves
from lightify.loops.epochs import taken_one_by_one
from lightify.loops.headers import asked_within
from lightify.loops.reach import Skips, reach
from lightify.loops.reachable import contains
from lightify.loops.ruled_out import frame_of
from lightify.loops.runs import Loop, Run, is_over_data
from lightify.loops.within import call_within, open_within
from lightify.syntax.flow import exits_of, own_exits
from lightify.syntax.frames import Binding, Frame, Item, Step, live_nodes
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, expression_of, is_docstring, method_name, module_attribute, target_names


@dataclass(frozen=True, eq=False)
class Nest:
    """The loops of one training run, opened up.

    Attributes:
        host: the frame in which the run is started; its loop statement gives way to `trainer.fit`.
        epoch_loop: None when one loop does all steps.
        epoch_start, body, epoch_end: what runs before the batch loop, in it and after it, calls opened.
        opened: the calls whose bodies moved.
        notes: why the loops were not read in a better way.
        origins: statements made anew, to those of the source.
        contexts: an epoch's start enters what its end leaves.
        skips: what an epoch leaves out when its start leaves it.
        returns: the function that holds the batch loop returns from it.
        uncounted: each epoch takes its value when it starts, or ends the run.
        conditional: a condition around the step was read as an early end of the batch's step.
        joint: the statement of the body from which on it runs for batches without a step, too.
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
    origins: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    contexts: bool = False
    skips: Skips = ""
    returns: bool = False
    uncounted: bool = False
    conditional: bool = False
    joint: cst.BaseStatement | None = None

    @property
    def host_loop(self) -> Loop:
        """The statement of the host that is replaced."""
        return self.epoch_loop or self.batch_loop

    @property
    def taken(self) -> frozenset[object]:
        """What the heads of the loops bind: an epoch's value, a batch and its parts."""
        loops = ((self.epoch_loop, self.host), (self.batch_loop, self.batch_frame))
        heads = ((loop.target, frame) for loop, frame in loops if isinstance(loop, cst.For))
        return frozenset(frame.resolve(name) for target, frame in heads for name in target_names(target))


def without_stack(nest: Nest) -> Nest:
    """The loops without the end of a `with` that enters nothing any more."""
    if not nest.contexts or any(enters(step) is not None for step in nest.epoch_start):
        return nest
    return replace(nest, epoch_end=tuple(step for step in nest.epoch_end if not leaves(step)), contexts=False)


def open_nest(run: Run, tree: Tree, analysis: Analysis, flat: str = "", *, uncounted: bool = False) -> Nest:
    """Opens the loops of a run.

    Args:
        uncounted: the epochs are taken one by one, each when it starts.
        flat: why the two loops can't be taken apart: the outer one is then the only loop.
    """
    loops, notes = run.loops, [flat] if flat else []
    number = _batch_loop(loops, analysis)
    module = Frame("", written=tree.links.written)
    outer = max(number - 1, 0)
    while outer > 0 and _is_phases(loops[outer]):
        outer -= 1
    if flat:
        number = outer
    elif number > 0:
        nest = _open_nest(loops[outer], loops[number], run.sites, tree, module, uncounted)
        if isinstance(nest, Nest):
            return nest
        notes.append(nest)
        number = outer
    batch_loop = loops[number]
    host = frame_of(batch_loop, tree, module)
    statements, origins = _statements(batch_loop)
    body, opened = open_steps([Item(node, host) for node in statements], run.sites, tree, module)
    return Nest(
        host, module, None, batch_loop, host, (), tuple(body), (), tuple(opened), run.sites, tuple(notes), origins
    )


def _statements(loop: Loop) -> tuple[list[cst.BaseStatement], dict[cst.CSTNode, cst.CSTNode]]:
    """What a loop repeats, with where it comes from: a test that assigns names is asked by its body."""
    asked = asked_within(loop)
    return [*([asked] if asked is not None else []), *block(loop.body)], {asked: loop} if asked is not None else {}


def _batch_loop(loops: Sequence[Loop], analysis: Analysis) -> int:
    """The innermost loop over data, or the innermost loop."""
    for number in reversed(range(len(loops))):
        if is_over_data(loops[number], analysis):
            return number
    return len(loops) - 1


def _is_phases(loop: Loop) -> bool:
    """True for `for phase in ["train", "val"]`."""
    return isinstance(loop, cst.For) and isinstance(loop.iter, (cst.List, cst.Tuple))


def _open_nest(
    epoch_loop: Loop, batch_loop: Loop, sites: Sequence[cst.Call], tree: Tree, module: Frame, uncounted: bool
) -> Nest | str:
    host = frame_of(epoch_loop, tree, module)
    passes, passed = _statements(epoch_loop)
    if uncounted:
        drawn = taken_one_by_one(epoch_loop, host)
        passes, passed = [*drawn, *passes], dict.fromkeys(drawn, epoch_loop)
    found = reach([Item(node, host) for node in passes], batch_loop, tree, module)
    if isinstance(found, str):
        return found
    loop = found.loop
    ending = next((opened.straight for opened in found.opened if opened.straight and opened.straight.ends), None)
    statements, asked = _statements(batch_loop)
    if ending is not None:
        statements = [line for node in statements for line in ending.in_loop(node)]
    body, more = open_steps(live([Item(node, loop.frame) for node in statements], tree), sites, tree, module)
    after = [*_otherwise(batch_loop, loop.frame), *found.after]
    before, early = open_steps(found.before, sites, tree, module)
    after, late = open_steps(after, sites, tree, module)
    for step in (*before, *after):
        if isinstance(step, Item) and trains(step, sites, tree):
            return "parameters are updated outside the batch loop, too"
    left = any(
        True
        for step in before
        if isinstance(step, Item) and step.node not in found.origins
        for _ in exits_of(step.node)
    )
    if (left and (found.skips or found.contexts)) or ((found.skips or left) and batch_loop.orelse is not None):
        return "an epoch may be left before its batches in several ways"
    return Nest(
        host,
        module,
        epoch_loop,
        batch_loop,
        loop.frame,
        tuple(before),
        tuple(body),
        tuple(after),
        (*found.opened, *more, *early, *late),
        tuple(sites),
        origins={**passed, **asked, **found.origins, **(ending.origins if ending is not None else {})},
        returns=ending is not None,
        uncounted=uncounted,
        contexts=found.contexts,
        skips="epoch" if left else found.skips,
    )


def _otherwise(loop: Loop, frame: Frame) -> list[Step]:
    """The `else` of the batch loop as it runs at the end of an epoch: when no break has ended the pass."""
    if loop.orelse is None:
        return []
    if not any(isinstance(leaving, cst.Break) for leaving in own_exits(loop)):
        return [Item(node, frame) for node in block(loop.orelse.body)]
    unbroken = cst.UnaryOperation(cst.Not(), module_attribute("pass_ended"))
    return [Item(cst.If(unbroken, loop.orelse.body), frame)]


def trains(step: Item, sites: Sequence[cst.Call], tree: Tree, depth: int = 0) -> bool:
    """True when a statement, or what it calls, takes gradients or steps; `run("val")` need not."""
    for node in live_nodes(step.node, step.frame):
        if any(node is site for site in sites):
            return True
        found = callees(node, step.frame, tree) if isinstance(node, cst.Call) else []
        if not any(contains(function, sites, tree) for function in found):
            continue
        opened = open_call(step, tree, step.frame.outermost, within=node, straight=True) if depth < 4 else None  # type: ignore[arg-type]
        if not isinstance(opened, Opened):
            return True
        if any(trains(inner, sites, tree, depth + 1) for inner in opened.steps if isinstance(inner, Item)):
            return True
    return False


def open_steps(
    steps: Sequence[Step],
    sites: Sequence[cst.Call],
    tree: Tree,
    module: Frame,
    depth: int = 0,
    *,
    straight: bool = False,
) -> tuple[list[Step], list[Opened]]:
    """Opens the statements of the batch loop that call a function which trains, or zeroes gradients and no more.

    Args:
        straight: also those that return from their middle, and those that are called inside of an expression.
    """
    result: list[Step] = []
    opened_calls: list[Opened] = []
    for step in steps:
        opened = _opened(step, sites, tree, module, straight) if depth < 4 else None
        if isinstance(opened, Opened):
            inner, more = open_steps(opened.steps, sites, tree, module, depth + 1, straight=straight)
            result.extend(inner)
            opened_calls.extend([opened, *more])
        else:
            result.append(step)
    return result, opened_calls


def _opened(step: Step, sites: Sequence[cst.Call], tree: Tree, module: Frame, straight: bool) -> Opened | str | None:
    """The call of a statement that trains, opened; None where there is none."""

    def leads(node: cst.BaseExpression, frame: Frame) -> bool:
        resolved = callee(node, frame, tree) if isinstance(node, cst.Call) else None
        return resolved is not None and (contains(resolved[0], sites, tree) or _only_zeroes(resolved[0]))

    if isinstance(step, Binding):
        return _opened_value(step, tree, module) if leads(step.value, step.value_frame) else None
    found = called_statement(step.node)
    if found is not None and leads(found[0], step.frame):
        return open_call(step, tree, module, straight=straight)
    within = call_within(step.node, lambda call: leads(call, step.frame)) if straight else None
    return open_within(step, within, tree, module, named=leads) if within is not None else None


def _only_zeroes(function: cst.FunctionDef) -> bool:
    """True for `def reset_grad(self): self.net.zero_grad()`, another name for the one call that it makes."""
    body = [node for node in block(function.body) if not is_docstring(node)]
    return len(body) == 1 and method_name(expression_of(body[0])) == "zero_grad"


def _opened_value(step: Binding, tree: Tree, module: Frame) -> Opened | str:
    """Opens `return self.learn(batch)` of a function that is open itself: what it is bound to gets the result."""
    opened = open_call(Item(step.origin, step.value_frame), tree, module, within=step.value)  # type: ignore[arg-type]
    if isinstance(opened, str):
        return opened
    value = opened.result or cst.Name("None")
    return replace(opened, after=(Binding(step.target, step.target_frame, value, opened.frame, step.origin),))
