"""Values that stay what they are while the loops run, so that they may be read once, before them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import libcst as cst

from lightify.analysis.changes import changes_of, may_run
from lightify.loops.nest import Nest
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Expression, Frame, Item, Step, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import MODULE_SELF, dotted, method_call, root_name, target_names, walk

_BUILTINS = frozenset(dir(builtins))


def may_change(nest: Nest, whole: Sequence[Step], tree: Tree, node: cst.BaseExpression, frame: Frame) -> bool:
    """True when the loops may bind a name, a field or an item that an expression reads.

    Args:
        whole: all steps of the loops.
    """
    reads = expression_usage(node, frame).reads
    counted = [(nest.epoch_loop, nest.host), (nest.batch_loop, nest.batch_frame)]
    heads = {f.variable(name) for loop, f in counted if isinstance(loop, cst.For) for name in target_names(loop.target)}
    if reads & (usage(whole).writes | heads):
        return True
    parts = [part for part in walk(node) if root_name(part) != MODULE_SELF]  # the Trainer's count
    fields = {part.attr.value for part in parts if isinstance(part, cst.Attribute)}
    items = any(isinstance(part, cst.Subscript) for part in parts)
    names = {v.name for v in reads if v.frame.is_module and v.name != MODULE_SELF}
    if not (names or fields or items):
        return False
    roots = {
        frame.resolve(root_name(part) or "_") for part in parts if isinstance(part, (cst.Attribute, cst.Subscript))
    }
    return any(_changes(tree, step, roots, names, fields, items) for step in whole)


def _changes(
    tree: Tree, step: Step, roots: set[Variable | Expression], names: set[str], fields: set[str], items: bool
) -> bool:
    if not isinstance(step, Item):
        return False

    def is_root(part: cst.CSTNode) -> bool:
        return isinstance(part, cst.Name) and step.frame.resolve(part.value) in roots

    held = {one.name for one in roots if isinstance(one, Variable)} if items else set()
    for node in walk(step.node):
        if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For)):
            for part in walk(node.target):
                if isinstance(part, cst.Attribute) and part.attr.value in fields:
                    return True
                if items and isinstance(part, cst.Subscript) and step.frame.resolve(root_name(part) or "_") in roots:
                    return True
        elif isinstance(node, (cst.Call, cst.Attribute)):
            known = may_run(node, tree)
            changed = [changes_of(function, tree) for function in known]
            if any(one.fields & fields or one.names & names or one.items & held for one in changed):
                return True
            if isinstance(node, cst.Attribute):
                continue
            called = (dotted(node.func) or "").rpartition(".")[2]
            used = method_call(node)
            given = [arg.value for arg in node.args] + ([used[0]] if used is not None else [])
            if not known and called not in _BUILTINS and any(map(is_root, given)):
                return True
    return False
