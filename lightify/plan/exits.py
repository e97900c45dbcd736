"""Leaving a loop early: what becomes a limit, what ends the pass, what can't be kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.headers import BatchHead
from lightify.loops.runs import Loop
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft, Flatten
from lightify.plan.homes import Homes
from lightify.plan.trainer.lightning import catches_end, on_lightning
from lightify.plan.types import (
    Attribute,
    Computed,
    FateNote,
    TrainerOption,
)
from lightify.syntax.flow import exits_of, expression_usage
from lightify.syntax.frames import Item, Step, Variable
from lightify.syntax.names import bound_by, bound_names, free_names, local_names
from lightify.syntax.query import block, code, small, walk


def unsupported(draft: Draft) -> Flatten | None:
    steps = (*draft.nest.epoch_start, *draft.nest.body, *draft.nest.epoch_end)
    for step in steps:
        if not isinstance(step, Item):
            continue
        for node in walk(step.node):
            if isinstance(node, (cst.Yield, cst.Await)):
                hint = "let it call a function with what it yields, or wait outside of it"
                return Flatten("the loop yields or awaits", draft.tree.span(node), hint)
    if on_lightning(draft) and (handler := catches_end(draft.nest.host_loop, draft.tree)) is not None:
        return Flatten(
            "StopIteration leaves the loops, and lightning ends an epoch by it without a word",
            draft.tree.span(handler),
            "catch it in the loop, or convert for the bundled runtime",
        )
    return None


#: Expressions and patterns that bind names, where no attribute may stand.
_BINDING_INSIDE = (cst.NamedExpr, cst.MatchAs, cst.MatchStar, cst.MatchMapping)


def assigned_in_expressions(draft: Draft, homes: Homes) -> Flatten | None:
    """`(x := f())` and `case [x, y]:` assign no attribute: says so when `x` has to be one."""
    found: dict[Variable, cst.CSTNode] = {}
    for step in draft.whole():
        for node in walk(step.node) if isinstance(step, Item) else ():
            for name in bound_by(node) if isinstance(node, _BINDING_INSIDE) else ():
                meaning = step.frame.resolve(name)  # type: ignore[union-attr]
                if isinstance(meaning, Variable) and isinstance(homes.of.get(meaning), Attribute):
                    found[meaning] = node
    if not found:
        return None
    variable, node = next(iter(found.items()))
    inside = "an expression" if isinstance(node, cst.NamedExpr) else "a case"
    return Flatten(
        f"{code(node)} assigns what outlives the batch inside {inside}",
        draft.tree.span(node),
        f"assign {variable.name} in a statement of its own",
        frozenset(found),
    )


def hidden_module(draft: Draft, homes: Homes) -> Flatten | None:
    """A function with a `self` of its own can't read what the module keeps, nor a class bind it: says so."""
    for step in (one for one in draft.whole() if isinstance(one, Item)):
        for node in walk(step.node):
            for name in _hidden_names(node):
                home = homes.of.get(step.frame.resolve(name))  # type: ignore[arg-type]
                if isinstance(home, Attribute) or (isinstance(home, Computed) and "self." in home.text):
                    kind = "class" if isinstance(node, cst.ClassDef) else "function"
                    return Flatten(
                        f"a {kind} made in the loop has a {'self' if kind == 'function' else name} of its own, "
                        f"and {name} is kept by the module",
                        draft.tree.span(node),
                        f"define the {kind} before the loop",
                    )
    return None


def _hidden_names(node: cst.CSTNode) -> Iterable[str]:
    """Names of the loop that `self.name` can't stand for inside a definition."""
    if isinstance(node, (cst.FunctionDef, cst.Lambda)) and "self" in local_names(node):
        return sorted(free_names(node))
    return sorted(bound_names(block(node.body))) if isinstance(node, cst.ClassDef) else ()


def ends_early(draft: Draft, head: BatchHead) -> bool:
    """True when the source of batches must be ended from inside the step."""
    body = draft.nest.body
    found = [
        (number, leaving)
        for number, step in enumerate(body)
        if isinstance(step, Item)
        for leaving in exits_of(step.node)
        if isinstance(leaving, (cst.Break, cst.Return))
    ]
    if not found:
        return False
    number, only = found[0][0], len(found) == 1 and draft.nest.batch_loop.orelse is None and not draft.nest.returns
    nested = only and draft.nest.epoch_loop is not None and number == len(body) - 1
    return not (nested and limits_batches(draft, body[number], head, draft.nest.batch_loop, "limit_train_batches"))


def may_return(steps: Sequence[Step]) -> bool:
    """True when the function may return from inside the steps."""
    return any(
        isinstance(leaving, cst.Return) for step in steps if isinstance(step, Item) for leaving in exits_of(step.node)
    )


def breaks_epochs(draft: Draft) -> bool:
    """True when the epoch loop has an `else` that a break may skip."""
    loop = draft.nest.epoch_loop
    if loop is None or loop.orelse is None:
        return False
    leaving = (
        e
        for step in (*draft.nest.epoch_start, *draft.nest.epoch_end)
        if isinstance(step, Item)
        for e in exits_of(step.node)
    )
    return any(isinstance(e, cst.Break) for e in leaving)


def limits_batches(draft: Draft, step: Step, head: BatchHead, loop: Loop, option: str) -> bool:
    """`if dry_run: break` at the end of the first batch of a pass becomes an option of the Trainer."""
    assert isinstance(step, Item)
    node = step.node
    if isinstance(node, cst.If) and node.orelse is None and is_first_batch(node.test, head):
        inner = block(node.body)
        node = inner[-1]
        if any(True for statement in inner[:-1] for _ in exits_of(statement)):
            return False
    if not (
        isinstance(node, cst.If)
        and node.orelse is None
        and len(block(node.body)) == 1
        and isinstance(small(block(node.body)[0]), cst.Break)
    ):
        return False
    used = expression_usage(node.test, step.frame).reads
    if draft.may_change(node.test, step.frame) or not in_host(draft, node.test, step.frame):
        return False
    if any(isinstance(n, cst.Call) for n in walk(node.test)):
        return False
    if head.index is not None and step.frame.resolve(head.index.value) in used:
        return False
    if any(v.name in bound_names([loop]) and v.frame is step.frame for v in used):
        return False
    draft.removed.add(node)
    for part in (node, *block(node.body)):
        draft.fates[part if part is node else small(part)] = FateNote(  # type: ignore[index]
            Fate.REPLACED, f"Trainer({option}=...)", "ends each pass after its first batch"
        )
    limit = cst.IfExp(test=node.test, body=cst.Integer("1"), orelse=cst.Name("None"))
    draft.options.append(TrainerOption(option, limit, step.frame))
    return True


def is_first_batch(test: cst.BaseExpression, head: BatchHead) -> bool:
    """`i % k == 0`, true for batch 0 whatever k is."""
    if not (
        isinstance(test, cst.Comparison)
        and isinstance(test.left, cst.BinaryOperation)
        and isinstance(test.left.operator, cst.Modulo)
        and head.index is not None
        and head.start is None
    ):
        return False
    left, target = test.left.left, test.comparisons[0]
    return (
        isinstance(left, cst.Name)
        and left.value == head.index.value
        and len(test.comparisons) == 1
        and isinstance(target.operator, cst.Equal)
        and isinstance(target.comparator, cst.Integer)
        and target.comparator.value == "0"
    )
