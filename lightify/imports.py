"""Drops imports and definitions that only code which is gone has used."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import libcst as cst

from lightify.comments import above, section
from lightify.parse import Tree, syntax_of
from lightify.query import dotted, small

#: What `__future__` offered to Python 2.
_PAST = ("print_function", "division", "absolute_import", "unicode_literals", "with_statement", "generators")


def drop_unused_imports(
    script: cst.Module, generated: str, tree: Tree, defined: frozenset[str], brought: frozenset[str], *, settled: bool
) -> tuple[str, frozenset[cst.CSTNode]]:
    """Returns the script's text and the top-level imports that are gone.

    An import that the source did not use either stays, for what importing it does.

    Args:
        generated: statements that will be added to the script.
        defined: names that the script now defines itself.
        brought: names that imports for code of other files bind.
        settled: features of `__future__` that Python 3 has are gone, too.
    """
    before = _loaded(tree.source.text) | brought
    text = script.code
    after = _loaded(text) | _loaded(generated)
    gone = (before - after) | defined
    dropped: set[cst.CSTNode] = set()
    body: list[cst.CSTNode] = []
    loaded: set[str] = set()
    kept: dict[cst.CSTNode, list[cst.ImportAlias]] = {}
    for statement in script.body:
        inner = small(statement)
        if isinstance(inner, (cst.Import, cst.ImportFrom)) and not isinstance(inner.names, cst.ImportStar):
            past = settled and _module(statement) == "__future__"
            names = [a for a in inner.names if _bound(a) not in gone and not (past and _bound(a) in _PAST)]
            if len(names) < len(inner.names):
                kept[statement] = names
            elif names:
                loaded.add(_module(statement))
    loaded |= {_module(statement) for statement, names in kept.items() if names}
    for statement in script.body:
        if statement not in kept:
            body.append(statement)
        elif names := kept[statement]:
            names[-1] = names[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            body.append(statement.with_changes(body=[statement.body[0].with_changes(names=names)]))  # type: ignore[index,union-attr]
        elif statement in tree.links.acting and _module(statement) not in loaded:
            loaded.add(_module(statement))  # loading the module does something
            line = cst.parse_statement(tree.links.acting[statement])
            body.append(line.with_changes(leading_lines=statement.leading_lines))  # type: ignore[attr-defined]
        else:
            dropped.add(statement)
    is_same = len(body) == len(script.body) and all(new is old for new, old in zip(body, script.body))
    return text if is_same else script.with_changes(body=body).code, frozenset(dropped)


def drop_unused_definitions(
    script: cst.Module, generated: str, tree: Tree
) -> tuple[cst.Module, frozenset[cst.CSTNode]]:
    """Returns the script without the functions and classes that it used before and names no more.

    Args:
        generated: statements that will be added to the script.
    """
    own = {node.name.value: node for node in tree.module.body if _only_defines(node)}  # type: ignore[attr-defined]
    if not own:
        return script, frozenset()
    used_before = _used_by(syntax_of(tree.source.text).body)
    uses = _used_by([*syntax_of(script.code).body, *syntax_of(generated).body])
    gone: set[str] = set()
    while more := {
        name
        for name in own.keys() - gone
        if any(name in names for by, names in used_before.items() if by != name)
        and not any(name in names for by, names in uses.items() if by not in (gone | {name}))
    }:
        gone |= more
    body: list[cst.BaseStatement] = []
    heading: list[cst.EmptyLine] = []
    for statement in script.body:
        if getattr(getattr(statement, "name", None), "value", None) in gone:
            heading += section(statement)
            continue
        body.append(above(statement, heading) if heading else statement)  # type: ignore[arg-type]
        heading = []
    if not gone:
        return script, frozenset()
    footer = [*heading, *script.footer]
    return script.with_changes(body=body, footer=footer), frozenset(own[name] for name in gone)


def _only_defines(node: cst.CSTNode) -> bool:
    """True for a function or class whose definition does nothing else."""
    if isinstance(node, cst.FunctionDef):
        return not node.decorators
    bases = [dotted(base.value) for base in node.bases] if isinstance(node, cst.ClassDef) else [None]
    plain = isinstance(node, cst.ClassDef) and not node.decorators and not node.keywords
    return plain and all(base in ("object", "Enum", "enum.Enum") for base in bases)


def _used_by(statements: Sequence[ast.stmt]) -> dict[str, set[str]]:
    """The names that each definition of a script loads; under no name those that its other statements load."""
    found: dict[str, set[str]] = {}
    for statement in statements:
        name = statement.name if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else ""
        found.setdefault(name, set()).update(_names_in(statement))
    return found


def _module(statement: cst.CSTNode) -> str:
    """The module that an import names."""
    inner = small(statement)
    if isinstance(inner, cst.Import):
        return dotted(inner.names[0].name) or ""
    if not isinstance(inner, cst.ImportFrom):
        return ""
    return "." * len(inner.relative) + (dotted(inner.module) or "")


def _loaded(text: str) -> set[str]:
    return _names_in(syntax_of(text))


def _names_in(root: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(root):
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
