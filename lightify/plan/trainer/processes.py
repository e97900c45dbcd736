"""What the Trainer does for several processes instead of the script, in the idiomatic style."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.analysis.callers import callers
from lightify.distribution.questions import exchanges
from lightify.loops.headers import BatchHead
from lightify.loops.nest import Nest
from lightify.plan.draft import Draft
from lightify.plan.types import Computed
from lightify.syntax.frames import Item, Step
from lightify.syntax.query import code


def ask_trainer(draft: Draft, head: BatchHead) -> None:
    """What the hooks know of the processes and their share of the data comes from the Trainer."""
    found = draft.distribution
    if found is None or found.processes is None:
        return
    for attribute, name in found.processes.asked.items():
        draft.forced[draft.nest.module.variable(name)] = Computed(f"self.trainer.{attribute}")
    if found.processes.samplers:
        shared = [(draft.kinds.variable(head.source, draft.nest.batch_frame), "train_dataloader")]
        if draft.evaluation is not None:
            shared.append(
                (draft.kinds.variable(draft.evaluation.head.source, draft.evaluation.frame), "val_dataloaders")
            )
        draft.forced.update({v: Computed(f"self.trainer.{name}") for v, name in shared if v is not None})


def without_gone(nest: Nest, gone: frozenset[cst.CSTNode]) -> Nest:
    """The loops without statements that the Trainer makes needless."""

    def rest(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(step for step in steps if not isinstance(step, Item) or step.node not in gone)

    if not gone:
        return nest
    return replace(nest, epoch_start=rest(nest.epoch_start), body=rest(nest.body), epoch_end=rest(nest.epoch_end))


def number_of_processes(draft: Draft) -> str:
    """The number of processes of one machine, in terms of the host; empty when it is not known there."""
    found, host = draft.distribution, draft.nest.host.function
    if found is None or found.processes is None or found.launch is None:
        return ""
    here = host is not None and host.name.value == found.launch.worker
    return (found.launch.per_machine if here else "") or found.processes.devices


def unfit(draft: Draft, sources: int) -> str:
    """Why the Trainer would not do what the script's processes do; empty when it would.

    Args:
        sources: how many loaders the Trainer gets as they are.
    """
    found = draft.distribution
    if found is None or found.processes is None:
        return ""
    if not number_of_processes(draft):
        return "the number of processes is not known where the training starts"
    if found.processes.samplers not in (0, sources):
        return "a loader with a DistributedSampler is not run by the Trainer"
    return _out_of_the_run(draft, set(found.processes.asked.values()))


def _out_of_the_run(draft: Draft, asked: set[str]) -> str:
    """What needs a Trainer or its group where there is none; empty when all stands in the run, or asks after it."""
    run: set[cst.CSTNode] = {
        draft.stripped.origins.get(step.node, step.node) for step in draft.whole() if isinstance(step, Item)
    }
    later: set[cst.CSTNode] = set() if draft.around.repeated else {item.node for item in draft.around.after}
    calls = callers(draft.tree)

    def stands_in(node: cst.CSTNode, places: set[cst.CSTNode], depth: int = 0) -> bool:
        around = list(draft.tree.ancestors(node))
        if places & set(around):
            return True
        function = next((a for a in around if isinstance(a, cst.FunctionDef)), None)
        sites = calls.get(function, ()) if function is not None and depth < 3 else ()
        return bool(sites) and all(stands_in(site, places, depth + 1) for site in sites)

    for node in draft.tree.nodes(cst.Name, cst.Call):
        if isinstance(node, cst.Name) and node.value in asked:
            around = set(draft.tree.ancestors(node))
            if not (run | later) & around:
                return "processes are counted or told apart where there is no Trainer yet"
        elif isinstance(node, cst.Call) and exchanges(node, draft.tree) and not stands_in(node, run):
            return f"`{code(node)[:60]}` needs the script's own process group"
    return ""
