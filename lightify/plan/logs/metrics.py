"""Progress prints become `self.log`; summaries stay, printed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace

import libcst as cst

from lightify.plan.effects import only_computes, only_prints
from lightify.plan.kinds import Kinds
from lightify.plan.logs.loggers import is_record
from lightify.plan.logs.texts import (
    FLOATS,
    formatted,
    label,
    measures,
    names_pass,
    shown,
    slots,
    spec_of,
    spoken,
    tells_pass,
)
from lightify.syntax.flow import expression_usage
from lightify.syntax.frames import Frame, Item, Step, Variable, fixed_value
from lightify.syntax.query import (
    MODULE_SELF,
    code,
    dotted,
    expression_of,
    map_children,
    method_call,
    method_name,
    module_attribute,
    nodes_of,
    root_of,
    small,
    target_names,
    walk,
)


@dataclass(frozen=True, eq=False)
class Metric:
    """A number that the script printed.

    Attributes:
        name: in the log.
        value: what is logged, in the names of `frame`.
        variables: what it is made of; one alone where a variable holds it.
        array: an array holds it, which no log takes.
        told: what the print calls it, with the pass that it is of.
    """

    name: str
    value: cst.BaseExpression
    frame: Frame
    variables: frozenset[Variable]
    array: bool = False
    told: str = ""

    @classmethod
    def held(cls, variable: Variable, kinds: Kinds, name: str = "") -> Metric:
        """The number that a variable holds."""
        array = any(method_name(value) == "numpy" for value in kinds.assigned(variable))
        return cls(name or variable.name, cst.Name(variable.name), variable.frame, frozenset((variable,)), array)

    @property
    def is_held(self) -> bool:
        """True where a variable holds the number."""
        return isinstance(self.value, cst.Name)


#: The place of what a `validation_step` logs: the Trainer keeps its mean.
STEP = "step"


@dataclass(frozen=True)
class Thing:
    """What is logged under a name.

    Attributes:
        stage: the pass that it is of: `train`, `val` or `test`.
        text: how it is logged; variables: what it is made of.
        is_mean: the Trainer keeps its mean over the pass.
        place: where its variables get their values, if that is not in the batches of the pass.
    """

    stage: str
    text: str
    variables: frozenset[Variable]
    is_mean: bool
    place: str = ""

    @classmethod
    def of(cls, call: cst.Call, frame: Frame, stage: str, *, is_step: bool) -> Thing:
        """Reads `self.log("loss", loss, prog_bar=True)`; a `validation_step` logs means without being told."""
        text = ", ".join(map(code, call.args[1:]))
        variables = frozenset(expression_usage(call.args[1].value, frame).reads)
        is_mean = any(arg.keyword is not None and arg.keyword.value in ("on_epoch", "batch_size") for arg in call.args)
        return cls(stage, text, variables, is_mean, STEP if is_step else "")


LOGGED = "summaries are logged, not printed"
PROGRESS = "progress within an epoch is logged, not printed"


def printed(node: cst.CSTNode, frame: Frame, kinds: Kinds) -> cst.Call | None:
    """The call of a statement that only prints: what it prints draws, runs and changes nothing."""
    inner = small(node)
    call = inner.value if isinstance(inner, cst.Expr) else None
    if not isinstance(call, cst.Call):
        return None
    name = dotted(call.func) or ""
    function = kinds.tree.functions.get(name)
    own = function is not None and frame.outermost.resolve(name) is frame.resolve(name)
    own = own and only_prints(function, kinds.tree)  # type: ignore[arg-type]
    if not own and name not in ("print", "sys.stdout.write", "tqdm.write") and not is_record(call, frame, kinds):
        return None
    files = [arg.value for arg in call.args if arg.keyword is not None and arg.keyword.value == "file"]
    shows = all(dotted(file) in ("sys.stdout", "sys.stderr") for file in files)

    def known(part: cst.Call) -> bool:
        criterion = kinds.variable(part.func, frame)
        return part is call or (criterion is not None and kinds.is_loss(criterion))

    return call if shows and only_computes(call, frame, kinds.tree, known) else None


def metrics_of(
    call: cst.Call, frame: Frame, kinds: Kinds, is_number: Callable[[cst.BaseExpression, Frame], bool] | None = None
) -> tuple[Metric, ...]:
    """The scalars that a print shows: `x.item()`, a name printed with a float format, or what it names as a measure.

    Args:
        is_number: tells names and ratios of one number each that measures something, which need no format.
    """
    found: dict[str, Metric] = {}
    inner = {name for part in walk(call) if isinstance(part, cst.CompFor) for name in target_names(part.target)}
    told, told_by_phrase = labels(call), phrases(call)

    def add(node: cst.BaseExpression, within: cst.BaseExpression | None = None) -> None:
        word = told.get(within or node, "")
        node = _bare(node)
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
            factors = [side for side in (node.left, node.right) if not isinstance(side, (cst.Integer, cst.Float))]
            node = factors[0] if len(factors) == 1 else node  # a share in percent
        variable = kinds.variable(node, frame)
        if variable is not None and isinstance(node, cst.Name) and "." not in node.value and node.value not in inner:
            told_pass = tells_pass(word) and not tells_pass(variable.name)  # `train_loss` for `epoch_loss`
            own = word in found or (bool(measures(variable.name)) and not told_pass)
            name = variable.name if own else word or variable.name  # `val_loss` for `vl`
            found.setdefault(name, Metric.held(variable, kinds, name))

    def is_plain(node: cst.BaseExpression) -> bool:
        bare = _bare(node)
        return is_number is not None and isinstance(bare, cst.Name) and is_number(bare, frame)

    for part in walk(call):
        used = method_call(part)
        if isinstance(part, cst.Call) and used is not None and used[1] == "item" and not part.args:
            add(used[0], part)
        elif isinstance(part, cst.FormattedStringExpression):
            if spec_of(part)[-1:] in FLOATS or (not spec_of(part) and is_plain(part.expression)):
                add(part.expression)
        elif not isinstance(part, cst.FormattedString):
            for slot in slots(part):
                is_share = slot.spec == "d" and _is_share(slot.value)
                if slot.spec[-1:] in FLOATS or is_share or (slot.spec in ("", "s") and is_plain(slot.value)):
                    add(slot.value)
    for arg in call.args:
        if arg.keyword is None and is_plain(arg.value):
            add(arg.value)  # print("loss", loss)
    held = {variable for metric in found.values() for variable in metric.variables}
    logged: set[str] = set()
    plain = [slot.value for part in walk(call) for slot in slots(part) if slot.spec in ("", "s")]
    plain += [arg.value for arg in call.args if arg.keyword is None]
    ratios = [one for one in plain if isinstance(one, cst.BinaryOperation) and isinstance(one.operator, cst.Divide)]
    for value in (*formatted(call), *(one for one in ratios if is_number is not None and is_number(one, frame))):
        variables = frozenset(expression_usage(value, frame).reads)
        names = {part.value for part in walk(value) if isinstance(part, cst.Name)}
        if isinstance(_bare(value), cst.Name) or variables & held or names & inner or code(_item(value)) in logged:
            continue
        word = told.get(value)
        field = f"{word}_{value.attr.value}" if word is not None and isinstance(value, cst.Attribute) else None
        choices = (word, field, *_named_by_variable(value), told_by_phrase.get(value))  # `loss_avg` for `losses.avg`
        name = next((one for one in choices if one is not None and one not in found), None)
        if name is not None:
            found[name] = Metric(name, _item(value), frame, variables)
            logged.add(code(_item(value)))  # `x.item()` in a format is asked for `x`, too
    stage = shown_pass(call, frame)
    named = [replace(one, name=of_pass(stage, one.name)) for one in found.values()] if stage else [*found.values()]
    return tuple(named) if len({one.name for one in named}) == len(named) else tuple(found.values())


def shown_pass(call: cst.Call, frame: Frame) -> str:
    """`train` where a print shows a `phase` that is known to be that."""
    values = (fixed_value(value, frame) for value in shown(call))
    return next((value.lower() for value in values if isinstance(value, str) and names_pass(value)), "")


def of_pass(stage: str, name: str) -> str:
    """`val_loss` for `epoch_loss` and for `loss`."""
    return name if tells_pass(name) else f"{stage}_{re.sub('^(epoch|running)_', '', name)}"


def _item(node: cst.BaseExpression) -> cst.BaseExpression:
    """`x` of `x.item()`."""
    used = method_call(node)
    taken = used is not None and used[1] == "item" and not node.args  # type: ignore[attr-defined]
    return used[0].with_changes(lpar=[], rpar=[]) if taken else node  # type: ignore[index]


def _named_by_variable(value: cst.BaseExpression) -> list[str]:
    """`val_loss` for `val_loss / n`, nothing for a sum of two."""
    value = _item(value)
    sums = isinstance(value, cst.BinaryOperation) and isinstance(value.operator, (cst.Add, cst.Subtract))
    thing = "" if sums else _thing(value)
    return [thing] if measures(thing) else []


def phrases(call: cst.Call) -> dict[cst.CSTNode, str]:
    """`d_loss` for the number after `D loss:`, where a text names it so."""
    found: dict[cst.CSTNode, str] = {}
    for slot in (slot for part in walk(call) for slot in slots(part)):
        words = re.findall(r"[A-Za-z]\w*", re.split(r"\\[tnr]|[][|,;()\t\n]", slot.since)[-1])[-3:]
        if words and measures(words[-1]):
            found[slot.value] = "_".join(words).lower()
    return found


def _bare(node: cst.BaseExpression) -> cst.BaseExpression:
    """`loss` of `loss.data`, `loss.detach()` and `loss.numpy()`."""
    used = method_call(node)
    if isinstance(node, cst.Attribute) and node.attr.value == "data":
        return _bare(node.value)
    return _bare(used[0]) if used is not None and used[1] in ("detach", "cpu", "numpy") and not node.args else node  # type: ignore[attr-defined]


def _is_share(node: cst.BaseExpression) -> bool:
    """True for `100 * accuracy`."""
    if not isinstance(node, cst.BinaryOperation) or not isinstance(node.operator, cst.Multiply):
        return False
    return any(code(side) in ("100", "100.", "100.0") for side in (node.left, node.right))


def unlogged(
    call: cst.Call, frame: Frame, metrics: Iterable[Metric], averaged: Set[Variable], changing: Set[Variable]
) -> Iterator[str]:
    """The values of a print that no log tells, as text: a learning rate, the time that an epoch took.

    Args:
        metrics: what is logged of it; averaged: what other logs tell.
        changing: what the statements of the loops assign.
    """
    logged = set(averaged).union(*(metric.variables for metric in metrics if metric.is_held))
    told = {metric.value for metric in metrics}
    for value in shown(call):
        if value in told:
            continue
        rest = _without_sizes(value)
        reads = expression_usage(rest, frame).reads
        computed = any(isinstance(part, (cst.Call, cst.Subscript)) for part in walk(rest))
        if (reads & changing) - logged or (computed and not reads & logged):
            yield code(value)


def _without_sizes(node: cst.BaseExpression) -> cst.BaseExpression:
    """`i * 1` for `i * len(x)`: how many samples a batch has is progress, as its number is."""

    def change(part: cst.CSTNode) -> cst.CSTNode:
        name = dotted(part.func) if isinstance(part, cst.Call) else None
        sized = name is not None and name.rpartition(".")[2] in ("len", "size", "numel")
        shaped = isinstance(part, cst.Subscript) and (dotted(part.value) or "").endswith(".shape")
        if sized or shaped:
            return cst.Integer("1")
        return map_children(part, change)

    return change(node)  # type: ignore[return-value]


def labels(call: cst.Call) -> dict[cst.CSTNode, str]:
    """What a print calls the numbers that it shows, where it uses a word for a measure, and for one thing only."""
    found: dict[cst.CSTNode, str] = {}
    things: dict[str, set[tuple[str, str]]] = {}
    for part in walk(call):
        word, told = "", False
        for slot in slots(part):
            named, is_number = label(slot.since), slot.spec[-1:] in FLOATS
            if named:
                word, told = named, False
            elif told and any(sign.isalpha() for sign in slot.since):
                word = ""  # the text goes on with something else
            told |= is_number
            if word:
                found[slot.value] = word
                if is_number:
                    things.setdefault(word, set()).add(_measured(slot.value))
    found = {
        value: word
        for value, word in found.items()
        if len(things.get(word, ())) < 2 and (word not in things or _measured(value) in things[word])
    }
    found.update((slot.value, word) for slot in spoken(call) if (word := label(slot.since)))
    name = log_name(call)
    if name is not None:
        found[call.args[1].value] = name
    return found


def _thing(value: cst.CSTNode) -> str:
    """The first name in an expression."""
    return next((node.value for node in walk(value) if isinstance(node, cst.Name)), "")


def _measured(value: cst.CSTNode) -> tuple[str, str]:
    """The first name in an expression, and the first that is no function's: `np, losses` in `np.mean(losses)`."""
    functions = {root_of(call.func) for call in nodes_of(value, cst.Call) if call.args}
    fields = {part.attr for part in nodes_of(value, cst.Attribute)}
    names = (node for node in walk(value) if isinstance(node, cst.Name))
    return _thing(value), next((name.value for name in names if name not in functions | fields), "")


def metric_name(variable: Variable) -> str:
    """The name of what a variable holds: `loss` for `losses`."""
    name = variable.name
    word = next(iter(measures(name)), name)
    plural = next((end for end in ("es", "s") if name.endswith(word + end)), "")
    return name.removesuffix(plural)


def log_call(node: cst.CSTNode) -> cst.Call | None:
    """The call of a statement that is `self.log(...)` of the generated module."""
    call = expression_of(node)
    return call if isinstance(call, cst.Call) and log_name(call) is not None else None


def log_name(call: cst.Call) -> str | None:
    """`loss` for `self.log("loss", ...)`."""
    if dotted(call.func) != f"{MODULE_SELF}.log" or not isinstance(call.args[0].value, cst.SimpleString):
        return None
    return str(call.args[0].value.raw_value)


def log_calls(step: Step) -> list[cst.Call]:
    """The logs in a step."""
    calls = [node for node in walk(step.node) if isinstance(node, cst.Call)] if isinstance(step, Item) else []
    return [call for call in calls if log_name(call) is not None]


def logs(steps: Iterable[Step]) -> Iterator[str]:
    """The names that steps log under."""
    return (name for step in steps for call in log_calls(step) if (name := log_name(call)) is not None)


def log_text(metric: Metric) -> str:
    """`self.log("loss")`."""
    return f'self.log("{metric.name}")'


def log_statement(metric: Metric) -> cst.SimpleStatementLine:
    """`self.log("loss", loss, prog_bar=True)`."""
    return cst.SimpleStatementLine([cst.Expr(metric_call(metric))])


def metric_call(metric: Metric) -> cst.Call:
    """The call that logs a metric."""
    value = cst.Call(cst.Name("float"), [cst.Arg(metric.value)]) if metric.array else metric.value
    return cst.Call(
        module_attribute("log"),
        [
            cst.Arg(cst.SimpleString(f'"{metric.name}"')),
            cst.Arg(value.with_changes(lpar=[], rpar=[]) if isinstance(value, cst.BinaryOperation) else value),
            cst.Arg(cst.Name("True"), cst.Name("prog_bar")),
        ],
    )
