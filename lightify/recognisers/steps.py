"""Backward passes and parameter updates: where training happens."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Backward, Fact, Scope, Update
from lightify.syntax.parse import Tree
from lightify.syntax.query import method_call


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `loss.backward()`, `torch.autograd.backward(...)` and `x.step(...)`; not a definition of `backward`."""
    used = method_call(node)
    if used is None:
        return
    receiver, method = used
    if method == "backward":
        library = tree.qualified(receiver) in ("torch.autograd", "autograd")
        yield Backward(node, None if library else receiver)  # type: ignore[arg-type]
    elif method == "step":
        yield Update(node, receiver)  # type: ignore[arg-type]
