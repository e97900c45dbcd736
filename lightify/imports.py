"""Drops imports that only code which is gone has used."""

from __future__ import annotations

import ast

import libcst as cst

from lightify.parse import Tree
from lightify.query import dotted, small


def drop_unused_imports(
    script: cst.Module, generated: str, tree: Tree, defined: frozenset[str], brought: frozenset[str]
) -> tuple[str, frozenset[cst.CSTNode]]:
    """Returns the script's text and the top-level imports that are gone.

    An import that the source did not use either stays, for what importing it does.

    Args:
        generated: statements that will be added to the script.
        defined: names that the script now defines itself.
        brought: names that imports for code of other files bind.
    """
    before = _loaded(tree.source.text) | brought
    after = _loaded(script.code) | _loaded(generated)
    gone = (before - after) | defined
    dropped: set[cst.CSTNode] = set()
    body: list[cst.CSTNode] = []
    for statement in script.body:
        inner = small(statement)
        if not isinstance(inner, (cst.Import, cst.ImportFrom)) or isinstance(inner.names, cst.ImportStar):
            body.append(statement)
            continue
        kept = [alias for alias in inner.names if _bound(alias) not in gone]
        if len(kept) == len(inner.names):
            body.append(statement)
        elif kept:
            kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            body.append(statement.with_changes(body=[inner.with_changes(names=kept)]))
        else:
            dropped.add(statement)
    return script.with_changes(body=body).code, frozenset(dropped)


def _loaded(text: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            names.update(node.names)
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            parts = ast.walk(node.value)
            names.update(e.value for e in parts if isinstance(e, ast.Constant) and isinstance(e.value, str))
    return names


def _bound(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or (dotted(alias.name) or "").partition(".")[0]
