"""How batches are drawn: order, epochs of a sampler, passes that are easily overlooked."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.index import Key
from lightify.findings.script import Script, unwrapped
from lightify.syntax.query import arguments, call_name, dotted, literal, words

SHUFFLED = Rule(
    "LF440",
    "note",
    "{name} is shuffled: each pass over it draws from the random stream that training uses",
    "kept as it is; shuffle=False gives the same averages, but later random draws of the training change",
)
IN_ORDER = Rule(
    "LF441",
    "note",
    "the training data is not shuffled: each epoch sees the same batches in the same order",
    "kept as it is; pass shuffle=True to the loader if that is not meant",
)
SAME_EPOCH = Rule(
    "LF442",
    "warning",
    "the DistributedSampler's set_epoch() is never called: each epoch repeats the first one's order",
    "kept as it is; call {name}.set_epoch(epoch) at the start of each epoch, as a Trainer does for its own sampler",
)
HIDDEN_PASS = Rule(
    "LF443",
    "note",
    "this reads all of {name} to count its batches, and draws its random order once more",
    "kept as it is; len({name}) counts without reading, but later random draws of the training change",
)
LEFT_OUT = Rule(
    "LF444",
    "note",
    "{name} drops the last short batch: its samples are never evaluated",
    "kept as it is; leave drop_last out of loaders for evaluation",
)
RULES = (SHUFFLED, IN_ORDER, SAME_EPOCH, HIDDEN_PASS, LEFT_OUT)

_EVALUATION = {"val", "valid", "validation", "test", "eval", "dev", "testing"}


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts DataLoaders whose options are literal; silent when a star or variable hides them."""
    source = script.nest.batch_loop.iter if isinstance(script.nest.batch_loop, cst.For) else None
    trains = _aliases(script, unwrapped(source))
    for call in script.calls("DataLoader"):
        yield from _loader(script, call, trains)
    for call in script.calls("DistributedSampler"):
        yield from _sampler(script, call)
    for call in script.calls("len"):
        if len(call.args) == 1 and call_name(call.args[0].value) == "list":
            inner = call.args[0].value
            assert isinstance(inner, cst.Call)
            name = inner.args[0].value if len(inner.args) == 1 else None
            if script.kind(name) is Kind.LOADER:
                yield HIDDEN_PASS.at(script, call, name=dotted(name))


def _aliases(script: Script, node: cst.CSTNode | None, depth: int = 0) -> frozenset[Key]:
    """What a name stands for, through `a = b`."""
    found = set(script.origins(node))
    for key in tuple(found):
        for definition in script.definitions.get(key, ()) if depth < 3 else ():
            if definition.index is None and definition.value is not None:
                found |= _aliases(script, definition.value, depth + 1)
    return frozenset(found)


def _loader(script: Script, call: cst.Call, trains: frozenset) -> Iterator[Diagnostic]:
    statement = script.statement(call)
    if not isinstance(statement, cst.Assign) or statement.value is not call or len(statement.targets) != 1:
        return
    target = statement.targets[0].target
    name = dotted(target)
    if name is None:
        return
    given = arguments(call)
    shuffle = given.get(2, "shuffle")
    is_source = script.key(target, name) in trains
    if words(name) & _EVALUATION and "train" not in words(name) and not is_source:
        if literal(shuffle) == "True":
            yield SHUFFLED.at(script, call, name=name)
        if literal(given.keyword.get("drop_last")) == "True":
            yield LEFT_OUT.at(script, call, name=name)
    if shuffle is None and not given.starred and is_source and trains == {script.key(target, name)}:
        own_order = {"sampler", "batch_sampler", "collate_fn"} & given.keyword.keys() or len(given.positional) > 3
        dataset = script.construction(given.get(0, "dataset"))
        if not own_order and not _is_ordered(script, dataset):
            yield IN_ORDER.at(script, call)


def _is_ordered(script: Script, dataset: cst.Call | None) -> bool:
    """True when a data set may be iterable, or is not seen at all."""
    if dataset is None:
        return True
    definition = script.tree.classes.get(dotted(dataset.func) or "")
    if definition is not None:
        bases = {(dotted(base.value) or "").rpartition(".")[2] for base in definition.bases}
        return bases != {"Dataset"}
    return not script.qualified(dataset).startswith(("torchvision.datasets.", "torch.utils.data.TensorDataset"))


def _sampler(script: Script, call: cst.Call) -> Iterator[Diagnostic]:
    if (
        script.nest.epoch_loop is None
        or script.called("set_epoch")
        or literal(arguments(call).get(3, "shuffle")) == "False"
    ):
        return
    statement = script.statement(call)
    name = "sampler"
    if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = dotted(statement.targets[0].target) or name
        if words(target) & _EVALUATION:
            return
        name = target if statement.value is call else name
    yield SAME_EPOCH.at(script, call, name=name)
