"""The means that a script makes of its sums, and what one batch gives each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.logs.lists import meant_list
from lightify.plan.logs.samples import batch_size, counts_batches, counts_samples, counts_whole_batch, never_zero
from lightify.plan.logs.sums import Pass, Sum
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Variable
from lightify.syntax.query import FieldName, atom, code, dotted, method_call, small, walk


@dataclass(frozen=True, eq=False)
class Mean:
    """`scale * total / count`.

    Attributes:
        size: a batch's share of the count, as text; empty for the number of samples that it has.
        share: the mean of one batch.
        involved: the sums that it is made of.
        floored: it is rounded down, which no average can be.
    """

    total: Sum
    size: str
    share: cst.BaseExpression
    involved: frozenset[Variable]
    scale: str = ""
    floored: bool = False


@dataclass(frozen=True, eq=False)
class Means:
    """Reads the means of a pass.

    Attributes:
        held: variables that hold one, as far as they are known yet.
    """

    draft: Draft
    one: Pass
    sums: Mapping[Variable, Sum]
    held: dict[Variable, Mean]

    def of(self, node: cst.CSTNode, frame: Frame) -> Mean | None:
        """Reads `total / count`, `100. * total / count`, `np.mean(values)`, what a meter holds, and names of such."""
        node = plain(node)
        if isinstance(node, cst.Name):
            variable = self.draft.kinds.variable(node, frame)
            return self.held.get(variable) if variable is not None else None
        if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
            return self._of_meter(node, frame)
        values = self.draft.kinds.variable(meant_list(node, self.draft.tree), frame)
        if values is not None and values in self.sums and self.sums[values].listed:
            return self.of_sum(self.sums[values], "1", {values})
        if not isinstance(node, cst.BinaryOperation):
            return None
        if isinstance(node.operator, cst.Multiply):
            scale, rest = _scaled(node)
            mean = self.of(rest, frame) if scale else None
            return replace(mean, scale=scale) if mean is not None and not mean.scale else None
        return self._of_ratio(node, frame) if isinstance(node.operator, (cst.Divide, cst.FloorDivide)) else None

    def of_sum(self, total: Sum, size: str, involved: set[Variable]) -> Mean:
        """The mean of a sum of which each batch counts for `size`, with what one batch gives it."""
        value = plain(total.value)
        whole = size != "1" and self._counts_all(cst.parse_expression(size), total)
        multiplies = isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Multiply)
        if total.added is not None:
            share = plain(total.added.value)
        elif size == "1":
            share = value
        elif multiplies and (code(value.right) == size or (whole and self._counts_all(value.right, total))):  # type: ignore[attr-defined]
            share = plain(value.left)  # type: ignore[attr-defined]
        else:
            share = cst.BinaryOperation(atom(value), cst.Divide(), cst.parse_expression(size))  # type: ignore[arg-type]
        return Mean(total, "" if whole else size, share, frozenset(involved))  # type: ignore[arg-type]

    def _of_meter(self, node: cst.Attribute, frame: Frame) -> Mean | None:
        """Reads `losses.avg`."""
        variable = self.draft.kinds.variable(node.value, frame)
        total = self.sums.get(variable) if variable is not None else None
        if total is None or total.added is None or node.attr.value not in total.added.meter.means:
            return None
        known = total.added.size == "1" or self._known_at(total, total.added.size)
        return self.of_sum(total, total.added.size, {total.variable}) if known else None

    def _of_ratio(self, node: cst.BinaryOperation, frame: Frame) -> Mean | None:
        scale, top = _scaled(plain(node.left))
        floored = isinstance(node.operator, cst.FloorDivide)
        if floored and not scale:
            return None  # no share in percent
        adds = isinstance(top, cst.Call) and dotted(top.func) == "sum" and len(top.args) == 1
        summed = top.args[0].value if adds else top  # type: ignore[attr-defined]
        variable = self.draft.kinds.variable(summed, frame)
        if variable is None or variable not in self.sums or variable in self.held:
            return None
        total = self.sums[variable]
        counted = self._counted(total, plain(node.right), frame) if total.listed is adds else None
        if counted is None:
            return None
        size, involved = counted
        if not size or not self._known_at(total, size):
            return None
        mean = self.of_sum(total, size, involved)
        weighted = code(mean.share) == code(plain(getattr(plain(total.value), "left", total.value)))
        if not weighted and not never_zero(self.one.body, cst.parse_expression(size), total.step.frame):
            return None  # a batch without samples has no mean
        return replace(mean, scale=scale, floored=floored)

    def _counted(self, total: Sum, node: cst.CSTNode, frame: Frame) -> tuple[str, set[Variable]] | None:
        """What a sum is divided by: a batch's share of it, and the sums that it is made of."""
        one, variable = self.one, total.variable
        count, place = self._meant(node, frame)
        counter = self.draft.kinds.variable(count, frame)
        if counter is not None and counter in self.sums and counter is not variable:
            value, same = self.sums[counter].value, self.sums[counter].step.frame is total.step.frame
            said = not any(isinstance(part, FieldName) and "<" in part.value for part in walk(value))
            return (code(value), {variable, counter}) if same and said else None
        if one.window:
            return ("1", {variable}) if code(node) == one.window else None
        if total.listed and code(node) == f"len({variable.name})":
            return "1", {variable}
        if counts_batches(self.draft, count, place, one.source, one.frame, one.index):
            return "1", {variable}
        if counts_samples(self.draft, count, place, one.source, one.frame):
            return batch_size(self.draft, one.body, one.batch, total.step.frame), {variable}
        return None

    def _meant(self, node: cst.CSTNode, frame: Frame) -> tuple[cst.CSTNode, Frame]:
        """A count, or what a name was given for it before the pass: `size = len(loader.dataset)`."""
        variable = self.draft.kinds.variable(node, frame) if isinstance(node, cst.Name) else None
        if variable is None:
            return node, frame
        steps = [*self.draft.around.before, *self.one.start, *self.one.body, *self.one.after]
        writes = [step for step in steps if variable in usage([step]).writes]
        inner = small(writes[0].node) if len(writes) == 1 and isinstance(writes[0], Item) else None
        named = isinstance(inner, cst.Assign) and isinstance(inner.targets[0].target, cst.Name)
        return (inner.value, writes[0].frame) if named and writes[0] not in self.one.body else (node, frame)  # type: ignore[union-attr]

    def _known_at(self, total: Sum, size: str) -> bool:
        """True when what a batch's size is read from is there when the sum grows."""
        reads = expression_usage(cst.parse_expression(size), total.step.frame).reads
        number = next(n for n, step in enumerate(self.one.body) if step is total.step)
        return not reads & usage(self.one.body[number:]).writes - self.one.batch

    def _counts_all(self, node: cst.BaseExpression, total: Sum) -> bool:
        one = self.one
        return counts_whole_batch(self.draft, one.body, one.parts, one.source, one.frame, node, total.step.frame)


def _scaled(node: cst.CSTNode) -> tuple[str, cst.CSTNode]:
    """`100 * ` and `x` of `100 * x`; no factor where a number is none."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        for factor, rest in ((node.left, node.right), (node.right, node.left)):
            if isinstance(factor, (cst.Integer, cst.Float)):
                return f"{factor.value} * ", plain(rest)
    return "", node


def plain(node: cst.CSTNode) -> cst.CSTNode:
    """`x` for `float(x)` and `x.item()`."""
    while isinstance(node, cst.Call):
        used = method_call(node)
        if dotted(node.func) in ("float", "int") and len(node.args) == 1:
            node = node.args[0].value
        elif used is not None and used[1] in ("item", "float", "double", "cpu") and not node.args:
            node = used[0]
        else:
            break
    return node
