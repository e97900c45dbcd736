"""Drops imports that only code which is gone has used."""

from __future__ import annotations

import ast
import symtable

import libcst as cst

from lightify.syntax.comments import own, texts, without_ends
from lightify.syntax.parse import Tree, syntax_of
from lightify.syntax.query import dotted, small

#: Says of an import that no code uses it: loading the module seeds, registers, sets options, prints.
LOADED = "# for what loading it does"
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
    before = _read_in(tree.source.text) | brought
    text = script.code
    after = _left_in(text) | _read_in(generated)
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
            loaded.add(_module(statement))
            line = cst.parse_statement(f"{tree.links.acting[statement]}  {LOADED}")
            body.append(line.with_changes(leading_lines=statement.leading_lines))  # type: ignore[attr-defined]
        else:
            dropped.add(statement)
    is_same = len(body) == len(script.body) and all(new is old for new, old in zip(body, script.body))
    if is_same:
        return text, frozenset()
    lost = {line for statement in dropped for line in texts(own(statement))}
    return without_ends(script.with_changes(body=body), lost).code, frozenset(dropped)  # type: ignore[union-attr]


def _module(statement: cst.CSTNode) -> str:
    """The module that an import names."""
    inner = small(statement)
    if isinstance(inner, cst.Import):
        return dotted(inner.names[0].name) or ""
    if not isinstance(inner, cst.ImportFrom):
        return ""
    return "." * len(inner.relative) + (dotted(inner.module) or "")


def _left_in(text: str) -> set[str]:
    """Names of the module's own scope that code reads, deletes, exports or writes in annotations, evaluated or not."""
    root = syntax_of(text)
    names = exported(root) if "__all__" in text else set()
    for node in ast.walk(root):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Del):
                names.add(node.id)
        elif isinstance(node, (ast.arg, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef)):
            told = node.returns if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else node.annotation
            names |= {part.id for part in ast.walk(told) if isinstance(part, ast.Name)} if told is not None else set()
    return _read_in(text) | names


def _read_in(text: str) -> set[str]:
    """Names of the module's own scope that code reads."""
    waiting = [symtable.symtable(text, "script", "exec")]
    names: set[str] = set()
    for table in waiting:
        outer = table.get_type() == "module"
        names |= {one.get_name() for one in table.get_symbols() if one.is_referenced() and (outer or one.is_global())}
        waiting += table.get_children()
    return names


def exported(root: ast.AST) -> set[str]:
    """The names that `__all__` lists."""
    lists = (node for node in ast.walk(root) if isinstance(node, ast.Assign))
    own = (one.value for one in lists if any(isinstance(t, ast.Name) and t.id == "__all__" for t in one.targets))
    parts = (part for value in own for part in ast.walk(value) if isinstance(part, ast.Constant))
    return {part.value for part in parts if isinstance(part.value, str)}


def _bound(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or (dotted(alias.name) or "").partition(".")[0]
