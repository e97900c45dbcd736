"""The loss at the end of a batch, as the Trainer tells it: `outputs["loss"]`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from lightify.plan.draft import Draft
from lightify.plan.homes import hook_usage
from lightify.plan.logs.metrics import log_name
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.types import Hook, Local
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Expression, Field, Frame, Item, Step, Variable
from lightify.syntax.query import dotted, method_call, nodes_of, walk

_TOLD = "on_train_batch_end"
#: Methods and attributes of a loss that give its value alone, and those that give it with its graph.
_VALUE = ("item", "detach", "data", "tolist")
_PASSES_ON = ("cpu", "float", "double", "mean", "sum")
#: `%s`, `%-8r`.
_AS_OBJECT = re.compile(r"%[-+ #0-9.*]*[sra]")
_NUMBERS = ("float", "int", "math.exp", "math.isnan", "math.isinf", "math.isfinite", "torch.isnan", "torch.isfinite")


def told_by_outputs(draft: Draft, hooks: Sequence[Hook], auto: Automatic | None) -> list[Hook]:
    """Lets the end of a batch read the loss from its `outputs`, where it asks for its value and no one else does.

    They hold it without its graph, and divided where gradients add up over several batches.
    """
    step = next((hook for hook in hooks if hook.name == "training_step"), None)
    end = next((hook for hook in hooks if hook.name == _TOLD), None)
    if auto is None or auto.leaves or auto.closure is not None or step is None or end is None or step.result is None:
        return list(hooks)
    node, frame = step.result
    loss = frame.resolve(node.value) if isinstance(node, cst.Name) else None
    if not isinstance(loss, Variable) or isinstance(loss, Field) or _is_needed_elsewhere(draft, loss, hooks):
        return list(hooks)
    asked = hook_usage(end).exposed
    if loss not in asked or not _asks_for_value(draft, end.steps, loss):
        return list(hooks)
    if _changes_parts(end.steps, asked & hook_usage(step).writes):
        return list(hooks)
    if any(option.name == "accumulate_grad_batches" for option in draft.options):
        return list(hooks)
    draft.forced[draft.generated.variable("outputs")] = Local("outputs")
    value = cst.parse_expression('outputs["loss"]')
    told = Binding(cst.Name(loss.name), loss.frame, value, draft.generated, draft.nest.batch_loop)
    return [replace(hook, steps=(told, *hook.steps)) if hook is end else hook for hook in hooks]


def _is_needed_elsewhere(draft: Draft, loss: Variable, hooks: Sequence[Hook]) -> bool:
    """True for a loss that another hook, the host or a function reads, too, or that another hook changes."""
    if loss.frame.is_module and (loss.name in draft.around.kept_reads or not draft.nest.host.is_module):
        return True
    if loss in draft.kept_alive | usage(draft.around.after).exposed:
        return True
    used = {hook.name: hook_usage(hook) for hook in hooks if hook.name != _TOLD}
    return any(loss in use.exposed or (loss in use.writes and name != "training_step") for name, use in used.items())


def _changes_parts(steps: Sequence[Step], parts: Collection[Variable]) -> bool:
    """True where the end changes in place what the step made: it may be the loss under another name."""
    for step in steps:
        node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
        called = [used for used in map(method_call, nodes_of(node, cst.Call)) if used is not None]
        changed = [owner for owner, method in called if method.endswith("_") and not method.endswith("__")]
        changed += [one.target for one in nodes_of(node, cst.AugAssign)]
        for one in changed:
            if any(isinstance(part, cst.Name) and frame.resolve(part.value) in parts for part in walk(one)):
                return True
    return False


def _asks_for_value(draft: Draft, steps: Sequence[Step], loss: Variable) -> bool:
    """True where every reader of the loss gets the same from one without a graph."""
    for step in steps:
        if isinstance(step, Binding):
            if any(_means(part, step.value_frame, loss) for part in walk(step.value)):
                return False
            continue
        logs = [call for call in nodes_of(step.node, cst.Call) if log_name(call) is not None]
        logged = {call.args[1].value for call in logs}
        for part in walk(step.node):
            if _means(part, step.frame, loss) and part not in logged and not _gives_value(draft, part):
                return False
        if loss in (usage([step]).must or ()):
            return True  # `loss = loss.item()`: what follows reads that
    return True


def _means(node: cst.CSTNode, frame: Frame, variable: Variable) -> bool:
    """True for a name of a variable, and for one of an expression that reads it."""
    meaning = frame.meaning(node.value) if isinstance(node, cst.Name) else None
    if isinstance(meaning, Expression):
        return any(_means(part, meaning.frame, variable) for part in walk(meaning.node))
    return meaning is variable


def _gives_value(draft: Draft, node: cst.CSTNode) -> bool:
    """True for `x.item()`, `float(x)`, `x < 1`, `"%.3f" % x`, `f"{x}"`, and where `x` is assigned."""
    parents = draft.tree.parents
    around = parents.get(node)
    if isinstance(around, cst.Attribute):
        if around.attr.value in _VALUE:
            return around.value is node
        called = parents.get(around)
        passes = around.attr.value in _PASSES_ON and isinstance(called, cst.Call) and called.func is around
        return passes and called is not None and _gives_value(draft, called)
    if isinstance(around, cst.FormattedStringExpression):
        return around.conversion is None
    if isinstance(around, (cst.Comparison, cst.ComparisonTarget, cst.AssignTarget)):
        return True
    call = parents.get(around) if isinstance(around, cst.Arg) else None
    if isinstance(call, cst.Call):
        name = dotted(call.func) or ""
        return (draft.tree.qualified(call.func) or name) in _NUMBERS or _formats(call)
    return any(_formats(one) for one in _tuple_and_above(draft, around))


def _tuple_and_above(draft: Draft, node: cst.CSTNode | None) -> Iterator[cst.CSTNode]:
    """What a value is the right side of, alone or in a tuple."""
    while isinstance(node, (cst.Element, cst.Tuple)):
        node = draft.tree.parents.get(node)
    if node is not None:
        yield node


def _formats(node: cst.CSTNode) -> bool:
    """True for `"...".format(x)` and `"..." % x` that write a number as such, never as an object."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "format":
        text = node.func.value
        return isinstance(text, cst.SimpleString) and not any(sign in text.value for sign in ("!r", "!s", "!a"))
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Modulo):
        text = node.left
        return isinstance(text, cst.SimpleString) and _AS_OBJECT.search(text.value) is None
    return False
