"""Means of what a script keeps in a list: `np.mean(losses)`, `torch.stack(losses).mean()`."""

from __future__ import annotations

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import method_call

_MEANS = ("numpy.mean", "numpy.average", "statistics.mean", "statistics.fmean", "torch.mean")
_ARRAYS = ("numpy.array", "numpy.asarray", "torch.tensor", "torch.stack", "torch.Tensor", "torch.FloatTensor")


def meant_list(node: cst.CSTNode, tree: Tree) -> cst.BaseExpression | None:
    """The list that an expression is the mean of."""
    used = method_call(node)
    if not isinstance(node, cst.Call):
        return None
    if used is not None and used[1] == "mean" and not node.args and tree.qualified(node.func) not in _MEANS:
        return _listed(used[0], tree)
    if tree.qualified(node.func) in _MEANS and len(node.args) == 1:
        return _listed(node.args[0].value, tree) or node.args[0].value
    return None


def _listed(node: cst.CSTNode, tree: Tree) -> cst.BaseExpression | None:
    """`losses` of `torch.stack(losses)`."""
    made = isinstance(node, cst.Call) and tree.qualified(node.func) in _ARRAYS and len(node.args) == 1
    return node.args[0].value if made else None  # type: ignore[attr-defined]
