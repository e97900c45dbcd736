"""Assignments of the hooks that nothing reads any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.homes import encloses, hook_usage
from lightify.plan.idiom.lines import Lines
from lightify.plan.types import FateNote, Hook
from lightify.plan.unread.unwanted import may_go
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Field, Item, Usage, Variable
from lightify.syntax.query import block, small, walk

_NOTE = FateNote(Fate.DROPPED, "", "nothing reads its value")


def without_dead_values(draft: Draft, hooks: Sequence[Hook], tests: Usage) -> list[Hook]:
    """Drops assignments that nothing reads any more, when computing them does nothing else.

    Args:
        tests: what the conditions of the loops use.
    """
    after = usage(draft.around.after).reads | tests.reads
    result = list(hooks)
    changed = True
    while changed:
        changed = False
        for number, hook in enumerate(result):
            others = [hook_usage(other).reads for other in result if other is not hook]
            result[number] = _without_dead(draft, hook, after.union(*others))
            changed |= result[number] is not hook
    return result


def _without_dead(draft: Draft, hook: Hook, elsewhere: set[Variable]) -> Hook:
    """The hook without such lines; the hook itself when it has none."""
    steps = list(hook.steps)
    found = True
    while found:
        found = False
        for number, step in reversed(list(enumerate(steps))):
            lines = list(_lines(draft, step)) if isinstance(step, Item) else []
            if isinstance(step, Item) and not any(isinstance(small(line), cst.Assign) for line in lines):
                continue
            rest = hook_usage(replace(hook, steps=(*steps[:number], *steps[number + 1 :]))).reads | elsewhere
            if isinstance(step, Binding):
                if _is_unread(draft, step, rest):
                    del steps[number]
                    found = True
                continue
            dead = next((line for line in lines if _is_dead(draft, step, line, rest)), None)  # type: ignore[arg-type]
            if dead is not None:
                draft.fates[small(dead)] = _NOTE  # type: ignore[index]
                gone = Lines(draft, lambda node, _, dead=dead: [] if node is dead else None, _NOTE)  # type: ignore[misc]
                steps[number : number + 1] = list(gone.without([step]))
                found = True
    same = len(steps) == len(hook.steps) and all(new is old for new, old in zip(steps, hook.steps))
    return hook if same else replace(hook, steps=tuple(steps))


def _lines(draft: Draft, step: Item) -> Iterator[cst.BaseStatement]:
    """The lines of a step that may go, the last one first: those within an `if`, too, in the idiomatic style."""
    waiting = [step.node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, cst.If) and draft.settings.style == "idiomatic":
            orelse = node.orelse
            waiting += block(node.body)
            waiting += block(orelse.body) if isinstance(orelse, cst.Else) else [orelse] if orelse is not None else []
        else:
            yield node


def _is_unread(draft: Draft, step: Binding, reads: set[Variable]) -> bool:
    """True for an argument or a result that nothing reads under its new name.

    Args:
        reads: what others than the step read.
    """
    if not isinstance(step.target, cst.Name) or not may_go(step.value, step.value_frame, draft):
        return False
    if step.value_frame is draft.generated:
        return False  # the loop's own name for the batch, which names the parameter
    return _is_unseen(draft, step.target_frame.variable(step.target.value), reads)


def _is_dead(draft: Draft, step: Item, line: cst.BaseStatement, reads: set[Variable]) -> bool:
    """True for `name = value` where nothing reads the name.

    Args:
        reads: what others than the line's step read.
    """
    inner = small(line)
    target = inner.targets[0].target if isinstance(inner, cst.Assign) and len(inner.targets) == 1 else None
    if not isinstance(inner, cst.Assign) or not isinstance(target, cst.Name):
        return False
    if not may_go(inner.value, step.frame, draft):
        return False
    named = [node for node in walk(step.node) if isinstance(node, cst.Name) and node.value == target.value]
    if line is not step.node and len(named) > 1:
        return False
    return _is_unseen(draft, step.frame.variable(target.value), reads)


def _is_unseen(draft: Draft, variable: Variable, reads: set[Variable]) -> bool:
    if isinstance(variable, Field) or encloses(variable.frame, draft.nest.host):
        return False  # whoever holds the object, or the function around the host, may read it
    return variable not in reads and not (variable.frame.is_module and variable.name in draft.around.kept_reads)
