"""A result and the name that its caller gives it: one name where both hold the same thing all along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import libcst as cst

from lightify.loops.surroundings import Surroundings
from lightify.plan.types import Hook
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Binding, Field, Frame, Step, Usage, Variable
from lightify.syntax.query import assigned_pairs, nodes_of


def results_as_called(
    hooks: Sequence[Hook], run: Usage, elsewhere: Usage, around: Surroundings, host: Frame
) -> dict[Variable, Variable]:
    """Variables of opened functions, each with the caller's that gets its value and needs no place of its own.

    A caller's name is bound there alone and read only after it, so the function may as well work in it. The
    function's own name is done with then.

    Args:
        run: what the hooks do in the order of a run; elsewhere: what else reads in the module.
    """
    writers = Counter(variable for hook in hooks for step in hook.steps for variable in usage([step]).writes)
    kept = run.exposed | elsewhere.reads | usage(around.after).reads | around.set_before(host)
    found: dict[Variable, Variable] = {}
    for number, hook in enumerate(hooks):
        for place, step in enumerate(hook.steps):
            later = [*hook.steps[place + 1 :], *(one for other in hooks[number + 1 :] for one in other.steps)]
            ends = [expression_usage(*other.result) for other in hooks[number:] if other.result is not None]
            used = usage(later)
            after = used.reads.union(used.writes, *(end.reads for end in ends))
            for target, value in _pairs(step):
                own = value.frame is not host and not value.frame.is_module and value.frame is not target.frame
                if own and writers[target] == 1 and target not in kept and value not in kept | after:
                    found[value] = target
    counted = Counter(found.values())
    return {value: target for value, target in found.items() if counted[target] == 1}


def _pairs(step: Step) -> Iterator[tuple[Variable, Variable]]:
    """The names that a step binds to names of a function, where each of these is bound once."""
    if not isinstance(step, Binding):
        return
    pairs = [
        (step.target_frame.resolve(target.value), step.value_frame.resolve(value.value))
        for target, value in assigned_pairs(step.target, step.value)
        if isinstance(target, cst.Name) and isinstance(value, cst.Name)
    ]
    values = Counter(value for _, value in pairs)
    for target, value in pairs:
        plain = all(isinstance(one, Variable) and not _is_seen_apart(one) for one in (target, value))
        if plain and values[value] == 1:
            yield target, value  # type: ignore[misc]


def _is_seen_apart(variable: Variable) -> bool:
    """True for a field, and for what a function within its function may read at any time."""
    function = variable.frame.function
    if isinstance(variable, Field) or function is None:
        return isinstance(variable, Field)
    within = nodes_of(function.body, cst.FunctionDef, cst.Lambda)
    return any(node.value == variable.name for inner in within for node in nodes_of(inner, cst.Name))
