"""Which optimizers and schedulers configure_optimizers makes, and which it is handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.analysis.changes import changes_of, may_run
from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.hidden import with_called
from lightify.plan.kinds import Kinds
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.optimization.gradients import call_of
from lightify.plan.optimization.plateaus import monitored
from lightify.plan.optimization.wrappers import wrapped_optimizers
from lightify.plan.trainer.lightning import on_lightning
from lightify.plan.types import (
    Computed,
    FateNote,
    Hook,
    Local,
    Made,
    Scheduled,
)
from lightify.syntax.flow import exits_of, expression_usage, usage
from lightify.syntax.frames import Field, Frame, Item, Usage, Variable
from lightify.syntax.names import free_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, dotted, method_call, method_name, nodes_of, root_name, small, walk


def make_optimizers(
    draft: Draft, hooks: list[Hook], auto: Automatic | None, plain: bool
) -> tuple[list[Made], list[Scheduled], Usage]:
    nest = draft.nest
    cycle = usage([step for hook in hooks for step in hook.steps])
    used = {v for v in cycle.reads if draft.kinds.of(v) is Kind.OPTIMIZER}
    if auto is not None and auto.optimizer is not None:
        used.add(auto.optimizer)
    used -= cycle.writes | {v for v in used if v.frame.is_module and v.name in draft.around.rebound}
    used -= {v for v in used if isinstance(v, Field) and f".{v.name}" in draft.around.rebound}
    used -= {v for v in used if isinstance(v, Field) and v.owner in cycle.writes}
    if draft.analysis.accelerated:
        used.clear()  # what accelerate prepared counts and skips its own steps
    host_reads = usage(draft.around.after).exposed
    schedulers: list[Scheduled] = []
    extra = Usage()
    made: list[Made] = []
    ordered = sorted(used, key=lambda v: build_position(draft, v))
    for variable in ordered:
        if not (variable.frame is nest.host or variable.frame.is_module or "." in repr(variable)):
            continue
        built = construction(variable, draft.tree, draft.nest.host_loop)
        if built is not None and _is_wrapper(built[1], draft.tree):
            continue
        found = built if variable.frame is nest.host else None
        movable = found is not None and may_move(draft, variable, found[0], host_reads)
        scheduler = None
        if found is not None and movable and auto is not None and auto.optimizer is variable:
            scheduler = moved_scheduler(draft, variable, hooks, auto, host_reads, plain)
            movable = scheduler is not None or not feeds_scheduler(draft, variable, found[0])
        elif found is not None and movable:
            scheduler = stepped_scheduler(draft, variable, host_reads) if auto is None else None
            movable = scheduler is not None or not feeds_scheduler(draft, variable, found[0])
        if found is not None and movable:
            made.append(Made(variable, found[0], found[1], True))
            draft.removed.add(found[0])
            draft.fates[found[0]] = FateNote(Fate.MOVED, "configure_optimizers")
            extra += expression_usage(found[1], nest.host)
            draft.forced[variable] = Local(variable.name)
            if scheduler is not None:
                schedulers.append(scheduler)
                statement, value = scheduler.made.statement, scheduler.made.value
                assert statement is not None and value is not None
                draft.removed.add(statement)
                draft.fates[statement] = FateNote(Fate.MOVED, "configure_optimizers")
                extra += expression_usage(value, nest.host)
                draft.forced[scheduler.made.variable] = Local(scheduler.made.variable.name)
        else:
            made.append(Made(variable, None, None, False))
            extra.reads.add(variable)
            given = given_scheduler(draft, variable, hooks, auto, plain) if auto is not None else None
            if given is not None:
                schedulers.append(given)
                extra.reads.add(given.made.variable)
    wrapped = wrapped_optimizers(draft, cycle.reads) if not made else []
    if len(wrapped) == 1 or auto is None:
        made += wrapped
        extra.reads |= {one.variable for one in wrapped}
    for number, one in enumerate(schedulers if auto is None else ()):
        index = f"[{number}]" if len(schedulers) > 1 else ""
        draft.forced[one.made.variable] = Computed(f"self.lr_schedulers(){index}")
    return made, schedulers, extra


def _is_wrapper(call: cst.Call, tree: Tree) -> bool:
    """True for an object of the script's own class that steps an optimizer and is none."""
    definition = tree.classes.get(dotted(call.func) or "")
    if definition is None:
        return False
    return not any((dotted(base.value) or "object") != "object" for base in definition.bases)


def build_position(draft: Draft, variable: Variable) -> tuple[bool, int, tuple[str, str, int]]:
    owner = variable.owner if isinstance(variable, Field) else variable
    found = construction(owner, draft.tree, draft.nest.host_loop)
    span = draft.tree.span(found[0]) if found is not None else None
    return (span is None, span.line if span is not None else 0, variable.order)


def may_move(draft: Draft, variable: Variable, statement: cst.BaseStatement, host_reads: set[Variable]) -> bool:
    """True when only the run uses an optimizer that the host builds in a plain statement."""
    if variable in host_reads or (variable.frame.is_module and variable.name in draft.around.kept_reads):
        return False
    if not variable.frame.is_module and variable.name in draft.around.within_reads:
        return False  # a function of the host that stays, such as the closure of a step
    if statement not in [item.node for item in draft.around.before]:
        return False
    if draft.around.repeated and draft.tree.parents[statement] is not draft.tree.parents[draft.nest.host_loop]:
        return False  # an outer loop repeats the run: the optimizer keeps its state from run to run
    found = construction(variable, draft.tree, draft.nest.host_loop)
    assert found is not None
    needed = expression_usage(found[1], draft.nest.host).reads
    later = usage(_items_after(draft, statement))
    if later.writes & needed or variable in later.writes or variable in needed:
        return False  # also `optimizer = prepare(optimizer)`, which needs what the name held before
    written = usage(draft.whole()).writes
    return not (written & needed) and not _changes_meanwhile(draft, found[1], _items_after(draft, statement))


#: Methods by which a network gets more weights.
_GROWS = ("add_module", "register_module", "register_parameter", "append", "extend", "insert")


def _changes_meanwhile(draft: Draft, made: cst.Call, later: Sequence[Item]) -> bool:
    """True when what follows changes objects that a construction reads: `args.lr /= 2`, `net[2] = layer`."""
    functions = list(
        with_called((one for call in nodes_of(made, cst.Call) for one in run_by(call, draft.tree)), draft.tree)
    )
    names = {name for function in functions for name in free_names(function)}
    fields = {part.attr.value for node in (made, *functions) for part in nodes_of(node, cst.Attribute)}
    objects = expression_usage(made, draft.nest.host).reads
    if any(variable.frame.is_module and variable.name in names for variable in usage(later).writes):
        return True
    return any(
        _changes(node, item.frame, objects, names, fields, draft.kinds) for item in later for node in walk(item.node)
    )


def _changes(
    node: cst.CSTNode, frame: Frame, objects: set[Variable], names: set[str], fields: set[str], kinds: Kinds
) -> bool:
    tree = kinds.tree
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del)):
        target = node.target
        if isinstance(target, cst.Attribute) and target.attr.value in fields:
            return True
        if not isinstance(target, (cst.Attribute, cst.Subscript)) or not isinstance(target.value, cst.Name):
            return False
        grows = isinstance(target, cst.Subscript) or kinds.kind(target.value, frame) is Kind.MODULE
        return grows and frame.resolve(target.value.value) in objects
    used = method_call(node)
    if used is not None and used[1] in _GROWS and frame.resolve(root_name(used[0]) or "_") in objects:
        return True
    if used is not None and used[1] == "requires_grad_" and "requires_grad" in fields:
        return True
    changed = [changes_of(function, tree) for function in may_run(node, tree)] if isinstance(node, cst.Call) else []
    return any(one.fields & fields or one.names & names for one in changed)


def feeds_scheduler(draft: Draft, variable: Variable, statement: cst.BaseStatement) -> bool:
    return any(variable in usage([item]).reads for item in _items_after(draft, statement))


def _items_after(draft: Draft, statement: cst.BaseStatement) -> tuple[Item, ...]:
    """What the host does between a statement and the run."""
    nodes = [item.node for item in draft.around.before]
    return draft.around.before[nodes.index(statement) + 1 :] if statement in nodes else draft.around.before


def moved_scheduler(
    draft: Draft, optimizer: Variable, hooks: Sequence[Hook], auto: Automatic, host_reads: set[Variable], plain: bool
) -> Scheduled | None:
    """The scheduler that the Trainer can step instead of the script, with its interval."""
    scheduler = fed_scheduler(draft, optimizer, host_reads)
    if scheduler is None:
        return None
    return stepped_by_trainer(draft, scheduler, optimizer, hooks, auto, plain)


#: The hooks between the last batch of an epoch and the next epoch, in their order.
_EPOCH_END = ("on_validation_epoch_start", "validation_step", "on_validation_epoch_end", "on_train_epoch_end")


def stepped_by_trainer(
    draft: Draft, scheduler: Made, optimizer: Variable, hooks: Sequence[Hook], auto: Automatic, plain: bool
) -> Scheduled | None:
    """When the Trainer steps a scheduler as the script does: right after the last batch, or by a metric."""
    variable = scheduler.variable
    if auto.scheduler is variable:
        if any(variable in usage([step]).reads for hook in hooks for step in hook.steps):
            return None
        assert isinstance(draft.scheduler_step, Item)
        draft.fates[draft.scheduler_step.node] = FateNote(Fate.REPLACED, "Trainer: steps the scheduler each batch")
        return Scheduled(scheduler, "step")
    uses = [(hook, step) for hook in hooks for step in hook.steps if variable in usage([step]).reads]
    if on_lightning(draft) and any(
        optimizer in usage(hook.steps).reads for hook in hooks if hook.name == "on_train_batch_end"
    ):
        return None  # it would see the next epoch's rate after the last batch
    if len(uses) != 1 or uses[0][0].name not in ("on_train_epoch_end", "on_validation_epoch_start") or not plain:
        return None
    step = uses[0][1]
    call = call_of(step)
    if not isinstance(step, Item) or call is None or method_name(call) != "step":
        return None
    if any(isinstance(s, Item) and any(True for _ in exits_of(s.node)) for s in uses[0][0].steps):
        return None
    monitor = monitored(draft, uses[0][0], step, call, scheduler, optimizer) if call.args else ""
    if call.args and not monitor:
        return None
    steps = [one for name in _EPOCH_END for hook in hooks if hook.name == name for one in hook.steps]
    if not monitor and any(optimizer in usage([one]).reads for one in steps[: steps.index(step)]):
        return None  # it asks for the rate that this epoch had
    draft.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: steps the scheduler each epoch")
    return Scheduled(scheduler, "epoch", monitor)


def given_scheduler(
    draft: Draft, optimizer: Variable, hooks: Sequence[Hook], auto: Automatic, plain: bool
) -> Scheduled | None:
    """The scheduler that the host keeps beside its optimizer, where the Trainer can step it instead of the script."""
    cycle = usage([step for hook in hooks for step in hook.steps])
    known = {auto.scheduler} if auto.scheduler is not None else set()
    found = [v for v in cycle.reads | known if draft.kinds.of(v) is Kind.SCHEDULER]
    built = construction(found[0], draft.tree, draft.nest.host_loop) if len(found) == 1 else None
    if built is None or auto.optimizer is not optimizer or found[0] in cycle.writes:
        return None
    feeds = arguments(built[1]).get(0, "optimizer")
    name = draft.tree.qualified(built[1].func) or ""
    if not name.startswith("torch.optim.lr_scheduler.") or name.endswith("Plateau") or feeds is None:
        return None
    if draft.kinds.variable(feeds, draft.nest.host) is not optimizer:
        return None
    return stepped_by_trainer(draft, Made(found[0], None, None, False), optimizer, hooks, auto, plain)


def stepped_scheduler(draft: Draft, optimizer: Variable, host_reads: set[Variable]) -> Scheduled | None:
    """The scheduler that the hooks step themselves, and ask the Trainer for."""
    scheduler = fed_scheduler(draft, optimizer, host_reads)
    if scheduler is None or scheduler.variable in usage(draft.whole()).writes:
        return None
    for step in draft.whole():
        for node in walk(step.node) if isinstance(step, Item) else ():
            used = method_call(node)
            asked = draft.kinds.variable(used[0], step.frame) if used is not None else None  # type: ignore[union-attr]
            if asked is scheduler.variable and used is not None and used[1] not in ("step", "get_last_lr"):
                return None
    return Scheduled(scheduler, "epoch")


def fed_scheduler(draft: Draft, optimizer: Variable, host_reads: set[Variable]) -> Made | None:
    """The scheduler that is all that the host makes of an optimizer, and that only the run uses."""
    built = construction(optimizer, draft.tree, draft.nest.host_loop)
    assert built is not None
    readers = [item for item in _items_after(draft, built[0]) if optimizer in usage([item]).reads]
    if len(readers) != 1:
        return None
    inner = small(readers[0].node)
    if not isinstance(inner, cst.Assign) or len(inner.targets) != 1:
        return None
    if not isinstance(inner.targets[0].target, cst.Name):
        return None
    variable = draft.nest.host.variable(inner.targets[0].target.value)
    found = construction(variable, draft.tree, draft.nest.host_loop)
    if draft.kinds.of(variable) is not Kind.SCHEDULER or found is None:
        return None
    if not may_move(draft, variable, found[0], host_reads):
        return None
    if any(variable in usage([item]).reads for item in _items_after(draft, found[0])):
        return None
    return Made(variable, found[0], found[1], True)


def drop_scheduler_steps(draft: Draft, hooks: list[Hook], schedulers: Sequence[Scheduled]) -> list[Hook]:
    kept_step = draft.scheduler_step
    result = []
    for hook in hooks:
        steps = [
            s
            for s in hook.steps
            if not (
                isinstance(s, Item)
                and s.node in draft.fates
                and draft.fates[s.node].target.startswith("Trainer: steps the scheduler each epoch")
            )
        ]
        if (
            hook.name == "on_train_batch_end"
            and kept_step is not None
            and not any(one.interval == "step" for one in schedulers)
        ):
            steps.insert(0, kept_step)
        result.append(replace(hook, steps=tuple(steps)))
    return result
