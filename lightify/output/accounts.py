"""Tree + Plan -> Ledger: one fate for each statement of the source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

import libcst as cst

from lightify.ledger import Fate, Ledger, LedgerEntry
from lightify.plan.adoption import concerned, moved_from_elsewhere
from lightify.plan.types import FateNote, Plan, Plans
from lightify.syntax.frames import Item
from lightify.syntax.parse import Tree
from lightify.syntax.query import small, walk

_Statement = (cst.BaseSmallStatement, cst.BaseCompoundStatement)


def account(tree: Tree, plans: Plans, dropped: frozenset[cst.CSTNode] = frozenset()) -> Ledger:
    """Reads from the plans what becomes of each statement; what they do not mention is kept."""
    fates: dict[cst.CSTNode, FateNote] = {}
    for plan in plans.runs:
        _account_run(tree, plan, fates)
    for node in dropped:
        _note(fates, node, FateNote(Fate.DROPPED, "", "nothing uses it any more"))
    elsewhere = moved_from_elsewhere(plans, tree)
    for function in elsewhere:
        if function not in plans.adopted:
            _note(fates, function, FateNote(Fate.KEPT, "", "it stays in its file"), below=False)
    for function in plans.removed:
        if isinstance(function, cst.FunctionDef):
            _note(fates, function, FateNote(Fate.DROPPED, "", "its body moved to the hooks"))
    for plan in plans.runs:
        for step in (*plan.nest.epoch_start, *plan.nest.body, *plan.nest.epoch_end):
            if isinstance(step, Item):
                _note(fates, step.node, FateNote(Fate.DROPPED, "", "not needed by the Trainer"), plan.origins)
    for definition in plans.adopted:
        _note(fates, definition, FateNote(Fate.MOVED, PurePath(tree.source.path).name))
    entries = []
    for node in concerned(elsewhere, tree):
        fate, span = fates.get(node) or FateNote(Fate.KEPT), tree.spans[node]
        entries.append(LedgerEntry(span, tree.line(span)[:200], fate.fate, fate.target, fate.reason))
    return Ledger(tuple(sorted(entries, key=lambda entry: (entry.span.path != tree.source.path, entry.span))))


def _account_run(tree: Tree, plan: Plan, fates: dict[cst.CSTNode, FateNote]) -> None:
    """Notes what a run does with its statements; one without a fate of its own has that of the nearest around it."""
    whole: list[tuple[cst.CSTNode, FateNote]] = []

    def note(node: cst.CSTNode, fate: FateNote, *, below: bool = True) -> None:
        _note(fates, node, fate, plan.origins, below=False)
        if below:
            whole.append((node, fate))

    for node, fate in plan.fates.items():
        note(node, fate, below=fate.fate is not Fate.KEPT and not isinstance(node, cst.FunctionDef))
    nest = plan.nest
    for loop in filter(None, (nest.epoch_loop, nest.batch_loop)):
        note(loop, FateNote(Fate.REPLACED, "Trainer.fit", "the Trainer runs the loop"), below=False)
    for hook in plan.hooks:
        for step in hook.steps:
            if isinstance(step, Item):
                note(step.node, FateNote(Fate.MOVED, hook.name))
            elif step.origin is not nest.host_loop:
                note(step.origin, FateNote(Fate.MOVED, hook.name), below=False)
    for opened in nest.opened:
        statement = next(a for a in tree.ancestors(opened.call) if isinstance(a, _Statement))
        reason = f"{opened.function.name.value} runs in the hooks"
        note(statement, FateNote(Fate.REPLACED, "hooks", reason), below=False)
    for node in plan.host_edits:
        note(node, FateNote(Fate.REPLACED, "Trainer(accelerator=...)", "the Trainer moves the network"))

    def depth(noted: tuple[cst.CSTNode, FateNote]) -> int:
        return sum(1 for _ in tree.ancestors(_source_of(noted[0], plan.origins)))

    for node, fate in sorted(whole, key=depth, reverse=True):
        _note(fates, node, fate, plan.origins)
    for node in plan.distributed.changed if plan.distributed is not None else ():
        note(node, FateNote(Fate.REPLACED, "Trainer(strategy=...)", "the network is no longer wrapped"), below=False)


_NO_ORIGINS: Mapping[cst.CSTNode, cst.CSTNode] = {}


def _note(
    fates: dict[cst.CSTNode, FateNote],
    node: cst.CSTNode,
    fate: FateNote,
    origins: Mapping[cst.CSTNode, cst.CSTNode] = _NO_ORIGINS,
    *,
    below: bool = True,
) -> None:
    """Notes a statement's fate, and that of those in it, where none is known yet."""
    for part in walk(node) if below else (small(node) or node,):
        if isinstance(part, _Statement):
            fates.setdefault(_source_of(part, origins), fate)


def _source_of(node: cst.CSTNode, origins: Mapping[cst.CSTNode, cst.CSTNode]) -> cst.CSTNode:
    """The statement of the source that one made anew, perhaps more than once, comes from."""
    while node in origins:
        node = origins[node]
    return node
