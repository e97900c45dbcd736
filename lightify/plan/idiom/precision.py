"""Mixed precision by hand becomes `Trainer(precision=...)`, in the idiomatic style."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.analysis.calls import callee
from lightify.facts import Analysis, Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.batches import in_host
from lightify.plan.constructions import construction
from lightify.plan.draft import Draft
from lightify.plan.idiom.scalers import Alone, Scaled, condition_of, made_for, scaled_step, scaler_alone
from lightify.plan.kinds import Kinds
from lightify.plan.naming import runtime_alias
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.optimization.mode import automatic
from lightify.plan.optimization.weights import touches_weights
from lightify.plan.trainer.device import device_text
from lightify.plan.types import FateNote, Mixed, TrainerOption
from lightify.syntax.flow import exits_of, expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import scope_nodes
from lightify.syntax.query import arguments, block, code, expression_of, method_call, method_name, small, walk

_TYPES = {
    "torch.float16": "16-mixed",
    "torch.half": "16-mixed",
    "torch.bfloat16": "bf16-mixed",
}
#: Position of (dtype, enabled), and the device that the name says.
_CONTEXTS = {
    "torch.autocast": (1, 2, ""),
    "torch.amp.autocast": (1, 2, ""),
    "torch.amp.autocast_mode.autocast": (1, 2, ""),
    "torch.cuda.amp.autocast": (1, 0, "cuda"),
    "torch.cuda.amp.autocast_mode.autocast": (1, 0, "cuda"),
    "torch.cpu.amp.autocast": (1, 0, "cpu"),
}
_SCALERS = {
    "torch.cuda.amp.GradScaler": (),
    "torch.cuda.amp.grad_scaler.GradScaler": (),
    "torch.GradScaler": ("device",),
    "torch.amp.GradScaler": ("device",),
    "torch.amp.grad_scaler.GradScaler": ("device",),
}
_NOTE = FateNote(Fate.REPLACED, "Trainer(precision=...)", "the Trainer computes in mixed precision")
_EVALUATES = "the evaluation computes in the Trainer's precision, too, which the script's did not"


@dataclass(frozen=True, eq=False)
class _Plain:
    """The loops as they read in full precision."""

    nest: Nest
    analysis: Analysis
    origins: dict[cst.CSTNode, cst.CSTNode]
    fates: dict[cst.CSTNode, FateNote]


def mixed_precision(draft: Draft) -> None:
    """Takes `autocast` and the scaler out of the loops where the Trainer's own do the same; else changes nothing."""
    if draft.settings.style == "faithful":
        return
    before = draft.nest, draft.analysis
    alone = scaler_alone(draft.nest, draft.analysis, draft.kinds)
    if alone is not None:
        draft.nest, draft.analysis = alone.nest, alone.analysis
    if not _taken_over(draft, alone):
        draft.nest, draft.analysis = before
    elif alone is not None:
        draft.fates.update(alone.fates)


def _taken_over(draft: Draft, alone: Alone | None) -> bool:
    """Leaves mixed precision to the Trainer where that changes no step.

    Args:
        alone: the loops with a scaler that some runs do without.
    """
    body, tree = draft.nest.body, draft.tree
    contexts = {n: found for n, step in enumerate(body) if (found := _context(draft, step)) is not None}
    kinds = set(contexts.values())
    if len(kinds) != 1:
        return False
    mixed = next(iter(kinds))
    scaled, needs = scaled_step(draft), _needs(draft, mixed)
    if needs is None:
        return False
    if isinstance(scaled, str) or (scaled is None and mixed.precision == "16-mixed") or not _fits(draft, mixed):
        return False
    built = _scaler_made(draft, scaled.scaler, mixed) if scaled is not None and alone is None else None
    plain = _without_scaler(draft, set(contexts), scaled)
    if built is not None and scaled is not None and _scaler_is_read(draft, plain.nest, scaled.scaler, built):
        built = None
    own = scaled is not None and built is None
    if own and not _is_made_so(draft, scaled.scaler, mixed, alone):  # type: ignore[union-attr]
        return False
    apart = _evaluation_decides(draft)
    if apart and not own:
        return False
    read = automatic(plain.nest, draft.kinds, tree, plain.analysis)
    if not isinstance(read, Automatic) or read.closure is not None or read.optimizer is None:
        return False
    if scaled is not None and _scale_seen(read, scaled):
        return False
    optimizer = construction(read.optimizer, tree, draft.nest.host_loop)
    if (read.clip is not None or own) and (optimizer is None or "fused" in arguments(optimizer[1]).keyword):
        return False  # the Trainer does not clip where the optimizer itself unscales
    inside = {node for n in contexts for node in walk(body[n].node)}  # type: ignore[union-attr]
    outside = [s for s in (*read.before, *read.early) if isinstance(s, Item) and s.node not in inside]
    ran = [*((step.node, step.frame) for step in outside), (read.loss, read.loss_frame)]
    if any(_runs_network(node, frame, draft.kinds) for node, frame in ran):
        return False
    later = plain.nest.body[min(contexts) :]
    loose = read.loss not in inside and any(isinstance(part, cst.Call) for part in walk(read.loss))
    if loose or any(step in later and _computes(step) for step in outside):
        return False  # the loss is of another type outside
    if built is not None:
        draft.removed.add(built)
        plain.fates[built] = _NOTE
    draft.nest, draft.analysis, draft.mixed = plain.nest, plain.analysis, mixed
    draft.evaluates_apart = apart
    draft.fates.update(plain.fates)
    draft.stripped.origins.update(plain.origins)
    text, otherwise, option = f'"{mixed.precision}"', '"32-true"', "precision"
    if own and scaled is not None:
        plugins, option, otherwise = f"{runtime_alias(tree)}.plugins", "plugins", "None"
        text = f'[{plugins}.MixedPrecision({text}, device="cuda", scaler={scaled.scaler.path})]'
    conditions = [*filter(None, [mixed.enabled]), *needs]
    value = f"{text} if {' and '.join(conditions)} else {otherwise}" if conditions else text
    draft.options.append(TrainerOption(option, value))
    unmoved = [s for s in read.after if isinstance(s, Item) and not touches_weights(s, draft.kinds, tree)]
    draft.steps_away.extend(_departures(mixed, scaled, any(step in later and _computes(step) for step in unmoved)))
    return True


def _is_made_so(draft: Draft, scaler: Variable, mixed: Mixed, alone: Alone | None) -> bool:
    """True when there is a scaler, and does its work, just where the context takes effect."""
    there = made_for(draft, scaler)
    if there is None or mixed.precision != "16-mixed" or mixed.device != "cuda":
        return False
    if alone is not None:
        return scaler is alone.scaler and there == mixed.enabled != ""
    return there == mixed.enabled == ""


def _departures(mixed: Mixed, scaled: Scaled | None, widened: bool) -> list[str]:
    found = [f"mixed precision is the Trainer's ({mixed.precision})"]
    if scaled is not None and mixed.precision == "bf16-mixed":
        found.append("the Trainer does not scale the loss, which bfloat16 does not need")
    if widened:
        found.append("what the batch computed outside of autocast is computed under it")
    return found


def _without_scaler(draft: Draft, contexts: set[int], scaled: Scaled | None) -> _Plain:
    """The loops with the statements of each context in its place, and plain calls in those of the scaler's."""
    nest, analysis = draft.nest, draft.analysis
    gone = {scaled.unscaled, scaled.updated} if scaled is not None else set()
    calls = scaled.plain if scaled is not None else {}
    origins: dict[cst.CSTNode, cst.CSTNode] = {}
    fates: dict[cst.CSTNode, FateNote] = {}
    steps: list[Step] = []
    became: dict[cst.CSTNode | None, cst.Call] = {}
    for number, step in enumerate(nest.body):
        if isinstance(step, Item) and number in contexts:
            steps.extend(_inside(step, origins, fates))
        elif isinstance(step, Item) and number in gone:
            fates[step.node] = _NOTE
        elif isinstance(step, Item) and number in calls:
            became[expression_of(step.node)] = calls[number]
            line = cst.Expr(calls[number])
            origins[line] = small(step.node) or step.node
            steps.append(Item(cst.SimpleStatementLine([line]), step.frame))
        else:
            steps.append(step)
    sites = (*(site for site in nest.sites if site not in became), *calls.values())
    backwards = tuple(replace(fact, call=became.get(fact.call, fact.call)) for fact in analysis.backwards)
    new = replace(nest, body=tuple(steps), sites=sites)
    return _Plain(new, replace(analysis, backwards=backwards), origins, fates)


def _scaler_is_read(draft: Draft, nest: Nest, scaler: Variable, built: cst.BaseStatement | None) -> bool:
    """True when more than its own calls in the batch needs the scaler: a checkpoint, a print of its scale."""
    before = [item for item in draft.around.before if item.node is not built]
    whole = (*before, *nest.epoch_start, *nest.body, *nest.epoch_end)
    return scaler in usage(whole).reads | draft.read_elsewhere()


def _scale_seen(read: Automatic, scaled: Scaled) -> bool:
    """True when gradients that are still scaled are clipped or read; the Trainer unscales them before."""
    return scaled.unscaled is None and (read.clip is not None or bool(read.middle))


def without_contexts(draft: Draft, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps of an evaluation, which the Trainer runs in the precision of the training."""
    if draft.mixed is None:
        return tuple(steps)
    result: list[Step] = []
    origins: dict[cst.CSTNode, cst.CSTNode] = {}
    for step in steps:
        found = _context(draft, step)
        if isinstance(step, Item) and found is not None and found == draft.mixed:
            result.extend(_inside(step, origins, draft.fates))
        else:
            result.append(step)
    draft.stripped.origins.update(origins)
    if not origins:
        draft.steps_away.append(_EVALUATES)
    return tuple(result)


def _inside(step: Item, origins: dict[cst.CSTNode, cst.CSTNode], fates: dict[cst.CSTNode, FateNote]) -> list[Item]:
    """The statements of a context; what it says itself is replaced, they are not."""
    assert isinstance(step.node, cst.With)
    head = step.node.with_changes(body=cst.IndentedBlock([]))
    origins[head], fates[head] = step.node, _NOTE
    return [Item(node, step.frame) for node in block(step.node.body)]


def _context(draft: Draft, step: Step) -> Mixed | None:
    """The precision of `with autocast(...):`."""
    if not isinstance(step, Item) or not isinstance(step.node, cst.With) or len(step.node.items) != 1:
        return None
    call = step.node.items[0].item
    known = _CONTEXTS.get(draft.tree.qualified(call.func) or "") if isinstance(call, cst.Call) else None
    if known is None or step.node.items[0].asname is not None or step.node.asynchronous is not None:
        return None
    assert isinstance(call, cst.Call)
    given = arguments(call)
    if given.starred or given.keyword.keys() - {"device_type", "dtype", "enabled"} or len(given.positional) > 3:
        return None
    dtype_at, enabled_at, device = known
    if not device:
        on = given.get(0, "device_type")
        device = str(on.raw_value) if isinstance(on, cst.SimpleString) else ""
    dtype = given.get(dtype_at, "dtype")
    default = "bf16-mixed" if device == "cpu" else "16-mixed"
    precision = _TYPES.get(draft.tree.qualified(dtype) or "") if dtype is not None else default
    enabled = _enabled(draft, given.get(enabled_at, "enabled"), step.frame)
    if precision is None or enabled is None or (device == "cpu" and precision == "16-mixed"):
        return None
    return Mixed(precision, device, enabled)


def _enabled(draft: Draft, node: cst.BaseExpression | None, frame: Frame) -> str | None:
    """The condition in terms of the host, empty when there is none; None when it is not known before the run."""
    if node is None or code(node) == "True":
        return ""
    if code(node) == "False":
        return None
    asked = condition_of(draft, node, frame)
    if asked is not None:
        return asked
    nest = draft.nest
    changed = usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes
    value = in_host(draft, node, frame)
    plain = not any(
        isinstance(part, (cst.Call, cst.Subscript, cst.IfExp, cst.Lambda, cst.NamedExpr)) for part in walk(node)
    )
    return code(value) if value is not None and plain and not expression_usage(node, frame).reads & changed else None


def _fits(draft: Draft, mixed: Mixed) -> bool:
    """True when the Trainer trains where the context takes effect."""
    return mixed.device in ("", "cuda") or (mixed.device == "cpu" and device_text(draft) == '"cpu"')


def _needs(draft: Draft, mixed: Mixed) -> list[str] | None:
    """What has to be said beside the script's own condition: without a GPU, a context for one does nothing.

    None when that can't be said.
    """
    place, on_gpu = device_text(draft), re.search(r"\.cuda\(|(to|device)\([\"']cuda", draft.tree.text)
    if mixed.device != "cuda" or (place is None and on_gpu):
        return []  # the script needs its GPU
    if place == '"cpu"' or draft.tree.imports.get("torch") != "torch":
        return None
    owner = draft.nest.host.function or draft.tree.scope
    values = [
        code(node.value)
        for node in scope_nodes(owner)
        if isinstance(node, cst.Assign) and mixed.enabled in [code(target.target) for target in node.targets]
    ]
    said = len(values) == 1 and ("cuda.is_available()" in values[0] or ".type == " in values[0])
    return [] if said else ["torch.cuda.is_available()"]


def _evaluation_decides(draft: Draft) -> bool:
    """True when what the script computes in full precision after its batches decides how the training goes on."""
    nest = draft.nest
    end = [step for step in nest.epoch_end if isinstance(step, Item)]
    runs = [step for step in end if _runs_network(step.node, step.frame, draft.kinds)]
    if all(_is_mixed(draft, step) for step in runs):
        return False
    made = usage(nest.epoch_end).writes
    loads = "load_state_dict" in draft.tree.text
    for step in end:
        used = method_call(expression_of(step.node))
        steps = used is not None and used[1] == "step" and draft.kinds.kind(used[0], step.frame) is Kind.SCHEDULER
        if any(True for _ in exits_of(step.node)) or (steps and expression_of(step.node).args):  # type: ignore[union-attr]
            return True
        kept = loads and any(word in code(step.node) for word in ("state_dict", "deepcopy", "torch.save"))
        if kept and isinstance(step.node, cst.If) and expression_usage(step.node.test, step.frame).reads & made:
            return True
    return bool(made & usage((*nest.epoch_start, *nest.body)).exposed)


def _is_mixed(draft: Draft, step: Item) -> bool:
    """True when a step, or a function that it calls, computes in mixed precision."""
    calls = [node for node in walk(step.node) if isinstance(node, cst.Call)]
    functions = [found[0] for call in calls if (found := callee(call, step.frame, draft.tree)) is not None]
    inside = [node for root in (step.node, *functions) for node in walk(root) if isinstance(node, cst.Call)]
    return any(draft.tree.qualified(call.func) in _CONTEXTS for call in inside)


def _scaler_made(draft: Draft, scaler: Variable, mixed: Mixed) -> cst.BaseStatement | None:
    """The host's statement that makes the scaler as the Trainer makes its own, under the same condition."""
    found = construction(scaler, draft.tree, draft.nest.host_loop)
    if found is None or draft.around.repeated or found[0] not in [item.node for item in draft.around.before]:
        return None
    positions = _SCALERS.get(draft.tree.qualified(found[1].func) or "")
    given = arguments(found[1])
    if positions is None or given.starred or given.keyword.keys() - {"enabled", "device"}:
        return None
    if len(given.positional) > len(positions):
        return None
    enabled = _enabled(draft, given.keyword.get("enabled"), draft.nest.host)
    return found[0] if enabled == mixed.enabled else None


def _runs_network(root: cst.CSTNode, frame: Frame, kinds: Kinds) -> bool:
    """True when a node calls a network, or hands one on."""
    for node in walk(root):
        called = [node.func, *(arg.value for arg in node.args)] if isinstance(node, cst.Call) else []
        for part in called:
            variable = kinds.variable(part, frame)
            if variable is not None and kinds.of(variable) is Kind.MODULE and not kinds.is_loss(variable):
                return True
    return False


def _computes(step: Step) -> bool:
    """True when a statement calls more than what only reads a number."""
    if not isinstance(step, Item):
        return False
    calls = [node for node in walk(step.node) if isinstance(node, cst.Call)]
    reads = ("item", "detach", "cpu", "size", "zero_grad", "append")
    return any(code(call.func) not in ("len", "float", "print") and method_name(call) not in reads for call in calls)
