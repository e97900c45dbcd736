"""Where a script names its variables and fields, and whose they are."""

from __future__ import annotations

from collections import defaultdict

import libcst as cst

from lightify.syntax.names import local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted

#: A name that holds something, with the function or class that it is of; None: the module.
Holder = tuple[cst.FunctionDef | cst.ClassDef | None, str]


class Mentions:
    """All places of each name.

    Attributes:
        of_name: names, `self.x` among them, and the nodes that are one.
        of_field: the nodes that are a field of this name of any other object.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.of_name: dict[str, list[cst.CSTNode]] = defaultdict(list)
        self.of_field: dict[str, list[cst.Attribute]] = defaultdict(list)
        for node in tree.nodes(cst.Name, cst.Attribute):
            name = dotted(node)
            if name is not None and name.count(".") == name.startswith("self."):
                self.of_name[name].append(node)
            if isinstance(node, cst.Attribute) and dotted(node.value) != "self":
                self.of_field[node.attr.value].append(node)

    def owner(self, node: cst.CSTNode, name: str) -> cst.FunctionDef | cst.ClassDef | None:
        """The function or class whose variable or field a node names; None: the module's."""
        for ancestor in self.tree.ancestors(node):
            if name.startswith("self.") and isinstance(ancestor, cst.ClassDef):
                return ancestor
            if isinstance(ancestor, cst.FunctionDef) and "." not in name and name in local_names(ancestor):
                return ancestor
        return None

    def is_written(self, node: cst.CSTNode) -> bool:
        """True where the node is bound to a new value."""
        below = node
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, (cst.AssignTarget, cst.AsName)):
                return True
            if isinstance(ancestor, (cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr)):
                return ancestor.target is below
            if not isinstance(ancestor, (cst.Tuple, cst.List, cst.Element, cst.StarredElement)):
                return False
            below = ancestor
        return False
