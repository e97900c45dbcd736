"""A `with torch.profiler.profile(...)` around the batches becomes the Trainer's profiler, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.contexts import enters
from lightify.loops.nest import without_stack
from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.idiom.lines import Lines
from lightify.plan.naming import runtime_alias
from lightify.plan.types import FateNote, TrainerOption
from lightify.syntax.comments import own
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import bound_by, declared_elsewhere, parameters, scope_nodes
from lightify.syntax.query import arguments, code, expression_of, method_call, root_name, small, walk

_PROFILES = ("torch.profiler.profile", "torch.profiler.profiler.profile")
#: What the Trainer's profiler hands on to torch's; it has other arguments of its own.
_OPTIONS = frozenset(
    """activities schedule on_trace_ready record_shapes profile_memory with_stack with_flops with_modules
    experimental_config execution_trace_observer acc_events""".split()  # noqa: SIM905, a list of words
)
_NOTE = FateNote(Fate.REPLACED, "Trainer(profiler=...)", "the Trainer runs the profiler")
_ONCE = (
    "torch's profiler is the Trainer's: it goes once through its schedule, over the whole run and its evaluations,"
    " and reports at the end"
)
_ALL = "torch's profiler is the Trainer's: it records the whole run and its evaluations, and reports at the end"


@dataclass(frozen=True, eq=False)
class _Profile:
    """One such `with`.

    Attributes:
        call: makes the profiler, in its frame.
        name: what it is bound to.
        entered: the step that enters it where an epoch starts; None around the whole run.
        around: the statement around the run.
    """

    call: cst.Call
    frame: Frame
    name: Variable | None
    entered: Step | None = None
    around: cst.With | None = None


def without_profiler(draft: Draft) -> None:
    """Gives the profiler to the Trainer where the script only makes it and tells it of steps; else changes nothing."""
    if draft.settings.style == "faithful" or "profile" not in draft.tree.text:
        return
    found = next(_profiles(draft), None)
    steps = _counted(draft, found) if found is not None else None
    if found is None or steps is None or {arg.keyword.value for arg in found.call.args if arg.keyword} - _OPTIONS:
        return
    if any(arg.keyword is None for arg in found.call.args):
        return
    made = _made_before(draft, found) if found.entered is not None else []
    options = [_option(draft, arg, found, made or []) for arg in found.call.args]
    if made is None or None in options or not _harmless(draft, found, made):
        return
    _take(draft, found, steps, made)
    given = [code(option) for option in options if option is not None]
    scheduled = "schedule" in arguments(found.call).keyword
    given += [] if scheduled else ["schedule=None"]  # all steps
    value = f"{runtime_alias(draft.tree)}.profilers.PyTorchProfiler({', '.join(given)})"
    draft.options.append(TrainerOption("profiler", value))
    draft.steps_away.append(_ONCE if scheduled else _ALL)


def _profiles(draft: Draft) -> Iterator[_Profile]:
    """The profiles around an epoch's batches, or around the whole run."""
    nest = draft.nest
    for step in nest.epoch_start:
        manager = enters(step)
        if not isinstance(step, Item) or not _is_profile(draft, manager):
            continue
        line = small(step.node)
        target = line.targets[0].target if isinstance(line, cst.Assign) else None
        if target is None or isinstance(target, cst.Name):
            name = step.frame.variable(target.value) if target is not None else None
            yield _Profile(manager, step.frame, name, entered=step)  # type: ignore[arg-type]
    for outer in draft.tree.ancestors(nest.host_loop):
        if isinstance(outer, (cst.FunctionDef, cst.For, cst.While)):
            return
        item = outer.items[0] if isinstance(outer, cst.With) and len(outer.items) == 1 else None
        if item is None or not _is_profile(draft, item.item):
            continue
        named = item.asname.name if item.asname is not None else None
        if named is None or isinstance(named, cst.Name):
            name = nest.host.variable(named.value) if named is not None else None
            yield _Profile(item.item, nest.host, name, around=outer)  # type: ignore[arg-type]


def _is_profile(draft: Draft, node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Call) and draft.tree.qualified(node.func) in _PROFILES


# -- what the script does with it ---------------------------------------------------------------------------------


def _counted(draft: Draft, found: _Profile) -> dict[str, tuple[Step, ...]] | None:
    """The parts of the loops without the calls that tell the profiler of steps; None where more asks for it."""
    nest = draft.nest
    parts = {"epoch_start": nest.epoch_start, "body": nest.body, "epoch_end": nest.epoch_end}
    if found.name is None:
        return parts
    if found.name in draft.read_elsewhere() | usage(draft.around.before).reads:
        return None

    def told(node: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement] | None:
        used = method_call(expression_of(node))
        if used is None or used[1] != "step" or draft.kinds.variable(used[0], frame) is not found.name:
            return None
        draft.fates[small(node)] = _NOTE  # type: ignore[index]
        return []

    new = {part: tuple(Lines(draft, told, _NOTE).without(steps)) for part, steps in parts.items()}
    rest = [step for steps in new.values() for step in steps if step is not found.entered]
    used = usage(rest)
    return None if found.name in used.reads | used.writes else new


def _take(draft: Draft, found: _Profile, steps: Mapping[str, tuple[Step, ...]], made: Sequence[Item]) -> None:
    """Takes the profiler out of the loops, and what it is made of to the Trainer."""
    nest = draft.nest
    start = tuple(step for step in steps["epoch_start"] if step is not found.entered and step not in made)
    draft.nest = without_stack(replace(nest, epoch_start=start, body=steps["body"], epoch_end=steps["epoch_end"]))
    line = found.around or small(found.entered.node)  # type: ignore[union-attr]
    draft.fates[nest.origins.get(line, line)] = _NOTE  # type: ignore[arg-type]
    if found.around is not None:
        draft.removed.add(found.around)
    for item in made:
        for node in walk(item.node):
            if isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
                draft.fates[node] = FateNote(Fate.MOVED, draft.nest.host.name or "the script", "the profiler needs it")
        moved = _in_host(draft, item, {one for other in made for one in usage([other]).writes})
        assert moved is not None
        draft.before_fit.append(code(moved.with_changes(leading_lines=own(moved))).rstrip("\n"))


# -- what it is made of -------------------------------------------------------------------------------------------


def _made_before(draft: Draft, found: _Profile) -> list[Item] | None:
    """The lines of an epoch's start that make the profiler's arguments, and are there for nothing else.

    None when they, or the arguments, need more than what the host knows before the run.
    """
    nest = draft.nest
    start = list(nest.epoch_start[: nest.epoch_start.index(found.entered)])  # type: ignore[arg-type]
    needed = expression_usage(found.call, found.frame).reads
    made: list[Item] = []
    for step in reversed(start):
        written = usage([step]).writes & needed
        if not written:
            continue
        if not isinstance(step, Item) or not _makes(step) or not _may_move(draft, step, written):
            return None
        made.insert(0, step)
        needed = needed | usage([step]).reads
    others = [step for step in draft.whole() if step is not found.entered and step not in made]
    own = usage(made).writes
    used = usage(others)
    if own & (used.reads | used.writes | draft.read_elsewhere()) or needed & used.writes or needed & nest.taken:
        return None
    return None if any(_in_host(draft, item, own) is None for item in made) else made


def _makes(item: Item) -> bool:
    """True for a function, and for `name = ...`; a text over several lines would not stand further in as it does."""
    inner = small(item.node)
    if any(isinstance(node, cst.SimpleString) and "\n" in node.value for node in walk(item.node)):
        return False
    if isinstance(item.node, cst.FunctionDef):
        return not item.node.decorators
    return isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name)


def _may_move(draft: Draft, item: Item, written: set[Variable]) -> bool:
    """True when the host has no such name."""
    if item.frame is draft.nest.host:
        return True
    names = {variable.name for variable in written}
    named = (node for name in names for node in draft.tree.mentions.get(name, ()))
    return all(any(a is item.frame.function for a in draft.tree.ancestors(node)) for node in named)


def _in_host(draft: Draft, item: Item, own: set[Variable]) -> cst.BaseStatement | None:
    """A line in terms of the host's names, and of those that move there with it."""
    return in_host(draft, item.node, item.frame, own)  # type: ignore[arg-type,return-value]


def _option(draft: Draft, arg: cst.Arg, found: _Profile, made: Sequence[Item]) -> cst.Arg | None:
    value = in_host(draft, arg.value, found.frame, usage(made).writes)
    return arg.with_changes(value=value, comma=cst.MaybeSentinel.DEFAULT) if value is not None else None


def _harmless(draft: Draft, found: _Profile, made: Sequence[Item]) -> bool:
    """True when nobody misses the arguments' values of each epoch, and what is called with a trace changes nothing."""

    def known(call: cst.Call) -> bool:
        return (draft.tree.qualified(call.func) or "").startswith(("torch.profiler.", "os.path."))

    values = [small(item.node).value for item in made if not isinstance(item.node, cst.FunctionDef)]  # type: ignore[union-attr]
    handler = arguments(found.call).keyword.get("on_trace_ready")
    given = [arg.value for arg in found.call.args if found.entered is not None and arg.value is not handler]
    if not all(only_computes(part, found.frame, draft.tree, known) for part in (*values, *given)):
        return False
    if handler is None or (isinstance(handler, cst.Call) and known(handler)):
        return True
    function = _function(draft, handler, found.frame) if isinstance(handler, cst.Name) else handler
    if not isinstance(function, (cst.FunctionDef, cst.Lambda)) or function.params.star_kwarg is not None:
        return False
    if isinstance(function, cst.FunctionDef) and (function.decorators or declared_elsewhere(function)):
        return False
    handed = {param.name.value for param in parameters(function)}

    def tells(call: cst.Call) -> bool:
        return known(call) or root_name(call.func) in handed or draft.tree.qualified(call.func) == "os.makedirs"

    fields = [node for node in walk(function.body) if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.Del))]
    plain = all(isinstance(node.target, cst.Name) for node in fields)
    return plain and only_computes(function.body, found.frame, draft.tree, tells)


def _function(draft: Draft, handler: cst.Name, frame: Frame) -> cst.CSTNode | None:
    """The function that a name stands for, where it is bound once."""
    meaning = frame.resolve(handler.value)
    owner = meaning.frame.function or draft.tree.scope if isinstance(meaning, Variable) else None
    bound = [node for node in scope_nodes(owner) if handler.value in bound_by(node)] if owner is not None else []
    return bound[0] if len(bound) == 1 else None
