"""Progress bars of the script's own: the Trainer shows one, and the numbers that they showed are logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.contexts import enters
from lightify.loops.headers import starts_twice
from lightify.loops.nest import Nest, without_stack
from lightify.loops.runs import Loop
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.idiom.lines import Lines
from lightify.plan.logs.metrics import Metric, log_statement, metrics_of
from lightify.plan.logs.numbers import is_one_number
from lightify.plan.logs.texts import measures
from lightify.plan.types import Bar, FateNote
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    dotted,
    expression_of,
    map_children,
    method_call,
    root_name,
    small,
    walk,
)
from lightify.syntax.substitute import substitute

_SHOWS = frozenset(
    """update set_postfix set_postfix_str set_description set_description_str close refresh clear reset
    display""".split()  # noqa: SIM905, a list of words
)
_SHOWN = frozenset({"desc", "postfix"})  # fields that it shows
SEEDS = "tqdm.auto's bars drew a seed for each pass: without them shuffled batches come in another order"
SHOWN = FateNote(Fate.REPLACED, "Trainer: progress bar")


def without_bars(draft: Draft) -> None:
    """Takes the bars out of the loops, and out of the host before them."""
    nest = draft.nest
    if draft.counted_bars is None and any(starts_twice(call, draft.tree) for call in draft.tree.nodes(cst.Call)):
        draft.steps_away.append(SEEDS)
    bars = {variable: bar for variable, bar in _bars(nest, draft) if _only_shows(variable, nest, draft)}
    if not bars:
        return
    gone = {bar.made for bar in bars.values()}
    steps = {
        "epoch_start": [step for step in nest.epoch_start if step not in gone],
        "body": nest.body,
        "epoch_end": nest.epoch_end,
    }
    new = {name: tuple(shown_as_logs(draft, bars, part, logs=name != "epoch_start")) for name, part in steps.items()}
    whole = replace(nest, **new)  # type: ignore[arg-type]
    whole = without_stack(whole)
    for made in filter(None, gone):
        draft.fates[nest.origins.get(small(made.node) or made.node, small(made.node) or made.node)] = SHOWN
        if made not in nest.epoch_start:
            draft.removed.add(made.node)
    draft.nest = whole
    draft.bars = {variable: bar.iterable for variable, bar in bars.items()}
    draft.around = replace(
        draft.around, before=tuple(item for item in draft.around.before if item.node not in draft.removed)
    )


def bare_loop(draft: Draft, loop: Loop, frame: Frame) -> Loop:
    """A loop whose head is without the bars that show how far it is."""
    if not draft.bars or isinstance(loop, cst.While):
        return loop

    def put(name: str) -> cst.BaseExpression | None:
        meaning = frame.resolve(name)
        return draft.bars.get(meaning) if isinstance(meaning, Variable) else None

    def unnamed(node: cst.CSTNode) -> cst.CSTNode:
        if isinstance(node, cst.NamedExpr) and frame.resolve(dotted(node.target) or "_") in draft.bars:
            return node.value.with_changes(lpar=[], rpar=[])
        return map_children(node, unnamed)

    return loop.with_changes(iter=substitute(unnamed(loop.iter), put))


def goes_over_bar(draft: Draft, loop: Loop | None, frame: Frame) -> bool:
    """True when a loop's head names a bar that is gone."""
    return isinstance(loop, cst.For) and not draft.bars.keys().isdisjoint(expression_usage(loop.iter, frame).reads)


def _bars(nest: Nest, draft: Draft) -> Iterator[tuple[Variable, Bar]]:
    """Names that hold a bar, made before the epochs, before the batches, or in a loop's head."""
    for step in (*draft.around.before, *nest.epoch_start):
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(step, Item) and isinstance(inner, cst.Assign) and len(inner.targets) == 1:
            call = enters(step) or inner.value
            target = inner.targets[0].target
            if isinstance(target, cst.Name) and _is_own(call, draft):
                yield step.frame.variable(target.value), Bar(iterable(call), step)
    for variable, outer in _bars_around(nest, draft):
        yield variable, Bar(iterable(outer.items[0].item), Item(outer, nest.host))
    for loop, frame in ((nest.epoch_loop, nest.host), (nest.batch_loop, nest.batch_frame)):
        for node in walk(loop.iter) if isinstance(loop, cst.For) else ():
            if isinstance(node, cst.NamedExpr) and isinstance(node.target, cst.Name) and _is_own(node.value, draft):
                yield frame.variable(node.target.value), Bar(iterable(node.value), None)


def _bars_around(nest: Nest, draft: Draft) -> Iterator[tuple[Variable, cst.With]]:
    """`with tqdm(...) as bar:` around the host's loop."""
    for outer in draft.tree.ancestors(nest.host_loop):
        if isinstance(outer, cst.FunctionDef):
            return
        if isinstance(outer, cst.With) and len(outer.items) == 1 and _is_own(outer.items[0].item, draft):
            named = outer.items[0].asname
            if named is not None and isinstance(named.name, cst.Name):
                yield nest.host.variable(named.name.value), outer


def _is_own(value: cst.BaseExpression, draft: Draft) -> bool:
    return is_bar(value, draft.tree, draft.counted_bars)


def is_bar(value: cst.BaseExpression, tree: Tree, counted: Tree | None) -> bool:
    """True for a bar that changes nothing that the style keeps.

    Args:
        counted: what tells the bars that are more than bars.
    """
    name = (tree.qualified(value.func) or dotted(value.func) or "") if isinstance(value, cst.Call) else ""
    shows = name.partition(".")[0] == "tqdm" and name.rpartition(".")[2] in ("tqdm", "trange", "notebook", "auto")
    return shows and (counted is None or not starts_twice(value, tree))


def iterable(value: cst.BaseExpression) -> cst.BaseExpression | None:
    """The bar itself, whose name the loop's head takes off, where it goes over something."""
    assert isinstance(value, cst.Call)
    ranged = (dotted(value.func) or "").endswith("trange")
    return value if ranged or arguments(value).get(0, "iterable") is not None else None


def _only_shows(variable: Variable, nest: Nest, draft: Draft) -> bool:
    """True when a bar's name stands in heads and in statements that show something, and nowhere else."""
    if variable in draft.read_elsewhere():
        return False
    steps = (*nest.epoch_start, *nest.body, *nest.epoch_end)
    made = [step for step in (*draft.around.before, *steps) if variable in usage([step]).writes]
    heads = [loop for loop in (nest.epoch_loop, nest.batch_loop) if isinstance(loop, cst.For)]
    named = any(isinstance(node, cst.NamedExpr) for loop in heads for node in walk(loop.iter))
    around = [outer for bar, outer in _bars_around(nest, draft) if bar is variable]
    if len(made) + named + len(around) != 1:
        return False
    others = [item for item in draft.around.before if item not in made]
    if any(variable in usage([item]).reads for item in others):
        return False
    return all(_shows(step, variable, draft.tree) for step in steps if variable in usage([step]).reads)


def _shows(step: Step, variable: Variable, tree: Tree) -> bool:
    if not isinstance(step, Item):
        return False
    uses = sum(isinstance(node, cst.Name) and step.frame.resolve(node.value) is variable for node in walk(step.node))
    showing = [node for node in walk(step.node) if _shows_one_of(node, {variable}, step.frame)]
    return uses == len(showing) and all(_only_told(node, step.frame, tree) for node in showing)


def _only_told(node: cst.CSTNode, frame: Frame, tree: Tree) -> bool:
    """True when nobody misses what a bar is given once it does not show it."""
    call = _showing(node)
    return all(only_computes(arg.value, frame, tree, lambda _: False) for arg in (call.args if call else ()))


def is_shown(node: cst.CSTNode, frame: Frame, tree: Tree) -> bool:
    """True for the `bar.update` of a statement `bar.update(n)` and its like, whose arguments nobody misses."""
    line = tree.around(node, cst.SimpleStatementLine)
    call = _showing(line) if line is not None else None
    return line is not None and call is not None and call.func is node and _only_told(line, frame, tree)


def _showing(line: cst.CSTNode) -> cst.Call | None:
    """The call of a statement `bar.update(n)` and its like; `bar.desc = text` is `bar.desc(text)`."""
    inner = small(line) if isinstance(line, cst.SimpleStatementLine) else None
    call, shows = expression_of(line), _SHOWS
    if isinstance(inner, cst.Assign) and len(inner.targets) == 1:
        call, shows = cst.Call(inner.targets[0].target, [cst.Arg(inner.value)]), _SHOWN
    used = method_call(call)
    known = isinstance(call, cst.Call) and used is not None and used[1] in shows and isinstance(used[0], cst.Name)
    return call if known else None  # type: ignore[return-value]


def _shows_one_of(node: cst.CSTNode, bars: Set[Variable], frame: Frame) -> bool:
    """True for such a statement about one of the bars."""
    call = _showing(node)
    return call is not None and frame.resolve(root_name(call.func) or "") in bars


def shown_as_logs(
    draft: Draft,
    bars: Mapping[Variable, Bar],
    steps: Sequence[Step],
    *,
    logs: bool = True,
    sums: Set[Variable] = frozenset(),
) -> Iterator[Step]:
    """Steps with logs in the place of what bars showed.

    Args:
        sums: what is not logged, since the Trainer would keep the mean of it.
    """
    held = _dictionaries(draft.nest)

    def in_place(node: cst.BaseStatement, frame: Frame) -> list[cst.BaseStatement] | None:
        call = _showing(node)
        if call is None or not _shows_one_of(node, bars.keys(), frame):
            return None
        told = call.with_changes(args=[_told(arg, frame, held) for arg in call.args])
        metrics = [one for one in _metrics(told, frame, draft) if not one.variables & sums] if logs else []
        names = ", ".join(f'self.log("{metric.name}")' for metric in metrics)
        draft.fates[small(node)] = replace(SHOWN, target=names or SHOWN.target)  # type: ignore[index]
        return [log_statement(metric) for metric in metrics]

    return Lines(draft, in_place, SHOWN).without(steps)


def _metrics(call: cst.Call, frame: Frame, draft: Draft) -> tuple[Metric, ...]:
    """What a bar showed: what its texts show, and what it was given under a word for a measure (`loss=total / n`)."""
    found = {metric.name: metric for metric in metrics_of(call, frame, draft.kinds)}
    known = {variable for metric in found.values() for variable in metric.variables}
    for name, value in _given(call):
        reads = expression_usage(value, frame).reads
        if name not in found and measures(name) and reads.isdisjoint(known) and is_one_number(value, frame, draft):
            found[name] = Metric(name, value, frame, frozenset(reads))
    return tuple(found.values())


def _given(call: cst.Call) -> Iterator[tuple[str, cst.BaseExpression]]:
    """What a call is given by name: `loss=x`, `{"loss": x}`, `**{"loss": x}`; `round(x, 3)` is x."""
    for arg in call.args:
        named = arg.keyword is not None and arg.keyword.value != "ordered_dict"
        for name, value in [(arg.keyword.value, arg.value)] if named else _entries(arg.value):  # type: ignore[union-attr]
            rounded = isinstance(value, cst.Call) and dotted(value.func) == "round"
            yield name, value.args[0].value if rounded else value  # type: ignore[attr-defined]


def _entries(node: cst.BaseExpression) -> list[tuple[str, cst.BaseExpression]]:
    """What a dictionary that is written out holds: `{"a": x}`, `dict(a=x)`, `OrderedDict([("a", x)])`."""
    if isinstance(node, cst.Dict):
        pairs = [(one.key, one.value) for one in node.elements if isinstance(one, cst.DictElement)]
    elif isinstance(node, cst.Call) and (dotted(node.func) or "").rpartition(".")[2] in ("dict", "OrderedDict"):
        given = arguments(node)
        inside = [entry for one in given.positional for entry in _entries(one)]
        return inside + [(name, value) for name, value in given.keyword.items()]
    elif isinstance(node, (cst.List, cst.Tuple)):
        rows = [one.value.elements for one in node.elements if isinstance(one.value, (cst.List, cst.Tuple))]
        pairs = [(row[0].value, row[1].value) for row in rows if len(row) == 2]
    else:
        return []
    return [(str(key.raw_value), value) for key, value in pairs if isinstance(key, cst.SimpleString)]


def _dictionaries(nest: Nest) -> dict[Variable, cst.BaseExpression]:
    """What names hold that a batch sets once, to a dictionary: `logs = {"loss": loss.item()}`."""
    found: dict[Variable, cst.BaseExpression] = {}
    for step in nest.body:
        inner = small(step.node) if isinstance(step, Item) else None
        if isinstance(inner, cst.Assign) and len(inner.targets) == 1 and _entries(inner.value):
            found.update(dict.fromkeys(usage([step]).writes, inner.value))
    changed = [variable for step in nest.body for variable in usage([step]).writes]
    return {variable: value for variable, value in found.items() if changed.count(variable) == 1}


def _told(arg: cst.Arg, frame: Frame, held: Mapping[Variable, cst.BaseExpression]) -> cst.Arg:
    """`**{"loss": loss.item()}` for `**logs`."""
    meaning = frame.resolve(arg.value.value) if isinstance(arg.value, cst.Name) else None
    value = held.get(meaning) if isinstance(meaning, Variable) else None
    return arg if value is None else arg.with_changes(value=value)
