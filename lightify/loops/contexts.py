"""A `with` around the batches: entered when an epoch starts, left when it ends, or when an exception ends `fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from lightify.analysis.calls import class_of_object
from lightify.analysis.opening import gradients
from lightify.syntax.flow import exits_of
from lightify.syntax.frames import Item, Step
from lightify.syntax.parse import Tree
from lightify.syntax.query import MODULE_SELF, block, dotted, expression_of, module_attribute, small, walk

#: The module's stack of what is entered.
STACK = "contexts"


@dataclass(frozen=True)
class Entered:
    """The statements that enter and leave, and the `with` that they come from."""

    enter: list[Step]
    leave: list[Step]
    origins: Mapping[cst.CSTNode, cst.CSTNode]


def entered(step: Item, after: Sequence[Step], tree: Tree) -> Entered | str:
    """Reads `with a() as b:` as statements; a text says why they would not do the same.

    Args:
        after: what follows the batches inside of it.
    """
    node = step.node
    assert isinstance(node, cst.With)
    if node.asynchronous is not None:
        return "the batch loop stands inside an asynchronous with"
    if gradients(node, step.frame, tree) is False:
        return "the batch loop stands where gradients are off"
    if any(_may_swallow(item.item, tree) for item in node.items):
        return "the batch loop stands inside a with that may swallow exceptions"
    if any(isinstance(inner, Item) and _may_go_on(inner) for inner in after):
        return "an epoch may be left inside a with statement"
    enter: list[Step] = []
    origins: dict[cst.CSTNode, cst.CSTNode] = {}
    for number, item in enumerate(node.items):
        call = cst.Call(cst.Attribute(module_attribute(STACK), cst.Name("enter_context")), [cst.Arg(item.item)])
        line: cst.BaseSmallStatement = cst.Expr(call)
        if item.asname is not None:
            line = cst.Assign([cst.AssignTarget(item.asname.name)], call)  # type: ignore[arg-type]
        origins[line] = node
        leading = node.leading_lines if number == 0 else ()
        enter.append(Item(cst.SimpleStatementLine([line], leading_lines=leading), step.frame))
    close = cst.Call(cst.Attribute(module_attribute(STACK), cst.Name("close")))
    return Entered(enter, [Item(cst.SimpleStatementLine([cst.Expr(close)]), step.frame)], origins)


def enters(step: Step) -> cst.BaseExpression | None:
    """What `b = self.contexts.enter_context(a())` enters."""
    inner = small(step.node) if isinstance(step, Item) else None
    call = inner.value if isinstance(inner, (cst.Assign, cst.Expr)) else None
    if isinstance(call, cst.Call) and dotted(call.func) == f"{MODULE_SELF}.{STACK}.enter_context":
        return call.args[0].value
    return None


def leaves(step: Step) -> bool:
    """True for `self.contexts.close()`."""
    call = expression_of(step.node) if isinstance(step, Item) else None
    return isinstance(call, cst.Call) and dotted(call.func) == f"{MODULE_SELF}.{STACK}.close"


def _may_go_on(step: Item) -> bool:
    """True when the epochs may go on without the end of this one."""
    return any(isinstance(leaving, cst.Continue) for leaving in exits_of(step.node))


def _may_swallow(manager: cst.BaseExpression, tree: Tree) -> bool:
    """True for what may end an exception: `suppress`, and own classes whose `__exit__` returns something."""
    if isinstance(manager, cst.Call) and tree.qualified(manager.func) in ("contextlib.suppress", "pytest.raises"):
        return True
    definition = class_of_object(manager, tree)
    for method in block(definition.body) if definition is not None else ():
        if isinstance(method, cst.FunctionDef) and method.name.value == "__exit__":
            returns = (node.value for node in walk(method.body) if isinstance(node, cst.Return))
            return any(value is not None and getattr(value, "value", "") not in ("None", "False") for value in returns)
    return False
