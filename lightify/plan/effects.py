"""What calls can do: draw random numbers, run a network, change what backward still needs."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import lru_cache

import libcst as cst

from lightify.analysis.callers import run_by
from lightify.recognisers.base import is_criterion, is_module_class
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import bound_by, declared_elsewhere, free_names, local_names, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    assigned_pairs,
    block,
    dotted,
    is_constant,
    method_call,
    method_name,
    root_name,
    target_names,
    walk,
)

_CALM = frozenset(
    """print len float int range list dict str enumerate zip sum max min round abs time time.time time.perf_counter
    sys.stdout.write torch.no_grad bool tuple set sorted reversed any all isinstance hasattr type divmod pow
    super collections.defaultdict collections.deque collections.OrderedDict datetime.datetime.now datetime.timedelta
    math.sqrt math.exp math.log math.log2 math.log10 math.pow math.cos math.floor math.ceil math.isnan math.isinf
    math.isfinite
    torch.tensor torch.zeros torch.ones torch.full torch.arange torch.stack torch.cat torch.argmax torch.max torch.min
    torch.sum torch.mean torch.abs torch.sqrt torch.exp torch.log torch.eq torch.is_tensor torch.zeros_like
    torch.ones_like torch.sigmoid torch.softmax torch.topk torch.where torch.isnan torch.isfinite torch.clamp torch.pow
    torch.log10 torch.log2 torch.square torch.norm torch.round torch.unique torch.prod torch.logical_and
    torch.logical_or torch.logical_not torch.argsort torch.cumsum torch.from_numpy torch.allclose
    torch.nn.functional.softmax torch.nn.functional.log_softmax torch.nn.functional.cross_entropy
    torch.nn.functional.nll_loss torch.nn.functional.mse_loss torch.nn.functional.one_hot
    numpy.array numpy.asarray numpy.zeros numpy.ones numpy.mean numpy.sum numpy.std numpy.argmax numpy.concatenate
    numpy.sqrt numpy.log10 numpy.isnan numpy.average numpy.log numpy.log2 numpy.exp numpy.abs numpy.square numpy.power
    numpy.max numpy.min numpy.maximum numpy.minimum numpy.clip numpy.round numpy.var numpy.median numpy.percentile
    numpy.stack numpy.hstack numpy.vstack numpy.unique numpy.where numpy.bincount numpy.argmin numpy.argsort
    numpy.nanmean numpy.cumsum numpy.prod numpy.diag numpy.linalg.norm numpy.array_equal numpy.all numpy.any
    torch.Tensor torch.FloatTensor torch.LongTensor""".split()  # noqa: SIM905, a list of words
)
_CALM_METHODS = frozenset(
    """format item append extend step time write flush update train close set_description set_postfix add_scalar info
    double float long int half bool mean sum cpu cuda to numpy detach clone size dim max min argmax argmin eq ne gt lt
    div mul add sub sqrt pow exp log abs view view_as reshape squeeze unsqueeze flatten tolist items keys values get
    copy strftime total_seconds join split strip t permute transpose expand expand_as contiguous topk numel any all
    type type_as ge le std var median clamp softmax sigmoid index_select gather masked_select nonzero unique log10 log2
    square prod cumsum argsort amax amin isnan isfinite logical_and logical_or logical_not tanh ravel astype
    add_scalars add_image add_images add_histogram add_text add_figure
    """.split()  # noqa: SIM905, a list of words
)
#: Calm where it stands in the loop, but it may do something to a network where a function does it.
_ACTS = frozenset(("step", "update", "train", "cuda", "to", "half", "double", "close"))
#: Calm, but what it was called on is another thing then.
_CHANGES = frozenset(
    """append extend step write flush update train close set_description set_postfix info
    add_scalar add_scalars add_image add_images add_histogram add_text add_figure""".split()  # noqa: SIM905
)
#: Methods that only tell something, beside the calm ones.
_TELLS = frozenset(
    """get_last_lr get_lr isoformat count index upper lower title capitalize ljust rjust center zfill replace rstrip
    lstrip norm round floor timestamp memory_allocated max_memory_allocated memory_reserved asctime ctime now
    state_dict parameters nelement is_available""".split()  # noqa: SIM905, a list of words
)
#: Arguments that a call changes.
_FILLED = ("out", "inplace")
#: Modules that know nothing of networks, and draw nothing.
_APART = frozenset("os shutil json time math csv sys pickle datetime pathlib".split())  # noqa: SIM905
_WRITING = ("torch.save", "open")
#: Libraries of functions that compute from what they are given.
_MEASURING = ("sklearn.metrics.", "torchmetrics.functional.")
BUILTINS = frozenset(dir(builtins))


def may_draw(step: Step, tree: Tree) -> bool:
    """True when a step may draw random numbers."""
    node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
    calls = (part for part in walk(node) if isinstance(part, cst.Call))
    return not all(_draws_nothing(call, frame, tree) or _acts_apart(call, tree) for call in calls)


def is_calm_method(name: str) -> bool:
    """True for a method that, whatever it belongs to, computes from it and draws nothing."""
    return name in _CALM_METHODS


def computes_from(name: str) -> bool:
    """True for a method that, whatever it belongs to, gives a value or takes one down: `item`, `append`, `write`."""
    return name in (_CALM_METHODS - _ACTS) | _TELLS


def _draws_nothing(call: cst.Call, frame: Frame, tree: Tree) -> bool:
    name = dotted(call.func) or ""
    full = tree.qualified(call.func) or name
    if name in _CALM or full in _CALM or full.startswith(_MEASURING) or method_name(call) in _CALM_METHODS | _TELLS:
        return True
    if is_criterion(full) or (full.startswith("tqdm") and arguments(call).get(0, "iterable") is None):
        return True
    meaning = frame.resolve(name) if name.isidentifier() else None
    if not isinstance(meaning, Variable) or not meaning.frame.is_module:
        return False
    definition = tree.functions.get(meaning.name) or tree.classes.get(meaning.name)
    return definition is not None and is_calm(definition, tree)


def _acts_apart(call: cst.Call, tree: Tree) -> bool:
    """True for what does something, but draws nothing: it writes files, or changes an object of the script's own."""
    full = tree.qualified(call.func) or dotted(call.func) or ""
    own = list(run_by(call, tree)) if method_call(call) is not None else []
    writes = full.partition(".")[0] in _APART or full in _WRITING
    return writes or (bool(own) and all(keeps_to_itself(one, tree) for one in own))


def only_computes(node: cst.CSTNode, frame: Frame, tree: Tree, known: Callable[[cst.Call], bool]) -> bool:
    """True for an expression that nobody misses once its value is not wanted: it draws, runs and changes nothing.

    Args:
        known: calls of the expression that are known to be such.
    """
    if any(isinstance(part, (cst.NamedExpr, cst.Await, cst.Yield)) for part in walk(node)):
        return False
    calls = [part for part in walk(node) if isinstance(part, cst.Call)]
    return all(known(call) or _only_computes(call, frame, tree) for call in calls)


def _only_computes(call: cst.Call, frame: Frame, tree: Tree) -> bool:
    used = method_call(call)
    if any(arg.keyword is not None and arg.keyword.value in _FILLED for arg in call.args):
        return False
    if used is not None and used[1] == "get" and (not call.args or call.args[0].keyword is not None):
        return False  # a queue's, which takes an element out
    if used is not None and used[1] == "add" and _is_set(used[0], tree):
        return False
    if used is None or isinstance(call.func, cst.Name) or tree.qualified(call.func) in _CALM:
        return _draws_nothing(call, frame, tree)
    own = tree.methods.get(used[1], ())
    if own:
        return all(is_calm(method, tree) for method in own)
    return used[1] in (_CALM_METHODS - _CHANGES) | _TELLS


def _is_set(node: cst.CSTNode, tree: Tree) -> bool:
    """True for what the script makes a set somewhere."""
    given = [
        one.value for one in tree.nodes(cst.Assign) if dotted(node) in map(dotted, (t.target for t in one.targets))
    ]
    return any(isinstance(one, cst.Set) or (isinstance(one, cst.Call) and dotted(one.func) == "set") for one in given)


@lru_cache(maxsize=512)
def is_calm(definition: cst.FunctionDef | cst.ClassDef, tree: Tree) -> bool:
    """True for a function, or the making of an object, that computes from what it is given and changes only its own.

    It draws nothing, runs no network, assigns no globals and no fields of its arguments.
    """
    return _calm(definition, tree, (definition,))


@lru_cache(maxsize=512)
def keeps_to_itself(function: cst.FunctionDef, tree: Tree) -> bool:
    """True for what is calm, only prints, or is a method that computes and changes fields of its own object alone."""
    if is_calm(function, tree) or only_prints(function, tree):
        return True
    around = tree.parents.get(tree.parents.get(function))  # type: ignore[arg-type]
    return isinstance(around, cst.ClassDef) and is_calm(around, tree) and _calm(function, tree, (around, function))


#: Calls that show something, or ask what time it is.
_SHOWING = ("print", "sys.stdout.write", "sys.stdout.flush", "time.time", "time.perf_counter")


@lru_cache(maxsize=512)
def only_writes(definition: cst.FunctionDef, tree: Tree) -> bool:
    """True for a function that computes, prints and writes files: it runs no network, whatever it is given."""

    def writes(full: str) -> bool:
        return full.partition(".")[0] in _APART or full in _WRITING

    return _runs_nothing(definition, tree, writes)


@lru_cache(maxsize=512)
def only_prints(definition: cst.FunctionDef, tree: Tree) -> bool:
    """True for a function that does nothing but print; what it remembers for that, it alone reads."""
    calls = [node for node in same_scope(block(definition.body)) if isinstance(node, cst.Call)]
    prints = any(dotted(call.func) in ("print", "sys.stdout.write") for call in calls)
    if not prints or not _runs_nothing(definition, tree, lambda full: full in _SHOWING):
        return False
    own = declared_elsewhere(definition)
    read = (
        node
        for name in own
        for node in tree.mentions.get(name, ())
        if not isinstance(tree.parents[node], (cst.AssignTarget, cst.Assign))
    )
    return all(any(around is definition for around in tree.ancestors(node)) for node in read)


def _runs_nothing(
    definition: cst.FunctionDef, tree: Tree, known: Callable[[str], bool], within: tuple[cst.FunctionDef, ...] = ()
) -> bool:
    """True for a function all of whose calls are known, or compute."""
    if definition.decorators or definition.asynchronous is not None or len(within) > 6:
        return False
    for node in same_scope(block(definition.body)):
        if isinstance(node, (cst.Yield, cst.Await, cst.Lambda, cst.FunctionDef, cst.ClassDef)):
            return False
        if isinstance(node, cst.AssignTarget) and isinstance(node.target, (cst.Attribute, cst.Subscript)):
            return False
        if not isinstance(node, cst.Call):
            continue
        name = dotted(node.func) or ""
        full, used = tree.qualified(node.func) or name, method_call(node)
        own = tree.functions.get(name)
        local = name.partition(".")[0] in local_names(definition) - _imported(definition)
        if not local and (full in _CALM or known(full) or full == "str"):
            continue
        if used is not None and computes_from(used[1]) and own is None:
            continue
        if local or own is None:
            return False
        if own not in within and not _runs_nothing(own, tree, known, (*within, definition)):
            return False
    return True


@lru_cache(maxsize=512)
def _imported(definition: cst.FunctionDef) -> frozenset[str]:
    """The names that a function's own imports bind, and nothing else in it."""
    nodes = list(same_scope(block(definition.body)))
    own = {part for node in nodes if isinstance(node, cst.ImportAlias) for part in walk(node)}
    others = {name for node in nodes if node not in own for name in bound_by(node)}
    return frozenset({name for node in own for name in bound_by(node)} - others)


def _calm(definition: cst.FunctionDef | cst.ClassDef, tree: Tree, within: tuple[cst.CSTNode, ...]) -> bool:
    if isinstance(definition, cst.ClassDef):
        if definition.decorators or definition.keywords or is_module_class(definition, tree):
            return False
        names = [dotted(base.value) or "" for base in definition.bases]
        bases = [tree.classes[name] for name in names if name in tree.classes]
        if any(name not in tree.classes and name != "object" for name in names):
            return False
        parts: list[cst.FunctionDef | cst.ClassDef] = list(bases)
        parts += [made for name in ("__new__", "__init__") if (made := _method(definition, name)) is not None]
        return all(_calm(part, tree, within) for part in parts)
    if definition.decorators or definition.asynchronous is not None or declared_elsewhere(definition):
        return False
    known = BUILTINS | tree.imports.keys() | tree.functions.keys() | tree.classes.keys()
    if not {name for name in free_names(definition) if "." not in name} <= known:
        return False
    return all(_is_small(node, definition, tree, within) for node in same_scope(block(definition.body)))


def _is_small(node: cst.CSTNode, function: cst.FunctionDef, tree: Tree, within: tuple[cst.CSTNode, ...]) -> bool:
    """True for a part of a function that does nothing but compute."""
    if isinstance(node, (cst.Yield, cst.Await, cst.Del, cst.Lambda, cst.FunctionDef, cst.ClassDef)):
        return False
    if isinstance(node, (cst.Import, cst.ImportFrom)):
        return False
    if isinstance(node, cst.Attribute):
        return node.attr.value not in ("grad", "data", "parameters", "named_parameters")
    if isinstance(node, (cst.AssignTarget, cst.AnnAssign)) and not isinstance(node.target, (cst.Tuple, cst.List)):
        own = isinstance(within[0], cst.ClassDef) and (root_name(node.target) or "").partition(".")[0] == "self"
        return own or (isinstance(node.target, cst.Name) and "." not in node.target.value)
    if isinstance(node, cst.AugAssign):
        name = dotted(node.target) or ""
        return bool(name) and _is_own(name, within[0] if name.startswith("self.") else function)
    return not isinstance(node, cst.Call) or _is_small_call(node, function, tree, within)


#: Tensor methods that give a new tensor, and those that change the one that they are called on.
_NEW = frozenset(("sum", "mean", "eq", "clone", "norm", "max", "min"))
_IN_PLACE = frozenset(("mul_", "div_", "add_", "sub_"))


def _is_new(name: str, function: cst.FunctionDef) -> bool:
    """True for a local that only ever holds what a computation gave it anew."""
    bound = [node for node in same_scope(block(function.body)) if name in bound_by(node)]
    values = [
        node.value
        for node in same_scope(block(function.body))
        if isinstance(node, cst.Assign) and [target_names(target.target) for target in node.targets] == [[name]]
    ]
    used = [method_call(value) for value in values]
    return 0 < len(values) == len(bound) and all(one is not None and one[1] in _NEW for one in used)


def _is_own(name: str, owner: cst.CSTNode) -> bool:
    """True for a local, or a field of a class, that starts as a constant or a new list: `+=` changes nothing else."""
    inside = block(owner.body) if isinstance(owner, (cst.FunctionDef, cst.ClassDef)) else ()
    methods = [node for node in inside if isinstance(node, cst.FunctionDef)] if isinstance(owner, cst.ClassDef) else []
    lines = [line for method in methods for line in block(method.body)] or inside
    values = [
        value
        for node in same_scope(lines)
        if isinstance(node, cst.Assign)
        for target in node.targets
        for part, value in assigned_pairs(target.target, node.value)
        if name in (*target_names(part), dotted(part))
    ]
    return bool(values) and all(is_constant(value) or isinstance(value, cst.List) for value in values)


def _is_small_call(call: cst.Call, function: cst.FunctionDef, tree: Tree, within: tuple[cst.CSTNode, ...]) -> bool:
    name, used = dotted(call.func) or "", method_call(call)
    local = name.partition(".")[0] in local_names(function)
    full = tree.qualified(call.func) or name
    if not local and (name in _CALM or full in _CALM or full.startswith(_MEASURING)):
        return True
    if used is not None and (used[1] in _CALM_METHODS - _ACTS or dotted(getattr(used[0], "func", None)) == "super"):
        return True
    if used is not None and used[1] in _IN_PLACE and isinstance(used[0], cst.Name) and _is_new(used[0].value, function):
        return True
    around = tree.around(function, cst.ClassDef)
    definition: cst.FunctionDef | cst.ClassDef | None = None
    if name.startswith("self.") and around is not None:
        definition = _method(around, name[5:])
    elif not local:
        definition = tree.functions.get(name) or tree.classes.get(name)
    if definition is None or len(within) > 6:
        return False
    return definition in within or _calm(definition, tree, (*within, definition))


def _method(definition: cst.ClassDef, name: str) -> cst.FunctionDef | None:
    methods = (node for node in block(definition.body) if isinstance(node, cst.FunctionDef))
    return next((method for method in methods if method.name.value == name), None)
