"""Drops imports and definitions that only code which is gone has used."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import libcst as cst

from lightify.comments import above, section
from lightify.parse import Tree, syntax_of
from lightify.query import dotted, is_constant, map_children, small, walk

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
    """Returns the script without the functions, classes and constants that it used before and names no more.

    Args:
        generated: statements that will be added to the script.
    """
    own = {name: node for node in tree.module.body if (name := _defines(node))}
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
    return _without_declared(script, gone), frozenset({*(own[name] for name in gone), *lost})  # type: ignore[return-value]


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
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} | _exported(statement)
        found.setdefault(name, set()).update(names)
    return found


def _without_declared(node: cst.CSTNode, gone: set[str]) -> cst.CSTNode:
    """A node without the names in its `global` statements that are gone."""
    if not isinstance(node, (cst.Module, cst.BaseCompoundStatement, cst.BaseSuite)):
        return node
    changed = map_children(node, lambda child: _without_declared(child, gone))
    if not isinstance(changed, (cst.IndentedBlock, cst.Module)):
        return changed
    body: list[cst.BaseStatement] = []
    for statement in changed.body:
        inner = small(statement)
        names = [item for item in inner.names if item.name.value not in gone] if isinstance(inner, cst.Global) else []
        if not isinstance(inner, cst.Global) or len(names) == len(inner.names):
            body.append(statement)  # type: ignore[arg-type]
        elif names:
            names[-1] = names[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            body.append(statement.with_changes(body=[inner.with_changes(names=names)]))
    return changed.with_changes(body=body or [cst.SimpleStatementLine([cst.Pass()])])


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
    return names | _exported(root)


def _exported(root: ast.AST) -> set[str]:
    """The names that `__all__` lists."""
    lists = (node for node in ast.walk(root) if isinstance(node, ast.Assign))
    own = (one.value for one in lists if any(isinstance(t, ast.Name) and t.id == "__all__" for t in one.targets))
    parts = (part for value in own for part in ast.walk(value) if isinstance(part, ast.Constant))
    return {part.value for part in parts if isinstance(part.value, str)}


def _bound(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or (dotted(alias.name) or "").partition(".")[0]
