"""Drops definitions that only code which is gone has used, in the idiomatic style."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence

import libcst as cst

from lightify.output.imports import exported
from lightify.syntax.comments import above, section
from lightify.syntax.parse import Tree, syntax_of
from lightify.syntax.query import dotted, is_constant, map_children, small, walk

#: Ways to read all names at once.
_NAMES = re.compile(r"(?<![\w.])(eval|exec|globals|locals|vars)\(")


def drop_unused_definitions(
    script: cst.Module, generated: str, tree: Tree
) -> tuple[cst.Module, frozenset[cst.CSTNode]]:
    """Returns the script without the functions, classes and constants that it used before and names no more.

    Args:
        generated: statements that will be added to the script.
    """
    if _NAMES.search(tree.source.text):
        return script, frozenset()
    definitions = {name: node for node in tree.module.body if (name := _defines(node))}
    used_before = _used_by(syntax_of(tree.source.text).body)
    uses = _used_by([*syntax_of(script.code).body, *syntax_of(generated).body])
    gone: set[str] = set()
    while more := {
        name
        for name in definitions.keys() - gone
        if any(name in names for by, names in used_before.items() if by != name)
        and not any(name in names for by, names in uses.items() if by not in (gone | {name}))
    }:
        gone |= more
    if not gone:
        return script, frozenset()
    body: list[cst.BaseStatement] = []
    heading: list[cst.EmptyLine] = []
    for statement in script.body:
        if _defines(statement) in gone:
            heading += section(statement)
            continue
        body.append(above(statement, heading) if heading else statement)  # type: ignore[arg-type]
        heading = []
    script = script.with_changes(body=body, footer=[*heading, *script.footer])
    declared = [node for node in walk(tree.module) if isinstance(node, cst.Global)]
    lost = {node for node in declared if {item.name.value for item in node.names} <= gone}
    return _without_declared(script, gone), frozenset({*(definitions[name] for name in gone), *lost})  # type: ignore[return-value]


def _defines(node: cst.CSTNode) -> str:
    """The name of a function, class or constant whose definition does nothing else."""
    if isinstance(node, cst.FunctionDef):
        return "" if node.decorators else node.name.value
    if isinstance(node, cst.ClassDef):
        plain = not node.decorators and not node.keywords
        known = all(dotted(base.value) in ("object", "Enum", "enum.Enum") for base in node.bases)
        return node.name.value if plain and known else ""
    inner = small(node)
    if isinstance(inner, cst.Assign) and is_constant(inner.value) and len(inner.targets) == 1:
        target = inner.targets[0].target
        return target.value if isinstance(target, cst.Name) else ""
    return ""


def _used_by(statements: Sequence[ast.stmt]) -> dict[str, set[str]]:
    """The names that each definition of a script mentions; under no name those of its other statements."""
    found: dict[str, set[str]] = {}
    for statement in statements:
        name = statement.name if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else ""
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} | exported(statement)
        found.setdefault(name, set()).update(names)
    return found


def _without_declared(script: cst.Module, gone: set[str]) -> cst.Module:
    """The script without the names in its `global` statements that are gone."""

    def change(statement: cst.BaseStatement) -> cst.BaseStatement | None:
        inner = small(statement)
        names = [item for item in inner.names if item.name.value not in gone] if isinstance(inner, cst.Global) else []
        if not isinstance(inner, cst.Global) or len(names) == len(inner.names):
            return statement
        if not names:
            return None
        names[-1] = names[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return statement.with_changes(body=[inner.with_changes(names=names)])

    return _each_statement(script, change)


def _each_statement(script: cst.Module, change: Callable[[cst.BaseStatement], cst.BaseStatement | None]) -> cst.Module:
    """The script with each statement of its blocks changed, or gone where that gives None."""

    def changed(node: cst.CSTNode) -> cst.CSTNode:
        if not isinstance(node, (cst.Module, cst.BaseCompoundStatement, cst.BaseSuite)):
            return node
        node = map_children(node, changed)
        if not isinstance(node, (cst.IndentedBlock, cst.Module)):
            return node
        body = [new for statement in node.body if (new := change(statement)) is not None]  # type: ignore[arg-type]
        return node.with_changes(body=body or [cst.SimpleStatementLine([cst.Pass()])])

    return changed(script)  # type: ignore[return-value]
