"""What the module is handed, and what it starts with."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.homes import Homes
from lightify.plan.types import (
    Attribute,
    FateNote,
    Initial,
)
from lightify.syntax.flow import usage
from lightify.syntax.frames import Variable
from lightify.syntax.query import is_constant, small


def initial_values(draft: Draft, homes: Homes) -> tuple[tuple[tuple[Variable, str], ...], tuple[Initial, ...]]:
    """Moves `best = 0` before the loop into __init__; the rest is handed over."""
    captured: list[tuple[Variable, str]] = []
    initial: list[Initial] = []
    own_block = draft.tree.parents[draft.nest.host_loop]
    for variable, name in homes.captured:
        found = None
        if variable in homes.written:
            found = constant_start(draft, variable, own_block)
        if (
            found is not None
            and isinstance(homes.of[variable], Attribute)
            and (variable not in usage(draft.around.after).exposed - set(homes.results))
        ):
            initial.append(Initial(name, found[1], found[0]))
            draft.removed.add(found[0])
            draft.fates[found[0]] = FateNote(Fate.MOVED, "__init__")
        else:
            captured.append((variable, name))
    return tuple(captured), tuple(initial)


#: Packages whose values compare element by element, or not at all.
_NO_TRUTH = ("numpy.", "pandas.", "scipy.", "sklearn.", "tqdm.")


def incomparable(draft: Draft, captured: Sequence[tuple[Variable, str]]) -> tuple[str, ...]:
    """Parameters whose == is no truth: Lightning compares each with the hyperparameters to learn their name."""
    made = [(item, small(item.node)) for item in draft.around.before]
    calls = [(item, one.value) for item, one in made if isinstance(one, cst.Assign) and isinstance(one.value, cst.Call)]
    strange = [item for item, call in calls if (draft.tree.qualified(call.func) or "").startswith(_NO_TRUTH)]
    written = usage(strange).writes
    return tuple(name for variable, name in captured if variable in written)


def constant_start(
    draft: Draft, variable: Variable, own_block: cst.CSTNode
) -> tuple[cst.BaseStatement, cst.BaseExpression] | None:
    name = variable.name
    statements = [item for item in draft.around.before if variable in usage([item]).writes]
    if len(statements) != 1 or draft.tree.parents.get(statements[0].node) is not own_block:
        return None
    inner = small(statements[0].node)
    if not (
        isinstance(inner, cst.Assign)
        and len(inner.targets) == 1
        and isinstance(inner.targets[0].target, cst.Name)
        and inner.targets[0].target.value == name
        and is_constant(inner.value)
    ):
        return None
    if any(variable in usage([item]).reads for item in draft.around.before):
        return None
    if variable.frame.is_module and name in draft.around.kept_reads:
        return None
    return statements[0].node, inner.value
