"""A step under a condition: batches that leave the step out, and what runs for every batch.

`if len(memory) > size: train()` takes no step in some batches. The Trainer takes none where `training_step` returns
None, and then still ends the batch: so the condition leaves the step early, and what follows it ends the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.opening import Opened, live
from lightify.analysis.passing import named_in_all
from lightify.loops.nest import Nest, open_steps, trains
from lightify.syntax.flow import exits_of
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import FieldName, block, opposite, small


def laid_open(nest: Nest, tree: Tree) -> Nest | None:
    """The loops where a failing condition ends `training_step`, and functions with several ways out are opened.

    None where nothing is told in another way.
    """
    reading = _Reading(nest, tree)
    steps = reading.open(nest.body)
    found = reading.flat(steps)
    if found is None and not reading.opened:
        return None
    body, always = found or (steps, [])
    if always:
        own = [step.node for step in body if isinstance(step, Item) and step.node not in reading.origins]
        if any(True for node in (*own, *reading.others) for _ in exits_of(node)):
            return None  # a batch that is left does not come to its end
        joint = cst.SimpleStatementLine([cst.Pass()])
        body = [*body, Item(joint, nest.batch_frame), *always]
    else:
        joint = None
    return replace(
        nest,
        body=tuple(body),
        opened=(*nest.opened, *reading.opened),
        origins={**nest.origins, **reading.origins},
        conditional=found is not None,
        joint=joint,
    )


class _Reading:
    """What was made anew and opened on the way, and the branches that run instead of the step."""

    def __init__(self, nest: Nest, tree: Tree) -> None:
        self.nest = nest
        self.tree = tree
        self.origins: dict[cst.CSTNode, cst.CSTNode] = {}
        self.opened: list[Opened] = []
        self.others: list[cst.BaseStatement] = []

    def open(self, steps: Sequence[Step]) -> list[Step]:
        """The steps with the calls that train opened, whatever ways out their functions have."""
        result, opened = open_steps(steps, self.nest.sites, self.tree, self.nest.module, straight=True)
        self.opened += opened
        for call in opened:
            self.origins.update(call.origins)
        return result

    def flat(self, steps: Sequence[Step]) -> tuple[list[Step], list[Step]] | None:
        """(The steps with the condition as an early end, what follows them in any case)."""
        sites = self.nest.sites
        training = [n for n, step in enumerate(steps) if isinstance(step, Item) and trains(step, sites, self.tree)]
        step = steps[training[0]] if len(training) == 1 else None
        if not isinstance(step, Item) or not isinstance(step.node, cst.If):
            return None
        node = step.node
        orelse = node.orelse
        other = block(orelse.body) if isinstance(orelse, cst.Else) else (orelse,) if orelse is not None else ()
        ways = [(block(node.body), other, opposite(node.test)), (other, block(node.body), node.test)]
        held = [way for way in ways if any(trains(Item(part, step.frame), sites, self.tree) for part in way[0])]
        if len(held) != 1:
            return None
        branch, rest, test = held[0]
        inner = self.open(live([Item(part, step.frame) for part in branch], self.tree))
        before, after = list(steps[: training[0]]), list(steps[training[0] + 1 :])
        deeper = self.flat(inner)
        if deeper is not None:
            inner = deeper[0]
            if deeper[1]:  # it runs where this condition holds: remembered for the end of the batch
                due = self._due(step, opposite(test), before)
                after[:0] = guarded(deeper[1], (due, step.frame), self.nest.module)
                test = opposite(due)
        self.others += rest
        leave = cst.If(
            test,
            cst.IndentedBlock(_leaving(rest, self.tree)),
            leading_lines=node.leading_lines,
        )
        self.origins[leave] = node
        return [*before, Item(leave, step.frame), *inner], after

    def _due(self, step: Item, test: cst.BaseExpression, before: list[Step]) -> cst.Name:
        """The name that keeps what a condition was found to be, for the end of the batch."""
        module = self.nest.module
        name = FieldName(f"<due {len(module.aliases)}>")
        module.stand_for(name.value, Variable("due", step.frame))
        assign = cst.Assign([cst.AssignTarget(name)], test)
        self.origins[assign] = step.node
        before.append(Item(cst.SimpleStatementLine([assign], leading_lines=step.node.leading_lines), step.frame))  # type: ignore[attr-defined]
        return name


def _leaving(branch: Sequence[cst.BaseStatement], tree: Tree) -> list[cst.BaseStatement]:
    """A branch that leaves the batch at its end; where a `return` without a value had become a `pass`, in its place."""
    last = branch[-1] if branch else None
    if isinstance(last, cst.SimpleStatementLine) and isinstance(small(last), cst.Pass) and last not in tree.parents:
        return [*branch[:-1], last.with_changes(body=[cst.Continue()])]
    return [*branch, cst.SimpleStatementLine([cst.Continue()])]


def guarded(steps: Sequence[Step], test: tuple[cst.BaseExpression, Frame], module: Frame) -> list[Step]:
    """The steps where a test holds; those of one frame in one `if`."""
    result: list[Step] = []
    held: list[cst.BaseStatement] = []
    frame: Frame | None = None
    for step in [*(_statement(step, module) for step in steps), None]:
        if held and frame is not None and (step is None or step.frame is not frame):
            asked = named_in_all(test[0], test[1], module)
            result.append(Item(cst.If(asked, cst.IndentedBlock(held)), frame))
            held = []
        if step is not None:
            held, frame = [*held, step.node], step.frame
    return result


def _statement(step: Step, module: Frame) -> Item:
    """A step as a statement of one frame."""
    if isinstance(step, Item):
        return step
    target = named_in_all(step.target, step.target_frame, module)
    assign = cst.Assign([cst.AssignTarget(target)], step.value)  # type: ignore[arg-type]
    return Item(cst.SimpleStatementLine([assign]), step.value_frame)
