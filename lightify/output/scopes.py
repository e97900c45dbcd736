"""Every binding and read of a module's names, by scope, in the order in which Python evaluates them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

BindingKind = Literal["import", "assignment", "handler", "other"]


@dataclass(frozen=True)
class Place:
    """Where a name is bound or read: when in the scope's own order, and inside which of its loops."""

    order: int
    loops: tuple[int, ...]
    line: int
    column: int
    kind: BindingKind = "other"
    guarded: bool = False  # in a `try` that catches NameError


@dataclass
class Scope:
    kind: Literal["module", "function", "class", "comprehension"]
    parent: Scope | None = None
    bound: dict[str, list[Place]] = field(default_factory=dict)
    read: dict[str, list[Place]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # read here or in a scope within
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    starred: bool = False  # a star import binds names unseen
    opaque: bool = False  # locals() reads names unseen


def scopes_of(tree: ast.Module) -> list[Scope]:
    """The scopes of a module, its own first."""
    reader = _NameReader()
    reader.read_module(tree)
    return reader.scopes


class _NameReader(ast.NodeVisitor):
    """Collects every binding and read, in the order in which each scope evaluates them."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.order = 0
        self.loops: tuple[int, ...] = ()
        self.guarded = False
        self.later: list[tuple[Scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda]] = []

    def read_module(self, tree: ast.Module) -> None:
        self.scope = Scope("module")
        self.scopes.append(self.scope)
        self._visit_all(tree.body)
        while self.later:  # bodies run when called: after what surrounds them is bound
            scope, node = self.later.pop(0)
            self.scope, self.loops, self.guarded = scope, (), False
            self._visit_all(node.body if isinstance(node.body, list) else [node.body])

    def _visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _place(self, node: ast.AST, kind: BindingKind = "other") -> Place:
        self.order += 1
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        return Place(self.order, self.loops, line, column, kind, self.guarded)

    def _bind(self, name: str, node: ast.AST, kind: BindingKind = "other") -> None:
        scope = self.scope
        while scope.kind == "comprehension" and isinstance(node, ast.NamedExpr) and scope.parent:
            scope = scope.parent
        scope.bound.setdefault(name, []).append(self._place(node, kind))
        if name in scope.globals:
            self.scopes[0].bound.setdefault(name, []).append(Place(-1, (), 1, 0))

    def _read(self, name: str, node: ast.AST) -> None:
        self.scope.read.setdefault(name, []).append(self._place(node))

    def _open(self, kind: Literal["function", "class", "comprehension"]) -> Scope:
        scope = Scope(kind, self.scope)
        self.scopes.append(scope)
        return scope

    # names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id, node)
        else:  # `del x` needs what it names, too
            self._read(node.id, node)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocals.update(node.names)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.scope.starred = True
            elif not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
                name = alias.asname or alias.name.partition(".")[0]
                # `import a as a` and `from m import a as a` say that the name is meant for others
                exported = alias.asname is not None and alias.asname == alias.name
                self._bind(name, node, "other" if exported else "import")

    visit_ImportFrom = visit_Import

    # statements that bind

    def _assign_to(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, target, "assignment")
        else:
            self.visit(target)  # unpacking may name what it does not need

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for element in target.elts:  # `a, b = 1, 2` could leave one out
                    self._assign_to(element)
            else:
                self._assign_to(target)
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            for item in ast.walk(node.value):
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    self.scope.used.add(item.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self._assign_to(node.target)
        elif isinstance(node.target, ast.Name):
            self._bind(node.target.id, node.target)
        else:
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id, node.target)
        self.visit(node.value)
        self._assign_to(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id, node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign_to(item.optional_vars)
        self._visit_all(node.body)

    visit_AsyncWith = visit_With

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name:
            self._bind(node.name, node, "handler")
        self._visit_all(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        outer, self.guarded = self.guarded, self.guarded or any(map(_catches_name_error, node.handlers))
        self._visit_all(node.body)
        self.guarded = outer
        self._visit_all(node.handlers)
        self._visit_all(node.orelse)
        self._visit_all(node.finalbody)

    visit_TryStar = visit_Try

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._visit_all([node.pattern])
        if node.name:
            self._bind(node.name, node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name, node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._visit_all([*node.keys, *node.patterns])
        if node.rest:
            self._bind(node.rest, node)

    # loops

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._loop([node.target, *node.body], node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self._loop([node.test, *node.body], node.orelse)

    def _loop(self, body: Sequence[ast.AST], orelse: Sequence[ast.AST]) -> None:
        outer, self.loops = self.loops, (*self.loops, self.order)
        self.order += 1
        self._visit_all(body)
        self.loops = outer
        self._visit_all(orelse)

    # scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._function(node, node.args)
        self._bind(node.name, node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, node.args)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, args: ast.arguments) -> None:
        self._visit_all([*args.defaults, *args.kw_defaults])
        scope = self._open("function")
        outer, self.scope = self.scope, scope
        self._type_parameters(node)
        parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        for parameter in parameters:
            if parameter is not None:
                self._bind(parameter.arg, parameter)
        self.scope = outer if not getattr(node, "type_params", None) else scope
        for parameter in parameters:
            self._annotation(parameter.annotation if parameter is not None else None)
        self._annotation(getattr(node, "returns", None))
        self.scope = outer
        self.later.append((scope, node))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        outer = self.scope
        if getattr(node, "type_params", None):
            self.scope = self._open("function")
            self._type_parameters(node)
        self._visit_all([*node.bases, *(keyword.value for keyword in node.keywords)])
        self.scope = self._open("class")
        self._visit_all(node.body)
        self.scope = outer
        self._bind(node.name, node)

    def _type_parameters(self, node: ast.AST) -> None:
        for parameter in getattr(node, "type_params", ()):
            self._bind(parameter.name, parameter)
            self._visit_all([getattr(parameter, "bound", None)])

    def visit_TypeAlias(self, node: ast.AST) -> None:
        outer, self.scope = self.scope, self._open("function")
        self._type_parameters(node)
        self.visit(node.value)  # type: ignore[attr-defined]
        self.scope = outer
        self._bind(node.name.id, node)  # type: ignore[attr-defined]

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, *results: ast.expr
    ) -> None:
        self.visit(node.generators[0].iter)
        outer, self.scope = self.scope, self._open("comprehension")
        for number, generator in enumerate(node.generators):
            if number:
                self.visit(generator.iter)
            self._visit_all([generator.target, *generator.ifs])
        self._visit_all(results)
        self.scope = outer

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._comprehension(node, node.elt)

    visit_SetComp = visit_ListComp
    visit_GeneratorExp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node, node.key, node.value)

    # what only names or hides names

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "locals" and not node.args:
            self.scope.opaque = True
        self.generic_visit(node)

    def _annotation(self, node: ast.expr | None) -> None:
        """An annotation given as text counts as use; what it names need not exist when the script runs."""
        if node is None:
            return
        self.visit(node)
        for item in ast.walk(node):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                try:
                    quoted = ast.parse(item.value, mode="eval")
                except (SyntaxError, ValueError):
                    continue
                for name in ast.walk(quoted):
                    if isinstance(name, ast.Name):
                        self._mark_used(name.id)

    def _mark_used(self, name: str) -> None:
        scope: Scope | None = self.scope
        while scope is not None:
            scope.used.add(name)
            scope = scope.parent


def _catches_name_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(item, ast.Name) and item.id == "NameError" for item in ast.walk(handler.type))
