"""What a call hands to the function that it runs: an alias where that is safe, else a binding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import libcst as cst

from lightify.analysis.changes import Changes, changes_of
from lightify.analysis.handed import origin_of
from lightify.analysis.rebound import in_force, stays
from lightify.syntax.frames import Binding, Expression, Field, Frame, Item, Step, Variable, fixed_value
from lightify.syntax.names import assignments, bound_names, declared_elsewhere, parameters, read_names, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    IN_PLACE,
    FieldName,
    arguments,
    block,
    code,
    dotted,
    is_constant,
    method_call,
    path_node,
    small,
    target_names,
    walk,
)
from lightify.syntax.substitute import substitute


def bind(
    call: cst.Call,
    function: cst.FunctionDef,
    receiver: cst.BaseExpression | None,
    item: Item,
    frame: Frame,
    tree: Tree,
) -> list[Step] | str:
    """Lets parameters stand for what the call gives, or binds them; a text says why the call can't be opened."""
    given = arguments(call)
    if receiver is None and (spread := _spread(call, function)) is not None:
        return [Binding(_parameters_of(function), frame, spread, item.frame, item.node)]
    if given.starred:
        return f"the call of {function.name.value} hides arguments behind a star"
    positional = [receiver, *given.positional] if receiver is not None else list(given.positional)
    names = _named_parameters(function)
    if _collects_arguments(function, len(positional), given.keyword):
        return f"{function.name.value} takes a variable number of arguments"
    if len(positional) > len(names):
        return f"the call of {function.name.value} gives too many arguments"
    written = bound_names(block(function.body)) - declared_elsewhere(function) - _moved_networks(function, tree)
    changed = changes_of(function, tree)
    bindings: list[Step] = []
    for number, param in enumerate(names):
        name = param.name.value
        if number < len(positional):
            value, source = positional[number], item.frame
        elif name in given.keyword:
            value, source = given.keyword[name], item.frame
        elif param.default is not None:
            if _collects(param, function):
                return f"{function.name.value} keeps what it collects in the default of {name}"
            if not stays(param.default, function, tree):
                return f"the default of {name} in {function.name.value} is made once, where the function is defined"
            value, source = param.default, frame.outer or item.frame
        else:
            return f"the call of {function.name.value} gives no {name}"
        itself = _network_in_mode(value, tree)
        alias = _alias(itself or value, source, changed)
        if name in written and alias is not None and _is_there(alias, tree) and name in _filled(function):
            frame.given.add(name)
        elif name in written:
            alias = None
        if alias is not None:
            frame.stand_for(name, alias)
            if itself is not None:
                bindings.append(Item(cst.SimpleStatementLine([cst.Expr(value)]), source))
        else:
            bindings.append(Binding(cst.Name(name), frame, value, source, item.node))
    return bindings


def as_called(
    call: cst.Call, function: cst.FunctionDef, receiver: cst.BaseExpression | None, caller: Frame, tree: Tree
) -> Frame | None:
    """The frame of a function with what a call fixes in it; None where the call can't be read."""
    frame = Frame(function.name.value, function, caller.outermost)
    statement = cst.SimpleStatementLine([cst.Expr(call)])
    if isinstance(bind(call, function, receiver, Item(statement, caller), frame, tree), str):
        return None
    without_stand_ins(list(block(function.body)), frame, tree)
    return frame


def _named_parameters(function: cst.FunctionDef) -> list[cst.Param]:
    """The parameters of a function without `*args` and `**kwargs`."""
    params = function.params
    return [*params.posonly_params, *params.params, *params.kwonly_params]


def _collects_arguments(function: cst.FunctionDef, positional: int, keyword: Iterable[str]) -> bool:
    """True where `*args` or `**kwargs` of a function is given something, or is read at all."""
    params = function.params
    extra = {one.name.value for one in (params.star_arg, params.star_kwarg) if isinstance(one, cst.Param)}
    if not extra:
        return False
    named = {one.name.value for one in _named_parameters(function)}
    given = positional > len(params.posonly_params) + len(params.params) or not named.issuperset(keyword)
    return given or not extra.isdisjoint(read_names(function.body))


def _is_there(meaning: Variable | Expression, tree: Tree) -> bool:
    """True for a name that only the making of objects binds: it is never None."""
    if not isinstance(meaning, Variable) or isinstance(meaning, Field):
        return False
    origin = origin_of(meaning.name, meaning.frame.function, tree)
    made = assignments(origin.scope or tree.module).get(origin.name, ()) if origin is not None else ()
    return bool(made) and all(_makes(node.value, tree) for node in made)


def _makes(value: cst.CSTNode | None, tree: Tree) -> bool:
    """True for `Net()`, moved perhaps: `Net().to(device)`."""
    while (used := method_call(value)) is not None and used[1] in IN_PLACE - tree.methods.keys():
        value = used[0]
    return isinstance(value, cst.Call) and dotted(value.func) in tree.classes


@lru_cache(maxsize=256)
def _filled(function: cst.FunctionDef) -> frozenset[str]:
    """Parameters that a function binds under `if net is None:` alone."""
    bound = _bound(function)
    under: list[str] = []
    for node in same_scope(block(function.body)):
        if isinstance(node, cst.If) and code(node.test).endswith(" is None"):
            asked = code(node.test).removesuffix(" is None")
            under += [name for name in _bound_in(block(node.body)) if name == asked]
    return frozenset(name for name in under if under.count(name) == bound.count(name))


def _network_in_mode(value: cst.BaseExpression, tree: Tree) -> cst.BaseExpression | None:
    """`net` for `net.eval()`, which sets the mode and gives the network itself."""
    used = method_call(value)
    if used is None or used[1] not in ("eval", "train") or used[1] in tree.methods or dotted(used[0]) is None:
        return None
    return used[0]


def _spread(call: cst.Call, function: cst.FunctionDef) -> cst.BaseExpression | None:
    """What `f(*values)` spreads over all parameters of a function."""
    if len(call.args) != 1 or call.args[0].star != "*":
        return None
    params = function.params
    plain = not (params.kwonly_params or isinstance(params.star_arg, cst.Param) or params.star_kwarg)
    return call.args[0].value if plain and all(param.default is None for param in parameters(function)) else None


def _parameters_of(function: cst.FunctionDef) -> cst.Tuple:
    names = [cst.Name(param.name.value) for param in parameters(function)]
    return cst.Tuple([cst.Element(name, cst.Comma()) if len(names) == 1 else cst.Element(name) for name in names])


def named_in_all(
    node: cst.BaseExpression, frame: Frame, module: Frame, into: Frame | None = None
) -> cst.BaseExpression:
    """An expression of one frame with names that mean the same in all frames, or in the one that it is put into."""

    def put(name: str) -> cst.BaseExpression:
        meaning = frame.resolve(name)
        if into is not None and isinstance(meaning, Variable) and into.resolve(meaning.path) is meaning:
            return path_node(meaning.path)
        key = f"<{name.rpartition('.')[2]} {len(module.aliases)}>"
        module.stand_for(key, meaning)
        return FieldName(key)

    return substitute(node, put)  # type: ignore[return-value]


def _collects(param: cst.Param, function: cst.FunctionDef) -> bool:
    """True for `log=[]` that the function fills: the one default outlives each call."""
    if not isinstance(param.default, (cst.List, cst.Dict, cst.Set, cst.Call, cst.ListComp, cst.DictComp, cst.SetComp)):
        return False
    if isinstance(param.default, (cst.List, cst.Dict)) and not param.default.elements:
        return True
    return any(dotted(_changed(node)) == param.name.value for node in walk(function.body))


def _changed(node: cst.CSTNode) -> cst.CSTNode | None:
    """What a node may change in place."""
    used = method_call(node)
    if used is not None:
        return used[0]
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.Del)):
        target = node.target
        return target.value if isinstance(target, (cst.Subscript, cst.Attribute)) else target
    return None


def _alias(value: cst.BaseExpression, frame: Frame, changed: Changes) -> Variable | Expression | None:
    """What a parameter stands for, where that stays the same while the function runs."""
    if (dotted(value) or "").rpartition(".")[2] in changed.names | changed.fields:
        return None
    if isinstance(value, cst.Name) and not is_constant(value):
        return frame.resolve(value.value)
    if is_constant(value) and not isinstance(value, (cst.List, cst.Dict, cst.Set, cst.Call)):
        return Expression(value, frame)
    if isinstance(value, cst.Attribute) and dotted(value) is not None:
        return Expression(value, frame)
    if isinstance(value, cst.Subscript) and dotted(value.value) is not None and _fixed_index(value):
        return Expression(value, frame)
    return None


def _fixed_index(node: cst.Subscript) -> bool:
    """True for `loaders["train"]`."""
    index = node.slice[0].slice if len(node.slice) == 1 else None
    return isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString)


def without_stand_ins(
    body: list[cst.BaseStatement], frame: Frame, tree: Tree
) -> tuple[list[cst.BaseStatement], dict[cst.CSTNode, cst.CSTNode]]:
    """Lets names stand for what the call fixes: `train = optimizer is not None`, `net = model.eval()`.

    Returns:
        The other statements, and those of them that are made anew with those of the source.
    """
    frame.given.update(
        name
        for name, meaning in frame.aliases.items()
        if isinstance(meaning, Variable) and (_is_optimizer(meaning, tree) or _is_function(meaning, tree))
    )
    assert frame.function is not None
    bound = _bound(frame.function)
    moved = _moved_networks(frame.function, tree)
    rest: list[cst.BaseStatement] = []
    anew: dict[cst.CSTNode, cst.CSTNode] = {}
    for statement in body:
        inner = small(statement)
        target = inner.targets[0].target if isinstance(inner, cst.Assign) and len(inner.targets) == 1 else None
        value = fixed_value(inner.value, frame) if isinstance(inner, cst.Assign) else None
        once = isinstance(target, cst.Name) and bound.count(target.value) == 1 and target.value not in frame.aliases
        tests = isinstance(inner, cst.Assign) and isinstance(inner.value, (cst.Comparison, cst.UnaryOperation))
        if once and tests and isinstance(value, bool) and isinstance(target, cst.Name):
            frame.stand_for(target.value, Expression(cst.Name(str(value)), frame))
            continue
        mode = _fixed_mode(inner, frame, tree) if isinstance(inner, cst.Expr) else None
        if mode is not None:
            anew[mode] = inner  # type: ignore[assignment]
            rest.append(statement.with_changes(body=[mode]))
            continue
        network = _network_in_mode(inner.value, tree) if once and isinstance(inner, cst.Assign) else target
        known = isinstance(network, cst.Name) and network.value in frame.aliases
        if known and isinstance(target, cst.Name) and (once or target.value in moved):
            frame.stand_for(target.value, frame.aliases[network.value])  # type: ignore[union-attr]
            line = cst.Expr(inner.value)  # type: ignore[union-attr]
            anew[line] = inner  # type: ignore[assignment]
            rest.append(statement.with_changes(body=[line]))
        else:
            rest.append(statement)
    return rest, anew


def _fixed_mode(line: cst.Expr, frame: Frame, tree: Tree) -> cst.Expr | None:
    """`net.train()` or `net.eval()` for `net.train(optimizer is not None)`, where the call fixes the test."""
    used = method_call(line.value)
    if used is None or used[1] != "train" or not isinstance(line.value, cst.Call) or len(line.value.args) != 1:
        return None
    mode = line.value.args[0].value
    truth = fixed_value(mode, frame)
    if not isinstance(truth, bool) or is_constant(mode) or not tree.methods.keys().isdisjoint(("train", "eval")):
        return None
    name = cst.Attribute(used[0], cst.Name("train" if truth else "eval"))
    return cst.Expr(cst.Call(name))


def _bound(function: cst.FunctionDef) -> list[str]:
    """The names that a function binds, each as often as it does."""
    return _bound_in(block(function.body))


def _bound_in(statements: Sequence[cst.CSTNode]) -> list[str]:
    return [
        name
        for node in same_scope(statements)
        if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.AsName))
        for name in target_names(getattr(node, "target", None) or node.name)  # type: ignore[union-attr]
    ]


@lru_cache(maxsize=256)
def _moved_networks(function: cst.FunctionDef, tree: Tree) -> frozenset[str]:
    """Parameters that a function binds to nothing but themselves, moved: `net = net.to(device)`, and `net.eval()`."""
    bound, lines = _bound(function), [small(statement) for statement in block(function.body)]
    moves = [
        used[0].value
        for line in lines
        if isinstance(line, cst.Assign)
        and len(line.targets) == 1
        and (used := method_call(line.value)) is not None
        and used[1] in IN_PLACE - tree.methods.keys()
        and isinstance(used[0], cst.Name)
        and dotted(line.targets[0].target) == used[0].value
    ]
    calls = (method_call(node) for node in walk(function.body))
    modes = {dotted(used[0]) for used in calls if used is not None and used[1] in ("eval", "train")}
    return frozenset(name for name in moves if name in modes and moves.count(name) == bound.count(name))


def _is_optimizer(variable: Variable, tree: Tree) -> bool:
    """True for a name that only the making of an optimizer of torch binds: it is never None."""
    function = variable.frame.function
    values = [node.value for node in assignments(function or tree.module).get(variable.name, ())]
    made = [tree.qualified(value.func) or "" for value in values if isinstance(value, cst.Call)]
    return bool(made) and len(made) == len(values) and all(name.startswith("torch.optim.") for name in made)


def _is_function(variable: Variable, tree: Tree) -> bool:
    """True for a function of the file that nothing takes the place of."""
    known = variable.frame.is_module and variable.name in tree.functions
    return known and in_force(variable.name, None, tree) is not None
