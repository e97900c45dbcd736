"""Where the lightning package runs a loop otherwise than the loop ran, and the plan has to make up for it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import libcst as cst

from lightify.facts import Kind
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.effects import is_calm_method, may_draw
from lightify.plan.evaluation.modes import mode_call
from lightify.plan.optimization.gradients import may_leave_gradients, names_gradients, reads_gradients
from lightify.plan.optimization.own_optimizers import steps_without_closure
from lightify.recognisers.base import is_module_class
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, dotted, method_call, walk

#: Bases of classes that make the order or the number of batches themselves.
_SOURCES = ("Sampler", "IterableDataset", "IterDataPipe", "DataLoader")
#: What holds no data: what is done to it changes no loader.
_APART = (Kind.NAMESPACE, Kind.MODULE, Kind.DEVICE, Kind.OPTIMIZER, Kind.SCHEDULER, Kind.SCALER)
_COLLECTING = ("append", "extend", "update", "item")


def on_lightning(draft: Draft) -> bool:
    return draft.settings.runtime == "lightning"


def is_steady(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True when the package's own pass over a source is a loop's.

    It counts the batches once, asks for none after the last one it expects, reads what has no length one batch
    ahead, and calls `iter` more than once: each changes what a source of the script's own makes or draws.
    """
    if isinstance(source, cst.Call) and dotted(source.func) == "range":
        return True
    data = _made_of(draft, source, frame)
    return not (_makes_batches(draft.tree) or _changes(draft, draft.whole(), data) or _goes_on(draft, source, frame))


def starts_late(
    draft: Draft, source: cst.BaseExpression, frame: Frame, later: Iterable[Step], *, counted: bool
) -> bool:
    """True when the first pass must not begin before the first epoch does, as the package would have it.

    Args:
        later: what follows the run; counted: it is known that there is an epoch.
    """
    start = [step for step in draft.nest.epoch_start if mode_call(step, draft.kinds, "train") is None]
    drawing = start if counted else [*start, *later]
    return any(may_draw(step, draft.tree) for step in drawing) or _changes(draft, start, _made_of(draft, source, frame))


def _goes_on(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True when workers live on for passes after the run, at whose end the package stops them."""
    if "persistent_workers" not in draft.tree.text:
        return False
    later = usage(draft.around.after).reads
    return draft.around.repeated or bool(expression_usage(source, frame).reads & later)


@lru_cache(maxsize=64)
def _makes_batches(tree: Tree) -> bool:
    """True when the script draws an order from a generator of its own, or makes batches in a class of its own."""
    if "generator" in tree.text and any(_has_generator(call, tree) for call in tree.nodes(cst.Call)):
        return True
    return any(_iterates(definition, tree) for definition in tree.classes.values())


def _has_generator(call: cst.Call, tree: Tree) -> bool:
    made = (tree.qualified(call.func) or "").endswith(("DataLoader", "Sampler"))
    return made and _given(call, "generator") is not None


def _iterates(definition: cst.ClassDef, tree: Tree) -> bool:
    names = [dotted(base.value) or "" for base in definition.bases]
    if any(name.endswith(_SOURCES) for name in names):
        return True
    methods = [part.name.value for part in block(definition.body) if isinstance(part, cst.FunctionDef)]
    return "__iter__" in methods and not is_module_class(definition, tree)


def makes_own_batches(draft: Draft, source: cst.BaseExpression, frame: Frame) -> bool:
    """True when batches may be objects that the package would copy part by part on their way to the device."""
    if isinstance(source, cst.Call) and dotted(source.func) == "range":
        return False
    if draft.kinds.kind(source, frame) is not Kind.LOADER:
        return True
    calls = draft.tree.nodes(cst.Call) if "collate_fn" in draft.tree.text else ()
    return any(_given(call, "collate_fn") is not None for call in calls)


def _given(call: cst.Call, keyword: str) -> cst.BaseExpression | None:
    """The value of a keyword argument, unless it is None."""
    found = next((arg.value for arg in call.args if arg.keyword is not None and arg.keyword.value == keyword), None)
    return found if found is not None and dotted(found) != "None" else None


def _made_of(draft: Draft, source: cst.BaseExpression, frame: Frame) -> set[Variable]:
    """What a source is, and what it was built from."""
    tree = draft.tree
    found: set[Variable] = set()
    named = tree.imports.keys() | tree.functions.keys() | tree.classes.keys()
    waiting = list(expression_usage(source, frame).reads)
    while waiting:
        variable = waiting.pop()
        defined = variable.frame.is_module and variable.name in named
        if variable in found or defined or draft.kinds.of(variable) in _APART:
            continue
        found.add(variable)
        built = construction(variable, tree, draft.nest.host_loop)
        if built is not None:
            waiting.extend(expression_usage(built[1], variable.frame).reads)
    return found


def _changes(draft: Draft, steps: Iterable[Step], data: set[Variable]) -> bool:
    """True when steps may change what a loader reads."""
    items = (step for step in steps if isinstance(step, Item))
    return any(_changed(draft, node, item.frame, data) for item in items for node in walk(item.node))


def _changed(draft: Draft, node: cst.CSTNode, frame: Frame, data: set[Variable]) -> bool:
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign)):
        return isinstance(node.target, cst.Attribute) and _root(draft, node.target.value, frame) in data
    used = method_call(node)
    if used is None or _root(draft, used[0], frame) not in data:
        return False
    if used[1] == "set_epoch":
        return not (dotted(used[0]) or "").endswith("sampler")
    return used[1] in _COLLECTING or not is_calm_method(used[1])


def _root(draft: Draft, node: cst.CSTNode, frame: Frame) -> Variable | None:
    """`dl` of `dl.dataset.samples`."""
    while True:
        variable = draft.kinds.variable(node, frame)
        if variable is not None or not isinstance(node, (cst.Attribute, cst.Subscript)):
            return variable
        node = node.value


def own_way_of_stepping(draft: Draft, optimizer: Variable | None) -> str:
    """Why an optimizer can't be handed the training step as a closure, as the package does; empty if it can."""
    if "register_step_pre_hook" in draft.tree.text or "register_optimizer_step_pre_hook" in draft.tree.text:
        return "a hook runs before each optimizer step, and lightning takes gradients within the step"
    if optimizer is not None and steps_without_closure(draft, optimizer):
        return "the script's own optimizer does not begin its step with the closure that lightning hands it"
    return ""


def finds_gradients(draft: Draft) -> bool:
    """True when there may be gradients before the run, which the package would drop."""
    nest, tree = draft.nest, draft.tree
    own = {part for step in draft.whole() if isinstance(step, Item) for part in walk(step.node)}
    others = [fact.call for fact in draft.analysis.backwards if fact.call not in own]
    return any(may_leave_gradients(call, nest.host_loop, tree) for call in others) or any(
        names_gradients(item.node, tree) for item in draft.around.before
    )


def leaves_gradients(draft: Draft) -> bool:
    """True when an epoch's end reads what is left, or a backward pass outside adds to it; the package drops it."""
    if reads_gradients(draft.after_batches(), draft.tree):
        return True
    own = {part for step in draft.whole() if isinstance(step, Item) for part in walk(step.node)}
    return any(fact.call not in own for fact in draft.analysis.backwards)


def catches_end(loop: cst.CSTNode, tree: Tree) -> cst.ExceptHandler | None:
    """The `except StopIteration` around a loop, in the same function."""
    for around in tree.ancestors(loop):
        if isinstance(around, cst.FunctionDef):
            return None
        for handler in around.handlers if isinstance(around, cst.Try) else ():
            if handler.type is not None and any(dotted(part) == "StopIteration" for part in walk(handler.type)):
                return handler
    return None
