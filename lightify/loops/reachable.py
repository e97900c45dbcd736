"""What a function runs, itself or in what it calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import libcst as cst

from lightify.analysis.calls import callees
from lightify.loops.runs import Loop
from lightify.syntax.frames import Frame
from lightify.syntax.parse import Tree
from lightify.syntax.query import walk


def contains(function: cst.FunctionDef, goals: Sequence[cst.CSTNode], tree: Tree) -> bool:
    """True when a function holds one of the nodes, itself or in a function that it calls."""
    inside = reachable(function, tree)
    return any(goal in inside for goal in goals)


@lru_cache(maxsize=256)
def reachable(function: cst.FunctionDef, tree: Tree, depth: int = 0) -> frozenset[cst.CSTNode]:
    """Calls and loops of a function, and the functions that it calls with theirs."""
    nodes: set[cst.CSTNode] = set()
    frame = Frame(function.name.value, function, Frame(""))
    for node in walk(function):
        if isinstance(node, Loop):
            nodes.add(node)
        elif isinstance(node, cst.Call):
            nodes.add(node)
            for called in callees(node, frame, tree) if depth < 4 else ():
                if called is not function:
                    nodes |= {called, *reachable(called, tree, depth + 1)}
    return frozenset(nodes)
