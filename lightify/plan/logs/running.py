"""Means over the last batches, shown now and then, become what each batch logs, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.logs.averages import UNTIMED, log_lines, note, without_starts
from lightify.plan.logs.means import Mean, Means
from lightify.plan.logs.meters import measures_time
from lightify.plan.logs.metrics import PROGRESS, Metric, labels, log_statement, metric_name, metrics_of, printed
from lightify.plan.logs.numbers import is_number
from lightify.plan.logs.progress import is_of_each_batch, logs_every
from lightify.plan.logs.sums import Pass, Sum, zeroed
from lightify.plan.logs.texts import slots_in
from lightify.syntax.comments import in_place_of
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.query import assigned_pairs, block, children, code, small

_OVER_LAST = "averages over the last batches"


def log_running_means(draft: Draft, one: Pass) -> dict[Step, tuple[Step, ...]]:
    """What takes the place of which statements: `self.log("loss", loss)` of a sum that an `if` shows and zeroes."""
    new: dict[Step, tuple[Step, ...]] = {}
    written = usage(one.body).writes - one.batch
    for number, step in enumerate(one.body):
        guard = step.node if isinstance(step, Item) else None
        if not isinstance(step, Item) or not isinstance(guard, cst.If) or guard.orelse is not None:
            continue
        question = _question(guard.test)
        sums = _sums(draft, one, step, block(guard.body))
        if question is None or not sums or not only_computes(guard.test, step.frame, draft.tree, lambda _: False):
            continue
        shown = _Shown(draft, replace(one, window=code(question.left.right)), step, sums)  # type: ignore[attr-defined]
        done, asked = usage(one.body[:number]), expression_usage(guard.test, step.frame).reads
        if shown.reads(block(guard.body)) and all(is_of_each_batch(m, written, done, asked) for m in shown.others):
            new.update(shown.logged(guard))
            logs_every(draft, question, step.frame, one.index)
    return new


def _question(test: cst.BaseExpression) -> cst.Comparison | None:
    """`i % k == 0` in `i % k == 0 and i > 0`."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        return _question(test.left) or _question(test.right)
    left = test.left if isinstance(test, cst.Comparison) else None
    modulo = isinstance(left, cst.BinaryOperation) and isinstance(left.operator, cst.Modulo)
    return test if modulo and isinstance(test, cst.Comparison) else None


def _sums(draft: Draft, one: Pass, guard: Item, lines: Sequence[cst.BaseStatement]) -> dict[Variable, Sum]:
    """The sums that each batch adds to, and that nothing but the guard reads and zeroes."""
    ended = {variable for line in lines for variable in zeroed(Item(line, guard.frame))}
    found: dict[Variable, Sum] = {}
    for step in one.body:
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(step, Item) and isinstance(inner, cst.AugAssign) and isinstance(inner.operator, cst.AddAssign):
            variable = draft.kinds.variable(inner.target, step.frame)
            if variable in ended and isinstance(inner.target, cst.Name):
                found[variable] = Sum(variable, step, inner.value)
    for step in (*one.start, *one.body, *one.after):
        used = usage([step])
        for variable in found.keys() & (used.reads | used.writes - zeroed(step)):
            if step not in (guard, found[variable].step):
                del found[variable]
    return {variable: total for variable, total in found.items() if variable not in one.outside}


@dataclass(eq=False)
class _Shown:
    """What `if i % k == 0:` shows of the last k batches.

    Attributes:
        means: variables that hold one; named: each sum's mean, with the name that it is logged under.
        others: further numbers that it prints; prints: the calls that print.
        own: variables that only serve to show.
    """

    draft: Draft
    one: Pass
    guard: Item
    sums: Mapping[Variable, Sum]
    means: dict[Variable, Mean] = field(default_factory=dict)
    named: dict[Variable, tuple[str, Mean]] = field(default_factory=dict)
    others: list[Metric] = field(default_factory=list)
    prints: list[cst.Call] = field(default_factory=list)
    own: set[Variable] = field(default_factory=set)

    def reads(self, lines: Sequence[cst.BaseStatement]) -> bool:
        """Whether the lines do nothing but show means of the sums, and zero them."""
        for line in lines:
            inner, call = small(line), printed(line, self.guard.frame, self.draft.kinds)
            zeros = zeroed(Item(line, self.guard.frame))
            if call is not None:
                understood = self._reads_print(call)
            elif zeros:
                understood = zeros <= self.sums.keys()
            elif isinstance(inner, cst.Assign) and len(inner.targets) == 1:
                pairs = assigned_pairs(inner.targets[0].target, inner.value)
                understood = all(self._reads_assigned(target, value) for target, value in pairs)
            else:
                understood = False
            if not understood:
                return False
        steps = (step for step in (*self.one.start, *self.one.body, *self.one.after) if step is not self.guard)
        numbers = all(is_number(self.draft, self.one.body, s.value, s.step.frame) for s in self.sums.values())
        return numbers and self.gone == self.sums.keys() and not self.own & (usage([*steps]).reads | self.one.outside)

    @property
    def gone(self) -> set[Variable]:
        """The sums that the means are made of."""
        return {variable for _, mean in self.named.values() for variable in mean.involved}

    def _reads_assigned(self, target: cst.CSTNode, value: cst.CSTNode) -> bool:
        """Notes a mean or a time; False for anything else."""
        variable = self.draft.kinds.variable(target, self.guard.frame)
        if variable is None or variable in self.sums or not isinstance(target, cst.Name):
            return False
        mean = self._mean(value)
        if mean is not None:
            self.means[variable] = mean
        self.own.add(variable)
        return mean is not None or measures_time(self.draft, value)

    def _reads_print(self, call: cst.Call) -> bool:
        """Notes the means in a print; False when it shows a sum in another way."""
        known = labels(call)
        stack: list[cst.CSTNode] = [call]
        while stack:
            node = stack.pop()
            mean = self._mean(node) if isinstance(node, cst.BaseExpression) else None
            if mean is not None:
                name = known.get(node) or metric_name(mean.total.variable)
                self.named.setdefault(mean.total.variable, (name, mean))
            elif isinstance(node, cst.Name) and self.draft.kinds.variable(node, self.guard.frame) in self.sums:
                return False
            else:
                stack.extend(reversed([*slots_in(node), *children(node)]))
        hidden = self.sums.keys() | self.own
        metrics = metrics_of(call, self.guard.frame, self.draft.kinds)
        self.others += [metric for metric in metrics if not metric.variables & hidden]
        self.prints.append(call)
        return True

    def _mean(self, node: cst.CSTNode) -> Mean | None:
        return Means(self.draft, self.one, self.sums, self.means).of(node, self.guard.frame)

    def logged(self, guard: cst.If) -> dict[Step, tuple[Step, ...]]:
        """The logs, in the place of the sums; nothing is left of the guard but the other numbers that it printed."""
        draft = self.draft
        taken = draft.logged | {metric.name for metric in self.others}
        new: dict[Step, tuple[Step, ...]] = {self.sums[variable].step: () for variable in self.gone}
        told = {code(metric.value): metric.name for metric in self.others}
        names = [told[code(mean.share)] for _, mean in self.named.values() if code(mean.share) in told]
        for variable, (name, mean) in self.named.items():
            if code(mean.share) in told:
                continue
            name = next(free for free in (name, variable.name, f"mean_{name}") if free not in taken)
            taken.add(name)
            names.append(name)
            step = self.sums[variable].step
            lines = in_place_of(step.node, log_lines(draft, name, replace(mean, size="")))
            new[step] = tuple(Item(line, step.frame) for line in lines)
        new[self.guard] = tuple(Item(log_statement(metric), metric.frame) for metric in self.others)
        logs = ", ".join(f'self.log("{name}")' for name in names)
        new.update(without_starts(draft, self.one, self.gone, logs, _OVER_LAST))
        gone: list[Step] = [*new, *(Item(line, self.guard.frame) for line in block(guard.body))]
        for one in gone:
            note(draft, one, logs, _OVER_LAST)
        draft.averaged |= self.gone | self.own
        draft.logged |= set(names)
        draft.steps_away.append(PROGRESS)
        draft.steps_away += [f"{name} is each batch's own, no longer a mean of the last ones" for name in names]
        if self.own - self.means.keys():
            draft.steps_away.append(UNTIMED)
        for call in self.prints:
            draft.no_longer_printed(call, self.guard.frame, self.others)
        return new
