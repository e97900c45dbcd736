"""Samplers that a Trainer would tell the epoch: it calls `set_epoch` on what the script may never call it on."""

from __future__ import annotations

import libcst as cst

from lightify.analysis.callers import callers
from lightify.plan.draft import Draft
from lightify.syntax.frames import Item
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, dotted, method_name, walk


def train_order_changes(draft: Draft) -> bool:
    """True when the training batches would come in another order than the script's."""
    untold = draft.nest.epoch_loop is None and "set_epoch" not in draft.tree.text  # each fit has one pass, of epoch 0
    return bool(_shuffling(draft)) and not untold and not _told(draft)


def evaluation_order_changes(draft: Draft) -> bool:
    """True when the evaluation's batches would, too: the training sampler is the only one that the script tells."""
    made = _shuffling(draft)
    if not made:
        return False
    calls = callers(draft.tree)
    around = [a for a in draft.tree.ancestors(made[0]) if isinstance(a, cst.FunctionDef)]
    return len(made) > 1 or not _told(draft) or any(len(calls.get(function, ())) > 1 for function in around)


def _told(draft: Draft) -> bool:
    """True when each pass starts by telling a sampler the epoch, whatever the Trainer told it before."""
    steps = (step for step in draft.nest.epoch_start if isinstance(step, Item))
    return any(method_name(node) == "set_epoch" for step in steps for node in walk(step.node))


def _shuffling(draft: Draft) -> list[cst.Call]:
    """Constructions of samplers whose order depends on the epoch: torch's where it shuffles, and the file's."""
    tree, found = draft.tree, draft.distribution
    if "ampler" not in tree.text or (found is not None and found.processes is not None):
        return []  # the Trainer makes those that were there
    return [node for node in tree.nodes(cst.Call) if _depends_on_epoch(node, tree)]


def _depends_on_epoch(call: cst.Call, tree: Tree) -> bool:
    name = (tree.qualified(call.func) or "").rpartition(".")[2]
    if name == "DistributedSampler":
        shuffle = arguments(call).get(3, "shuffle")
        return shuffle is None or dotted(shuffle) != "False"
    definition = tree.classes.get(name)
    return definition is not None and any(
        isinstance(part, cst.FunctionDef) and part.name.value == "set_epoch" for part in block(definition.body)
    )
