"""One file for each thing that is recognised."""

from __future__ import annotations

import libcst as cst

from lightify.facts import Kind
from lightify.recognisers import accelerators, data, foreign, modules, optimizers, steps
from lightify.recognisers.base import Recogniser
from lightify.syntax.parse import Tree

#: Which nodes go to which recogniser, in order.
REGISTRY: tuple[tuple[Recogniser, tuple[type[cst.CSTNode], ...]], ...] = (
    (modules.recognise, (cst.Assign, cst.AnnAssign, cst.Call)),
    (optimizers.recognise, (cst.Assign, cst.AnnAssign, cst.Call, cst.Attribute)),
    (data.recognise, (cst.Assign, cst.AnnAssign)),
    (steps.recognise, (cst.Call,)),
    (accelerators.recognise, (cst.Assign, cst.AnnAssign, cst.Call, cst.Param)),
    (foreign.recognise, (cst.ClassDef, cst.FunctionDef, cst.Call, cst.Import, cst.ImportFrom)),
)


def kind_of_value(value: cst.BaseExpression, tree: Tree) -> Kind | None:
    """What an expression makes, as far as the construction itself tells."""
    readers = (modules.kind_of, optimizers.kind_of, data.kind_of, accelerators.kind_of)
    kinds = [kind for read in readers if (kind := read(value, tree)) is not None]
    return next((kind for kind in kinds if kind is not Kind.OBJECT), kinds[0] if kinds else None)
