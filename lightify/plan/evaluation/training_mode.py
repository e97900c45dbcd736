"""Drops `net.train()` at an epoch's start where the network cannot be in another mode there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.handed import Origin, origin_of
from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.plan.constructions import values_in
from lightify.plan.draft import Draft
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.evaluation.own_modes import EVALUATES
from lightify.plan.types import FateNote, Hook
from lightify.recognisers.modules import builds_module
from lightify.syntax.frames import Field, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, dotted, method_call

_STARTS = ("on_train_epoch_start", "training_step")
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "compile")
_KEEP_MODE = {"to", "cuda", "cpu", "double", "half", "float", "bfloat16", "train"}
#: Functions of Python that leave a network as it is.
_LOOK_ONLY = {"print", "len", "isinstance", "hasattr", "getattr", "id", "type", "str", "repr", "list", "sum", "super"}


def without_training_calls(draft: Draft, hooks: Sequence[Hook]) -> list[Hook]:
    """Drops the calls when networks are built in training mode and only the Trainer ever changes that."""
    found = {
        step: variable
        for hook in hooks
        if hook.name in _STARTS
        for step in hook.steps
        if (variable := mode_call(step, draft.kinds, "train")) is not None
    }
    sure = {variable for variable in found.values() if _built_in_training_mode(draft, variable)}
    dropped = {step for step, variable in found.items() if variable in sure}
    calls = {call for variable in sure if (origin := _origin(draft, variable)) is not None for call in origin.calls}
    if not dropped or not _mode_is_left_alone(draft, dropped, calls):
        return list(hooks)
    for step in dropped:
        assert isinstance(step, Item)
        draft.fates[step.node] = FateNote(Fate.DROPPED, "", "the network is in training mode here already")
    return [replace(hook, steps=tuple(step for step in hook.steps if step not in dropped)) for hook in hooks]


def _built_in_training_mode(draft: Draft, variable: Variable) -> bool:
    origin = _origin(draft, variable)
    values = values_in(origin.name, origin.scope or draft.tree.scope) if origin is not None else None
    if origin is None or values is None:
        return False
    tree, repeated = draft.tree, draft.around.repeated
    after = set() if repeated else {item.node for item in draft.around.after}
    made = [
        (statement, value) for statement, value in values if after.isdisjoint((statement, *tree.ancestors(statement)))
    ]
    if not made or not all(_in_training_mode(draft, value, origin.name) for _, value in made):
        return False
    # an outer loop that keeps the network starts its next run in the mode that the last one ended in
    return not repeated or all(tree.parents[statement] is tree.parents[draft.nest.host_loop] for statement, _ in made)


def _origin(draft: Draft, variable: Variable) -> Origin | None:
    if isinstance(variable, Field):
        return None
    return origin_of(variable.name, variable.frame.function, draft.tree)


def _in_training_mode(draft: Draft, value: cst.Call, name: str) -> bool:
    """True for what builds the network of a name, or leaves it as it is."""
    used = method_call(value)
    if used is not None and used[1] in _KEEP_MODE:
        if isinstance(used[0], cst.Call):
            return _in_training_mode(draft, used[0], name)
        return dotted(used[0]) == name
    if (draft.tree.qualified(value.func) or "").rpartition(".")[2] in _WRAPPERS:
        inner = arguments(value).get(0, "module")
        return dotted(inner) == name or (isinstance(inner, cst.Call) and _in_training_mode(draft, inner, name))
    return builds_module(value, draft.tree) and used != (used and used[0], "eval")


def _mode_is_left_alone(draft: Draft, dropped: set[Step], calls: set[cst.Call]) -> bool:
    """True when nothing in the script but the dropped calls and the Trainer's evaluation changes a mode.

    Args:
        calls: run once, and hand a network to the run: what follows them comes after it.
    """
    replaced = {id(step.node) for step in dropped if isinstance(step, Item)}
    replaced |= {id(node) for node, note in draft.fates.items() if note.target in EVALUATES}
    if not draft.around.repeated:
        replaced |= {id(item.node) for item in draft.around.after}
    later = {id(statement) for call in calls for statement in _following(call, draft.tree)}
    gone = {*draft.around.removed, draft.nest.host.function}
    opened = {one.call for one in draft.nest.opened}
    within = _Places(replaced, later, gone, opened, draft.tree)
    return all(within.hold(node) for node in _mode_changes(draft))


@dataclass(frozen=True)
class _Places:
    """Statements that run at known times, by `id`.

    Attributes:
        replaced: those of functions that are gone; later: those of any function, which run once.
        gone: functions whose body stands elsewhere; opened: calls whose function's body stands in their place.
    """

    replaced: Set[int]
    later: Set[int]
    gone: Set[cst.FunctionDef | None]
    opened: Set[cst.Call]
    tree: Tree

    def hold(self, node: cst.CSTNode, seen: frozenset[cst.CSTNode] = frozenset()) -> bool:
        """True for what stands in one, or in a function that runs in them alone."""
        around = list(self.tree.ancestors(node))
        if any(id(outer) in self.later for outer in around):
            return True
        replaced = any(id(outer) in self.replaced for outer in around)
        staying = (outer for outer in around if isinstance(outer, cst.FunctionDef) and outer not in self.gone)
        function = next(staying, None)
        if function is None:
            return replaced
        if function in seen:
            return True
        calls = callers(self.tree).get(function, ())
        if not calls or function.decorators or self._is_named(function):
            return False  # it may run at any time
        return all(replaced if call in self.opened else self.hold(call, seen | {function}) for call in calls)

    def _is_named(self, function: cst.FunctionDef) -> bool:
        """True where a function's name stands for more than a call."""
        for node in self.tree.nodes(cst.Name, cst.Attribute):
            name = node.attr.value if isinstance(node, cst.Attribute) else node.value.rpartition(".")[2]  # type: ignore[attr-defined]
            called = getattr(self.tree.parents.get(node), "func", None) is node
            if name == function.name.value and node is not function.name and not called:
                return True
        return False


def _following(call: cst.Call, tree: Tree) -> Iterator[cst.BaseStatement]:
    """The statements of a call's scope that come after it."""
    inner: cst.CSTNode = call
    for outer in tree.ancestors(call):
        if isinstance(outer, cst.FunctionDef):
            return
        if isinstance(outer, (cst.IndentedBlock, cst.Module)):
            yield from outer.body[outer.body.index(inner) + 1 :]  # type: ignore[misc, arg-type]
        inner = outer


def _mode_changes(draft: Draft) -> Iterator[cst.CSTNode]:
    """What changes a network's mode, or hands one to code that is not in sight."""
    tree = draft.tree
    for node in tree.nodes(cst.AssignTarget, cst.Call):
        if isinstance(node, cst.AssignTarget) and isinstance(node.target, cst.Attribute):
            if node.target.attr.value == "training":
                yield node
        elif isinstance(node, cst.Call):
            used = method_call(node)
            if used is not None and (used[1] == "eval" or (used[1] == "train" and len(node.args) < 2)):
                yield node
            elif used is None or tree.qualified(node.func):
                full = tree.qualified(node.func) or ""
                known = full.startswith("torch.") and not full.startswith(("torch.onnx.", "torch.ao.", "torch.quant"))
                if not (known or full in _LOOK_ONLY or full in tree.functions or full in tree.classes):
                    scope = tree.function_of(node)
                    given = (dotted(arg.value) for arg in node.args)
                    if any(
                        draft.analysis.kinds.get((place, name)) is Kind.MODULE
                        for name in given
                        if name is not None
                        for place in (scope, None)
                    ):
                        yield node
