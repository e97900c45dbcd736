"""The test that follows the training becomes `test_step` and `trainer.test`, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.batches import in_host, is_loader
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.evaluation.seen import evaluating_call, holds_loop
from lightify.plan.evaluation.validation import SAME_MODE, evaluation_at, prepared
from lightify.plan.kinds import Kinds
from lightify.plan.types import FateNote, Hook
from lightify.syntax.flow import usage
from lightify.syntax.frames import Item, Step
from lightify.syntax.query import block, code, is_constant, small


@dataclass(frozen=True, eq=False)
class FinalTest:
    """The hooks of a test, and the statement that runs it by what it replaces."""

    hooks: tuple[Hook, ...]
    edits: dict[cst.CSTNode, cst.CSTNode]


def final_test(draft: Draft) -> FinalTest | None:
    """The one evaluation that the host runs after the training, when nothing else depends on how it runs."""
    if draft.settings.style == "faithful" or draft.around.repeated:
        return None
    later = _following(draft)
    window = _window(draft, later)
    if not window:
        return None
    found = evaluation_at(draft, window, final=True)
    if isinstance(found, str) or found.breaks or _shares_a_function(draft, found):
        return None
    start = later.index(window[0])
    rest = later[start + len(window) :]
    if not _may_move(draft, found, later[:start], rest):
        return None
    draft.nest = replace(draft.nest, opened=(*draft.nest.opened, *found.opened))
    draft.kinds = Kinds(draft.nest, draft.analysis, draft.tree)
    steps = (*found.before, *found.body, *found.after, *found.rest)
    draft.look_around(*steps)
    moved = {item.node for item in window}
    draft.around = replace(draft.around, after=tuple(item for item in draft.around.after if item.node not in moved))
    found = _moved(draft, prepared(draft, found), moved)
    return FinalTest(_hooks(draft, found), _edits(draft, found, window))


def _moved(draft: Draft, found: Evaluation, window: Set[cst.CSTNode]) -> Evaluation:
    """The evaluation with statements of its own for those of the window: the host loses these."""

    def own(steps: Iterable[Step]) -> tuple[Step, ...]:
        result: list[Step] = []
        for step in steps:
            if isinstance(step, Item) and step.node in window:
                copied = step.node.with_changes()
                draft.stripped.origins[copied] = step.node
                step = Item(copied, step.frame)
            result.append(step)
        return tuple(result)

    return replace(found, before=own(found.before), after=own(found.after), rest=own(found.rest))


def _following(draft: Draft) -> list[Item]:
    """What stands after the loop in its own block."""
    nodes = block(draft.tree.parents[draft.nest.host_loop])  # type: ignore[arg-type]
    place = next(number for number, node in enumerate(nodes) if node is draft.nest.host_loop)
    return [Item(node, draft.nest.host) for node in nodes[place + 1 :]]


def _window(draft: Draft, later: Sequence[Item]) -> list[Item]:
    """The statements of the only evaluation: what sets it up, its loop, and what shows its results."""
    tests = [
        number
        for number, item in enumerate(later)
        if holds_loop(item, draft.analysis) or evaluating_call(item, draft.nest, draft.analysis, draft.tree) is not None
    ]
    if len(tests) != 1:
        return []
    first = last = tests[0]
    if holds_loop(later[first], draft.analysis):
        while first > 0 and (mode_call(later[first - 1], draft.kinds, "eval") or _is_start(later[first - 1])):
            first -= 1
        made = usage(later[first : last + 1]).writes
        while last + 1 < len(later) and small(later[last + 1].node) and usage([later[last + 1]]).reads & made:
            last += 1
    return list(later[first : last + 1])


def _is_start(item: Item) -> bool:
    inner = small(item.node)
    return isinstance(inner, cst.Assign) and is_constant(inner.value)


def _shares_a_function(draft: Draft, found: Evaluation) -> bool:
    """True when the epochs run the same function: it would become the module's twice."""
    own = {opened.function for opened in draft.nest.opened}
    return any(opened.function in own for opened in found.opened)


def _may_move(draft: Draft, found: Evaluation, between: Sequence[Item], rest: Sequence[Item]) -> bool:
    """True when the module knows before the run what the test needs, and nothing later needs what the test leaves."""
    steps = (*found.before, *found.body, *found.after, *found.rest)
    use, later = usage(steps), usage(draft.around.after)
    names = {variable.name for variable in use.writes if variable.frame.is_module}
    if usage(between).writes & use.exposed or usage(rest).exposed & use.writes or names & draft.around.kept_reads:
        return False
    if any(uses_modules(item, draft.kinds) for item in rest) or not later.reads:
        return False
    loader = in_host(draft, found.head.source, found.frame)
    return loader is not None and is_loader(draft, found.head.source, found.frame)


def _hooks(draft: Draft, found: Evaluation) -> tuple[Hook, ...]:
    ends = (*found.after, *found.rest)
    first = batch_names(draft, found.head, found.frame, found.loop, found.body, ends)
    epochs = draft.evaluation
    evaluates = found.modules or (epochs is not None and epochs.modules and not epochs.trains_again)
    mode = () if evaluates else (Hook("on_test_model_eval", (), (), last=(SAME_MODE,)),)
    return (
        *mode,
        Hook("on_test_epoch_start", (), found.before),
        Hook("test_step", ("batch", "batch_idx"), (*first, *found.body), on_continue=("return",)),
        Hook("on_test_epoch_end", (), ends),
    )


def _edits(draft: Draft, found: Evaluation, window: Sequence[Item]) -> dict[cst.CSTNode, cst.CSTNode]:
    source = in_host(draft, found.head.source, found.frame)
    assert source is not None
    trainer, module = draft.tree.fresh("trainer", "lit_trainer"), draft.tree.fresh("module", "lit_module")
    call = cst.parse_statement(f"{trainer}.test({module}, {code(source)})")
    kept = {small(step.node) for step in (*found.before, *found.after, *found.rest) if isinstance(step, Item)} - {None}
    for item in window:
        if small(item.node) not in kept:
            draft.fates.setdefault(small(item.node) or item.node, FateNote(Fate.REPLACED, "trainer.test"))
        draft.removed.add(item.node)
    first = window[0].node
    draft.removed.discard(first)
    draft.steps_away.append("the test after the training is run by trainer.test")
    return {first: call.with_changes(leading_lines=first.leading_lines)}  # type: ignore[attr-defined]
