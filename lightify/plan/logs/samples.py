"""How many samples and batches a pass has, in the script's own words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from lightify.facts import Kind
from lightify.plan.batches import in_host
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.idiom.devices import strip_moves
from lightify.plan.types import Stripped
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.query import arguments, code, dotted, method_call, small, walk

#: Samplers that visit each sample once.
_EACH_SAMPLE = {"Sampler", "DistributedSampler", "RandomSampler", "SequentialSampler"}


def counts_batches(
    draft: Draft, node: cst.CSTNode, frame: Frame, source: cst.BaseExpression, place: Frame, index: Variable | None
) -> bool:
    """True for `len(loader)` of the pass's own loader, and for `i + 1` after its last batch."""
    inner = _length_of(node)
    if inner is not None:
        return _same(draft, inner, frame, source, place)
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add) and code(node.right) == "1":
        return index is not None and draft.kinds.variable(node.left, frame) is index
    return False


def counts_samples(draft: Draft, node: cst.CSTNode, frame: Frame, source: cst.BaseExpression, place: Frame) -> bool:
    """True for `len(loader.dataset)` and `len(dataset)` when the pass visits each sample once."""
    inner = _length_of(node)
    text = draft.tree.source.text
    if inner is None or "drop_last" in text or set(re.findall(r"\w*Sampler\b", text)) - _EACH_SAMPLE:
        return False
    if isinstance(inner, cst.Attribute) and inner.attr.value == "dataset":
        return _same(draft, inner.value, frame, source, place)
    loader = in_host(draft, source, place)
    variable = draft.kinds.variable(loader, draft.nest.host) if loader is not None else None
    found = construction(variable, draft.tree, draft.nest.host_loop) if variable is not None else None
    dataset = arguments(found[1]).get(0, "dataset") if found is not None else None
    given = in_host(draft, inner, frame)
    return dataset is not None and given is not None and code(given) == code(dataset)


def _length_of(node: cst.CSTNode) -> cst.BaseExpression | None:
    if isinstance(node, cst.Call) and dotted(node.func) == "len" and len(node.args) == 1:
        return node.args[0].value
    return None


def _same(draft: Draft, one: cst.BaseExpression, frame: Frame, other: cst.BaseExpression, place: Frame) -> bool:
    first, second = in_host(draft, one, frame), in_host(draft, other, place)
    return first is not None and second is not None and code(first) == code(second)


def batch_size(draft: Draft, body: Sequence[Step], batch: set[Variable], frame: Frame) -> str:
    """How many samples a batch has, in the names of a frame: as the script says it, or of what a network is given."""
    for step in body:
        if isinstance(step, Item):
            for node in walk(step.node):
                value = size_of(node)
                if value is not None and draft.kinds.variable(value, step.frame) in batch and step.frame is frame:
                    return code(node)
    for step in body:
        if isinstance(step, Item) and step.frame is frame:
            for node in walk(step.node):
                if isinstance(node, cst.Call) and draft.kinds.kind(node.func, frame) is Kind.MODULE and node.args:
                    given = node.args[0].value
                    if isinstance(given, cst.Name) and draft.kinds.variable(given, frame) in batch:
                        return f"len({given.value})"
    return ""


def counts_whole_batch(
    draft: Draft,
    body: Sequence[Step],
    batch: Sequence[Variable],
    source: cst.BaseExpression,
    place: Frame,
    node: cst.BaseExpression,
    frame: Frame,
) -> bool:
    """True for the number of samples in a batch, asked of any of its parts as the loader gave it.

    A DataLoader stacks samples along the first dimension, unless the script tells it to do otherwise. The Trainer asks
    the first tensor in the batch: the part that the script names first has to be one.
    """
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        values = [(meaning.node, meaning.frame)] if isinstance(meaning, Expression) else values_of(body, meaning)
        known = len(values) == 1 and size_of(values[0][0]) is not None
        return known and counts_whole_batch(draft, body, batch, source, place, *values[0])
    part = draft.kinds.variable(size_of(node), frame)
    moved = strip_moves([step for step in body if isinstance(step, Item)], set(batch), draft.kinds, Stripped())
    if part is None or part not in batch or part in usage(moved).writes:
        return False
    if not all(_is_tensor(draft, body, variable) for variable in (part, *batch[:1])):
        return False
    loader = in_host(draft, source, place)
    variable = draft.kinds.variable(loader, draft.nest.host) if loader is not None else None
    found = construction(variable, draft.tree, draft.nest.host_loop) if variable is not None else None
    if found is None or not (draft.tree.qualified(found[1].func) or "").startswith("torch.utils.data."):
        return False
    given = arguments(found[1])
    return "collate_fn" not in draft.tree.text if given.starred else "collate_fn" not in given.keyword


def _is_tensor(draft: Draft, body: Sequence[Step], variable: Variable) -> bool:
    """True for what a network is given, and for what is asked what tensors are asked."""
    for step in (one for one in body if isinstance(one, Item)):
        for node in walk(step.node):
            asked = isinstance(node, cst.Attribute) and node.attr.value in ("size", "shape", "to", "cuda", "view")
            given = isinstance(node, cst.Call) and draft.kinds.kind(node.func, step.frame) is Kind.MODULE
            parts = [node.value] if asked else [arg.value for arg in node.args] if given else []  # type: ignore[attr-defined]
            if any(draft.kinds.variable(part, step.frame) is variable for part in parts):
                return True
    return False


def never_zero(body: Sequence[Step], node: cst.CSTNode, frame: Frame) -> bool:
    """True for the size of a batch, by its own name or by one that the body gives it."""
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        if isinstance(meaning, Expression):
            return never_zero((), meaning.node, meaning.frame)
        values = values_of(body, meaning)
        return bool(values) and all(never_zero((), value, place) for value, place in values)
    return size_of(node) is not None or (isinstance(node, cst.Integer) and int(node.value) > 0)


def values_of(body: Sequence[Step], variable: Variable) -> list[tuple[cst.BaseExpression, Frame]]:
    """What the statements of a body give a name by themselves, when they alone do."""
    writes = [step for step in body if variable in usage([step]).writes]
    found: list[tuple[cst.BaseExpression, Frame]] = []
    for step in writes:
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(step, Binding) and isinstance(step.target, cst.Name):
            found.append((step.value, step.value_frame))
        elif isinstance(step, Item) and isinstance(inner, cst.Assign) and isinstance(inner.targets[0].target, cst.Name):
            found.append((inner.value, step.frame))
    return found if len(found) == len(writes) else []


def size_of(node: cst.CSTNode) -> cst.BaseExpression | None:
    """`x` for `x.size(0)`, `len(x)` and `x.shape[0]`."""
    if isinstance(node, cst.Subscript) and isinstance(node.value, cst.Attribute) and node.value.attr.value == "shape":
        return node.value.value if code(node).endswith("[0]") else None
    if not isinstance(node, cst.Call):
        return None
    used = method_call(node)
    if used is not None and used[1] == "size" and [code(arg) for arg in node.args] == ["0"]:
        return used[0]
    return _length_of(node)
