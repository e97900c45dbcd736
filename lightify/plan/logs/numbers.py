"""Which names and expressions hold one number each, as far as the script tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.returns import falls_through
from lightify.plan.draft import Draft
from lightify.plan.logs.samples import size_of, values_of
from lightify.syntax.flow import usage
from lightify.syntax.frames import Expression, Frame, Item, Step, Variable
from lightify.syntax.names import assignments, same_scope
from lightify.syntax.query import (
    FieldName,
    assigned_pairs,
    block,
    dotted,
    expression_of,
    method_call,
    nodes_of,
    small,
    target_names,
    walk,
)

#: What gives one number of anything.
_COUNTED = ("float", "int", "len")
_ONE = (*_COUNTED, "sklearn.metrics.accuracy_score", "sklearn.metrics.roc_auc_score")
#: What makes one number of all that it is given.
_REDUCES = ("torch.sum", "torch.mean", "numpy.sum", "numpy.mean")
#: What gives one of the numbers that it is given, or changes one.
_CHOOSES = ("max", "min", "round", "abs")


def is_number(draft: Draft, body: Sequence[Step], node: cst.CSTNode, frame: Frame, depth: int = 0) -> bool:
    """True for an expression of a batch that has one value: a loss, a count, `x.item()`, `x.sum()`."""

    def number(part: cst.CSTNode, place: Frame = frame) -> bool:
        return depth < 6 and is_number(draft, body, part, place, depth + 1)

    if isinstance(node, cst.Attribute) and node.attr.value == "data":
        return number(node.value)
    if isinstance(node, cst.Name):
        meaning = frame.resolve(node.value)
        if isinstance(meaning, Expression):
            return number(meaning.node, meaning.frame)
        known = meaning in losses(body) or any(number(value, place) for value, place in values_of(body, meaning))
        return known or _is_returned(draft, body, meaning)
    if _is_made_of_numbers(draft, node, number):
        return True
    if not isinstance(node, cst.Call) or any(run_by(node, draft.tree)):
        return False
    used, full = method_call(node), draft.tree.qualified(node.func) or ""
    criterion = draft.kinds.variable(node.func, frame)
    if full.startswith("torch.nn.functional.") or (criterion is not None and draft.kinds.is_loss(criterion)):
        return "none" not in draft.tree.text and (criterion is not None or len(node.args) > 1)
    if full == "sum" and len(node.args) == 1:
        return depth < 6 and _collects_numbers(draft, body, node.args[0].value, frame, depth + 1)
    if used is None or _is_imported(used[0], draft):
        return False
    if used[1] in ("float", "double", "detach", "cpu", "clone"):
        return not node.args and number(used[0])
    return used[1] in ("sum", "mean") and not node.args


def _is_made_of_numbers(
    draft: Draft,
    node: cst.CSTNode,
    number: Callable[[cst.CSTNode], bool],
    within: frozenset[cst.CSTNode | str] = frozenset(),
) -> bool:
    """True where the form tells: `2`, `len(x)`, `a / b`, `x.item()`, `max(a, b)`, a function that returns a number.

    Args:
        number: tells of a part.
        within: the functions and the names that are asked already.
    """
    if isinstance(node, (cst.Integer, cst.Float)) or size_of(node) is not None:
        return True
    if isinstance(node, cst.BinaryOperation):
        return number(node.left) and number(node.right)
    if isinstance(node, cst.IfExp):
        return number(node.body) and number(node.orelse)
    if not isinstance(node, cst.Call):
        return False
    functions = list(run_by(node, draft.tree))
    if functions:
        return all(_returns_number(draft, one, None, within) for one in functions)
    used, full = method_call(node), draft.tree.qualified(node.func) or ""
    given = [arg.value for arg in node.args]
    if full in _ONE:
        return True
    if full in _REDUCES:
        return len(given) == 1
    if full in _CHOOSES:
        return all(map(number, given))
    return used is not None and used[1] in ("item", "numel") and not _is_imported(used[0], draft)


def _is_imported(node: cst.CSTNode, draft: Draft) -> bool:
    return (dotted(node) or "").partition(".")[0] in draft.tree.imports


def _collects_numbers(draft: Draft, body: Sequence[Step], node: cst.CSTNode, frame: Frame, depth: int) -> bool:
    """True for a list that the loops append numbers to, and nothing else."""
    meaning = frame.resolve(node.value) if isinstance(node, cst.Name) else None
    if not isinstance(meaning, Variable):
        return False
    appended = [
        (call.args, step.frame)
        for step in body
        if isinstance(step, Item)
        for call in nodes_of(step.node, cst.Call)
        if (used := method_call(call)) is not None and used[1] in ("append", "extend", "insert")
        if isinstance(used[0], cst.Name) and step.frame.resolve(used[0].value) is meaning
    ]
    return bool(appended) and all(
        len(args) == 1 and is_number(draft, body, args[0].value, place, depth) for args, place in appended
    )


def is_one_number(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for one number, as far as it can be told: `total / (i + 1)`, `losses.avg`, `loss`."""
    if isinstance(value, cst.BinaryOperation):
        left, right = (is_one_number(side, frame, draft) for side in (value.left, value.right))
        if isinstance(value.operator, (cst.Add, cst.Subtract)):
            return left and right
        if isinstance(value.operator, cst.Divide):
            return left and (right or _scales(value.right, frame, draft))
        scaled = (left and _scales(value.right, frame, draft)) or (right and _scales(value.left, frame, draft))
        return isinstance(value.operator, cst.Multiply) and ((left and right) or scaled)
    if isinstance(value, cst.Attribute) and isinstance(value.value, cst.Name):
        return value.attr.value in ("avg", "val") and not isinstance(value.value, FieldName)
    return is_number(draft, draft.whole(), value, frame) or _is_sum(value, frame, draft)


def _scales(value: cst.CSTNode, frame: Frame, draft: Draft, depth: int = 0) -> bool:
    """True for what a number is multiplied with or divided by: a constant, a count, an option, a batch's number."""
    if isinstance(value, (cst.Integer, cst.Float)) or size_of(value) is not None:
        return True
    if isinstance(value, cst.BinaryOperation) and depth < 6:
        return all(_scales(side, frame, draft, depth + 1) for side in (value.left, value.right))
    if isinstance(value, cst.Call):
        return dotted(value.func) in _COUNTED
    if isinstance(value, cst.Attribute):  # `args.batch_size`
        return dotted(value) is not None and value.attr.value not in ("data", "grad", "T", "shape")
    meaning = frame.resolve(value.value) if isinstance(value, cst.Name) else None
    if isinstance(meaning, Expression):
        return depth < 6 and _scales(meaning.node, meaning.frame, draft, depth + 1)
    if meaning is None or depth > 6:
        return False
    given = draft.kinds.assigned(meaning)
    counted = (loop for loop in draft.tree.nodes(cst.For) if meaning.name in target_names(_first(loop.target)))
    numbers = all(_scales(one, meaning.frame, draft, depth + 1) for one in given)
    return numbers and (bool(given) or any(dotted(getattr(loop.iter, "func", None)) in _COUNTS for loop in counted))


#: What counts: the first name of its loop is a whole number.
_COUNTS = ("range", "trange", "enumerate", "tqdm", "tqdm.tqdm", "itertools.count", "count")


def _first(target: cst.CSTNode) -> cst.CSTNode:
    return target.elements[0].value if isinstance(target, cst.Tuple) else target


def _is_sum(value: cst.BaseExpression, frame: Frame, draft: Draft) -> bool:
    """True for a name that a batch adds a number to: `total += loss.item()`."""
    meaning = frame.resolve(value.value) if isinstance(value, cst.Name) else None
    if not isinstance(meaning, Variable) or any(_collects(one) for one in draft.kinds.assigned(meaning)):
        return False
    passes = (*draft.whole(), *(draft.evaluation.batches if draft.evaluation is not None else ()))
    added = [
        (node, step.frame)
        for step in passes
        if isinstance(step, Item)
        for node in walk(step.node)
        if isinstance(node, cst.AugAssign) and isinstance(node.target, cst.Name)
    ]
    return any(
        place.resolve(dotted(node.target) or "") is meaning and is_one_number(node.value, place, draft)
        for node, place in added
    )


def _collects(value: cst.CSTNode) -> bool:
    """True for what may hold several numbers: a list, `torch.zeros(3)`."""
    return not isinstance(value, (cst.Integer, cst.Float, cst.UnaryOperation, cst.BinaryOperation, cst.Name))


def losses(body: Sequence[Step]) -> set[Variable]:
    """The variables that the body calls `backward()` on: it needs no gradient where they have one value."""
    found = set()
    for step in body:
        used = method_call(expression_of(step.node)) if isinstance(step, Item) else None
        if isinstance(step, Item) and used is not None and used[1] == "backward" and isinstance(used[0], cst.Name):
            meaning = step.frame.resolve(used[0].value)
            found |= {meaning} if isinstance(meaning, Variable) else set()
    return found


def _is_returned(draft: Draft, body: Sequence[Step], variable: Variable) -> bool:
    """True for `acc` of `loss, acc = test(model)`, where that is one of the numbers that the function returns."""
    writes = [step for step in body if variable in usage([step]).writes]
    inner = small(writes[0].node) if len(writes) == 1 and isinstance(writes[0], Item) else None
    if not isinstance(inner, cst.Assign) or not isinstance(inner.value, cst.Call):
        return False
    names = target_names(inner.targets[0].target)
    functions = list(run_by(inner.value, draft.tree))
    if len(inner.targets) > 1 or variable.name not in names or not functions:
        return False
    place = names.index(variable.name)
    return all(_returns_number(draft, one, (place, len(names)), frozenset()) for one in functions)


#: Decorators and contexts that leave what a function returns.
_PLAIN = ("torch.no_grad", "torch.inference_mode", "staticmethod")


def _are_plain(marks: Iterable[cst.BaseExpression], draft: Draft) -> bool:
    called = (mark.func if isinstance(mark, cst.Call) else mark for mark in marks)
    return all(draft.tree.qualified(one) in _PLAIN for one in called)


def _returns_number(
    draft: Draft, function: cst.FunctionDef, place: tuple[int, int] | None, within: frozenset[cst.CSTNode | str]
) -> bool:
    """True for a function that returns one number each time.

    Args:
        place: which of how many it is, of a tuple.
        within: the functions and their names that are asked already.
    """
    marks = [one.decorator for one in function.decorators]
    if function in within or len(within) > 12 or not _are_plain(marks, draft) or function.asynchronous is not None:
        return False
    body, nodes = block(function.body), list(same_scope(block(function.body)))
    while body and isinstance(body[-1], cst.With) and _are_plain([one.item for one in body[-1].items], draft):
        body = block(body[-1].body)
    if falls_through(body) or any(isinstance(node, cst.Yield) for node in nodes):
        return False
    found = [node.value for node in nodes if isinstance(node, cst.Return)]
    if place is not None:
        tuples = [one.elements for one in found if isinstance(one, cst.Tuple)]
        found = [one[place[0]].value if len(one) == place[1] else None for one in tuples] * (len(tuples) == len(found))
    inner = within | {function}
    return bool(found) and all(one is not None and _is_own_number(draft, one, function, inner) for one in found)


def _is_own_number(
    draft: Draft, node: cst.CSTNode, function: cst.FunctionDef, within: frozenset[cst.CSTNode | str]
) -> bool:
    """True for an expression of a function that stays as it is, where its own statements tell."""

    def number(part: cst.CSTNode) -> bool:
        return _is_own_number(draft, part, function, within)

    if isinstance(node, cst.Name):
        if node.value in within:
            return True  # `best = max(best, acc)`
        known = within | {node.value}
        nodes = list(same_scope(block(function.body)))
        values: list[cst.CSTNode] = [
            value
            for assign in assignments(function).get(node.value, ())
            for each in assign.targets
            for target, value in assigned_pairs(each.target, assign.value)
            if node.value in target_names(target)
        ]
        values += [one.value for one in nodes if isinstance(one, cst.AugAssign) and dotted(one.target) == node.value]
        return bool(values) and all(_is_own_number(draft, value, function, known) for value in values)
    if isinstance(node, cst.Call) and draft.tree.qualified(node.func) == "sum" and len(node.args) == 1:
        added = node.args[0].value
        return isinstance(added, (cst.ListComp, cst.GeneratorExp)) and number(added.elt)
    return _is_made_of_numbers(draft, node, number, within)
