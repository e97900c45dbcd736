"""What the Trainer does for several processes instead of the script, in the idiomatic style."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from lightify.flow import Item, Step
from lightify.plan.draft import Draft
from lightify.plan.headers import BatchHead
from lightify.plan.nest import Nest
from lightify.plan.types import Computed


def ask_trainer(draft: Draft, head: BatchHead) -> None:
    """What the hooks know of the processes and their share of the data comes from the Trainer."""
    found = draft.distribution
    if found is None or found.processes is None:
        return
    zero = draft.nest.module.variable(found.processes.zero)
    draft.forced[zero] = Computed("self.trainer.is_global_zero")
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


def unfit(draft: Draft, sources: int) -> str:
    """Why the Trainer would not do what the script's processes do; empty when it would.

    Args:
        sources: how many loaders the Trainer gets as they are.
    """
    found = draft.distribution
    if found is None or found.processes is None:
        return ""
    if found.processes.samplers not in (0, sources):
        return "a loader with a DistributedSampler is not run by the Trainer"
    return _asked_too_early(draft, found.processes.zero)


def _asked_too_early(draft: Draft, zero: str) -> str:
    """Why the Trainer can't tell the first process somewhere; empty when it is asked in the run or after it."""
    steps = [step.node for step in draft.whole() if isinstance(step, Item)]
    later = [] if draft.around.repeated else [item.node for item in draft.around.after]
    for node in draft.tree.parents:
        if isinstance(node, cst.Name) and node.value == zero:
            around = set(draft.tree.ancestors(node))
            if not any(draft.stripped.origins.get(one, one) in around for one in (*steps, *later)):
                return "the first process is told apart before there is a Trainer"
    return ""
