"""The strategy that takes the place of the script's own wrapper, and how its processes are made known."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.analysis.calls import class_of
from lightify.distribution import Distribution
from lightify.distribution.launch import Launch
from lightify.distribution.mentions import Holder
from lightify.distribution.wrapping import names_of
from lightify.errors import Refusal
from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.naming import runtime_alias
from lightify.plan.trainer.processes import number_of_processes, unfit
from lightify.plan.types import Distributed, FateNote, Plans, TrainerOption
from lightify.syntax.frames import Field, Item, Variable
from lightify.syntax.names import bound_names, local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, dotted, small, walk

SYNC = "sync_buffers"
_OWN_LAUNCH = (
    "the Trainer, or torchrun, starts the processes and chooses their backend; those started by hand need MASTER_PORT",
    "the Trainer shares out the data, with the samplers that the script made",
    "saved names lose the prefix `module.`",
)


def strategy_options(draft: Draft, single: str) -> list[TrainerOption]:
    """`strategy=`, `devices=` and what else tells the Trainer of the script's processes.

    Args:
        single: the `devices=` of a script that trains in one process.
    """
    found = draft.distribution
    if found is None:
        return [TrainerOption("devices", single)]
    if found.launch is None:
        draft.steps_away.append(
            "DataParallel becomes a process for each device, which runs the script and takes whole batches"
        )
        return [TrainerOption("strategy", '"auto"'), TrainerOption("devices", '"auto"')]
    if found.processes is not None:
        draft.steps_away.extend(_OWN_LAUNCH)
        if draft.logged:
            draft.steps_away.append("an average is each process's own, over its share of the data")
        return [
            TrainerOption("strategy", _given(found, _strategy(found, draft.tree), '"auto"')),
            TrainerOption("devices", _given(found, number_of_processes(draft) or '"auto"', "1")),
            *([] if found.processes.samplers else [TrainerOption("use_distributed_sampler", "False")]),
        ]
    group, here = found.launch.group, _per_machine(found.launch, draft)
    nodes = f"{group}.get_world_size() // {here}" if found.launch.several_machines else "1"
    if not found.launch.spawned:
        nodes = 'int(os.environ.get("GROUP_WORLD_SIZE", 1))'
    options = [
        TrainerOption("strategy", _given(found, _strategy(found, draft.tree), '"auto"')),
        TrainerOption("devices", _given(found, here, "1")),
    ]
    if nodes != "1":
        options.append(TrainerOption("num_nodes", _given(found, nodes, "1")))
    return [*options, TrainerOption("use_distributed_sampler", "False")]


def distributed(draft: Draft, captured: Sequence[tuple[Variable, str]], sources: int) -> Distributed | None:
    """What the strategy needs around it.

    Args:
        sources: how many loaders the Trainer gets as they are.
    """
    found = draft.distribution
    if found is None:
        return None
    launch = found.launch
    own_group = launch is not None and found.processes is None
    return Distributed(
        before_fit=_before_fit(draft, found, launch, captured) if launch is not None else (),
        imports=("import os",) if own_group and "os" not in bound_names(draft.tree.module.body) else (),
        group=launch.group if launch is not None else "",
        syncs_buffers=found.syncs_buffers,
        changed=found.changed,
        problem=_unfit(draft, found, captured) or unfit(draft, sources),
        asked=found.processes.asked if found.processes is not None else {},
    )


def undistributed(plans: Plans | Refusal) -> str:
    """Why the strategy can't take the wrapper's place in all of a script's runs; empty when it can."""
    if isinstance(plans, Refusal):
        return plans.message
    if plans.left:
        return "other loops train, too"
    return next((plan.distributed.problem for plan in plans.runs if plan.distributed is not None), "")


def unwrapped(found: Distribution | None) -> frozenset[cst.CSTNode]:
    """Statements that did nothing but wrap, and their lines."""
    if found is None:
        return frozenset()
    return found.gone | {found.tree.parents[node] for node in found.gone if isinstance(node, cst.BaseSmallStatement)}


def _before_fit(
    draft: Draft, found: Distribution, launch: Launch, captured: Sequence[tuple[Variable, str]]
) -> tuple[str, ...]:
    lines = []
    if launch.spawned and found.processes is None:
        rank, here = f"{launch.group}.get_rank()", _per_machine(launch, draft)
        local = f"{rank} % {here}" if launch.several_machines else rank
        lines.append(f'os.environ["LOCAL_RANK"] = str({local})')
    if found.syncs_buffers:
        names = [v.path for v, _ in captured if _holds(v, draft, found)]
        lines.extend(f"{name}.register_forward_pre_hook({SYNC})" for name in names)
    if found.condition is None or not lines:
        return tuple(lines)
    return (f"if {code(found.condition)}:", *(f"    {line}" for line in lines))


def note_fates(draft: Draft) -> None:
    """The wrapper's statements give way to the strategy."""
    found = draft.distribution
    if found is None:
        return
    draft.removed |= unwrapped(found)
    for statement in found.gone:
        draft.fates[statement] = FateNote(Fate.REPLACED, "Trainer(strategy=...)", _why_gone(statement, found))
        for node in walk(statement):
            if isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
                draft.fates.setdefault(node, draft.fates[statement])
    for test in found.merged:
        for node in walk(test):
            if isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
                draft.fates[node] = FateNote(Fate.REPLACED, "Trainer.fit", "the Trainer starts the processes")


def _why_gone(statement: cst.CSTNode, found: Distribution) -> str:
    """The reason for a statement of the source that is gone."""
    wraps = found.processes is None or (isinstance(statement, cst.Assign) and statement in found.changed)
    return "the Trainer wraps the network" if wraps else "the Trainer starts the processes and shares out the data"


def _unfit(draft: Draft, found: Distribution, captured: Sequence[tuple[Variable, str]]) -> str:
    """Why the strategy would not do what the wrapper did; empty when it does."""
    if not any(_holds(v, draft, found) for v, _ in captured):
        return "the module does not hold the wrapped network"
    others = [v for v, _ in captured if not _holds(v, draft, found) and _may_train(v, draft)]
    if others:
        return f"`{others[0].name}` is no part of the wrapped network"
    launch = found.launch
    if (
        found.processes is None
        and launch is not None
        and launch.several_machines
        and not _per_machine(launch, draft).isidentifier()
    ):
        return "its processes are spawned on several machines"
    if found.syncs_buffers and draft.tree.imports.get("torch") != "torch":
        return "torch is not imported by its name"
    return _condition_out_of_sight(draft, found) or _used_before(draft, found)


def _strategy(found: Distribution, tree: Tree) -> str:
    if not found.arguments:
        return '"ddp"'
    if found.arguments == (("find_unused_parameters", "True"),):
        return '"ddp_find_unused_parameters_true"'
    given = ", ".join(f"{name}={value}" for name, value in found.arguments)
    return f"{runtime_alias(tree)}.strategies.DDPStrategy({given})"


def _per_machine(launch: Launch, draft: Draft) -> str:
    """The number of processes of one machine, in terms of the host."""
    host = draft.nest.host.function
    if launch.per_machine and host is not None and host.name.value == launch.worker:
        return launch.per_machine
    if launch.spawned:
        return f"{launch.group}.get_world_size()"
    return f'int(os.environ.get("LOCAL_WORLD_SIZE", {launch.group}.get_world_size()))'


def _given(found: Distribution, value: str, otherwise: str) -> str:
    return value if found.condition is None else f"{value} if {code(found.condition)} else {otherwise}"


def _may_train(variable: Variable, draft: Draft) -> bool:
    """True for a network, and for what is called like one unless its name says that it is a loss."""
    if draft.kinds.is_loss(variable):
        return False
    kind = draft.kinds.of(variable)
    if kind is not None:
        return kind is Kind.MODULE
    name = variable.name.lower()
    if "loss" in name or "crit" in name or variable.name in draft.tree.functions:
        return False
    return any(
        isinstance(node, cst.Call) and draft.kinds.variable(node.func, step.frame) is variable
        for step in draft.nest.body
        if isinstance(step, Item)
        for node in walk(step.node)
    )


def _holds(variable: Variable, draft: Draft, found: Distribution) -> bool:
    """True for a name of the network that was wrapped."""
    return _holder(variable, draft) in found.holders | found.inside


def _holder(variable: Variable, draft: Draft) -> Holder:
    """A variable as the following of the wrapper knows it."""
    function = variable.frame.function
    if isinstance(variable, Field):
        owner = class_of(function, draft.tree) if function is not None else None
        return owner, f"self.{variable.name}"
    return function, variable.name


def _condition_out_of_sight(draft: Draft, found: Distribution) -> str:
    """Why the condition can't be asked in the host; empty when it can."""
    host = draft.nest.host.function
    if found.condition is None or found.function is host:
        return ""
    for name in names_of(found.condition, draft.tree):
        field = name.startswith("self.") and host is not None and found.function is not None
        if field and class_of(host, draft.tree) is class_of(found.function, draft.tree):  # type: ignore[arg-type]
            continue
        hidden = any(f is not None and name in local_names(f) for f in (host, found.function))
        if "." in name or hidden:
            return f"`{name}`, which decides about the wrapper, is not known where the training starts"
    return ""


def _used_before(draft: Draft, found: Distribution) -> str:
    """Why the network has to be wrapped earlier; empty when nothing runs it between there and the run."""
    for item in draft.around.before:
        if _leaves(item.node) or draft.tree.span(small(item.node) or item.node) < found.place:
            continue
        for call in walk(item.node):
            if not isinstance(call, cst.Call) or (draft.tree.qualified(call.func) or "").startswith("torch."):
                continue
            handed = [] if dotted(call.func) in draft.tree.classes else [arg.value for arg in call.args]
            for node in (call.func, *handed):
                variable = draft.kinds.variable(node, item.frame)
                if variable is not None and _holds(variable, draft, found):
                    return f"`{code(call)[:60]}` runs before the training starts"
    return ""


def _leaves(node: cst.BaseStatement) -> bool:
    """True for `if args.evaluate: ...; return`."""
    return isinstance(node, cst.If) and any(isinstance(part, cst.Return) for part in walk(node.body))
