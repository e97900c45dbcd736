"""Which statement of the loop goes to which hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.condition import guarded
from lightify.loops.epochs import FIRST, EpochHead
from lightify.loops.headers import BatchHead
from lightify.loops.nest import Nest
from lightify.plan.counters import batch_names, epoch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.validation import validation_hooks
from lightify.plan.exits import breaks_epochs, may_return
from lightify.plan.hidden import runs_apart
from lightify.plan.kinds import Kinds
from lightify.plan.logs.last import logged_in_each_batch
from lightify.plan.logs.metrics import log_call
from lightify.plan.logs.summaries import with_summaries
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.optimization.gradients import zeroes_gradients
from lightify.plan.optimization.own_backward import LOSS
from lightify.plan.optimization.weights import LEAVING, calls_out, holds_weights
from lightify.plan.told_again import unpacks_alike
from lightify.plan.touched import Touched, shows
from lightify.plan.types import (
    FateNote,
    Hook,
    Local,
)
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Binding, Field, Item, Step, Variable
from lightify.syntax.query import FieldName, children, code, dotted, method_name, small, target_names


@dataclass(frozen=True)
class _Leaving:
    """Lines by which hooks tell that the script leaves its loops, or ask whether it does.

    Attributes:
        stop: no epoch follows; ask: does one?
        epochs: a break ended the epochs; batches: one ended the batches.
    """

    stop: tuple[str, ...]
    ask: tuple[str, ...]
    epochs: tuple[str, ...]
    batches: tuple[str, ...]

    @property
    def function(self) -> tuple[str, ...]:
        """The function returns."""
        return (*_BATCHES_ENDED, *self.stop)


_BATCHES_ENDED = ("self.pass_ended = True",)


def make_hooks(
    draft: Draft, head: BatchHead, epochs: EpochHead | None, auto: Automatic | None, endable: bool
) -> list[Hook]:
    nest = draft.nest
    batch, batch_idx = draft.generated.variable("batch"), draft.generated.variable("batch_idx")
    draft.forced[batch], draft.forced[batch_idx] = Local("batch"), Local("batch_idx")
    untold = _reads_untold(nest, auto) if auto is not None else frozenset()
    first = batch_names(draft, head, nest.batch_frame, nest.batch_loop, nest.body, draft.after_batches(), untold)
    start = [*(epoch_names(draft, epochs) if epochs is not None else ()), *nest.epoch_start]
    leaving = _Leaving(
        stop=("self.trainer.should_stop = True",) if epochs is not None else (),
        ask=("self.trainer.should_stop = not self.another_epoch()",)
        if epochs is not None and epochs.test is not None
        else (),
        epochs=("self.epochs_ended = True",) if breaks_epochs(draft) else (),
        batches=_BATCHES_ENDED if endable else (),
    )
    hooks = [_epoch_start(nest, start, (*leaving.epochs, *leaving.stop))]
    if epochs is not None and epochs.first is not None and nest.epoch_loop is not None:
        put_by = Binding(FIRST, nest.host, epochs.first, nest.host, nest.epoch_loop)
        hooks.insert(0, Hook("on_train_start", (), (put_by,)))
    if auto is not None:
        hooks.extend(_automatic_step(draft, head, auto, first, leaving))
    else:
        hooks.append(_manual_step(nest, first, leaving))
    hooks.extend(with_summaries(draft, hook) for hook in validation_hooks(draft))
    hooks.append(with_summaries(draft, _epoch_end(nest, leaving)))
    if auto is not None and auto.end:
        hooks.append(Hook("on_train_end", (), auto.end))
    return logged_in_each_batch(draft, hooks)


def _automatic_step(
    draft: Draft, head: BatchHead, auto: Automatic, first: Sequence[Step], leaving: _Leaving
) -> list[Hook]:
    """What runs for each batch, around the Trainer's own step."""
    draft.fates.update(auto.fates)
    kept, rest = split_after(draft, auto)
    late, unless_left = _end_of_batch(draft, auto, rest)
    late = [*_told_again(draft, head, auto, first, late), *late]
    body = [*first, *auto.before, *auto.early, *kept]
    start: tuple[Step, ...] = ()
    if auto.closure is not None:
        draft.fates[auto.closure] = FateNote(Fate.MOVED, "training_step")
        start, body, late = (*first, *auto.start), [*auto.before], [*kept, *late]
    no_loss = ("return None",) if auto.leaves else ()
    return [
        Hook("on_train_batch_start", ("batch", "batch_idx"), start),
        Hook(
            "training_step",
            ("batch", "batch_idx"),
            tuple(body),
            result=(auto.loss, auto.loss_frame),
            on_break=(*leaving.batches, *no_loss),
            on_continue=no_loss,
            on_return=(*leaving.function, *no_loss) if no_loss else (),
            leaves=auto.leaves,
        ),
        *_own_hooks(draft, auto),
        Hook("on_before_optimizer_step", ("optimizer",), auto.middle),
        Hook(
            "on_train_batch_end",
            ("outputs", "batch", "batch_idx"),
            tuple(late),
            first=unless_left,
            on_break=(*leaving.batches, "return"),
            on_continue=("return",),
            on_return=(*leaving.function, "return"),
            leaves=bool(unless_left),
        ),
    ]


def _manual_step(nest: Nest, first: Sequence[Step], leaving: _Leaving) -> Hook:
    """The body of the batch loop as it is."""
    return Hook(
        "training_step",
        ("batch", "batch_idx"),
        (*first, *nest.body),
        on_break=(*_BATCHES_ENDED, "return"),
        on_continue=("return",),
        on_return=(*leaving.function, "return"),
    )


def _epoch_end(nest: Nest, leaving: _Leaving) -> Hook:
    """What runs after the batches."""
    return Hook(
        "on_train_epoch_end",
        (),
        nest.epoch_end,
        first=_already_over(nest, leaving.ask),
        last=leaving.ask,
        on_break=(*leaving.epochs, *leaving.stop, "return"),
        on_continue=(*leaving.ask, "return"),
        on_return=(*leaving.stop, "return"),
    )


def _epoch_start(nest: Nest, steps: Sequence[Step], stop: tuple[str, ...]) -> Hook:
    """What runs before the batches; where it leaves the epoch, there are none."""
    skip = ("self.pass_skipped = True",) if nest.skips else ()
    return Hook(
        "on_train_epoch_start",
        (),
        tuple(steps),
        first=("self.pass_skipped = False",) if nest.skips else (),
        on_break=(*skip, *stop, "return"),
        on_continue=(*skip, "return"),
        on_return=(*skip, *stop, "return"),
    )


def _reads_untold(nest: Nest, auto: Automatic) -> frozenset[Variable]:
    """What `backward` and `on_before_optimizer_step` read, which get no `batch_idx`."""
    taken = (auto.backward,) if auto.backward is not None else ()
    return frozenset(usage((*auto.middle, *taken)).reads)


def _own_hooks(draft: Draft, auto: Automatic) -> list[Hook]:
    """The hooks in which the script zeroes, takes gradients and steps in its own way."""
    taken = {v.name for v in usage((*auto.step, *(auto.zero or ()))).reads}
    epoch = "epoch" if "epoch" not in taken else "current_epoch"
    given = (epoch, "batch_idx", "optimizer" if auto.optimizer or "optimizer" not in taken else "no_optimizer")
    hooks = []
    if auto.zero is not None:
        places = {"optimizer_step": auto.step, "training_step": auto.before}
        by = next((place for place, steps in places.items() if zeroes_gradients(steps)), "")
        left = f"{by} zeroes them" if by else "they add up, as in the loop"
        nothing = () if auto.zero else (f"pass  # {left}",)
        hooks.append(Hook("optimizer_zero_grad", given, auto.zero, first=nothing))
    if auto.backward is not None:
        draft.forced[auto.backward.frame.variable(LOSS)] = Local(LOSS)
        hooks.append(Hook("backward", (LOSS,), (auto.backward,)))
    if auto.step:
        run = ("optimizer_closure()  # training_step, zero_grad and backward",)
        bare = ("optimizer = optimizer.optimizer  # without the Trainer's wrapper",) if auto.itself else ()
        hooks.append(Hook("optimizer_step", (*given, "optimizer_closure"), auto.step, first=(*run, *bare)))
    if auto.leaves:
        run = ("if optimizer_closure() is not None:  # training_step, zero_grad and backward\n    optimizer.step()",)
        hooks.append(Hook("optimizer_step", ("epoch", *given[1:], "optimizer_closure"), (), first=run))
    return hooks


def _end_of_batch(draft: Draft, auto: Automatic, late: Sequence[Step]) -> tuple[list[Step], tuple[str, ...]]:
    """What `on_train_batch_end` does, with what it asks first: a batch without a step has no outputs."""
    if not auto.leaves:
        return list(late), ()
    if not auto.always:
        return list(late), ("if not outputs:\n    return",) if late else ()
    outputs = draft.generated.variable("outputs")
    draft.forced[outputs] = Local("outputs")
    taken = guarded(late, (cst.Name("outputs"), draft.generated), draft.nest.module)
    return [*taken, *auto.always], ()


def _told_again(
    draft: Draft, head: BatchHead, auto: Automatic, first: Sequence[Step], late: Sequence[Step]
) -> list[Step]:
    """The batch under the loop's names for it, where these need not be carried from the step to its end."""
    batch = next((step for step in first if isinstance(step, Binding) and code(step.value) == "batch"), None)
    if batch is None or auto.closure is not None:
        return []
    if not unpacks_alike(batch.target, head.source, draft.nest.batch_frame, draft):
        return []
    names = {batch.target_frame.variable(name) for name in target_names(batch.target)}
    wanted = names & usage(late).exposed
    if wanted & usage(draft.nest.body).writes or any(_is_carried(draft, auto, variable) for variable in names):
        return []
    return [batch] if wanted else []


def _is_carried(draft: Draft, auto: Automatic, variable: Variable) -> bool:
    """True for a name of the batch that is read elsewhere than in the body."""
    nest, around = draft.nest, draft.around
    if isinstance(variable, Field) or (variable.frame.is_module and variable.name in around.kept_reads):
        return True
    later = usage((*nest.epoch_start, *draft.after_batches())).exposed | usage(around.after).exposed
    return variable in later | draft.kept_alive | _reads_untold(nest, auto)


def _already_over(nest: Nest, ask: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves an epoch's end alone where the epoch was left before."""
    lines = []
    if nest.skips == "epoch" and (nest.epoch_end or ask):
        lines.append("\n    ".join(("if self.pass_skipped:", *ask, "return")))
    if may_return(nest.body) and (nest.epoch_end or ask):
        lines.append("if self.returned:\n    return")
    return tuple(lines)


def split_after(draft: Draft, auto: Automatic) -> tuple[list[Step], list[Step]]:
    """What follows the optimizer step: kept in training_step while it can't tell the difference."""
    made_before = usage(auto.before).writes
    kept: list[Step] = []
    rest = list(auto.after)
    if auto.scheduler is not None:
        kept_scheduler = rest.pop(0)
        draft.scheduler_step = kept_scheduler
    while rest and not notices_step(draft, rest[0], made_before, auto):
        kept.append(rest.pop(0))
    logs = [
        step
        for number, step in enumerate(rest)
        if _is_log(step)
        and not usage([step]).reads & usage(rest[:number]).writes
        and not notices_step(draft, step, made_before, auto)
    ]
    return [*kept, *logs], [step for step in rest if step not in logs]


def _is_log(step: Step) -> bool:
    """True for `self.log(...)`, which may as well stand before what it was written behind."""
    return isinstance(step, Item) and log_call(step.node) is not None


def _is_plain(step: Step) -> bool:
    """True for a print, and for what gives values to names alone: no object that a step may read is changed."""
    value = small(step.node) if isinstance(step, Item) else None
    if isinstance(value, (cst.Assign, cst.AugAssign)):
        targets = [one.target for one in value.targets] if isinstance(value, cst.Assign) else [value.target]
        return all(isinstance(one, cst.Name) and not isinstance(one, FieldName) for one in targets)
    return isinstance(value, cst.Expr) and isinstance(value.value, cst.Call) and dotted(value.value.func) == "print"


def notices_step(draft: Draft, step: Step, made_before: set[Variable], auto: Automatic) -> bool:
    """True when a statement may see the updated weights, or may change what backward still needs."""
    nodes = [step.node] if isinstance(step, Item) else [step.value]
    frame = step.frame if isinstance(step, Item) else step.value_frame
    over = (*auto.middle, *auto.step)  # what it would run before
    if (auto.unseen and not _is_plain(step)) or not runs_apart(step, over, draft.tree):
        return True
    if over and _meets(step, over, draft.kinds):
        return True
    own, between = usage([step]), usage(over)
    if isinstance(step, Binding) or own.reads & between.writes:
        return True
    if own.writes & (between.reads | expression_usage(auto.loss, auto.loss_frame).reads):
        return True
    if any(v.frame.is_module and v.name in draft.around.unseen_reads for v in usage([step]).writes):
        return True  # backward and step run functions, too: hooks, schedules
    for node in nodes:
        for part in remaining(draft, node):
            if isinstance(part, (cst.FunctionDef, cst.ClassDef, cst.Del, cst.Try, *LEAVING)):
                return True
            if isinstance(part, cst.AugAssign):
                changed = part.target.value if isinstance(part.target, cst.Name) else "_"
                if frame.resolve(changed) in made_before:
                    return True
            if isinstance(part, (cst.AssignTarget,)) and not isinstance(part.target, (cst.Name, cst.Tuple)):
                return True
            if isinstance(part, cst.Name) and holds_weights(part, frame, draft.kinds):
                return True
            if isinstance(part, cst.Attribute) and part.attr.value == "grad":
                return True
            if isinstance(part, cst.Call) and (calls_out(part, frame, draft.tree) or _ends_step(part)):
                return True
    return False


def _meets(step: Step, others: Sequence[Step], kinds: Kinds) -> bool:
    """True when it matters which runs first: both add to a list, or print."""
    both_show = shows(step, kinds) and any(shows(one, kinds) for one in others)
    return both_show or Touched.by([step], kinds).meets(Touched.by(others, kinds))


def _ends_step(call: cst.Call) -> bool:
    """True for `prof.step()`: whoever is told of a step counts whole ones."""
    return method_name(call) == "step"


def remaining(draft: Draft, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and all below it without statements that are gone."""
    stack = [node]
    while stack:
        current = stack.pop()
        if current in draft.removed:
            continue
        yield current
        stack.extend(children(current))
