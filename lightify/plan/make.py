"""Analysis + Settings -> Plan: which statement goes to which hook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import libcst as cst

from lightify.errors import Refusal
from lightify.facts import Analysis, Kind
from lightify.flow import (
    Binding, Expression, Field, Frame, Item, Step, Usage, Variable, bound_names, constant, expression_usage, usage,
)
from lightify.ledger import Fate
from lightify.parse import Tree
from lightify.plan.devices import Stripped, host_moves, moved_parts, strip_moves
from lightify.plan.evaluation import Evaluation, find_evaluation, may_draw, mode_call, uses_modules
from lightify.plan.headers import BatchHead, EpochHead, batch_head, epoch_head
from lightify.plan.homes import Homes, assign_homes, hook_usage
from lightify.plan.kinds import Kinds
from lightify.plan.mode import Automatic, automatic, calls_out, construction, exits_of, scope_nodes
from lightify.plan.nest import Nest, find_nest
from lightify.plan.metrics import log_statement, metrics_of, printed
from lightify.plan.surroundings import Surroundings, interrupt_handler, surroundings
from lightify.plan.types import (
    Attribute, Computed, FateNote, Home, Hook, Local, Made, Plan, TrainerOption,
)
from lightify.query import block, children, code, dotted, is_constant, method_call, small, target_names, walk
from lightify.recognisers.modules import is_module_class
from lightify.settings import Settings
from lightify.substitute import substitute


def make_plan(tree: Tree, analysis: Analysis, settings: Settings) -> Plan | Refusal:
    """Decides everything, or refuses."""
    if analysis.foreign:
        found = analysis.foreign[0]
        return Refusal(found.code, found.reason, tree.span(found.node), found.hint)
    nest = find_nest(tree, analysis)
    if isinstance(nest, Refusal):
        return nest
    plan = _Planner(tree, analysis, settings, nest).plan()
    if isinstance(plan, _Flatten):
        nest = find_nest(tree, analysis, flat=plan.reason)
        if isinstance(nest, Refusal):
            return nest
        plan = _Planner(tree, analysis, settings, nest).plan()
    if isinstance(plan, _Flatten):
        return Refusal("LF220", plan.reason, plan.span or tree.span(nest.host_loop), plan.hint)
    return plan


@dataclass(frozen=True)
class _Flatten:
    """Why the loops can't be taken apart this way."""

    reason: str
    span: object = None
    hint: str = ""


@dataclass
class _Planner:
    tree: Tree
    analysis: Analysis
    settings: Settings
    nest: Nest
    fates: dict[cst.CSTNode, FateNote] = field(default_factory=dict)
    removed: set[cst.CSTNode] = field(default_factory=set)
    forced: dict[Variable, Home] = field(default_factory=dict)
    options: list[TrainerOption] = field(default_factory=list)

    def plan(self) -> Plan | _Flatten:
        nest, tree = self.nest, self.tree
        self.kinds = Kinds(nest, self.analysis, tree)
        self.around = surroundings(nest, tree)
        self.generated = Frame("hook", None, None)
        head = batch_head(nest.batch_loop)
        if isinstance(head, str):
            return _Flatten(head)
        epochs = epoch_head(nest.epoch_loop) if nest.epoch_loop is not None else None
        if isinstance(epochs, str):
            return _Flatten(epochs)
        problem = self._unsupported()
        if problem is not None:
            return problem
        nest = self.nest = self._idiom(head)
        auto = automatic(nest, self.kinds, tree)
        reasons = list(nest.notes)
        if isinstance(auto, str):
            reasons.append(auto)
        endable = self._breaks(head)
        source = self._source(head)
        plain = source is not None and not self.lazy and not endable
        self.evaluation = self._evaluation(plain)
        if self.evaluation is not None:
            # what the evaluation needs from its own function is opened, too
            self.nest = nest = replace(
                nest, opened=(*nest.opened, *self.evaluation.opened), epoch_end=self.evaluation.rest
            )
            self.kinds = Kinds(nest, self.analysis, tree)
            self.around = surroundings(nest, tree, self.evaluation_steps())
        hooks = self._hooks(head, epochs, auto if isinstance(auto, Automatic) else None, endable)
        hooks = [self._without_dead_values(hook, hooks) for hook in hooks]
        if source is None and head.while_test is None:
            hooks.insert(1, Hook("train_batches", (), (), result=(head.source, nest.batch_frame)))
        optimizers, schedulers, extra = self._optimizers(hooks, auto if isinstance(auto, Automatic) else None, plain)
        hooks = self._drop_scheduler_steps(hooks, schedulers)
        device = self._device_variable()
        if device is not None and device not in usage([s for h in hooks for s in h.steps]).writes and "device" not in (
            device.name if device.frame.is_module and device.name in self.around.kept_reads else ""
        ):
            self.forced[device] = Computed("self.device")
        homes = assign_homes(nest, hooks, self.forced, self.around, self.kinds, tree, extra)
        again, host_edits = self._host_moves(homes)
        captured, initial = self._initial(homes)
        self._trainer_options(epochs, auto if isinstance(auto, Automatic) else None)
        return Plan(
            nest=nest,
            mode="automatic" if isinstance(auto, Automatic) else "manual",
            reasons=tuple(reasons),
            hooks=tuple(hook for hook in hooks if hook.steps or hook.first or hook.last or hook.result),
            homes=homes.of,
            captured=captured,
            initial=initial,
            results=homes.results,
            optimizers=tuple(optimizers),
            schedulers=tuple(schedulers),
            options=tuple(self.options),
            train_source=source,
            fates=self.fates,
            removed=frozenset(self.removed | self.around.removed),
            class_name=self._class_name(),
            endable=endable,
            steps_while=head.while_test,
            lazy=self.lazy,
            sized_lazily=plain and self.settings.runtime == "lightning" and self._start_draws(),
            interruptible=self._interruptible(),
            validation_source=self._in_host(self.evaluation.head.source, self.evaluation.frame) if self.evaluation else None,
            after_fit=(*again, *self._modes_after_fit()),
            keeps_batch=self.keeps_batch,
            host_edits=host_edits,
            origins=self.stripped.origins,
            departures=self._departures(hooks),
        )

    # -- validation ---------------------------------------------------------------------------------------------

    def _evaluation(self, plain: bool) -> Evaluation | None:
        """The evaluation that the Trainer can run, if there is one.

        It runs one when it knows the last batch: not when a pass is made anew or may end early.
        """
        if not plain:
            return None
        found = find_evaluation(self.nest, self.kinds, self.analysis, self.tree)
        if isinstance(found, str):
            self.inline_reason = found
            return None
        nest = replace(self.nest, opened=(*self.nest.opened, *found.opened))
        self.kinds = Kinds(nest, self.analysis, self.tree)
        written = usage((*nest.epoch_start, *nest.body, *found.before, *found.body, *found.after, *found.rest)).writes
        reads = expression_usage(found.head.source, found.frame).reads
        known = self._is_loader(found.head.source, found.frame)
        if reads & written or not known or self._in_host(found.head.source, found.frame) is None:
            return None
        batch = self._batch_variables(found.head, found.frame)
        if not self.keeps_batch and self._strippable(found.body, batch):
            body = strip_moves(found.body, batch, self.kinds, self.stripped)
            self.fates.update(self.stripped.fates)
            found = replace(found, body=body)
        self.fates.update(found.fates)
        self.fates[found.loop] = FateNote(Fate.REPLACED, "Trainer.fit", "the Trainer runs the validation")
        return found

    def evaluation_steps(self) -> tuple[Step, ...]:
        found = self.evaluation
        return (*found.before, *found.body, *found.after) if found is not None else ()

    def _validation_hooks(self) -> list[Hook]:
        found = self.evaluation
        if found is None:
            return []
        first = self._batch_names(found.head, found.frame, found.loop, found.body, (*found.after, *found.rest))
        hooks = [
            Hook("on_validation_epoch_start", (), found.before),
            Hook("validation_step", ("batch", "batch_idx"), (*first, *found.body), on_continue=("return",)),
            Hook("on_validation_epoch_end", (), found.after),
        ]
        if not found.modules:
            hooks.insert(0, Hook("on_validation_model_eval", (), (), last=("pass",)))
        return hooks

    # -- what can't be taken apart ------------------------------------------------------------------------------

    def _unsupported(self) -> _Flatten | None:
        steps = (*self.nest.epoch_start, *self.nest.body, *self.nest.epoch_end)
        for step in steps:
            if not isinstance(step, Item):
                continue
            for node in walk(step.node):
                if isinstance(node, (cst.Yield, cst.Await)):
                    return _Flatten("the loop yields or awaits", self.tree.span(node))
            for leaving in exits_of(step.node):
                if isinstance(leaving, cst.Return):
                    return _Flatten(
                        "the function returns from inside the training loop", self.tree.span(leaving),
                        "leave the loop with break and return after it",
                    )
        for step in self.nest.epoch_start:
            if isinstance(step, Item) and any(True for _ in exits_of(step.node)):
                return _Flatten("an epoch may be left before its batches")
        return None

    # -- devices and prints -------------------------------------------------------------------------------------

    keeps_batch: bool = False
    stripped: Stripped = field(default_factory=Stripped)

    def _idiom(self, head: BatchHead) -> Nest:
        """Takes moves between devices and progress prints out of the batch loop."""
        nest = self.nest
        batch = self._batch_variables(head, nest.batch_frame)
        body = nest.body
        if self._strippable(body, batch):
            body = strip_moves(body, batch, self.kinds, self.stripped)
            self.fates.update(self.stripped.fates)
        elif batch and self._uses_devices():
            self.keeps_batch = True
        body = self._logged(body, head, batch)
        return replace(nest, body=body)

    def _batch_variables(self, head: BatchHead, frame: Frame) -> set[Variable]:
        if head.element is None:
            return set()
        return {frame.variable(name) for name in target_names(head.element) if name != "_"}

    def _strippable(self, body: Sequence[Step], batch: set[Variable]) -> bool:
        """True when the script moves everything that it uses of a batch, so that the Trainer may."""
        moved = moved_parts(body, batch, self.kinds)
        used = batch & usage(body).reads
        return bool(moved) and moved == used

    def _uses_devices(self) -> bool:
        text = self.tree.source.text
        return any(word in text for word in (".cuda", ".to(", "device"))

    def _logged(self, body: Sequence[Step], head: BatchHead, batch: set[Variable]) -> tuple[Step, ...]:
        """Progress prints become `self.log`, in their place."""
        index = self.nest.batch_frame.variable(head.index.value) if head.index is not None else None
        written = usage(body).writes - batch
        result: list[Step] = []
        for step in body:
            if isinstance(step, Item):
                sure = usage(result).must or set()
                node = self._log_statement(step, index, written, sure)
                result.extend(Item(new, step.frame) for new in node)
            else:
                result.append(step)
        return tuple(result)

    def _log_statement(self, step: Item, index: Variable | None, written: set[Variable], sure: set[Variable]) -> list:
        """The statements that take a step's place: itself, logs, or itself with logs for prints."""
        guarded = isinstance(step.node, cst.If) and step.node.orelse is None and constant(step.node.test, step.frame) is None
        inside = list(block(step.node.body)) if guarded else [step.node]  # type: ignore[union-attr]
        new: list[cst.BaseStatement] = []
        logged = False
        for node in inside:
            call = printed(node, self.tree)
            metrics = metrics_of(call, step.frame, self.kinds) if call is not None else ()
            if not metrics or not self._shows_only(call, step.frame, metrics, written, index):
                new.append(node)
                continue
            logged = True
            self.fates[small(node)] = FateNote(  # type: ignore[index]
                Fate.REPLACED, ", ".join(f'self.log("{m.name}")' for m in metrics), "the progress bar shows it"
            )
            new.extend(log_statement(m) for m in metrics)
        if not logged:
            return [step.node]
        only_logs = all(node not in inside for node in new)
        values = {m for node in new for m in usage([Item(node, step.frame)]).reads if m in written}
        if not guarded or (only_logs and values <= sure):
            if guarded:
                self.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: shows progress on a clock")
            return new
        changed = step.node.with_changes(body=step.node.body.with_changes(body=new))  # type: ignore[union-attr]
        self.stripped.origins[changed] = step.node
        return [changed]

    def _shows_only(self, call, frame: Frame, metrics, written: set[Variable], index: Variable | None) -> bool:
        """True when a print shows nothing that was computed in the body but the metrics and the batch's number."""
        if self.settings.style == "idiomatic":
            return True
        shown = {m.variable for m in metrics}
        return not (expression_usage(call, frame).reads & written) - shown - {index}

    def _host_moves(self, homes: Homes):
        """Takes `model.to(device)` out of the host; says again after fit what is needed there."""
        handed = {v for v, _ in homes.captured if self.kinds.of(v) is Kind.MODULE}
        later = {v for v in handed if any(v in usage([i]).reads and uses_modules(i, self.kinds) for i in self.around.after)}
        ran = [item for item in self.around.before if self._runs_network(item, handed)]
        if ran or self._device_text() is None:
            return (), {}
        moves = host_moves(self.around.before, later, handed, self.kinds, self.tree)
        for node in moves.removed:
            self.removed.add(node)
            self.fates[node] = FateNote(Fate.REPLACED, "Trainer(accelerator=...)", "the Trainer moves the network")
        return moves.again, moves.edits

    def _runs_network(self, item: Item, handed: set[Variable]) -> bool:
        """True when a statement before the run calls a network or hands it on to unknown code."""
        for node in walk(item.node):
            if isinstance(node, cst.Call):
                if isinstance(node.func, cst.Name) and self.kinds.variable(node.func, item.frame) in handed:
                    return True
                full = self.tree.qualified(node.func) or ""
                if any(self.kinds.variable(a.value, item.frame) in handed for a in node.args) and full not in ("print", "len"):
                    return True
        return False

    # -- leaving the batch loop early ---------------------------------------------------------------------------

    def _breaks(self, head: BatchHead) -> bool:
        """True when the source of batches must be ended from inside the step."""
        body = self.nest.body
        found = [
            (number, leaving) for number, step in enumerate(body) if isinstance(step, Item)
            for leaving in exits_of(step.node) if isinstance(leaving, cst.Break)
        ]
        if not found:
            return False
        if len(found) == 1 and self.nest.epoch_loop is not None and self._limit(found[0][0], head):
            return False
        return True

    def _limit(self, number: int, head: BatchHead) -> bool:
        """`if dry_run: break` at the end of the first batch becomes limit_train_batches."""
        if number != len(self.nest.body) - 1:
            return False
        step = self.nest.body[number]
        assert isinstance(step, Item)
        node = step.node
        if isinstance(node, cst.If) and node.orelse is None and self._is_first_batch(node.test, head):
            inner = block(node.body)
            node = inner[-1]
            if any(True for statement in inner[:-1] for _ in exits_of(statement)):
                return False
        if not (isinstance(node, cst.If) and node.orelse is None and len(block(node.body)) == 1
                and isinstance(small(block(node.body)[0]), cst.Break)):
            return False
        written = usage((*self.nest.epoch_start, *self.nest.body, *self.nest.epoch_end)).writes
        used = expression_usage(node.test, step.frame).reads
        if used & written or not self._in_host(node.test, step.frame) or any(isinstance(n, cst.Call) for n in walk(node.test)):
            return False
        if head.index is not None and step.frame.resolve(head.index.value) in used:
            return False
        if any(v.name in bound_names([self.nest.batch_loop]) and v.frame is step.frame for v in used):
            return False
        self.removed.add(node)
        for part in (node, *block(node.body)):
            self.fates[part if part is node else small(part)] = FateNote(  # type: ignore[index]
                Fate.REPLACED, "Trainer(limit_train_batches=...)", "ends each pass after its first batch"
            )
        limit = cst.IfExp(test=node.test, body=cst.Integer("1"), orelse=cst.Name("None"))
        self.options.append(TrainerOption("limit_train_batches", limit, step.frame))
        return True

    def _is_first_batch(self, test: cst.BaseExpression, head: BatchHead) -> bool:
        """`i % k == 0`, true for batch 0 whatever k is."""
        if not (isinstance(test, cst.Comparison) and isinstance(test.left, cst.BinaryOperation)
                and isinstance(test.left.operator, cst.Modulo) and head.index is not None and head.start is None):
            return False
        left, target = test.left.left, test.comparisons[0]
        return (
            isinstance(left, cst.Name) and left.value == head.index.value and len(test.comparisons) == 1
            and isinstance(target.operator, cst.Equal) and isinstance(target.comparator, cst.Integer)
            and target.comparator.value == "0"
        )

    # -- hooks --------------------------------------------------------------------------------------------------

    def _hooks(self, head: BatchHead, epochs: EpochHead | None, auto: Automatic | None, endable: bool) -> list[Hook]:
        nest = self.nest
        batch, batch_idx = self.generated.variable("batch"), self.generated.variable("batch_idx")
        self.forced[batch], self.forced[batch_idx] = Local("batch"), Local("batch_idx")
        first = self._batch_names(head, nest.batch_frame, nest.batch_loop, nest.body, nest.epoch_end)
        start: list[Step] = []
        if epochs is not None:
            start.extend(self._epoch_names(epochs))
        start.extend(nest.epoch_start)
        if auto is not None:
            self.fates.update(auto.fates)
            kept, late = self._split_after(auto)
            body: list[Step] = [*first, *auto.before, *auto.early, *kept]
            leave = ("self.pass_ended = True",) if endable else ()
            if auto.closure is not None:
                self.fates[auto.closure] = FateNote(Fate.MOVED, "training_step")
                body, kept, late = [*auto.before], [], [*kept, *late]
            hooks = [
                Hook("on_train_epoch_start", (), tuple(start)),
                Hook("on_train_batch_start", ("batch", "batch_idx"), (*first, *auto.start) if auto.closure else ()),
                Hook("training_step", ("batch", "batch_idx"), tuple(body), result=(auto.loss, auto.loss_frame),
                     on_break=leave, on_continue=()),
                Hook("on_before_optimizer_step", ("optimizer",), auto.middle),
                Hook("on_train_batch_end", ("outputs", "batch", "batch_idx"), tuple(late), on_break=(*leave, "return"),
                     on_continue=("return",)),
            ]
        else:
            hooks = [
                Hook("on_train_epoch_start", (), tuple(start)),
                Hook("training_step", ("batch", "batch_idx"), (*first, *nest.body),
                     on_break=("self.pass_ended = True", "return"), on_continue=("return",)),
            ]
        hooks.extend(self._with_summaries(hook) for hook in self._validation_hooks())
        hooks.append(self._with_summaries(
            Hook("on_train_epoch_end", (), nest.epoch_end, on_break=("self.trainer.should_stop = True", "return"),
                 on_continue=("return",))
        ))
        return hooks

    def _with_summaries(self, hook: Hook) -> Hook:
        """An epoch's printed numbers are logged, too; the idiomatic style logs them instead."""
        steps: list[Step] = []
        names: set[str] = set()
        for step in hook.steps:
            call = printed(step.node, self.tree) if isinstance(step, Item) and self.nest.epoch_loop is not None else None
            metrics = metrics_of(call, step.frame, self.kinds) if call is not None and isinstance(step, Item) else ()
            metrics = tuple(m for m in metrics if m.name not in names)
            if not (metrics and self.settings.style == "idiomatic"):
                steps.append(step)
            elif isinstance(step, Item):
                self.fates[small(step.node)] = FateNote(Fate.REPLACED, ", ".join(f'self.log("{m.name}")' for m in metrics))  # type: ignore[index]
            names |= {m.name for m in metrics}
            steps.extend(Item(log_statement(m), m.variable.frame) for m in metrics)
        return replace(hook, steps=tuple(steps))

    def _without_dead_values(self, hook: Hook, hooks: Sequence[Hook]) -> Hook:
        """Drops assignments that nothing reads any more, when computing them does nothing else."""
        steps = list(hook.steps)
        others = Usage()
        for other in hooks:
            if other is not hook:
                others += hook_usage(other)
        after = usage(self.around.after).reads
        changed = True
        while changed:
            changed = False
            for step in reversed(steps):
                inner = small(step.node) if isinstance(step, Item) else None
                if not (isinstance(inner, cst.Assign) and len(inner.targets) == 1
                        and isinstance(inner.targets[0].target, cst.Name) and _does_nothing_else(inner.value)):
                    continue
                variable = step.frame.variable(inner.targets[0].target.value)  # type: ignore[union-attr]
                rest = hook_usage(replace(hook, steps=tuple(s for s in steps if s is not step)))
                if variable in rest.reads | others.reads | after or (
                    variable.frame.is_module and variable.name in self.around.kept_reads
                ):
                    continue
                steps.remove(step)
                self.fates[inner] = FateNote(Fate.DROPPED, "", "nothing reads its value")
                changed = True
        return replace(hook, steps=tuple(steps))

    def _batch_names(
        self, head: BatchHead, frame: Frame, loop: cst.CSTNode, body: Sequence[Step], later: Sequence[Step]
    ) -> list[Step]:
        """What a loop's head binds, bound at the start of the step."""
        first: list[Step] = []
        if head.element is not None:
            first.append(Binding(head.element, frame, cst.Name("batch"), self.generated, loop))
        if head.index is None:
            return first
        variable = frame.variable(head.index.value)
        if self._only_read(variable, body) and (head.start is None or is_constant(head.start)):
            self.forced[variable] = Computed(_plus("batch_idx", head.start))
        elif self._needed(variable, body, later):
            value: cst.BaseExpression = cst.Name("batch_idx")
            if head.start is not None:
                self.generated.aliases["first_index"] = Expression(head.start, frame)
                value = cst.BinaryOperation(value, cst.Add(), cst.Name("first_index"))
            first.append(Binding(head.index, frame, value, self.generated, loop))
        return first

    def _epoch_names(self, epochs: EpochHead) -> list[Step]:
        nest = self.nest
        names: list[Step] = []
        whole = (*nest.epoch_start, *nest.body, *self.evaluation_steps(), *nest.epoch_end)
        for target, offset in ((epochs.target, epochs.offset), (epochs.index, epochs.index_offset)):
            if target is None:
                continue
            variable = nest.host.variable(target.value)
            fixed = offset is None or not (expression_usage(offset, nest.host).reads & usage(whole).writes)
            if fixed and self._only_read(variable, whole) and (offset is None or is_constant(offset)):
                self.forced[variable] = Computed(_plus("self.current_epoch", offset))
            else:
                value: cst.BaseExpression = cst.Attribute(cst.Name("self"), cst.Name("current_epoch"))
                if offset is None:
                    names.append(Binding(target, nest.host, value, self.generated, nest.epoch_loop))  # type: ignore[arg-type]
                else:
                    self.generated.aliases["first_epoch"] = Expression(offset, nest.host)
                    total = cst.BinaryOperation(value, cst.Add(), cst.Name("first_epoch"))
                    names.append(Binding(target, nest.host, total, self.generated, nest.epoch_loop))  # type: ignore[arg-type]
        self.forced[self.generated.variable("self")] = Local("self")
        return names

    def _only_read(self, variable: Variable, steps: Sequence[Step]) -> bool:
        """True when a loop's counter is not needed anywhere but in the moved code, which never assigns it."""
        nest = self.nest
        whole = (*nest.epoch_start, *nest.body, *self.evaluation_steps(), *nest.epoch_end)
        if variable in usage(whole).writes:
            return False
        if variable.frame.is_module and variable.name in self.around.kept_reads:
            return False
        if (variable.frame is nest.host or variable.frame.is_module) and variable in usage(self.around.after).reads:
            return False
        return variable in usage(steps).reads or variable not in usage(whole).reads

    def _needed(self, variable: Variable, body: Sequence[Step], later: Sequence[Step]) -> bool:
        """True when the value that a loop gives its counter is read by anyone."""
        return (
            variable in usage(body).reads
            or variable in usage(later).exposed
            or variable in usage(self.around.after).exposed
            or (variable.frame.is_module and variable.name in self.around.kept_reads)
        )

    def _split_after(self, auto: Automatic) -> tuple[list[Step], list[Step]]:
        """What follows the optimizer step: kept in training_step while it can't tell the difference."""
        made_before = usage(auto.before).writes
        kept: list[Step] = []
        rest = list(auto.after)
        if auto.scheduler is not None:
            kept_scheduler = rest.pop(0)
            self.scheduler_step = kept_scheduler
        while rest and not self._notices_step(rest[0], made_before, auto):
            kept.append(rest.pop(0))
        return kept, rest

    def _notices_step(self, step: Step, made_before: set[Variable], auto: Automatic) -> bool:
        """True when a statement may see the updated weights, or may change what backward still needs."""
        nodes = [step.node] if isinstance(step, Item) else [step.value]
        frame = step.frame if isinstance(step, Item) else step.value_frame
        if isinstance(step, Binding):
            return True
        if usage([step]).writes & expression_usage(auto.loss, auto.loss_frame).reads:
            return True
        for node in nodes:
            for part in self._remaining(node):
                if isinstance(part, (cst.Break, cst.Continue, cst.FunctionDef, cst.ClassDef, cst.Del, cst.Try)):
                    return True
                if isinstance(part, cst.AugAssign) and frame.resolve(getattr(part.target, "value", "") if isinstance(part.target, cst.Name) else "_") in made_before:
                    return True
                if isinstance(part, (cst.AssignTarget,)) and not isinstance(part.target, (cst.Name, cst.Tuple)):
                    return True
                if isinstance(part, cst.Name) and self.kinds.kind(part, frame) in (
                    Kind.MODULE, Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER
                ):
                    return True
                if isinstance(part, cst.Attribute) and part.attr.value == "grad":
                    return True
                if isinstance(part, cst.Call) and calls_out(part, frame, self.tree):
                    return True
        return False

    def _remaining(self, node: cst.CSTNode):
        """A node and all below it without statements that are gone."""
        stack = [node]
        while stack:
            current = stack.pop()
            if current in self.removed:
                continue
            yield current
            stack.extend(children(current))

    # -- optimizers and schedulers ------------------------------------------------------------------------------

    def _optimizers(self, hooks: list[Hook], auto: Automatic | None, plain: bool):
        nest = self.nest
        cycle = usage([step for hook in hooks for step in hook.steps])
        used = {v for v in cycle.reads if self.kinds.of(v) is Kind.OPTIMIZER}
        if auto is not None:
            used.add(auto.optimizer)
        used -= cycle.writes
        host_reads = usage(self.around.after).reads
        schedulers: list[tuple[Made, str]] = []
        extra = Usage()
        made: list[Made] = []
        ordered = sorted(used, key=lambda v: self._position(v))
        for variable in ordered:
            if not (variable.frame is nest.host or variable.frame.is_module or "." in repr(variable)):
                continue
            found = construction(variable, self.tree) if variable.frame is nest.host else None
            movable = found is not None and self._may_move(variable, found[0], host_reads)
            scheduler = None
            if movable and auto is not None and auto.optimizer is variable:
                scheduler = self._scheduler(variable, hooks, auto, host_reads, plain)
                movable = scheduler is not None or not self._feeds_scheduler(variable, found[0])
            elif movable:
                movable = not self._feeds_scheduler(variable, found[0])  # type: ignore[index]
            if movable:
                assert found is not None
                made.append(Made(variable, found[0], found[1], True))
                self.removed.add(found[0])
                self.fates[found[0]] = FateNote(Fate.MOVED, "configure_optimizers")
                extra += expression_usage(found[1], nest.host)
                self.forced[variable] = Local(variable.name)
                if scheduler is not None:
                    schedulers.append(scheduler)
                    self.removed.add(scheduler[0].statement)  # type: ignore[arg-type]
                    self.fates[scheduler[0].statement] = FateNote(Fate.MOVED, "configure_optimizers")  # type: ignore[index]
                    extra += expression_usage(scheduler[0].value, nest.host)  # type: ignore[arg-type]
                    self.forced[scheduler[0].variable] = Local(scheduler[0].variable.name)
            else:
                made.append(Made(variable, None, None, False))
                extra.reads.add(variable)
        return made, schedulers, extra

    def _position(self, variable: Variable) -> tuple:
        found = construction(variable, self.tree)
        span = self.tree.span(found[0]) if found is not None else None
        return (span is None, span.line if span is not None else 0, variable.name)

    def _may_move(self, variable: Variable, statement: cst.BaseStatement, host_reads: set[Variable]) -> bool:
        """True when only the run uses an optimizer that the host builds in a plain statement."""
        if variable in host_reads or (variable.frame.is_module and variable.name in self.around.kept_reads):
            return False
        if statement not in [item.node for item in self.around.before]:
            return False
        found = construction(variable, self.tree)
        assert found is not None
        needed = expression_usage(found[1], self.nest.host).reads
        position = [item.node for item in self.around.before].index(statement)
        later = usage(self.around.before[position + 1 :])
        if later.writes & needed or variable in later.writes:
            return False
        written = usage((*self.nest.epoch_start, *self.nest.body, *self.nest.epoch_end)).writes
        return not (written & needed)

    def _feeds_scheduler(self, variable: Variable, statement: cst.BaseStatement) -> bool:
        return any(item.node is not statement and variable in usage([item]).reads for item in self.around.before)

    def _scheduler(self, optimizer: Variable, hooks, auto: Automatic, host_reads, plain: bool):
        """The scheduler that the Trainer can step instead of the script, with its interval."""
        readers = [item for item in self.around.before if optimizer in usage([item]).reads]
        if len(readers) != 1:
            return None
        inner = small(readers[0].node)
        if not (isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name)):
            return None
        variable = self.nest.host.variable(inner.targets[0].target.value)
        found = construction(variable, self.tree)
        if self.kinds.of(variable) is not Kind.SCHEDULER or found is None or not self._may_move(variable, found[0], host_reads):
            return None
        if any(variable in usage([item]).reads for item in self.around.before):
            return None
        if auto.scheduler is variable:
            uses = [step for hook in hooks for step in hook.steps if variable in usage([step]).reads]
            if uses:
                return None
            self.fates[self.scheduler_step.node] = FateNote(Fate.REPLACED, "Trainer: steps the scheduler each batch")  # type: ignore[union-attr]
            return Made(variable, found[0], found[1], True), "step"
        uses = [(hook, step) for hook in hooks for step in hook.steps if variable in usage([step]).reads]
        if len(uses) != 1 or uses[0][0].name not in ("on_train_epoch_end", "on_validation_epoch_start") or not plain:
            return None
        step = uses[0][1]
        used = method_call(_expression(step))
        if used is None or used[1] != "step" or _expression(step).args:  # type: ignore[union-attr]
            return None
        if any(isinstance(s, Item) and any(True for _ in exits_of(s.node)) for s in uses[0][0].steps):
            return None
        self.fates[step.node] = FateNote(Fate.REPLACED, "Trainer: steps the scheduler each epoch")
        return Made(variable, found[0], found[1], True), "epoch"

    def _drop_scheduler_steps(self, hooks: list[Hook], schedulers) -> list[Hook]:
        kept_step = getattr(self, "scheduler_step", None)
        result = []
        for hook in hooks:
            steps = [s for s in hook.steps if not (isinstance(s, Item) and s.node in self.fates
                     and self.fates[s.node].target.startswith("Trainer: steps the scheduler each epoch"))]
            if hook.name == "on_train_batch_end" and kept_step is not None and not any(i == "step" for _, i in schedulers):
                steps.insert(0, kept_step)
            result.append(replace(hook, steps=tuple(steps)))
        return result

    # -- the source of batches ----------------------------------------------------------------------------------

    lazy: bool = False

    def _source(self, head: BatchHead) -> cst.BaseExpression | None:
        """The iterable for fit, in terms of the host; None when the module provides it."""
        nest = self.nest
        if head.while_test is not None:
            return None
        reads = expression_usage(head.source, nest.batch_frame).reads
        known = self._is_loader(head.source, nest.batch_frame)
        plain = known and not any(isinstance(n, cst.Call) and dotted(n.func) != "range" and dotted(n.func) != "len"
                        and not _is_size(n) for n in walk(head.source))
        written = usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
        heads = {nest.host.variable(n) for n in (target_names(nest.epoch_loop.target) if isinstance(nest.epoch_loop, cst.For) else ())}
        settled = not (reads & (written | heads))
        if settled and (plain or (known and nest.epoch_loop is None)) and (host := self._in_host(head.source, nest.batch_frame)):
            return host
        if settled and (host := self._in_host(head.source, nest.batch_frame)):
            self.lazy = True
            return host
        return None

    def _is_loader(self, source: cst.BaseExpression, frame: Frame) -> bool:
        """True for loaders and ranges; a Trainer takes a list or dict for a collection of loaders."""
        if isinstance(source, cst.Call):
            return dotted(source.func) == "range" or (self.tree.qualified(source.func) or "").endswith("DataLoader")
        name = dotted(source) or ""
        last = name.rpartition(".")[2].lower()
        return self.kinds.kind(source, frame) is Kind.LOADER or "load" in last or last.endswith("dl")

    def _in_host(self, node: cst.BaseExpression, frame: Frame) -> cst.BaseExpression | None:
        """An expression of a moved body in terms of the host's names; None when it needs others."""
        failed = False

        def replace_name(name: str) -> cst.BaseExpression | None:
            nonlocal failed
            meaning = frame.resolve(name)
            if isinstance(meaning, Expression):
                inner = self._in_host(meaning.node, meaning.frame)
                failed |= inner is None
                return inner
            if meaning.frame.is_module or meaning.frame is self.nest.host or _lexical(meaning.frame, self.nest.host):
                return cst.Name(meaning.name) if meaning.name != name and "." not in name else None
            failed = True
            return None

        result = substitute(node, replace_name)
        return None if failed else result  # type: ignore[return-value]

    def _start_draws(self) -> bool:
        """True when an epoch's start may draw random numbers: its iterator must not be made before."""
        return any(mode_call(step, self.kinds, "train") is None and may_draw(step) for step in self.nest.epoch_start)

    def _interruptible(self) -> bool:
        """True when the script goes on after Ctrl-C in the loop."""
        return interrupt_handler(self.nest.host_loop, self.tree) is not None

    # -- __init__ -----------------------------------------------------------------------------------------------

    def _initial(self, homes: Homes):
        """Moves `best = 0` before the loop into __init__; the rest is handed over."""
        captured, initial = [], []
        own_block = self.tree.parents[self.nest.host_loop]
        for variable, name in homes.captured:
            found = None
            if variable in homes.written:
                found = self._constant_start(variable, own_block)
            if found is not None and isinstance(homes.of[variable], Attribute) and (
                variable not in usage(self.around.after).exposed - set(homes.results)
            ):
                initial.append((name, found[1]))
                self.removed.add(found[0])
                self.fates[found[0]] = FateNote(Fate.MOVED, "__init__")
            else:
                captured.append((variable, name))
        return tuple(captured), tuple(initial)

    def _constant_start(self, variable: Variable, own_block: cst.CSTNode):
        name = variable.name
        statements = [item for item in self.around.before if variable in usage([item]).writes]
        if len(statements) != 1 or self.tree.parents.get(statements[0].node) is not own_block:
            return None
        inner = small(statements[0].node)
        if not (isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name)
                and inner.targets[0].target.value == name and is_constant(inner.value)):
            return None
        if any(variable in usage([item]).reads for item in self.around.before):
            return None
        if variable.frame.is_module and name in self.around.kept_reads:
            return None
        return statements[0].node, inner.value

    def _modes_after_fit(self) -> tuple[str, ...]:
        """The last evaluation left its networks in evaluation mode; so must the run."""
        found = self.evaluation
        if found is None or found.trains_again:
            return ()
        lines = []
        for variable in sorted(found.modules, key=lambda v: v.name):
            name = f"{variable.owner.name}.{variable.name}" if isinstance(variable, Field) else variable.name
            used_later = variable in usage(self.around.after).reads or variable.name in self.around.kept_reads
            if used_later and (variable.frame is self.nest.host or variable.frame.is_module or isinstance(variable, Field)):
                if any(uses_modules(item, self.kinds) for item in self.around.after):
                    lines.append(f"{name}.eval()")
        return tuple(lines)

    def _departures(self, hooks: Sequence[Hook]) -> tuple[str, ...]:
        """What the idiomatic style does that the script did not do; none of it touches a parameter."""
        if self.settings.style == "faithful":
            return ()
        return (
            "metrics go to the Trainer's default logger, under lightning_logs/",
            "the Trainer saves a checkpoint after each epoch",
            "epoch summaries are logged, not printed",
        )

    # -- the Trainer --------------------------------------------------------------------------------------------

    def _trainer_options(self, epochs: EpochHead | None, auto: Automatic | None) -> None:
        host = self.nest.host
        options = [TrainerOption("max_epochs", epochs.count, host) if epochs is not None else TrainerOption("max_epochs", "1")]
        options.extend(self._device_options())
        if auto is not None and auto.clip is not None:
            value, frame, algorithm = auto.clip
            options.append(TrainerOption("gradient_clip_val", value, frame))
            if algorithm == "value":
                options.append(TrainerOption("gradient_clip_algorithm", '"value"'))
        options.extend(self.options)
        if self.evaluation is not None:
            options.append(TrainerOption("num_sanity_val_steps", "0"))
        if self.settings.style == "faithful":
            options.append(TrainerOption("logger", "False"))
            options.append(TrainerOption("enable_checkpointing", "False"))
        self.options[:] = options

    def _device_options(self) -> list[TrainerOption]:
        text = self._device_text()
        return [TrainerOption("accelerator", text or '"auto"'), TrainerOption("devices", "1")]

    def _device_text(self) -> str | None:
        """The accelerator in the host's own terms; None when only the Trainer can tell."""
        source = self.tree.source.text
        if not any(word in source for word in ("cuda", "accelerator", "mps", "device")):
            return '"cpu"'
        device = self._device_variable()
        if device is not None:
            return f"{device.name}.type"
        for item in self.around.before:
            inner = small(item.node)
            if isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name):
                names = [self.tree.qualified(n.func) for n in walk(inner.value) if isinstance(n, cst.Call)]
                if "torch.cuda.is_available" in names and isinstance(
                    inner.value, (cst.IfExp, cst.Call, cst.BooleanOperation)
                ) and (not isinstance(inner.value, cst.IfExp) or code(inner.value.body) == "True"):
                    if isinstance(inner.value, cst.Call) and len(names) > 1:
                        continue
                    return f'"cuda" if {inner.targets[0].target.value} else "cpu"'
        return None

    def _device_variable(self) -> Variable | None:
        """The host's `torch.device(...)` that the script chose by a condition."""
        for item in self.around.before:
            for variable in usage([item]).writes:
                if self.kinds.of(variable) is Kind.DEVICE and (variable.frame is self.nest.host or variable.frame.is_module):
                    found = construction(variable, self.tree)
                    owner = variable.frame.function or self.tree.module
                    values = [
                        n.value for n in scope_nodes(owner) if isinstance(n, cst.Assign)
                        and any(isinstance(t.target, cst.Name) and t.target.value == variable.name for t in n.targets)
                    ]
                    calls = [self.tree.qualified(v.func) for v in values if isinstance(v, cst.Call)]
                    if len(calls) == len(values) and set(calls) <= {"torch.device", "torch.accelerator.current_accelerator"}:
                        fixed = found is not None and all(isinstance(a.value, cst.SimpleString) for a in found[1].args)
                        if not fixed or len(values) > 1:
                            return variable
        return None

    def _class_name(self) -> str:
        """After the script's only network class, else after the file."""
        own = [name for name, node in self.tree.classes.items() if is_module_class(node, self.tree)]
        trained = [n for n in own if any(
            isinstance(f.node, cst.Assign) and f.kind is Kind.MODULE and n in {dotted(c.func) for c in walk(f.node.value) if isinstance(c, cst.Call)}
            for f in self.analysis.named
        )]
        path = PurePath(self.tree.source.path)
        word = path.stem if path.stem not in ("main", "train", "-", "run", "pytorch", "input") else (path.parent.name or "Model")
        camel = trained[0] if len(trained) == 1 else "".join(part[:1].upper() + part[1:] for part in _words(word))
        name = f"Lit{camel or 'Model'}"
        while name in self.tree.classes or name in self.tree.functions or name in self.tree.imports:
            name += "Module"
        return name


def _words(text: str) -> list[str]:
    return [part for part in "".join(c if c.isalnum() else " " for c in text).split() if part]


def _plus(text: str, offset: cst.BaseExpression | None) -> str:
    return text if offset is None else f"{text} + {code(_grouped(offset))}"


def _grouped(node: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(node, (cst.BinaryOperation, cst.IfExp, cst.Comparison, cst.BooleanOperation)) and not node.lpar:
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node


def _expression(step: Step) -> cst.BaseExpression | None:
    inner = small(step.node) if isinstance(step, Item) else None
    return inner.value if isinstance(inner, cst.Expr) else None


_HARMLESS = {"sum", "len", "max", "min", "float", "int", "str", "list", "time.time", "time.perf_counter", "datetime.now",
             "datetime.datetime.now", "range", "round", "abs"}


def _does_nothing_else(value: cst.BaseExpression) -> bool:
    """True when an expression may be left out if nobody wants its value."""
    return all(
        not isinstance(node, cst.Call) or dotted(node.func) in _HARMLESS or (method_call(node) or ("", ""))[1] == "item"
        for node in walk(value)
    )


def _is_size(call: cst.Call) -> bool:
    used = method_call(call)
    return used is not None and used[1] in ("size", "keys", "items", "values")


def _lexical(frame: Frame, host: Frame) -> bool:
    current: Frame | None = host
    while current is not None:
        if current is frame:
            return True
        current = current.outer
    return False
