"""Where each name lives: a local of a hook, an attribute, a global, or computed from the Trainer's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import libcst as cst

from lightify.analysis.computed import is_computed
from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.loops.surroundings import Surroundings
from lightify.plan.borrowed import BORROWED, borrows
from lightify.plan.fields import changed_fields, may_be_missing
from lightify.plan.hyperparameters import hyperparameters
from lightify.plan.kinds import Kinds
from lightify.plan.one_name import results_as_called
from lightify.plan.reserved import RESERVED
from lightify.plan.types import Attribute, Computed, Global, Home, Hook, Local
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Frame, Item, Usage, Variable
from lightify.syntax.names import bound_names, free_names
from lightify.syntax.query import block, nodes_of, walk

#: Parts of an expression that need not run.
_MAY_NOT_RUN = (cst.IfExp, cst.BooleanOperation, cst.Comparison, cst.Lambda, cst.CompFor, cst.Assert)
_TRAINED = (Kind.MODULE, Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER)


@dataclass(frozen=True, eq=False)
class Homes:
    """The homes and what follows from them.

    Attributes:
        captured: variables handed to the module, with the parameter's name.
        unset: names that some paths of the host leave unbound, by the first statement that may bind them.
        missing: fields of those handed over that only some objects have; None is handed over in their place.
        results: variables that the host reads back.
    """

    of: Mapping[Variable, Home]
    captured: tuple[tuple[Variable, str], ...]
    unset: Mapping[cst.CSTNode, tuple[str, ...]]
    missing: frozenset[Variable]
    results: tuple[Variable, ...]
    written: frozenset[Variable]


def assign_homes(
    nest: Nest,
    hooks: Sequence[Hook],
    forced: Mapping[Variable, Home],
    around: Surroundings,
    kinds: Kinds,
    extra: Usage,
) -> Homes:
    """Gives each variable of the moved code a home.

    Args:
        forced: decided before (loop counters, optimizers fetched in the hook, generated parameters).
        extra: what else is read in the module (the construction of optimizers).
    """
    uses = _Uses.of(hooks, forced, extra)
    parsed = hyperparameters(nest, hooks, uses.mentioned - uses.written, kinds)
    homing = _Homing(nest, around, kinds, uses, dict(forced), parsed)
    for variable in sorted(uses.mentioned - forced.keys(), key=lambda v: (v.frame.name, v.order)):
        homing.settle(variable)
    homing.settle_fields()
    homes, before = homing.homes, homing.before
    captured = [
        variable for variable in dict.fromkeys(homing.captured) if not isinstance(homes[variable], (Global, Local))
    ]
    _separate_locals(homes, uses.per_hook)
    homing.join(results_as_called(hooks, uses.run, extra, around, nest.host))
    order = {v: n for n, v in enumerate(sorted(before, key=lambda v: v.order))}
    captured.sort(key=lambda v: (kinds.of(v) is not Kind.MODULE, order.get(v, -1)))
    names = tuple((v, home.name if isinstance(home := homes[v], Attribute) else v.name) for v in captured)
    unset = _unset(captured, around, nest.host)
    missing = frozenset(v for v in captured if isinstance(v, Field) and may_be_missing(v.name, kinds.tree))
    return Homes(homes, names, unset, missing, tuple(homing.results), frozenset(uses.written))


@dataclass(frozen=True)
class _Uses:
    """What the hooks use.

    Attributes:
        run: all of it, in the order of a run; elsewhere: what else reads in the module.
        mentioned: read or written; written: by the hooks, where nothing is decided yet.
        across: read in a hook that has not written it before, or by a function of a hook when another only writes it.
        surely: written by a hook on every path through it.
        inner: fields of objects that the hooks make anew, with the object.
        hidden: read in a hook that has a parameter of that name.
    """

    per_hook: tuple[Usage, ...]
    run: Usage
    elsewhere: Usage
    mentioned: set[Variable]
    written: set[Variable]
    across: set[Variable]
    surely: set[Variable]
    inner: Mapping[Field, Variable]
    hidden: set[Variable]

    @classmethod
    def of(cls, hooks: Sequence[Hook], forced: Mapping[Variable, Home], elsewhere: Usage) -> _Uses:
        per_hook = tuple(hook_usage(hook) for hook in hooks)
        written = {v for use in per_hook for v in use.writes} - forced.keys()
        mentioned = {v for use in per_hook for v in use.reads | use.writes} | elsewhere.reads
        across = {v for use in per_hook for v in use.exposed} | elsewhere.exposed
        surely = {v for use in per_hook for v in use.must or ()}
        inner = {v: v.owner for v in mentioned if isinstance(v, Field) and v.owner in written}
        mentioned |= set(inner.values())
        across |= {owner for field, owner in inner.items() if field in across}
        across |= _read_by_functions(hooks) & {v for use in per_hook for v in use.writes - use.reads}
        hidden = {v for hook, use in zip(hooks, per_hook) for v in use.reads if v.name in hook.parameters}
        run = _run_usage(hooks)
        return cls(per_hook, run, elsewhere, mentioned, written, across, surely, inner, hidden)


class _Homing:
    """Homes as they are given, one variable after the other.

    Attributes:
        captured: what the host hands to the module; results: what it reads back.
        before: what the host may have set when the loop is reached.
    """

    def __init__(
        self,
        nest: Nest,
        around: Surroundings,
        kinds: Kinds,
        uses: _Uses,
        homes: dict[Variable, Home],
        hyperparameters: Variable | None,
    ) -> None:
        self.host, self.around, self.kinds, self.tree, self.uses = nest.host, around, kinds, kinds.tree, uses
        self.homes = homes
        self.hyperparameters = hyperparameters
        self.after = usage(around.after)
        self.before = around.set_before(nest.host)
        self.changed = changed_fields(self.tree) | self.tree.methods.keys()
        self.captured: list[Variable] = []
        self.results: list[Variable] = []
        self.of_owner: set[Field] = set()  # fields that are reached by way of their object
        self.taken = {home.name for home in homes.values() if isinstance(home, Attribute)}

    def settle(self, variable: Variable) -> None:
        """Gives a variable its home; fields that are reached by way of their object wait for that of the object."""
        if isinstance(variable, Field) and self._is_of_owner(variable):
            self.of_owner.add(variable)
            if variable not in self.uses.inner:
                self.captured.append(variable.owner)
        elif variable in self.uses.written:
            self.homes[variable] = self._of_written(variable)
        else:
            self.homes[variable] = self._of_read(variable)

    def settle_fields(self) -> None:
        """Gives those fields their homes."""
        for variable in sorted(self.of_owner, key=lambda v: v.order):
            owner = variable.owner
            if owner not in self.homes:
                self.homes[owner] = self._attribute(Variable("owner", owner.frame))
            self.homes[variable] = Computed(f"{_text(self.homes[owner])}.{variable.name}")

    def join(self, pairs: Mapping[Variable, Variable]) -> None:
        """Lets what a function returns live where the caller's name for it does."""
        for value, target in reversed(list(pairs.items())):  # a caller's name may be a result itself
            inner, outer = self.homes.get(value), self.homes.get(target)
            if isinstance(inner, Attribute) and isinstance(outer, Attribute | Local):
                if inner.name != target.name and isinstance(outer, Local):
                    outer = self._attribute(target)
                self.homes[value] = self.homes[target] = inner if inner.name == target.name else outer
            elif isinstance(inner, Local) and isinstance(outer, Attribute):
                self.homes[value] = outer
            elif isinstance(inner, Local) and isinstance(outer, Local):
                hooks = [used for use in self.uses.per_hook if value in (used := use.reads | use.writes)]
                others = (self.homes.get(other) for used in hooks for other in used - {value, target})
                free = all(not isinstance(other, Local) or other.name != outer.name for other in others)
                self.homes[value] = outer if len(hooks) == 1 or free else inner

    def _is_of_owner(self, field: Field) -> bool:
        uses = self.uses
        if field in uses.written or field in uses.inner or f".{field.name}" in self.around.rebound:
            return True
        if is_computed(field.name, self.tree):
            return True
        return self.kinds.of(field) not in _TRAINED and field.name in self.changed

    def _of_written(self, variable: Variable) -> Home:
        uses, of_module = self.uses, variable.frame.is_module
        if of_module and (variable.name in self.around.kept_reads or not self.host.is_module):
            return Global(variable.name)
        around_host = encloses(variable.frame, self.host)  # `nonlocal` here
        of_host = variable.frame is self.host or of_module
        read_after = around_host or (of_host and variable in self.after.exposed)
        if variable not in uses.across and not read_after:
            return Local(variable.name)
        if read_after:
            self.results.append(variable)
        first = variable in uses.run.exposed | uses.elsewhere.exposed or variable in uses.inner.values()
        known = variable in self.before or around_host
        if (known and (first or variable not in uses.surely)) or variable in self.around.carried:
            self.captured.append(variable)
        return self._attribute(variable)

    def _of_read(self, variable: Variable) -> Home:
        of_host = variable.frame is self.host or encloses(variable.frame, self.host)
        if variable is self.hyperparameters and (of_host or self.host.is_module):
            self.captured.append(variable)
            return Computed("self.hparams")
        if variable.frame.is_module and not isinstance(variable, Field):
            if variable not in self.uses.hidden and not self._is_handed_over(variable):
                return Global(variable.name)
        elif not of_host and not isinstance(variable, Field):
            return Local(variable.name)
        self.captured.append(variable)
        return self._attribute(variable)

    def _is_handed_over(self, variable: Variable) -> bool:
        """True for a global that the module holds: what is trained, and what was made before the loop for good."""
        name, kind = variable.name, self.kinds.of(variable)
        if kind not in _TRAINED or name in self.around.rebound:
            return False
        if name in self.tree.functions or name in self.tree.classes:
            return False
        if self.host.is_module:
            return variable in self.before
        made = name in bound_names(block(self.tree.scope))
        return kind is Kind.MODULE and made and self.host.resolve(name) is variable

    def _attribute(self, variable: Variable) -> Attribute:
        name = _free_name(variable, self.taken)
        self.taken.add(name)
        return Attribute(name, BORROWED if borrows(variable, self.kinds) else "")


def _text(home: Home) -> str:
    if isinstance(home, Computed):
        return home.text
    return f"self.{home.path}" if isinstance(home, Attribute) else home.name


def _unset(captured: Sequence[Variable], around: Surroundings, host: Frame) -> dict[cst.CSTNode, tuple[str, ...]]:
    """Names that are handed over although the host may not have bound them: the script reads them only when it did."""
    bound = around.surely_set(host) | _read_for_sure(around)
    found: dict[cst.CSTNode, tuple[str, ...]] = {}
    for variable in captured:
        if variable in bound or variable.frame is not host or isinstance(variable, Field):
            continue
        first: cst.CSTNode | None
        first = next((item.node for item in around.before if variable in usage([item]).writes), None)
        if first is None and variable in around.carried:
            first = around.outermost
        if first is not None:
            found[first] = (*found.get(first, ()), variable.name)
    return found


def _read_for_sure(around: Surroundings) -> set[Variable]:
    """What the host reads anyway before the loop, which fails where it is not bound."""
    lines = [] if around.repeated else [one for one in around.before if isinstance(one.node, cst.SimpleStatementLine)]
    sure = [one for one in lines if not any(isinstance(part, _MAY_NOT_RUN) for part in walk(one.node))]
    return {variable for one in sure for variable in usage([one]).reads}


def hook_usage(hook: Hook) -> Usage:
    """What a hook reads and writes, its result included."""
    total = usage(hook.steps)
    if hook.result is not None:
        total += expression_usage(*hook.result)
    if hook.leaves:
        total.must = set()
    return total


def _read_by_functions(hooks: Sequence[Hook]) -> set[Variable]:
    """What functions read that hooks make, at whatever time they run: `Thread(args=(lambda: done,))`."""
    items = [step for hook in hooks for step in hook.steps if isinstance(step, Item)]
    functions = ((one, item.frame) for item in items for one in nodes_of(item.node, cst.Lambda, cst.FunctionDef))
    meanings = (frame.resolve(name) for function, frame in functions for name in free_names(function))
    return {meaning for meaning in meanings if isinstance(meaning, Variable)}


def _run_usage(hooks: Sequence[Hook]) -> Usage:
    """What the hooks read and write in the order of a run."""
    run = Usage()
    for in_batch, group in groupby(hooks, _in_batch):
        part = Usage()
        for hook in group:
            use = hook_usage(hook)
            part += replace(use, must=use.must or set())
        run += replace(part, must=set()) if in_batch else part  # there may be no batch
    return run


def _in_batch(hook: Hook) -> bool:
    return hook.name.endswith("_step") or "batch" in hook.parameters or hook.name in ("optimizer_zero_grad", "backward")


def encloses(frame: Frame, host: Frame) -> bool:
    """True for the frame of a function that the host is defined in."""
    current = host.outer
    while current is not None:
        if current is frame:
            return not current.is_module
        current = current.outer
    return False


def _free_name(variable: Variable, taken: set[str]) -> str:
    name = variable.name
    if name.startswith("__"):
        name = name.strip("_") or "value"
    if name == "self":
        name = "owner"
    if name in RESERVED:
        name = f"{name}_"
    if name in taken:
        owner = variable.owner.name if isinstance(variable, Field) else ""
        name = f"{owner if owner not in ('', 'self') else variable.frame.name or 'script'}_{variable.name}"
    number = 2
    while name in taken or name in RESERVED:
        name, number = f"{variable.name}_{number}", number + 1
    return name


def _separate_locals(homes: dict[Variable, Home], per_hook: Sequence[Usage]) -> None:
    """Renames locals of opened calls that would meet another variable of the same name in a hook."""
    for use in per_hook:
        # what a batch without a step is told by stays readable in all of its hook
        names: dict[str, Variable] = {v.name: v for v in use.reads if v.frame.name == "hook" and v.name == "outputs"}
        globals_first = sorted(
            use.reads | use.writes,
            key=lambda v: (not isinstance(homes.get(v), Global), len(v.frame.name), v.frame.number, v.order),
        )
        for variable in globals_first:
            home = homes.get(variable)
            if not isinstance(home, (Local, Global)) or variable.frame.name == "hook":
                continue
            holder = names.setdefault(home.name, variable)
            if holder is not variable and isinstance(home, Local):
                homes[variable] = Local(f"{variable.frame.name or 'script'}_{variable.name}")
