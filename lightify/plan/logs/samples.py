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
from lightify.syntax.query import FieldName, arguments, code, dotted, expression_of, method_call, small, walk

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
                value = _size_of(node)
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
        values = [(meaning.node, meaning.frame)] if isinstance(meaning, Expression) else _values(body, meaning)
        known = len(values) == 1 and _size_of(values[0][0]) is not None
        return known and counts_whole_batch(draft, body, batch, source, place, *values[0])
    part = draft.kinds.variable(_size_of(node), frame)
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


def is_number(draft: Draft, body: Sequence[Step], node: cst.CSTNode, frame: Frame, depth: int = 0) -> bool:
    """True for an expression of a batch that has one value: a loss, a count, `x.item()`, `x.sum()`."""

    def number(part: cst.CSTNode) -> bool:
        return depth < 6 and is_number(draft, body, part, frame, depth + 1)

    if isinstance(node, (cst.Integer, cst.Float)) or _size_of(node) is not None:
        return True
    if isinstance(node, cst.BinaryOperation):
        return number(node.left) and number(node.right)
    if isinstance(node, cst.Attribute) and node.attr.value == "data":
        return number(node.value)
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        if isinstance(meaning, Expression):
            return depth < 6 and is_number(draft, body, meaning.node, meaning.frame, depth + 1)
        return meaning in losses(body) or any(
            depth < 6 and is_number(draft, body, value, place, depth + 1) for value, place in _values(body, meaning)
        )
    if not isinstance(node, cst.Call):
        return False
    used, full = method_call(node), draft.tree.qualified(node.func) or ""
    if full in ("torch.sum", "torch.mean", "numpy.sum", "numpy.mean"):
        return len(node.args) == 1
    criterion = draft.kinds.variable(node.func, frame)
    if full.startswith("torch.nn.functional.") or (criterion is not None and draft.kinds.is_loss(criterion)):
        return "none" not in draft.tree.text and (criterion is not None or len(node.args) > 1)
    if dotted(node.func) in ("float", "int", "len"):
        return True
    if used is None or (dotted(used[0]) or "").partition(".")[0] in draft.tree.imports:
        return False
    if used[1] in ("float", "double", "detach", "cpu", "clone"):
        return not node.args and number(used[0])
    return used[1] in ("item", "numel") or (used[1] in ("sum", "mean") and not node.args)


def is_one_number(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for one number, as far as it can be told: `total / (i + 1)`, `losses.avg`, `loss`."""
    if isinstance(value, cst.BinaryOperation):
        scaled = isinstance(value.operator, (cst.Multiply, cst.Divide))  # by what is not asked: it is no tensor's
        sides = [is_one_number(side, frame, draft) for side in (value.left, value.right)]
        if isinstance(value.operator, (cst.Add, cst.Subtract)):
            return all(sides)
        return scaled and (sides[0] or (sides[1] and isinstance(value.operator, cst.Multiply)))
    if isinstance(value, cst.Attribute) and isinstance(value.value, cst.Name):
        return value.attr.value in ("avg", "val") and not isinstance(value.value, FieldName)
    return is_number(draft, draft.whole(), value, frame) or _is_sum(value, frame, draft)


def _is_sum(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for a name that a batch adds a number to: `total += loss.item()`."""
    meaning = frame.resolve(value.value) if isinstance(value, cst.Name) else None
    added = [
        (node, step.frame)
        for step in draft.nest.body
        if isinstance(step, Item) and meaning is not None
        for node in walk(step.node)
        if isinstance(node, cst.AugAssign) and isinstance(node.target, cst.Name)
    ]
    return any(
        place.resolve(dotted(node.target) or "") is meaning and is_one_number(node.value, place, draft)
        for node, place in added
    )


def never_zero(body: Sequence[Step], node: cst.CSTNode, frame: Frame) -> bool:
    """True for the size of a batch, by its own name or by one that the body gives it."""
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        if isinstance(meaning, Expression):
            return never_zero((), meaning.node, meaning.frame)
        values = _values(body, meaning)
        return bool(values) and all(never_zero((), value, place) for value, place in values)
    return _size_of(node) is not None or (isinstance(node, cst.Integer) and int(node.value) > 0)


def _values(body: Sequence[Step], variable: Variable) -> list[tuple[cst.BaseExpression, Frame]]:
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


def losses(body: Sequence[Step]) -> set[Variable]:
    """The variables that the body calls `backward()` on: it needs no gradient where they have one value."""
    found = set()
    for step in body:
        used = method_call(expression_of(step.node)) if isinstance(step, Item) else None
        if isinstance(step, Item) and used is not None and used[1] == "backward" and isinstance(used[0], cst.Name):
            meaning = step.frame.resolve(used[0].value)
            found |= {meaning} if isinstance(meaning, Variable) else set()
    return found


def _size_of(node: cst.CSTNode) -> cst.BaseExpression | None:
    """`x` for `x.size(0)`, `len(x)` and `x.shape[0]`."""
    if isinstance(node, cst.Subscript) and isinstance(node.value, cst.Attribute) and node.value.attr.value == "shape":
        return node.value.value if code(node).endswith("[0]") else None
    if not isinstance(node, cst.Call):
        return None
    used = method_call(node)
    if used is not None and used[1] == "size" and [code(arg) for arg in node.args] == ["0"]:
        return used[0]
    return _length_of(node)
