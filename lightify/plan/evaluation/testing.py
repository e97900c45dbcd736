"""The test that follows the training becomes `test_step` and `trainer.test`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.batches import batch_variables, in_host
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.networks_used import uses_modules
from lightify.plan.evaluation.parts import Evaluation
from lightify.plan.evaluation.seen import evaluating_call, holds_loop
from lightify.plan.evaluation.validation import SAME_MODE, evaluation_at, is_given, prepared
from lightify.plan.kinds import Kinds
from lightify.plan.trainer.samplers import evaluation_order_changes
from lightify.plan.types import FateNote, Hook
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Step, Variable
from lightify.syntax.names import parameters
from lightify.syntax.query import block, code, is_constant, small, target_names, walk


@dataclass(frozen=True, eq=False)
class FinalTest:
    """The hooks of a test, what they run, and the statement that runs it by what it replaces.

    Attributes:
        modes: what the host does before the test, for the mode that its networks are left in.
        source: what a data module is handed for it.
    """

    hooks: tuple[Hook, ...]
    steps: tuple[Step, ...]
    edits: dict[cst.CSTNode, cst.CSTNode]
    modes: tuple[str, ...]
    source: cst.BaseExpression | None


def final_test(draft: Draft) -> FinalTest | None:
    """The one evaluation that the host runs after the training, when nothing else depends on how it runs."""
    if draft.around.repeated or draft.analysis.accelerated or evaluation_order_changes(draft):
        return None
    later = _following(draft)
    window = _window(draft, later)
    if not window:
        return None
    found = evaluation_at(draft, _with_own_counters(draft, window), final=True)
    if isinstance(found, str) or found.breaks or _shares_a_function(draft, found):
        return None
    between, modes = later[: later.index(window[0])], _modes(draft, found)
    if not _may_move(draft, found, between, window, modes):
        return None
    draft.nest = replace(draft.nest, opened=(*draft.nest.opened, *found.opened))
    draft.kinds = Kinds(draft.nest, draft.analysis, draft.tree)
    steps = found.steps
    draft.look_around(*steps)
    draft.around = replace(draft.around, after=tuple(_without(draft.around.after, window)))
    found = _moved(draft, prepared(draft, found), {item.node for item in window})
    source = in_host(draft, found.head.source, found.frame)
    assert source is not None
    late = usage((*draft.whole(), *between)).writes & expression_usage(source, draft.nest.host).reads
    handed = source if draft.settings.data_module and not late else None
    edits = _edits(draft, found, window, code(source) if handed is None else "")
    return FinalTest(_hooks(draft, found), steps, edits, modes, handed)


def _without(items: Sequence[Item], others: Sequence[Item]) -> list[Item]:
    gone = {item.node for item in others}
    return [item for item in items if item.node not in gone]


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


def _with_own_counters(draft: Draft, window: list[Item]) -> list[Item]:
    """The test with names of its own for what the loops count with: hooks compute that from the number of the batch."""
    use = usage(window)
    names = {variable.name for variable in _counted(draft) & (use.writes - use.exposed)}
    frame = draft.nest.host.with_own(names) if names else draft.nest.host
    return [Item(item.node, frame) for item in window]


def _counted(draft: Draft) -> set[Variable]:
    """What the heads of the loops bind."""
    nest = draft.nest
    loops = ((nest.epoch_loop, nest.host), (nest.batch_loop, nest.batch_frame))
    heads = ((loop.target, frame) for loop, frame in loops if isinstance(loop, cst.For))
    return {frame.variable(name) for target, frame in heads for name in target_names(target)}


def _shares_a_function(draft: Draft, found: Evaluation) -> bool:
    """True when the epochs run the same function: it would become the module's twice."""
    own = {opened.function for opened in draft.nest.opened}
    return any(opened.function in own for opened in found.opened)


def _may_move(
    draft: Draft, found: Evaluation, between: Sequence[Item], window: Sequence[Item], modes: Sequence[str]
) -> bool:
    """True when the module knows before the run what the test needs, and nothing later needs what the test leaves."""
    use, later = usage(found.steps), usage(draft.around.after)
    rest = _without(draft.around.after, (*between, *window))
    batch = batch_variables(found.head, found.frame)
    made = use.writes | usage(window).writes
    if _trains(draft, between) or usage(between).writes & (use.exposed - batch) or use.exposed & _counted(draft):
        return False
    if usage(rest).exposed & made or {v.name for v in made if v.frame.is_module} & draft.around.kept_reads:
        return False
    if any(uses_modules(item, draft.kinds) for item in rest) or not later.reads:
        return False
    left = draft.evaluation is not None and not found.modules  # in the mode that the last epoch leaves it in
    if (left or modes) and any(_may_change_modes(item, draft) for item in between):
        return False
    return is_given(draft, found.turns[0])


def _may_change_modes(item: Item, draft: Draft) -> bool:
    modes = ("train", "eval")
    return uses_modules(item, draft.kinds) or any(mode_call(item, draft.kinds, one) is not None for one in modes)


def _trains(draft: Draft, between: Sequence[Item]) -> bool:
    """True when another run follows: the test is that one's."""
    backwards = {fact.call for fact in draft.analysis.backwards}
    return any(node in backwards for item in between for node in walk(item.node))


def _modes(draft: Draft, found: Evaluation) -> tuple[str, ...]:
    """The Trainer puts networks back into the mode that it finds; whoever calls the host may see the script's."""
    if found.trains_again or draft.nest.host.is_module:
        return ()
    host = draft.nest.host.function
    given = {parameter.name.value for parameter in parameters(host)} if host is not None else set()
    seen = [v for v in found.modules if isinstance(v, Field) or v.frame.is_module or v.name in given]
    return tuple(f"{variable.path}.eval()" for variable in sorted(seen, key=lambda v: v.order))


def _hooks(draft: Draft, found: Evaluation) -> tuple[Hook, ...]:
    first = batch_names(draft, found.head, found.frame, found.loop, found.body, found.later)
    epochs = draft.evaluation
    evaluates = found.modules or (epochs is not None and epochs.modules and not epochs.trains_again)
    mode = () if evaluates else (Hook("on_test_model_eval", (), (), last=(SAME_MODE,)),)
    return (
        *mode,
        Hook("on_test_epoch_start", (), found.before),
        Hook("test_step", ("batch", "batch_idx"), (*first, *found.body), on_continue=("return",)),
        Hook("on_test_epoch_end", (), found.later),
    )


def _edits(draft: Draft, found: Evaluation, window: Sequence[Item], source: str) -> dict[cst.CSTNode, cst.CSTNode]:
    """The statement that runs the test in the place of the first of its own.

    Args:
        source: what it goes over; empty: the data module knows.
    """
    trainer, module = draft.tree.fresh("trainer", "lit_trainer"), draft.tree.fresh("module", "lit_module")
    told = ", verbose=False" if draft.settings.style == "faithful" else ""  # the script's own prints are there
    given = source or f"datamodule={trainer}.datamodule"
    call = cst.parse_statement(f"{trainer}.test({module}, {given}{told})")
    kept = {small(step.node) for step in (*found.before, *found.later) if isinstance(step, Item)} - {None}
    for item in window:
        if small(item.node) not in kept:
            draft.fates.setdefault(small(item.node) or item.node, FateNote(Fate.REPLACED, "trainer.test"))
        draft.removed.add(item.node)
    first = window[0].node
    draft.removed.discard(first)
    return {first: call.with_changes(leading_lines=first.leading_lines)}  # type: ignore[attr-defined]
