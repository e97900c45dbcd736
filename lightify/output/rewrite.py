"""Tree + Plan -> Pieces: the user's code by template slot; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import PurePath

import libcst as cst

from lightify.loops.contexts import STACK
from lightify.output.method_text import EMPTY, body_text, without_last_return
from lightify.output.optimizers import configure_optimizers, fetch
from lightify.output.pieces import Method, Pieces, RunPieces
from lightify.output.remainder import script_around
from lightify.output.restructure import Restructure, declared_at_home
from lightify.plan.homes import hook_usage
from lightify.plan.naming import runtime_alias
from lightify.plan.types import (
    Attribute,
    Computed,
    Global,
    Hook,
    Initial,
    Local,
    Plan,
    Plans,
    TrainerOption,
)
from lightify.settings import Settings
from lightify.syntax.comments import above, below, own
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.names import bound_names, local_names, read_names
from lightify.syntax.parse import Once, Tree
from lightify.syntax.query import (
    MODULE_SELF,
    assigned_pairs,
    atom,
    block,
    code,
    map_children,
    one_or_tuple,
    path_node,
    small,
)
from lightify.syntax.substitute import substitute

#: The batches of a loop that goes on until it is left.
COUNT = "itertools.count"
#: What may catch Ctrl-C.
_INTERRUPTS = ("KeyboardInterrupt", "BaseException")


def rewrite(tree: Tree, plans: Plans, settings: Settings) -> Pieces:
    """Cuts the script into the pieces of its conversion."""
    runs = tuple(_Rewriter(tree, plan, plans, settings).pieces() for plan in plans.runs)
    generated = [text for run in runs for text in run.code]
    script, dropped = script_around(
        tree, plans, [run.unbroken for run in runs], generated, runs[0].trainer_name, settings
    )
    lacking = [line for plan in plans.runs if plan.distributed is not None for line in plan.distributed.imports]
    own = bound_names(block(tree.scope))
    if any(plan.nest.contexts for plan in plans.runs) and "contextlib" not in own:
        lacking.append("import contextlib")
    if any(run.source.startswith(COUNT) for run in runs) and "itertools" not in own:
        lacking.append("import itertools")
    texts = [option.value for plan in plans.runs for option in plan.options if isinstance(option.value, str)]
    if "torch" not in own and any("torch" in read_names(cst.parse_expression(text)) for text in texts):
        lacking.append("import torch")
    if any(isinstance(home, Attribute) and home.holder for plan in plans.runs for home in plan.homes.values()):
        lacking += ["from types import SimpleNamespace"] if "SimpleNamespace" not in own else []
    return Pieces(script, runtime_alias(tree), runs, tuple(dict.fromkeys(lacking)), dropped)


class _Rewriter:
    def __init__(self, tree: Tree, plan: Plan, plans: Plans, settings: Settings) -> None:
        self.on_lightning = settings.runtime == "lightning"
        self.data_module = settings.data_module
        self.tree = tree
        self.plan = plan
        self.plans = plans
        self.adopted = frozenset(definition.name.value for definition in plans.adopted)  # type: ignore[attr-defined]

    def pieces(self) -> RunPieces:
        plan = self.plan
        module_name, trainer_name = self.tree.fresh("module", "lit_module"), self.tree.fresh("trainer", "lit_trainer")
        passes = plan.endable or bool(plan.nest.skips) or plan.lazy or plan.train_source is None or plan.sized_lazily
        source, start = self._source(module_name)
        spread, host = plan.distributed, plan.nest.host.function
        return RunPieces(
            class_name=plan.class_name,
            parameters=tuple(name for _, name in plan.captured),
            init=self._init(),
            methods=self._methods(),
            hyperparameters=tuple(name for v, name in plan.captured if isinstance(plan.homes[v], Computed)),
            incomparable=plan.incomparable if self.on_lightning else (),
            batch_mover=plan.batch_mover,
            manual=plan.mode == "manual",
            own_sigterm=plan.own_sigterm,
            module_name=module_name,
            trainer_name=trainer_name,
            arguments=tuple(self._argument(variable) for variable, _ in plan.captured),
            options=tuple(self._option(option) for option in plan.options),
            source=start if passes else source,
            passes=passes,
            ends=plan.endable,
            skips=bool(plan.nest.skips),
            contexts=f"{module_name}.{STACK}" if plan.nest.contexts else "",
            data_module=self.data_module,
            size=(f"len({source})" if plan.sized_lazily else "10**9") if self.on_lightning and passes else "",
            guarded=plan.interruptible,
            keeps_gradients=self.on_lightning and plan.keeps_gradients and plan.validation_source is not None,
            finds_gradients=plan.finds_gradients,
            undoes_exit=self.on_lightning and any(word in self.tree.text for word in _INTERRUPTS),
            about=self._about(),
            validation=code(plan.validation_source) if plan.validation_source is not None else "",
            test=code(plan.test_source) if plan.test_source is not None else "",
            after_fit=plan.after_fit,
            returns=plan.returns,
            unbroken=f"not {module_name}.{plan.unbroken}" if plan.unbroken else "",
            before_fit=(*plan.before_fit, *(spread.before_fit if spread is not None else ())),
            buffer_group=spread.group if spread is not None and spread.syncs_buffers else "",
            results=tuple(line for variable in plan.results for line in self._read_back(variable, module_name)),
            local=tuple(name for name in sorted(local_names(host)) if "." not in name) if host is not None else (),
        )

    def _source(self, module_name: str) -> tuple[str, str]:
        """What the Trainer iterates over, and what makes it anew for a pass."""
        plan = self.plan
        if plan.train_source is not None:
            source = code(plan.train_source)
        elif plan.steps_while is None:
            return "", f"{module_name}.train_batches"
        elif self._endless:
            return f"{COUNT}()", COUNT
        else:
            source = f"{module_name}.remaining_steps"
            return f"{source}()", source
        return source, f"lambda: {source}"

    @property
    def _endless(self) -> bool:
        """True for the steps of a `while True`."""
        test, imported = self.plan.steps_while, self.tree.imports.get("itertools", "itertools") == "itertools"
        return isinstance(test, cst.Name) and test.value == "True" and imported

    def _argument(self, variable: Variable) -> str:
        """What the host hands over for a variable."""
        owner = variable.path.rpartition(".")[0]
        return f'getattr({owner}, "{variable.name}", None)' if variable in self.plan.missing else variable.path

    def _init(self) -> tuple[str, ...]:
        """What the module's constructor does, line by line."""
        plan = self.plan
        homes = [home for home in plan.homes.values() if isinstance(home, Attribute)]
        holders = dict.fromkeys(home.holder for home in homes if home.holder)
        lines = [f"self.{holder} = SimpleNamespace()  # what this module must not register" for holder in holders]
        given = [(home, name) for v, name in plan.captured if isinstance(home := plan.homes[v], Attribute)]
        lines += [f"self.{home.path} = {name}" for home, name in given]
        told: set[cst.CSTNode] = set()
        for one in plan.initial:
            lines.append(_initial(one, comments=one.statement not in told))
            told.add(one.statement)
        if plan.endable:
            lines.append("self.pass_ended = False")
        if any(one.nest.skips for one in self.plans.runs):
            lines.append("self.pass_skipped = False")
        if plan.nest.contexts:
            lines.append(f"self.{STACK} = contextlib.ExitStack()")
        if plan.unbroken == "epochs_ended":
            lines.append("self.epochs_ended = False")
        if plan.returns:
            lines.append("self.returned = ()")  # of the result, once there is one
        return tuple(lines)

    def _about(self) -> str:
        """What the module is made of, for its docstring."""
        nest = self.plan.nest
        span = self.tree.span(nest.host_loop)
        place = f"{nest.host.name}(){self._of_file(nest.host_loop)}" if nest.host.name else PurePath(span.path).name
        calls = list(dict.fromkeys(f"{o.function.name.value}(){self._of_file(o.function)}" for o in nest.opened))
        with_calls = f", with {', '.join(calls)}" if calls else ""
        what = "step" if isinstance(nest.host_loop, Once) else "loop"
        return f"The training {what} of {place}, {self.tree.source.in_cell(span).where}{with_calls}."

    def _of_file(self, node: cst.CSTNode) -> str:
        return f" of {PurePath(self.tree.span(node).path).name}" if self.tree.linked(node) is not None else ""

    def _read_back(self, variable: Variable, module_name: str) -> Iterable[str]:
        home = self.plan.homes[variable]
        if not isinstance(home, Attribute):
            return ()
        line = f"{variable.name} = {module_name}.{home.path}"
        given = {name for _, name in self.plan.captured} | {one.name for one in self.plan.initial}
        if not self.plan.interruptible or given & {home.name, home.path}:
            return (line,)
        holder = f"{module_name}.{home.holder}" if home.holder else module_name
        return f'if hasattr({holder}, "{home.name}"):', f"    {line}"  # an exception may come first

    # -- methods ------------------------------------------------------------------------------------------------

    def _methods(self) -> tuple[Method, ...]:
        plan = self.plan
        methods = [self._method(hook) for hook in plan.hooks]
        methods = [method for method in methods if method.body != EMPTY or method.name.endswith("_step")]
        if plan.steps_while is not None and not self._endless:
            test = self._expression(plan.steps_while, plan.nest.batch_frame, {})
            going = cst.parse_statement(f"while {code(test)}:\n    yield True")  # a Trainer skips a batch that is None
            methods.append(Method("remaining_steps", (), body_text([going])))
        if plan.epochs_while is not None:
            again = self._expression(plan.epochs_while, plan.nest.host, {})
            methods.append(Method("another_epoch", (), body_text([cst.SimpleStatementLine([cst.Return(again)])])))
        made = configure_optimizers(self.plan, lambda value: self._expression(value, plan.nest.host, {}))
        return (*methods, Method("configure_optimizers", (), body_text(made)))

    def _method(self, hook: Hook) -> Method:
        uses = hook_usage(hook)
        fetched, first = fetch(self.tree, self.plan, hook, uses.reads | uses.writes)
        names = sorted({home.name for v in uses.writes if isinstance(home := self.plan.homes.get(v), Global)})
        lines: list[cst.BaseStatement] = []
        if names:
            lines.append(cst.parse_statement(f"global {', '.join(names)}"))
        parameters = list(hook.parameters)
        body: list[cst.BaseStatement] = []
        ended: list[cst.EmptyLine] = []  # the comments at the end of a block
        for step in hook.steps:
            renamed = self._renames_batch(step, hook)
            if renamed is not None:
                parameters[parameters.index("batch")] = renamed
                continue
            moved = self._step(step, hook, fetched)
            if moved and ended:
                moved[0], ended = above(moved[0], ended), []
            body.extend(moved)
            if isinstance(step, Item):
                ended += below(step.node, self.tree)
        lines.extend(cst.parse_statement(text) for text in (*first, *hook.first))
        lines.extend(body if hook.last or hook.result is not None else without_last_return(body))
        last: list[cst.BaseStatement] = [cst.parse_statement(text) for text in hook.last]
        if hook.result is not None:
            node, frame = hook.result
            last.insert(0, cst.SimpleStatementLine([cst.Return(self._expression(node, frame, fetched))]))
        if last and ended:
            last[0], ended = above(last[0], ended), []
        lines.extend(last)
        return Method(hook.name, tuple(parameters), body_text(lines, ended))

    def _renames_batch(self, step: Step, hook: Hook) -> str | None:
        """The parameter's name when a step only names the batch."""
        if not (
            isinstance(step, Binding)
            and isinstance(step.value, cst.Name)
            and step.value.value == "batch"
            and step.value_frame.name == "hook"
            and isinstance(step.target, cst.Name)
        ):
            return None
        if step.target.value == "_":
            return "batch"
        home = self.plan.homes.get(step.target_frame.variable(step.target.value))
        if isinstance(home, Local) and home.name not in set(hook.parameters) - {"batch"}:
            return home.name
        return None

    def _step(self, step: Step, hook: Hook, fetched: dict[Variable, str]) -> list[cst.BaseStatement]:
        if isinstance(step, Binding):
            target = self._expression(step.target, step.target_frame, fetched)
            value = self._expression(step.value, step.value_frame, fetched)
            return _bound(target, value)
        result = []
        for node in Restructure(self.tree, self.plan, step.frame, hook).statement(step.node):
            new = substitute(node, lambda name: self._replacement(name, step.frame, fetched))
            new = declared_at_home(new, step.frame, self.plan.homes)
            result.append(self._rebound_within(new, step.frame))
            result.extend(self._rebind(node, step.frame))
        return result  # type: ignore[return-value]

    def _rebound_within(self, node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        """The same after definitions and imports in a statement's blocks."""
        if not isinstance(node, cst.BaseCompoundStatement) or isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return node

        def rebound(part: cst.CSTNode) -> cst.CSTNode:
            if isinstance(part, (cst.FunctionDef, cst.ClassDef, cst.BaseExpression)):
                return part
            new = map_children(part, rebound)
            if isinstance(new, cst.IndentedBlock):
                body = [line for inner in new.body for line in (inner, *self._rebind(inner, frame))]
                return new.with_changes(body=body) if len(body) > len(new.body) else new
            return new

        return rebound(node)

    def _rebind(self, node: cst.CSTNode, frame: Frame) -> list[cst.BaseStatement]:
        """`self.f = f` after a definition or import whose name is an attribute."""
        inner = small(node)
        imported = isinstance(inner, (cst.Import, cst.ImportFrom))
        if not imported and not isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return []
        lines: list[cst.BaseStatement] = []
        for name in sorted(bound_names([node])):
            home = self.plan.homes.get(frame.variable(name))
            if isinstance(home, Attribute):
                lines.append(cst.parse_statement(f"self.{home.path} = {name}"))
        return lines

    # -- expressions --------------------------------------------------------------------------------------------

    def _expression(self, node: cst.CSTNode, frame: Frame, fetched: dict[Variable, str]) -> cst.BaseExpression:
        return substitute(node, lambda name: self._replacement(name, frame, fetched))  # type: ignore[return-value]

    def _replacement(self, name: str, frame: Frame, fetched: dict[Variable, str]) -> cst.BaseExpression | None:
        if name == MODULE_SELF:
            return cst.Name("self")
        if name in self.adopted:
            return cst.Name(name)
        meaning = frame.resolve(name)
        if isinstance(meaning, Expression):
            inner = self._expression(meaning.node, meaning.frame, fetched)
            return atom(inner)
        if meaning in fetched:
            return cst.Name(fetched[meaning])
        home = self.plan.homes.get(meaning)
        if isinstance(home, Attribute):
            return path_node(f"self.{home.path}")
        if isinstance(home, Computed):
            return atom(cst.parse_expression(home.text))
        if isinstance(home, (Local, Global)) and home.name != name:
            return cst.Name(home.name)
        return None

    def _option(self, option: TrainerOption) -> tuple[str, str]:
        if isinstance(option.value, str):
            return option.name, option.value
        assert option.frame is not None
        return option.name, code(self._in_host(option.value, option.frame))

    def _in_host(self, node: cst.BaseExpression, frame: Frame) -> cst.BaseExpression:
        def replace(name: str) -> cst.BaseExpression | None:
            meaning = frame.resolve(name)
            if isinstance(meaning, Expression):
                return atom(self._in_host(meaning.node, meaning.frame))
            return path_node(meaning.path) if meaning.path != name else None

        return substitute(node, replace)  # type: ignore[return-value]


def _initial(one: Initial, *, comments: bool) -> str:
    target = cst.AssignTarget(path_node(f"self.{one.name}"))  # type: ignore[arg-type]
    assigned = cst.Assign([target], one.value)  # type: ignore[arg-type]
    line = one.statement.with_changes(body=[assigned], leading_lines=own(one.statement))
    return code(line if comments else cst.SimpleStatementLine([assigned])).rstrip("\n")


#: More than fits a line of a hook: each name has its own then.
_LONG = 80


def _bound(target: cst.CSTNode, value: cst.CSTNode) -> list[cst.BaseStatement]:
    """`target = value`, without what is said to be itself: `loss, self.metrics = total, self.metrics`."""
    pairs = assigned_pairs(target, value)
    new = [(one, other) for one, other in pairs if code(one) != code(other)]
    if not new:
        return []
    parts = [tuple(map(code, pair)) for pair in new]
    apart = all(one not in other for number, (one, _) in enumerate(parts) for _, other in parts[number + 1 :])
    if len(new) > 1 and apart and sum(map(len, chain(*parts))) > _LONG:
        return [cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(one)], other)]) for one, other in new]  # type: ignore[arg-type]
    if len(new) < len(pairs):
        target, value = (one_or_tuple([pair[side] for pair in new]) for side in (0, 1))
    if isinstance(target, cst.Tuple) and "\n" not in code(target):
        target = target.with_changes(lpar=[], rpar=[])
    return [cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(target)], value)])]  # type: ignore[arg-type]
