"""What the module is handed, and what it starts with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

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
from lightify.syntax.query import assigned_pairs, is_constant, small


def initial_values(
    draft: Draft, homes: Homes, reads: Set[Variable]
) -> tuple[tuple[tuple[Variable, str], ...], tuple[Initial, ...]]:
    """Moves `best = 0` and `best, step = 0, -1` before the loop into __init__; the rest is handed over.

    Args:
        reads: what the run's own lines in the host read.
    """
    own_block = draft.tree.parents[draft.nest.host_loop]
    kept = reads | usage(draft.around.after).exposed - set(homes.results)
    found = {
        variable: start
        for variable, _ in homes.captured
        if variable in homes.written - kept and isinstance(homes.of[variable], Attribute)
        if (start := constant_start(draft, variable, own_block)) is not None
    }
    moved = Counter(statement for statement, _ in found.values())
    captured: list[tuple[Variable, str]] = []
    initial: list[Initial] = []
    for variable, name in homes.captured:
        statement, value = found.get(variable, (None, None))
        if statement is None or value is None or moved[statement] < len(_constants(statement)):
            captured.append((variable, name))
            continue
        initial.append(Initial(homes.of[variable].path, value, statement))  # type: ignore[union-attr]
        draft.removed.add(statement)
        draft.fates[statement] = FateNote(Fate.MOVED, "__init__")
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
) -> tuple[cst.BaseStatement, cst.CSTNode] | None:
    name = variable.name
    statements = [item for item in draft.around.before if variable in usage([item]).writes]
    if len(statements) != 1 or draft.tree.parents.get(statements[0].node) is not own_block:
        return None
    value = _constants(statements[0].node).get(name)
    if value is None or any(variable in usage([item]).reads for item in draft.around.before):
        return None
    if variable.frame.is_module and name in draft.around.kept_reads:
        return None
    return statements[0].node, value


def _constants(statement: cst.CSTNode) -> dict[str, cst.CSTNode]:
    """The names that a statement gives constants to; none where it does more."""
    inner = small(statement)
    if not isinstance(inner, cst.Assign) or len(inner.targets) != 1:
        return {}
    pairs = assigned_pairs(inner.targets[0].target, inner.value)
    found = {target.value: value for target, value in pairs if isinstance(target, cst.Name) and is_constant(value)}
    return found if len(found) == len(pairs) else {}
