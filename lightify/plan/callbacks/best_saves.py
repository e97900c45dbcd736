"""The save of the best weights that ModelCheckpoint stands for: what it holds, and where."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.callbacks.comparisons import Best
from lightify.plan.callbacks.saves import Saved, plain_save, saving_call
from lightify.plan.callbacks.starts import start_of
from lightify.plan.draft import Draft
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Step, Variable
from lightify.syntax.names import parameters
from lightify.syntax.query import arguments, dotted, method_call, target_names, walk


def place_of(
    draft: Draft, nest: Nest, found: Best, saved: Saved | None, later: tuple[Step, ...]
) -> tuple[str, str] | None:
    """The arguments of ModelCheckpoint for the file's place, and the path; None when the save has to stay."""
    if saved is None or not _holds_only_weights(draft, nest, found, saved.what):
        return None
    if any(isinstance(n, cst.Call) and _loads(n) for n in walk(draft.tree.module)):
        return None
    if any(draft.kinds.of(v) is Kind.MODULE for v in usage(later).reads):
        return None  # the Trainer saves at the very end of the epoch
    place = saved.place(draft, found.step.frame)
    return (place, saved.path) if place is not None else None


def saved_at(draft: Draft, found: Best, line: cst.BaseStatement) -> Saved | None:
    """What `torch.save(what, path)` saves, where nothing else knows the path."""
    call, frame = saving_call(draft, line), found.step.frame
    given = arguments(call) if call is not None else None
    what, path = (given.get(0, "obj"), given.get(1, "f")) if given is not None and len(given) == 2 else (None, None)
    if what is None or path is None:
        return None
    if isinstance(path, cst.Name):
        variable = draft.kinds.variable(path, frame)
        uses = [node for node in walk(draft.tree.module) if isinstance(node, cst.Name) and node.value == path.value]
        text = start_of(draft, variable) if variable is not None and len(uses) == 2 else ""
        path = cst.parse_expression(text) if text[:1] in ("'", '"') else path
    return plain_save(what, path)


def _loads(call: cst.Call) -> bool:
    return (dotted(call.func) or "").rpartition(".")[2] in ("load", "load_state_dict", "from_pretrained", "glob")


def _holds_only_weights(draft: Draft, nest: Nest, found: Best, what: cst.BaseExpression) -> bool:
    """True when a Lightning checkpoint has all of it: states, the epoch, the metric."""
    frame = found.step.frame
    if isinstance(what, cst.Dict):
        plain = all(isinstance(e, cst.DictElement) and isinstance(e.key, cst.SimpleString) for e in what.elements)
        return plain and all(
            _holds_only_weights(draft, nest, found, e.value)
            or _is_state(draft, e.value, frame, (Kind.OPTIMIZER, Kind.SCHEDULER))
            or _counts(draft, nest, found, e.value)
            for e in what.elements
        )
    if _is_state(draft, what, frame, (Kind.MODULE,)):
        what = method_call(what)[0]  # type: ignore[index]
    variable = draft.kinds.variable(what, frame)
    return variable is not None and draft.kinds.of(variable) is Kind.MODULE and variable in usage(nest.body).reads


def _counts(draft: Draft, nest: Nest, found: Best, node: cst.BaseExpression) -> bool:
    """True for the epoch's number, the metric and its best."""
    reads = expression_usage(node, found.step.frame).reads
    counted = target_names(nest.epoch_loop.target) if isinstance(nest.epoch_loop, cst.For) else []
    owner = draft.kinds.variable(node.value, found.step.frame) if isinstance(node, cst.Attribute) else None
    if owner is not None and draft.kinds.of(owner) in (Kind.NAMESPACE, None) and _is_given(draft, owner):
        return True  # an option of the script
    known = {found.metric, found.best, *(nest.host.resolve(name) for name in counted)}
    return reads <= known and not any(isinstance(part, cst.Call) for part in walk(node))


def _is_given(draft: Draft, variable: Variable) -> bool:
    """True for options: what was parsed, or a parameter of the host's that stays what it is."""
    function = draft.nest.host.function
    names = {param.name.value for param in parameters(function)} if function is not None else set()
    handed = variable.frame is draft.nest.host and variable.name in names
    return handed or draft.kinds.of(variable) is Kind.NAMESPACE


def _is_state(draft: Draft, node: cst.BaseExpression, frame: Frame, kinds: tuple[Kind, ...]) -> bool:
    used = method_call(node)
    return used is not None and used[1] == "state_dict" and draft.kinds.kind(used[0], frame) in kinds
