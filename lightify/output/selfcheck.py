"""Checks a result before it is written: it parses, every name is bound, nothing is left unused.

Works on the text alone, by the scoping rules of the language, so it also sees what rendering or formatting broke.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lightify.errors import Diagnostic, Severity, SourceSpan
from lightify.output.imports import LOADED
from lightify.output.scopes import Place, Scope, scopes_of
from lightify.syntax.parse import syntax_of

BUILTINS = frozenset(dir(builtins)) | {
    *("__file__", "__name__", "__doc__", "__package__", "__spec__", "__path__", "__builtins__", "__debug__"),
    *("__annotations__", "__loader__", "__dict__", "WindowsError"),
}
CLASS_NAMES = frozenset({"__class__", "__module__", "__qualname__"})


def self_check(
    text: str, source_text: str = "", path: str = "<result>", more: Iterable[str] = ()
) -> tuple[Diagnostic, ...]:
    """Returns what is wrong with a converted script; what its source already had is no fault of ours.

    An undefined name is an error; an unused import or local is a warning. Places are lines of the result.

    Args:
        more: texts of other files that code came from.
    """
    path = f"{path} (converted)"
    try:
        problems = _problems(syntax_of(text))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        column = max((getattr(error, "offset", None) or 1) - 1, 0)
        message = f"the result does not parse: {getattr(error, 'msg', None) or error}"
        return (Diagnostic("LF901", message, SourceSpan(path, line, column), hint=REPORT),)
    if problems and source_text:
        before = (problem for source in (source_text, *more) for problem in _problems(syntax_of(source)))
        known = {(problem.code, problem.name) for problem in before}
        problems = [problem for problem in problems if (problem.code, problem.name) not in known]
    lines = text.split("\n")
    told = (problem.code == "LF904" and lines[problem.line - 1].endswith(LOADED) for problem in problems)
    return tuple(problem.diagnostic(path) for problem, known in zip(problems, told) if not known)


REPORT = "nothing was written; this is a fault of lightify, please report it with the script"
HARMLESS = "it does no harm, and is a fault of lightify: please report it with the script"
MESSAGES: dict[str, tuple[str, Severity]] = {
    "LF902": ("the result uses the name {name!r}, which nothing binds", "error"),
    "LF903": ("the result reads {name!r} before it is bound", "error"),
    "LF904": ("the result imports {name!r} and does not use it", "warning"),
    "LF905": ("the result assigns {name!r} and does not use it", "warning"),
}


@dataclass(frozen=True)
class _Problem:
    code: str
    name: str
    line: int
    column: int

    def diagnostic(self, path: str) -> Diagnostic:
        message, severity = MESSAGES[self.code]
        span = SourceSpan(path, self.line, self.column)
        hint = REPORT if severity == "error" else HARMLESS
        return Diagnostic(self.code, message.format(name=self.name), span, hint, severity)


def _problems(tree: ast.Module) -> list[_Problem]:
    scopes = scopes_of(tree)
    problems: list[_Problem] = []
    for scope in scopes:
        problems += _unbound(scope, module=scopes[0])
    for scope in scopes:  # after every read has found its binding
        problems += _unused(scope)
    return sorted(problems, key=lambda problem: (problem.line, problem.column, problem.code))


def _unbound(scope: Scope, module: Scope) -> Iterator[_Problem]:
    for name, places in scope.read.items():
        home = _home(scope, name, module)
        if home is not None:
            home.used.add(name)
        if home is scope and not (scope.starred or name in BUILTINS):
            outer = _home(scope.parent, name, module) if scope.kind == "class" and scope.parent else None
            if outer is not None:  # a class body looks outside for what it has not bound yet
                outer.used.add(name)
                continue
            yield from _early(name, places, scope)
        elif home is None and not (module.starred or name in BUILTINS or name in CLASS_NAMES):
            yield from (_Problem("LF902", name, place.line, place.column) for place in places if not place.guarded)


def _early(name: str, reads: Sequence[Place], scope: Scope) -> Iterator[_Problem]:
    """Reads that no path can reach with the name bound: nothing before them, nothing later in a shared loop."""
    bindings = scope.bound[name]
    for read in reads:
        if not read.guarded and not any(
            bound.order < read.order or set(bound.loops) & set(read.loops) for bound in bindings
        ):
            yield _Problem("LF903", name, read.line, read.column)


def _unused(scope: Scope) -> Iterator[_Problem]:
    if scope.opaque or scope.kind in ("class", "comprehension"):
        return
    for name, bindings in scope.bound.items():
        if name in scope.used or name in scope.globals or name in scope.nonlocals:
            continue
        for place in bindings:
            if place.kind == "import" and not place.guarded:
                yield _Problem("LF904", name, place.line, place.column)
            elif scope.kind == "function" and place.kind in ("assignment", "handler") and name != "_":
                yield _Problem("LF905", name, place.line, place.column)


def _home(scope: Scope | None, name: str, module: Scope) -> Scope | None:
    """The scope whose binding a read in `scope` sees."""
    first = scope
    while scope is not None:
        if name in scope.globals:
            return module if name in module.bound else None
        visible = scope.kind != "class" or scope is first
        if visible and name in scope.bound and name not in scope.nonlocals:
            return scope
        scope = scope.parent
    return None
