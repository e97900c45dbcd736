"""The best weights so far and the patience with a metric become the Trainer's callbacks, in the idiomatic style."""

from __future__ import annotations

from dataclasses import dataclass, replace

import libcst as cst

from lightify.facts import Kind
from lightify.ledger import Fate
from lightify.loops.nest import Nest
from lightify.plan.batches import in_host
from lightify.plan.callbacks.best_flag import COMPARES, Flagged, flagged, with_patience, with_singles
from lightify.plan.callbacks.saves import Saved, plain_save, saving_call
from lightify.plan.callbacks.stoppers import Stopped, stopped
from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import Metric, log_statement, metrics_of, printed
from lightify.plan.naming import runtime_alias
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.optimization.mode import automatic
from lightify.plan.types import FateNote, TrainerOption
from lightify.syntax.flow import exits_of, expression_usage, usage
from lightify.syntax.frames import Field, Frame, Item, Step, Variable
from lightify.syntax.names import declared_elsewhere, parameters, scope_nodes
from lightify.syntax.query import arguments, assigned_pairs, block, code, dotted, method_call, small, target_names, walk

_INFINITIES = ("float('inf')", "math.inf", "numpy.inf", "numpy.Inf", "torch.inf")


@dataclass(frozen=True, eq=False)
class _Best:
    """`if metric < best: best = metric`.

    Attributes:
        ties: an equal metric is the best, too.
        kept: what the improved branch does beside, without prints.
    """

    step: Item
    node: cst.If
    metric: Variable
    best: Variable
    mode: str
    ties: bool
    update: cst.BaseStatement
    kept: tuple[cst.BaseStatement, ...]


def keep_best(draft: Draft, nest: Nest) -> Nest:
    """The loops without the saves of the best weights and the patience that the Trainer's callbacks stand for."""
    exact = isinstance(automatic(nest, draft.kinds, draft.tree, draft.analysis), Automatic)
    leaves = any(True for step in nest.body if isinstance(step, Item) for _ in exits_of(step.node))
    if not isinstance(nest.epoch_loop, cst.For) or nest.epoch_loop.orelse is not None or leaves or not exact:
        return nest
    ends = stopped(draft, nest)
    if ends is not None and not _shown(draft, nest, ends.metric.name):
        nest = _stops(draft, ends)
    flag = flagged(draft, nest)
    new = _kept(draft, flag.nest, flag) if flag is not None else None
    for reading in (nest, with_singles(nest)) if new is None else ():
        patient = with_patience(reading) if reading is not None else None
        new = new or (_kept(draft, patient, None, asks=True) if patient is not None else None)
        new = new or (_kept(draft, reading, None) if reading is not None else None)
    return new or nest


def _stops(draft: Draft, ends: Stopped) -> Nest:
    """The loops that EarlyStopping ends, with the metric logged that it asks for."""
    name, mode = ends.metric.name, ends.mode
    text = f'EarlyStopping(monitor="{name}", mode="{mode}", {ends.arguments}, check_finite=False)'
    draft.steps_away.append(f"an epoch whose {name} equals the best one counts as no better")
    callback = f"{runtime_alias(draft.tree)}.callbacks.{text}"
    log = _monitored(draft, Metric.held(ends.metric, draft.kinds, name), ends.frame, [callback])
    return replace(ends.nest, epoch_end=(*ends.nest.epoch_end, *log))


def _monitored(draft: Draft, metric: Metric, frame: Frame, callbacks: list[str]) -> list[Step]:
    """Gives the Trainer callbacks; the log that they ask for, unless it is there already."""
    draft.steps_away.append(f"{metric.name} is compared with its best in single precision")
    known = [option for option in draft.options if option.name == "callbacks"]
    texts = [*(str(option.value)[1:-1] for option in known), *callbacks]
    draft.options[:] = [option for option in draft.options if option not in known]
    draft.options.append(TrainerOption("callbacks", f"[{', '.join(texts)}]"))
    logged = metric.name in draft.monitored
    draft.monitored.add(metric.name)
    return [] if logged else [Item(log_statement(metric), frame)]


def _kept(draft: Draft, nest: Nest, flag: Flagged | None, *, asks: bool = False) -> Nest | None:
    """The loops with callbacks for the first comparison that they stand for; None when there is none.

    Args:
        asks: the last comparison's other branch asks for the patience, which it does for EarlyStopping alone.
    """
    for number, step in enumerate(nest.epoch_end):
        found = _best(draft, nest, step)
        if found is not None:
            last = number == len(nest.epoch_end) - 1
            new = _replaced(draft, nest, found, number, flag, stops=asks and last)
            if new is not None:
                return replace(nest, epoch_end=(*nest.epoch_end[:number], *new, *nest.epoch_end[number + 1 :]))
        if isinstance(step, Item) and any(True for _ in exits_of(step.node)):
            break  # what follows may be left out in some epochs
    return None


def _best(draft: Draft, nest: Nest, step: Step) -> _Best | None:
    node = step.node if isinstance(step, Item) else None
    if not isinstance(step, Item) or not isinstance(node, cst.If) or not isinstance(node.test, cst.Comparison):
        return None
    test = node.test
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    if len(test.comparisons) != 1 or not isinstance(operator, COMPARES):
        return None
    less = isinstance(operator, (cst.LessThan, cst.LessThanEqual))
    ties = isinstance(operator, (cst.LessThanEqual, cst.GreaterThanEqual))
    for left, other, mode in (
        (test.left, right, "min" if less else "max"),
        (right, test.left, "max" if less else "min"),
    ):
        metric, best = draft.kinds.variable(left, step.frame), draft.kinds.variable(other, step.frame)
        if not isinstance(left, cst.Name) or metric is None or best is None or isinstance(metric, Field):
            continue
        updates = [line for line in block(node.body) if _assigns(draft, line, best, metric, step.frame)]
        others = [one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not step]
        outside = best in usage(others).writes or isinstance(best, Field) or metric.name != left.value
        if len(updates) == 1 and not outside and not _shown(draft, nest, left.value):
            lines = (line for line in block(node.body) if line not in updates)
            kept = tuple(line for line in lines if printed(line, step.frame, draft.kinds) is None)
            return _Best(step, node, metric, best, mode, ties, updates[0], kept)
    return None


def _assigns(draft: Draft, line: cst.CSTNode, target: Variable, value: Variable, frame: Frame) -> bool:
    inner = small(line)
    return (
        isinstance(inner, cst.Assign)
        and len(inner.targets) == 1
        and draft.kinds.variable(inner.targets[0].target, frame) is target
        and draft.kinds.variable(inner.value, frame) is value
    )


def _shown(draft: Draft, nest: Nest, name: str) -> bool:
    """True when batches log something under a metric's name."""
    for step in (*nest.body, *nest.epoch_end):
        inside = isinstance(step, Item) and (step in nest.body or isinstance(step.node, (cst.With, cst.For)))
        for line in walk(step.node) if inside else ():  # type: ignore[union-attr]
            call = printed(line, step.frame, draft.kinds) if isinstance(line, cst.SimpleStatementLine) else None  # type: ignore[union-attr]
            if call is not None and any(m.name == name for m in metrics_of(call, step.frame, draft.kinds)):  # type: ignore[union-attr]
                return True
    return False


def _replaced(
    draft: Draft, nest: Nest, found: _Best, number: int, flag: Flagged | None, *, stops: bool
) -> list[Step] | None:
    """What takes the place of the comparison; None when it stays as it is."""
    start = _start(draft, found.best)
    frame, later = found.step.frame, nest.epoch_end[number + 1 :]
    where_from = f"{runtime_alias(draft.tree)}.callbacks"
    callbacks: list[str] = []
    gone: list[cst.BaseStatement] = []
    monitor = f'monitor="{found.metric.name}", mode="{found.mode}"'
    call = flag.call if flag is not None else None
    saves = [line for line in found.kept if saving_call(draft, line) is not None or line is call]
    saved = flag.saved if flag is not None and saves == [call] else _saved(draft, found, saves[0]) if saves else None
    where = _place(draft, nest, found, saved, later) if len(saves) == 1 else None
    if not _starts_below(start, found.mode):
        where = None
    if flag is not None and (where is None or small(found.update) not in nest.origins):
        return None
    patience = _patience(draft, nest, found, later) if _starts_below(start, found.mode) and not found.ties else None
    if stops and patience is None:
        return None
    if where is not None:
        callbacks.append(f"{where_from}.ModelCheckpoint({where[0]}{monitor})")
        gone.append(saves[0])
        both = "the best and the last" if saved is not None and saved.last else "the best"
        draft.steps_away.append(f"{both} weights are in a Lightning checkpoint, not in {where[1]}")
        if found.ties:
            draft.steps_away.append(f"of epochs with the same {found.metric.name} the first one counts as the best")
    if patience is not None:
        limit, reset = patience
        if start not in _infinite(found.mode):
            draft.steps_away.append(f"the first epoch counts as better than none, whatever its {found.metric.name}")
        callbacks.append(f"{where_from}.EarlyStopping({monitor}, patience={limit}, check_finite=False)")
        gone.append(reset)
    if not callbacks:
        return None
    if flag is not None:
        draft.fates[small(flag.flag) or flag.flag] = FateNote(Fate.REPLACED, "ModelCheckpoint")
    log = _monitored(draft, Metric.held(found.metric, draft.kinds), frame, callbacks)
    target = " and ".join(text.removeprefix(f"{where_from}.").partition("(")[0] for text in callbacks)
    orelse = None if patience is not None else found.node.orelse
    rest = [line for line in found.kept if line not in gone]
    others = usage([one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not found.step]).reads
    wanted = found.best in others | draft.read_elsewhere()
    if not rest and orelse is None and not wanted:
        for line in (found.node, *_statements(found.node)):
            draft.fates[line] = FateNote(Fate.REPLACED, target)
        return log
    lost = [*gone, *(_statements(found.node.orelse) if found.node.orelse is not None and orelse is None else ())]
    for line in lost:
        draft.fates[small(line) or line] = FateNote(Fate.REPLACED, target)
    body = [line for line in block(found.node.body) if line not in gone]
    new = found.node.with_changes(body=found.node.body.with_changes(body=body), orelse=orelse)
    draft.stripped.origins[new] = found.node
    return [*log, Item(new, frame)]


def _statements(node: cst.CSTNode) -> list[cst.CSTNode]:
    """All statements in a node, as the ledger counts them."""
    return [part for part in walk(node) if part is not node and isinstance(part, (cst.BaseSmallStatement, cst.If))]


# -- what `best` starts with --------------------------------------------------------------------------------------


def _start(draft: Draft, variable: Variable) -> str:
    """The value that the host gives a variable before the run, as text; empty when that can't be told."""
    repeated = any(isinstance(one, (cst.For, cst.While)) for one in draft.tree.ancestors(draft.nest.host_loop))
    of_host = variable.frame is draft.nest.host or (variable.frame.is_module and _runs_once(draft, variable.name))
    if not of_host or repeated:
        return ""
    owner = variable.frame.function or draft.tree.scope
    found = [
        (node, value)
        for node in scope_nodes(owner)
        if isinstance(node, cst.Assign) and len(node.targets) == 1
        for target, value in assigned_pairs(node.targets[0].target, node.value)
        if isinstance(target, cst.Name) and target.value == variable.name
    ]
    before = [small(item.node) for item in draft.around.before]
    own = variable.frame is draft.nest.host
    first = [value for node, value in found if node in before or not own]
    written = [one for one in draft.around.before if variable in usage([one]).writes]
    if len(first) != 1 or len(written) != own:
        return ""
    value = first[0]
    sign = "-" if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus) else ""
    inner = value.expression if isinstance(value, cst.UnaryOperation) else value
    if isinstance(inner, cst.Call):
        text = code(inner).replace('"', "'")
        return {"float('-inf')": "-inf", "float('inf')": f"{sign}inf"}.get(text, "")
    if draft.tree.qualified(inner) in _INFINITIES:
        return f"{sign}inf"
    return f"{sign}{inner.value}" if isinstance(inner, (cst.Integer, cst.Float, cst.SimpleString)) else ""


def _runs_once(draft: Draft, name: str) -> bool:
    """True when the host's function is called once, and no other function that stays assigns a global."""
    function, tree = draft.nest.host.function, draft.tree
    opened = {opened.function for opened in draft.nest.opened}
    others = [one for one in tree.functions.values() if one is not function and one not in opened]
    if any(name in declared_elsewhere(one) for one in others):
        return False
    while function is not None:
        named = [node for node in tree.mentions.get(function.name.value, ()) if node is not function.name]
        around = list(tree.ancestors(named[0])) if len(named) == 1 else None
        if around is None or any(isinstance(one, (cst.For, cst.While, cst.Lambda)) for one in around):
            return False
        function = next((one for one in around if isinstance(one, cst.FunctionDef)), None)
    return True


def _infinite(mode: str) -> tuple[str, ...]:
    return ("inf",) if mode == "min" else ("-inf",)


def _starts_below(start: str, mode: str) -> bool:
    """True for a start that the first epoch surpasses: infinity, 0 for an accuracy, 1e9 for a loss."""
    try:
        value = float(start)
    except ValueError:
        return False
    return value <= 0 if mode == "max" else value >= 1e3


# -- the save -----------------------------------------------------------------------------------------------------


def _place(
    draft: Draft, nest: Nest, found: _Best, saved: Saved | None, later: tuple[Step, ...]
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


def _saved(draft: Draft, found: _Best, line: cst.BaseStatement) -> Saved | None:
    """What `torch.save(what, path)` saves, where nothing else knows the path."""
    call, frame = saving_call(draft, line), found.step.frame
    given = arguments(call) if call is not None else None
    what, path = (given.get(0, "obj"), given.get(1, "f")) if given is not None and len(given) == 2 else (None, None)
    if what is None or path is None:
        return None
    if isinstance(path, cst.Name):
        variable = draft.kinds.variable(path, frame)
        uses = [node for node in walk(draft.tree.module) if isinstance(node, cst.Name) and node.value == path.value]
        text = _start(draft, variable) if variable is not None and len(uses) == 2 else ""
        path = cst.parse_expression(text) if text[:1] in ("'", '"') else path
    return plain_save(what, path)


def _loads(call: cst.Call) -> bool:
    return (dotted(call.func) or "").rpartition(".")[2] in ("load", "load_state_dict", "from_pretrained", "glob")


def _holds_only_weights(draft: Draft, nest: Nest, found: _Best, what: cst.BaseExpression) -> bool:
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


def _counts(draft: Draft, nest: Nest, found: _Best, node: cst.BaseExpression) -> bool:
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


# -- the patience -------------------------------------------------------------------------------------------------


def _patience(draft: Draft, nest: Nest, found: _Best, later: tuple[Step, ...]) -> tuple[str, cst.BaseStatement] | None:
    """`wait = 0` where it improved, else `wait += 1` and `if wait >= patience: break`: the patience, the reset."""
    frame, orelse = found.step.frame, found.node.orelse
    if later or not isinstance(orelse, cst.Else):
        return None
    lines = [line for line in block(orelse.body) if printed(line, frame, draft.kinds) is None]
    grows = small(lines[0]) if len(lines) == 2 else None
    end = lines[1] if len(lines) == 2 else None
    if not isinstance(grows, cst.AugAssign) or not isinstance(grows.operator, cst.AddAssign):
        return None
    if code(grows.value) != "1" or not isinstance(end, cst.If) or end.orelse is not None:
        return None
    wait, test = draft.kinds.variable(grows.target, frame), end.test
    leaving = [line for line in block(end.body) if printed(line, frame, draft.kinds) is None]
    if wait is None or isinstance(wait, Field) or len(leaving) != 1 or not isinstance(small(leaving[0]), cst.Break):
        return None
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    limit = test.comparisons[0].comparator
    if draft.kinds.variable(test.left, frame) is not wait:
        return None
    if not isinstance(test.comparisons[0].operator, (cst.GreaterThanEqual, cst.Equal)):
        return None
    resets = [line for line in found.kept if wait in usage([Item(line, frame)]).writes]
    reset = small(resets[0]) if len(resets) == 1 else None
    others = [one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not found.step]
    used = usage(others)
    if wait in used.reads | used.writes | draft.read_elsewhere() or _start(draft, wait) != "0":
        return None
    if not isinstance(reset, cst.Assign) or code(reset.value) != "0" or len(reset.targets) != 1:
        return None
    whole = usage((*others, found.step)).writes
    host = in_host(draft, limit, frame)
    called = any(isinstance(part, cst.Call) for part in walk(limit))
    fixed = not called and not expression_usage(limit, frame).reads & whole
    if host is None or not fixed:
        return None
    if any(wait in usage([Item(line, frame)]).reads for line in block(found.node.body)):
        return None
    if isinstance(test.comparisons[0].operator, cst.Equal):  # which a count from 1 on never is to 0
        if code(host) == "0":
            return None
        if not isinstance(host, cst.Integer):
            draft.steps_away.append("a patience of 0 ends the training at the first epoch without improvement")
    return code(host), resets[0]
