"""The modes that an evaluation sets itself: the Trainer puts the network into evaluation mode, and back."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lightify.facts import Analysis
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.effects import may_draw
from lightify.plan.evaluation.afterwards import obstacle
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.evaluation.seen import evaluates
from lightify.plan.evaluation.without_gradients import changes_in_place, laid_flat
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote
from lightify.syntax.frames import Item, Step, Variable

EVALUATES = ("Trainer: evaluation mode", "Trainer: back to training mode")


def without_eval_calls(found: Evaluation, nest: Nest, kinds: Kinds, begun: bool) -> Evaluation | str:
    """The evaluation without what puts networks into its mode."""
    modules: dict[Variable, Item] = {}
    fates = dict(found.fates)
    kept: list[Step] = []
    for step in found.before:
        variable = mode_call(step, kinds, "eval")
        if isinstance(step, Item) and variable is not None:
            modules.setdefault(variable, step)
            fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[0])
        elif uses_modules(step, kinds) and not _in_its_mode(step, modules.keys(), found.without, nest, kinds):
            return "what runs before the evaluation may notice its mode"
        elif begun and may_draw(step, kinds.tree):
            return "what runs before the evaluation may draw random numbers, and lightning begins the pass before that"
        else:
            kept.append(step)
    return replace(found, before=tuple(kept), modules=frozenset(modules), modes=tuple(modules.values()), fates=fates)


def _in_its_mode(step: Step, modules: Set[Variable], without: Set[Step], nest: Nest, kinds: Kinds) -> bool:
    """True for what runs networks that are in evaluation mode by then, and no other."""
    return bool(modules) and not obstacle([step], modules, without, nest, kinds)


def without_train_calls(
    found: Evaluation, nest: Nest, kinds: Kinds, analysis: Analysis, final: bool
) -> Evaluation | str:
    """The evaluation without what puts its networks back into training mode; it ends with the last use before that.

    Where the script never puts them back, its own calls set the mode, and no hook of the Trainer sets another.
    """
    again: set[Variable] = set()
    fates = dict(found.fates)
    gone: set[Step] = set()
    later = found.later
    used, trains = 0, len(later)
    for number, step in enumerate(later, 1):
        variable = mode_call(step, kinds, "train")
        if isinstance(step, Item) and variable is not None and variable in found.modules:
            again.add(variable)
            gone.add(step)
            fates[step.node] = FateNote(Fate.REPLACED, EVALUATES[1])
        elif found.modules and uses_modules(step, kinds, asking=True):
            if again and found.modules - again:
                return "one network is in training mode again while another is used in evaluation mode"
            used, trains = (used, min(trains, number - 1)) if again else (number, trains)
        elif step in found.without and changes_in_place(step):
            used = number  # what takes gradients may not be changed where they are on
    start = (*nest.epoch_start, *nest.body[:3])
    starts = {v for step in start for mode in ("train", "eval") if (v := mode_call(step, kinds, mode)) is not None}
    stays = bool(found.modules - again - starts) and not final
    if stays and again:
        return "not every network is put back into training mode"
    for step in found.modes if stays else ():
        del fates[step.node]
    end = min(max(used, len(found.after)), trains)
    if any(isinstance(step, Item) and evaluates(step, nest, analysis, kinds.tree) for step in later[:end]):
        return f"several evaluations end the epoch{found.apart and f', and {found.apart}'}"
    without = set(found.without)
    flat = laid_flat(later[:used], lambda step: True, kinds.tree, fates, without)
    if problem := obstacle(flat, found.modules, without, nest, kinds):
        return problem
    return replace(
        found,
        after=tuple(step for step in (*flat, *later[used:end]) if step not in gone),
        rest=tuple(step for step in later[end:] if step not in gone),
        trains_again=bool(found.modules) and found.modules <= again,
        modes=found.modes if stays else (),
        fates=fates,
        without=frozenset(without),
    )
