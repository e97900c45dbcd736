"""Fields of classes that train, each as one name: `self.optimizer` is a variable like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import libcst as cst

from lightify.syntax.query import FieldName, dotted, map_children, nodes_of


def name_fields(module: cst.Module, more: Iterable[cst.BaseStatement] = ()) -> cst.Module:
    """Names the fields of classes that train, and of their bases and heirs; the text stays the same.

    Args:
        more: classes of other files.
    """
    classes = {node.name.value: node for node in (*more, *module.body) if isinstance(node, cst.ClassDef)}
    training = training_classes(classes)
    changes = {
        node: with_named_fields(node) for node in module.body if isinstance(node, cst.ClassDef) and node in training
    }
    changes = {old: new for old, new in changes.items() if new is not old}
    return module.with_changes(body=[changes.get(node, node) for node in module.body]) if changes else module  # type: ignore[call-overload]


def training_classes(classes: Mapping[str, cst.ClassDef]) -> frozenset[cst.ClassDef]:
    """The classes that call `backward()`, and those that share a base or an heir with one."""
    bases = {node: [classes.get(dotted(base.value) or "") for base in node.bases] for node in classes.values()}
    found = {
        node
        for node in classes.values()
        if any(part.attr.value == "backward" for part in nodes_of(node, cst.Attribute))
    }
    changed = bool(found)
    while changed:
        related = {base for node in found for base in bases[node] if base is not None}
        related |= {node for node, above in bases.items() if any(base in found for base in above)}
        changed = not related <= found
        found |= related
    return frozenset(found)


def with_named_fields(definition: cst.ClassDef) -> cst.ClassDef:
    """The class with `self.x` as one name, so that a trainer object's fields are variables like any other."""
    return _with_field_names(definition)  # type: ignore[return-value]


def _with_field_names(node: cst.CSTNode) -> cst.CSTNode:
    if isinstance(node, cst.Attribute) and not node.lpar and dotted(node.value) == "self":
        return FieldName(f"self.{node.attr.value}")
    return map_children(node, _with_field_names)
