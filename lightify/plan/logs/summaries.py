"""What an epoch prints at its end is logged, too; the idiomatic style logs it instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.logs.metrics import LOGGED, Metric, labels, log_statement, log_text, logs, printed
from lightify.plan.logs.names import Names
from lightify.plan.logs.progress import metrics_shown, sums_of
from lightify.plan.logs.texts import is_rule
from lightify.plan.types import FateNote, Hook
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step
from lightify.syntax.query import block, small


def with_summaries(draft: Draft, hook: Hook) -> Hook:
    """A hook with logs beside what it prints, or in its place, each under a name of its own."""
    return _Summaries(draft, hook).logged()


class _Summaries:
    """One hook and its prints.

    Attributes:
        asked: what a callback asks for, where the hook logs it already.
        sums: what a validation step goes on with; the Trainer would keep the mean of it.
        gone: the prints that logs stand for.
    """

    def __init__(self, draft: Draft, hook: Hook) -> None:
        self.draft, self.hook = draft, hook
        self.names = Names(draft, hook)
        self.asked = draft.monitored & set(logs(hook.steps))
        self.sums = sums_of(hook.steps) if hook.name == "validation_step" else set()
        self.gone: set[cst.CSTNode] = set()

    def logged(self) -> Hook:
        steps: list[Step] = []
        for step in self.hook.steps:
            if not isinstance(step, Item) or self.draft.nest.epoch_loop is None:
                steps.extend(self.names.renamed(step))
            elif isinstance(step.node, cst.If) and self._asks_for_no_result(step.node, step.frame):
                steps.extend(map(self._within, self.names.renamed(step)))
            else:
                steps.extend(self._summed_up(step))
            self.names.pass_by(step)
        return replace(self.hook, steps=tuple(self._without_rules(steps)))

    def _summed_up(self, step: Item) -> Iterator[Step]:
        """A step with logs of the numbers that it prints."""
        draft, names = self.draft, self.names
        call = printed(step.node, step.frame, draft.kinds)
        found = metrics_shown(draft, call, step.frame) if call is not None else ()
        own = [m for m in found if not names.has(m) and not m.variables & self.sums]
        metrics = tuple(m if m.name in self.asked else names.given(m, own) for m in own)
        stays = draft.settings.style == "faithful" or (call is not None and _tells_more(call, step.frame, metrics))
        if call is None or not metrics or stays:
            yield from names.renamed(step)
        else:
            draft.steps_away.append(LOGGED)
            draft.no_longer_printed(call, step.frame, metrics)
            draft.fates[small(step.node)] = FateNote(Fate.REPLACED, ", ".join(map(log_text, metrics)))  # type: ignore[index]
            self.gone.add(step.node)
        yield from (Item(log_statement(m), m.frame) for m in metrics if m.name not in self.asked)

    def _within(self, step: Step) -> Step:
        """A guarded print with logs beside it, or in its place."""
        if not isinstance(step, Item) or not isinstance(step.node, cst.If):
            return step
        lines = list(block(step.node.body))
        new = [one.node for line in lines for one in self._guarded(Item(line, step.frame)) if isinstance(one, Item)]
        if new == lines:
            return step
        guard = step.node.with_changes(body=step.node.body.with_changes(body=new))
        self.draft.stripped.origins[guard] = self.draft.stripped.origins.get(step.node, step.node)
        return replace(step, node=guard)

    def _guarded(self, step: Item) -> Iterable[Step]:
        nested = isinstance(step.node, cst.If) and self._asks_for_no_result(step.node, step.frame)
        return [self._within(step)] if nested else self._summed_up(step)

    def _asks_for_no_result(self, guard: cst.If, frame: Frame) -> bool:
        """True for `if verbose:` and `if epoch % 10 == 0:`, which ask for nothing that the loops have found out."""
        draft = self.draft
        asked = expression_usage(guard.test, frame).reads
        plain = only_computes(guard.test, frame, draft.tree, lambda _: False)
        return guard.orelse is None and plain and draft.distribution is None and not asked & usage(draft.whole()).writes

    def _without_rules(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps without the lines that set off a summary which is gone."""
        nodes = [step.node if isinstance(step, Item) else None for step in self.hook.steps]
        beside = {
            node
            for node, before, after in zip(nodes, (None, *nodes), (*nodes[1:], None))
            if before in self.gone or after in self.gone
        }
        for step in steps:
            if (
                isinstance(step, Item)
                and step.node in beside
                and is_rule(printed(step.node, step.frame, self.draft.kinds))
            ):
                note = FateNote(Fate.REPLACED, "self.log", "it set off a summary that is logged")
                self.draft.fates[small(step.node)] = note  # type: ignore[index]
            else:
                yield step


def _tells_more(call: cst.Call, frame: Frame, metrics: Iterable[Metric]) -> bool:
    """True for a print that has a word for a measure which no log tells."""
    told = {variable for metric in metrics for variable in metric.variables}
    reads = (expression_usage(value, frame).reads for value in labels(call))
    return any(part and not part & told for part in reads)
