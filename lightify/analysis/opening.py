"""Opens a call: the body of the function that it runs takes its place, with its arguments bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import libcst as cst

from lightify.analysis.calls import called_statement, callee
from lightify.analysis.caught import asks_for_own_names
from lightify.analysis.closures import closures
from lightify.analysis.passing import bind, named_in_all, without_stand_ins
from lightify.analysis.returns import Stuck, WithoutReturns, returns
from lightify.syntax.frames import Binding, Frame, Item, Step, Variable, constant, fixed_value
from lightify.syntax.names import same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    FieldName,
    block,
    dotted,
    is_docstring,
    method_name,
    module_attribute,
    nodes_of,
    small,
    walk,
)

_WITHOUT_GRADIENTS = ("torch.no_grad", "torch.inference_mode")


def live(steps: Sequence[Step], tree: Tree) -> list[Step]:
    """Steps with `if flag:` replaced by the branch that runs, where the call fixes the flag."""
    result: list[Step] = []
    for step in steps:
        if not isinstance(step, Item):
            result.append(step)
            continue
        node = step.node
        truth = constant(node.test, step.frame) if isinstance(node, cst.If) else None
        if isinstance(node, cst.With) and gradients(node, step.frame, tree) is True:
            result.extend(live([Item(inner, step.frame) for inner in block(node.body)], tree))
        elif truth is None or not isinstance(node, cst.If):
            result.append(step)
        elif truth:
            result.extend(live([Item(inner, step.frame) for inner in block(node.body)], tree))
        elif isinstance(node.orelse, cst.If):
            result.extend(live([Item(node.orelse, step.frame)], tree))
        elif node.orelse is not None:
            result.extend(live([Item(inner, step.frame) for inner in block(node.orelse.body)], tree))
    return result


def gradients(node: cst.With, frame: Frame, tree: Tree) -> bool | None:
    """What `no_grad`, `enable_grad` and `set_grad_enabled(flag)` set, where the flag is fixed; else None."""
    call = node.items[0].item if len(node.items) == 1 else None
    if not isinstance(call, cst.Call):
        return None
    name = tree.qualified(call.func)
    if name in _WITHOUT_GRADIENTS:
        return False
    if name == "torch.enable_grad":
        return True
    if name in ("torch.set_grad_enabled", "torch.autograd.set_grad_enabled") and len(call.args) == 1:
        value = fixed_value(call.args[0].value, frame)
        return value if isinstance(value, bool) else None
    return None


@dataclass(frozen=True, eq=False)
class Opened:
    """A call replaced by the body of its function: `before` binds parameters, `after` the result.

    Attributes:
        straight: tells the body without its returns, where it has some in its middle.
        origins: statements made anew, to those of the source.
        context: `with torch.no_grad()` around the body's end, which an evaluation does without.
    """

    call: cst.Call
    function: cst.FunctionDef
    frame: Frame
    before: tuple[Step, ...]
    body: tuple[Step, ...]
    after: tuple[Step, ...]
    result: cst.BaseExpression | None = None
    straight: WithoutReturns | None = None
    origins: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    context: cst.With | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.before, *self.body, *self.after)


def open_call(
    item: Item,
    tree: Tree,
    module: Frame,
    *,
    evaluating: bool = False,
    within: cst.Call | None = None,
    straight: bool = False,
    kept: cst.CSTNode | None = None,
) -> Opened | str:
    """Opens a statement that calls one of the file's functions; a text says why it can't be opened.

    Args:
        evaluating: the body runs where gradients are off, so what turns them off is no obstacle.
        within: the call, where the statement does more than call; what becomes of its result is left open.
        straight: a body with returns in its middle is told without them; else it is not opened.
        kept: the loop of the body whose statements move to the hooks.
    """
    found = (within, None) if within is not None else called_statement(item.node)
    if found is None:
        return "it is not a plain call"
    call, target = found
    resolved = callee(call, item.frame, tree)
    if resolved is None:
        return "the called function is not known"
    function, receiver = resolved
    fixed = tree.links.fixed.get(tree.linked(function) or function)
    if fixed is not None:
        return fixed
    if reason := _never_opened(function, evaluating, tree):
        return reason
    body = list(block(function.body))
    if is_docstring(body[0]):
        body = body[1:]
    context = _ends_without_gradients(body, tree) if evaluating else None
    if context is not None:
        body = [*body[:-1], *block(context.body)]
    result: cst.BaseExpression | None = None
    origin: cst.CSTNode = item.node
    middle = _returns_from_middle(body)
    if middle and not straight:
        return f"{function.name.value} returns from its middle"
    if not middle and body and isinstance(last := small(body[-1]), cst.Return):
        result, origin = last.value, last
        body = body[:-1]
    frame = _frame_of(function, call, item, tree, module, is_method=receiver is not None)
    if isinstance(frame, str):
        return frame
    before = bind(call, function, receiver, item, frame, tree)
    if isinstance(before, str):
        return before
    body, anew = without_stand_ins(body, frame, tree)
    told = None
    if middle:
        if within is not None:
            target = result = FieldName(f"<result {len(module.aliases)}>")
            module.stand_for(target.value, Variable(f"{function.name.value}_result", frame))
        elif target is not None:
            target = named_in_all(target, item.frame, module)
        told = WithoutReturns(partial(_leave, target), kept, _UNBROKEN)
        try:
            body = told.body(body)
        except Stuck:
            return f"{function.name.value} returns from its middle"
        target = None
    after: list[Step] = []
    if target is not None:
        value = result if result is not None else cst.Name("None")
        after.append(Binding(target, item.frame, value, frame, origin))
    elif within is None and result is not None and any(_acts(node) for node in walk(result)):
        after.append(Item(cst.SimpleStatementLine([cst.Expr(result)]), frame))
    inside = live([Item(node, frame) for node in body], tree)
    origins = {**anew, **(told.origins if told else {})}
    return Opened(call, function, frame, tuple(before), tuple(inside), tuple(after), result, told, origins, context)


def _frame_of(
    function: cst.FunctionDef, call: cst.Call, item: Item, tree: Tree, module: Frame, *, is_method: bool
) -> Frame | str:
    """The scope of a function that a call runs; a text says why it can't be opened."""
    made_in = None if is_method else _made_in(call, item, tree, module)
    outer = made_in or _enclosing(function, item.frame, tree) or module
    if isinstance(outer, str):
        return outer
    frame = Frame(function.name.value, function, outer)
    return f"{function.name.value} asks whether a name of its own is bound" if asks_for_own_names(frame) else frame


def _never_opened(function: cst.FunctionDef, evaluating: bool, tree: Tree) -> str:
    """Why a function is not opened, wherever it is called."""
    if function.asynchronous is not None or next(nodes_of(function.body, cst.Yield, cst.Await), None) is not None:
        return f"{function.name.value} is a generator or coroutine"
    decorators = [getattr(one.decorator, "func", one.decorator) for one in function.decorators]
    harmless = _WITHOUT_GRADIENTS if evaluating else ()
    if any(tree.qualified(decorator) not in harmless for decorator in decorators):
        return f"{function.name.value} is decorated"
    return ""


def _returns_from_middle(body: Sequence[cst.BaseStatement]) -> bool:
    """True when a body may return before its last statement, or from within it."""
    if not body:
        return False
    *before, last = body
    if any(isinstance(node, cst.Return) for node in same_scope(before)):
        return True
    return small(last) is None and returns(last)


def _ends_without_gradients(body: Sequence[cst.BaseStatement], tree: Tree) -> cst.With | None:
    """`with torch.no_grad():` that a body ends with, where it is there that it returns."""
    last = body[-1] if body else None
    if not isinstance(last, cst.With) or not isinstance(small(block(last.body)[-1]), cst.Return):
        return None
    return last if gradients(last, Frame(""), tree) is False else None


def _made_in(call: cst.Call, item: Item, tree: Tree, module: Frame) -> Frame | str | None:
    """The frame of the factory that made the called function; a text says why it can't be opened."""
    meaning = item.frame.resolve(call.func.value) if isinstance(call.func, cst.Name) else None
    closure = closures(tree).get((meaning.frame.function, meaning.name)) if isinstance(meaning, Variable) else None
    if closure is None or not isinstance(meaning, Variable):
        return None
    frame = Frame(closure.factory.name.value, closure.factory, module)
    bound = bind(closure.made, closure.factory, None, Item(item.node, meaning.frame), frame, tree)
    return f"{closure.function.name.value} keeps values of {closure.factory.name.value}" if bound else frame


_UNBROKEN = cst.UnaryOperation(cst.Not(), module_attribute("pass_ended"))


def _leave(target: cst.BaseExpression | None, value: cst.BaseExpression | None) -> list[cst.BaseStatement]:
    """What becomes of `return value`."""
    if target is not None:
        assign = cst.Assign([cst.AssignTarget(target)], value or cst.Name("None"))  # type: ignore[arg-type]
        return [cst.SimpleStatementLine([assign])]
    acts = value is not None and any(_acts(node) for node in walk(value))
    return [cst.SimpleStatementLine([cst.Expr(value)])] if acts else []  # type: ignore[arg-type]


def _acts(node: cst.CSTNode) -> bool:
    """True for a call that may do more than give its value."""
    return isinstance(node, cst.Call) and method_name(node) != "item" and dotted(node.func) != "len"


def _enclosing(function: cst.FunctionDef, frame: Frame | None, tree: Tree) -> Frame | None:
    """The frame of a function that another is nested in, seen from where that one is called."""
    around = [ancestor for ancestor in tree.ancestors(function) if isinstance(ancestor, cst.FunctionDef)]
    while frame is not None and frame.function not in around:
        frame = frame.outer
    return frame
