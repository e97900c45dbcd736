"""What stands between two evaluations that follow one another: the Trainer runs nothing there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst

from lightify.facts import Kind
from lightify.plan.effects import may_draw, only_computes
from lightify.plan.evaluation.afterwards import runs
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.hidden import hidden_in_networks
from lightify.plan.kinds import Kinds
from lightify.plan.touched import Touched, item_of, shows
from lightify.syntax.flow import exits_of, usage
from lightify.syntax.frames import Binding, Item, Step
from lightify.syntax.query import call_name, dotted, expression_of, method_call, method_name, small

_CLOCKS = ("time", "time.time", "time.perf_counter", "time.monotonic", "datetime.datetime.now")


@dataclass(frozen=True)
class Parted:
    """The steps between two passes: before both, after both, and modes that the second pass takes back."""

    early: list[Step] = field(default_factory=list)
    late: list[Step] = field(default_factory=list)
    gone: list[Item] = field(default_factory=list)


def parted(
    between: Sequence[Step], passed: Sequence[Item], coming: Item, start: Sequence[Step], kinds: Kinds
) -> Parted | str:
    """Parts the steps between passes by where nothing can tell the difference; a text says why they must stay there.

    Args:
        passed, coming: the loops before and after them.
        start: what runs before the first pass.
    """
    evaluated = {variable for step in start if (variable := mode_call(step, kinds, "eval")) is not None}
    again = {variable for step in between if (variable := mode_call(step, kinds, "eval")) is not None}
    if again - evaluated:
        return "one of them puts a network into evaluation mode that the other does not"
    found, earlier, next_one = Parted(), Touched.by(passed, kinds), Touched.by([coming], kinds)
    for step in between:
        variable = mode_call(step, kinds, "train")
        if variable is not None and isinstance(step, Item):
            if variable not in again:
                return "one of them leaves a network in training mode"
            found.gone.append(step)
            continue
        touched = Touched.by([step], kinds)
        if _takes_time(step, kinds):
            return "the time is taken between them"
        plain = only_names(step, kinds) and not _reads_hidden(step, kinds) and not touched.meets(earlier)
        if mode_call(step, kinds, "eval") is not None or plain:
            found.early.append(step)
            continue
        if problem := _holds_place(step, touched, [coming], next_one, kinds):
            return f"what stands between them {problem}"
        found.late.append(step)
        earlier = earlier.with_more(touched)  # what is moved before both may not meet it, either
    return found


def keeps_apart(step: Step, coming: Sequence[Step], kinds: Kinds) -> str:
    """Why a step can't run after the steps of an evaluation that it stands before; empty if it can."""
    if _only_schedules(step, kinds) and not any(_asks_for_rates(one, kinds) for one in coming):
        return ""
    touched, later = Touched.by([step], kinds), Touched.by(coming, kinds)
    problem = "takes the time" if _takes_time(step, kinds) else _holds_place(step, touched, coming, later, kinds)
    return problem and f"what stands before it {problem}"


def _only_schedules(step: Step, kinds: Kinds) -> bool:
    """True for `scheduler.step()` of torch, which changes rates alone."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    used = method_call(call)
    if not isinstance(call, cst.Call) or used is None or used[1] != "step" or call.args:
        return False
    variable = kinds.variable(used[0], step.frame) if isinstance(step, Item) else None
    if variable is None or kinds.of(variable) is not Kind.SCHEDULER:
        return False
    makers = [kinds.tree.qualified(one) or "" for one in kinds.makers(variable) if one is not None]
    own = ("LambdaLR", "MultiplicativeLR")  # they call functions of the script
    return bool(makers) and all(one.startswith("torch.optim.lr_scheduler.") and not one.endswith(own) for one in makers)


def _asks_for_rates(step: Step, kinds: Kinds) -> bool:
    """True for what may read the state of an optimizer or a schedule."""
    return any(
        isinstance(node, (cst.Name, cst.Attribute))
        and {kinds.kind(node, frame), kinds.in_scope(dotted(node), frame.function)} & {Kind.OPTIMIZER, Kind.SCHEDULER}
        for node, frame in runs(item_of(step), kinds)
    )


def put_off(
    steps: Sequence[Step], coming: Sequence[Step], rest: Sequence[Step], kinds: Kinds
) -> tuple[list[Step], list[Step]]:
    """Parts the steps before a pass: those that have to stand there, and the means that may as well follow it.

    Args:
        rest: what the epoch does after the pass; a name that has another meaning there keeps its place.
    """
    meanings = usage((*coming, *rest)).writes
    names = {variable.name for variable in meanings}
    held = {
        step
        for step in steps
        if not _only_tells(step, kinds) or any(v.name in names and v not in meanings for v in usage([step]).writes)
    }
    while True:
        stay: list[Step] = []
        late: list[Step] = []
        later = Touched.by(coming, kinds)
        for step in reversed(steps):
            touched = Touched.by([step], kinds)
            if step in held or _holds_place(step, touched, (*stay, *coming), later, kinds):
                stay.insert(0, step)
                later = later.with_more(touched)
            else:
                late.insert(0, step)
        given = [step for step in late if usage([step]).reads & usage(stay).writes]
        if not given:
            return stay, late
        held.update(given)  # what they are told by the others they are told there


def _only_tells(step: Step, kinds: Kinds) -> bool:
    """True for what computes from numbers, collects or prints them: no network, no file and no clock is asked."""
    if _takes_time(step, kinds) or any(kinds.of(variable) is Kind.MODULE for variable in usage([step]).reads):
        return False
    if isinstance(step, Binding) or only_names(step, kinds):
        return True
    call = expression_of(step.node)
    return isinstance(call, cst.Call) and (shows(step, kinds) or call_name(call) in ("append", "extend"))


def _holds_place(step: Step, touched: Touched, coming: Sequence[Step], later: Touched, kinds: Kinds) -> str:
    """Why a step can't give way to what comes after it; empty if it can."""
    if isinstance(step, Item) and any(True for _ in exits_of(step.node)):
        return "may leave the epoch"
    if _acts(step, kinds):
        return "draws, steps or may use a network"
    if touched.meets(later) or _reads_hidden(step, kinds):
        return "computes what that needs, or changes"
    both_show = shows(step, kinds) and any(shows(one, kinds) for one in coming)
    return "prints, as that does" if both_show else ""


def _reads_hidden(step: Step, kinds: Kinds) -> bool:
    """True for what may read what networks of the script and their hooks keep of a pass."""
    return hidden_in_networks(kinds.tree).is_used_by(step)


def only_names(step: Step, kinds: Kinds) -> bool:
    """True for `right = 0` and `losses = AverageMeter()`: nobody notices when."""
    if isinstance(step, Binding):
        return only_computes(step.value, step.value_frame, kinds.tree, lambda _: False)
    inner = small(step.node)
    return isinstance(inner, cst.Assign) and only_computes(inner.value, step.frame, kinds.tree, lambda _: False)


def _acts(step: Step, kinds: Kinds) -> bool:
    nodes = (node for node, _ in runs(item_of(step), kinds))
    steps = any(method_name(node) == "step" for node in nodes)
    return steps or may_draw(step, kinds.tree) or uses_modules(step, kinds, asking=True)


def _takes_time(step: Step, kinds: Kinds) -> bool:
    calls = (node for node, _ in runs(item_of(step), kinds) if isinstance(node, cst.Call))
    return any((kinds.tree.qualified(call.func) or dotted(call.func)) in _CLOCKS for call in calls)
