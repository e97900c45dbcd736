"""Arguments of the Trainer, and the module's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from lightify.analysis.analyze import class_of
from lightify.facts import Kind
from lightify.loops.epochs import EpochHead
from lightify.plan.constructions import construction, scope_nodes
from lightify.plan.draft import Draft
from lightify.plan.optimization.mode import Automatic
from lightify.plan.trainer import acceleration
from lightify.plan.trainer.strategy import strategy_options
from lightify.plan.types import (
    Hook,
    TrainerOption,
)
from lightify.syntax.flow import usage
from lightify.syntax.frames import Variable
from lightify.syntax.names import read_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, dotted, small, walk

_EACH_EPOCH = "the Trainer saves a checkpoint after each epoch"


def departures(draft: Draft, hooks: Sequence[Hook]) -> tuple[str, ...]:
    """What the idiomatic style does that the script did not do; none of it touches a parameter."""
    if draft.settings.style == "faithful":
        return ()
    return (
        "metrics go to the Trainer's default logger, under lightning_logs/",
        *(
            ()
            if any("ModelCheckpoint" in str(o.value) for o in draft.options if o.name == "callbacks")
            else (_EACH_EPOCH,)
        ),
        *_gone_methods(draft),
        *dict.fromkeys(draft.steps_away),
        *([f"no longer printed: {', '.join(draft.unshown)}"] if draft.unshown else []),
    )


def _gone_methods(draft: Draft) -> Iterator[str]:
    methods = [function.name.value for function in draft.around.removed if class_of(function, draft.tree) is not None]
    if methods:
        yield f"methods whose code moved are gone: {', '.join(sorted(methods))}"


def trainer_options(draft: Draft, epochs: EpochHead | None, auto: Automatic | None) -> None:
    host = draft.nest.host
    one = TrainerOption("max_epochs", "1")
    options = [TrainerOption("max_epochs", epochs.count, host) if epochs is not None else one]
    options.extend(device_options(draft))
    if auto is not None and auto.clip is not None:
        value, frame, algorithm = auto.clip
        options.append(TrainerOption("gradient_clip_val", value, frame))
        if algorithm == "value":
            options.append(TrainerOption("gradient_clip_algorithm", '"value"'))
    options.extend(draft.options)
    if _detects_anomalies(draft.tree):
        options.append(TrainerOption("detect_anomaly", "torch.is_anomaly_enabled()"))
    if draft.evaluation is not None:
        options.append(TrainerOption("num_sanity_val_steps", "0"))
    if draft.settings.style == "faithful":
        options.append(TrainerOption("logger", "False"))
        options.append(TrainerOption("enable_checkpointing", "False"))
    draft.options[:] = options


def _detects_anomalies(tree: Tree) -> bool:
    """True when the script may have turned anomaly detection on; a Trainer turns it off."""
    if "detect_anomaly" not in tree.text or tree.imports.get("torch") != "torch":
        return False
    calls = [node for node in tree.parents if isinstance(node, cst.Call)]
    found = (call for call in calls if (dotted(call.func) or "").endswith("detect_anomaly"))
    return any([dotted(arg.value) for arg in call.args[:1]] != ["False"] for call in found)


def device_options(draft: Draft) -> list[TrainerOption]:
    if draft.analysis.accelerated and (own := acceleration.device_options(draft)) is not None:
        return own
    text = device_text(draft)
    chosen = automatic_choice(draft, text) if draft.settings.style == "idiomatic" and text else None
    if chosen is not None:
        draft.steps_away.append("the Trainer chooses the accelerator")
        text = chosen
    accelerator = TrainerOption("accelerator", text or '"auto"')
    return [*([] if chosen == "" else [accelerator]), *strategy_options(draft, _single(draft))]


#: Any card but the first, which is the Trainer's choice of one.
_NUMBERED = re.compile(r"cuda:(?!0[\"'])")


def _single(draft: Draft) -> str:
    """The one device to train on: that of the script's number where it names one."""
    device = device_variable(draft)
    if device is None or not any(_NUMBERED.search(code(value)) for value in _values(device, draft)):
        return "1"
    index = f"{_written(device, draft)}.index"
    return f"[{index}] if {index} else 1"


def automatic_choice(draft: Draft, text: str) -> str | None:
    """The accelerator's option where the script takes a GPU if there is one; empty for the Trainer's default."""
    names = read_names(cst.parse_expression(text)) - {"torch"}
    return _choice(draft, cst.Name(next(iter(names)))) if len(names) == 1 else None


def _choice(draft: Draft, node: cst.BaseExpression, depth: int = 0) -> str | None:
    if isinstance(node, cst.Name) and depth < 4:
        found = [
            inner.value
            for item in draft.around.before
            if draft.nest.host.resolve(node.value) in usage([item]).writes
            and isinstance(inner := small(item.node), cst.Assign)
        ]
        return _choice(draft, found[0], depth + 1) if len(found) == 1 else None
    full = draft.tree.qualified(node.func) if isinstance(node, cst.Call) else None
    if full == "torch.cuda.is_available":
        return ""
    if isinstance(node, cst.Call) and full == "torch.device" and len(node.args) == 1:
        return _choice(draft, node.args[0].value, depth)
    if isinstance(node, cst.IfExp):
        places = [str(p.raw_value) if isinstance(p, cst.SimpleString) else code(p) for p in (node.body, node.orelse)]
        both = places in (["cuda", "cpu"], ["cuda:0", "cpu"], ["True", "False"])
        return _choice(draft, node.test, depth) if both else None
    if isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.And):
        for other, gpu in ((node.left, node.right), (node.right, node.left)):
            if _choice(draft, gpu, depth) == "" and _choice(draft, other, depth) is None:
                if isinstance(other, cst.UnaryOperation) and isinstance(other.operator, cst.Not):
                    return f'"cpu" if {code(other.expression)} else "auto"'
                return f'"auto" if {code(other)} else "cpu"'
    return None


def device_text(draft: Draft) -> str | None:
    """The accelerator in the host's own terms; None when only the Trainer can tell."""
    source = draft.tree.text
    if not any(word in source for word in ("cuda", "accelerator", "mps", "device")):
        return '"cpu"'
    device = device_variable(draft)
    if device is not None:
        return f"{_written(device, draft)}.type"
    for item in draft.around.before:
        inner = small(item.node)
        if isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name):
            names = [draft.tree.qualified(n.func) for n in walk(inner.value) if isinstance(n, cst.Call)]
            if (
                "torch.cuda.is_available" in names
                and isinstance(inner.value, (cst.IfExp, cst.Call, cst.BooleanOperation))
                and (not isinstance(inner.value, cst.IfExp) or code(inner.value.body) == "True")
            ):
                if isinstance(inner.value, cst.Call) and len(names) > 1:
                    continue
                return f'"cuda" if {inner.targets[0].target.value} else "cpu"'
            if draft.tree.imports.get("torch") == "torch" and _chooses_by_name(inner.value):
                return f"torch.device({inner.targets[0].target.value}).type"
    return None


def _written(device: Variable, draft: Draft) -> str:
    return draft.tree.links.written.get(device.name, device.name)


def _chooses_by_name(value: cst.BaseExpression) -> bool:
    """True for `"cuda" if ... else "cpu"`."""
    return isinstance(value, cst.IfExp) and all(
        isinstance(part, cst.SimpleString) and str(part.raw_value).startswith(("cuda", "cpu", "mps"))
        for part in (value.body, value.orelse)
    )


def device_variable(draft: Draft) -> Variable | None:
    """The host's or the module's `torch.device(...)` that the script chose by a condition."""
    candidates = [variable for item in draft.around.before for variable in sorted(usage([item]).writes, key=repr)]
    if not draft.nest.host.is_module:
        names = [fact.name for fact in draft.analysis.named if fact.kind is Kind.DEVICE and fact.scope is None]
        names.sort(key=lambda name: name in draft.tree.links.imports)  # the script's own before other files'
        candidates += [draft.nest.module.variable(name) for name in names if "." not in name]
    for variable in candidates:
        of_host = variable.frame is draft.nest.host or variable.frame.is_module
        if draft.kinds.of(variable) is Kind.DEVICE and of_host and _chosen(variable, draft):
            return variable
    return None


def _chosen(variable: Variable, draft: Draft) -> bool:
    """True when a name is always a `torch.device(...)`, and which one is not fixed."""
    values = _values(variable, draft)
    calls = [draft.tree.qualified(value.func) for value in values if isinstance(value, cst.Call)]
    if len(calls) != len(values) or not set(calls) <= {"torch.device", "torch.accelerator.current_accelerator"}:
        return False
    found = construction(variable, draft.tree, draft.nest.host_loop)
    fixed = found is not None and all(isinstance(arg.value, cst.SimpleString) for arg in found[1].args)
    return not fixed or len(values) > 1


def _values(variable: Variable, draft: Draft) -> list[cst.BaseExpression]:
    """What a name is set to in its own scope."""
    owner = variable.frame.function or draft.tree.scope
    return [
        node.value
        for node in scope_nodes(owner)
        if isinstance(node, cst.Assign)
        and any(isinstance(t.target, cst.Name) and t.target.value == variable.name for t in node.targets)
    ]
