"""Source -> Tree: the nodes, where they stand, and what the top level defines; the only caller of the parsers."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import libcst as cst

from lightify.errors import Diagnostic, LightifyError, SourceSpan
from lightify.sources import Source
from lightify.syntax.fields import name_fields
from lightify.syntax.one_line import Continued, OneLine
from lightify.syntax.query import (
    Node,
    block,
    children,
    class_test,
    dotted,
    map_children,
    small,
    walk,
)

Statement = cst.BaseStatement | cst.BaseSmallStatement


@dataclass(frozen=True, eq=False)
class Links:
    """What a script's tree knows of the other files of its repository.

    Attributes:
        definitions: functions, classes and assignments of other files, under the names that this script gives them.
        origins: linked definition to the script's import statement that leads to it.
        fixed: linked definition to the reason why its code can't move to the script.
        imports: name that linked code reads to the lines that import it into the script.
        foreign: those of these names that other packages define.
        written: name to how the text writes it, where that differs: `engine.train`.
        texts: path to text of the files that the linked definitions come from.
        acting: the script's import statements that do more than define, to what still does that without their names.
    """

    definitions: tuple[cst.BaseStatement, ...] = ()
    origins: Mapping[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    fixed: Mapping[cst.CSTNode, str] = field(default_factory=dict)
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    written: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    acting: Mapping[cst.CSTNode, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tree:
    """A parsed script.

    Attributes:
        module: every line holds one small statement and every suite is indented.
        spans: place of each statement (a compound statement's is its head).
        functions, classes: those of the top level by name (also under `if` or `try`).
        imports: local name to qualified name, from anywhere in the file.
        parents: statement or function of the top level walk to its enclosing statement.
        links: definitions of other files that the script uses; they are in `functions`, `classes`, `spans` and
            `parents` like its own, but not in `module`.
    """

    source: Source
    module: cst.Module
    spans: Mapping[cst.CSTNode, SourceSpan]
    functions: Mapping[str, cst.FunctionDef]
    classes: Mapping[str, cst.ClassDef]
    imports: Mapping[str, str]
    parents: Mapping[cst.CSTNode, cst.CSTNode] = field(repr=False)
    links: Links = field(default_factory=Links, repr=False)

    @cached_property
    def scope(self) -> cst.Module:
        """The module scope: the script's own statements after those that are linked to it."""
        if not self.links.definitions:
            return self.module
        return self.module.with_changes(body=[*self.links.definitions, *self.module.body])

    @cached_property
    def text(self) -> str:
        """The script's text and that of the files linked to it."""
        return "\n".join([self.source.text, *self.links.texts.values()])

    @cached_property
    def _lines(self) -> Mapping[str, list[str]]:
        texts = {**self.links.texts, self.source.path: self.source.text}
        return {path: text.splitlines() for path, text in texts.items()}

    def line(self, span: SourceSpan) -> str:
        """The first line of a statement."""
        lines = self._lines[span.path]
        return lines[span.line - 1].strip() if span.line <= len(lines) else ""

    def linked(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The linked definition that a node stands in; None for nodes of the script itself."""
        around = (node, *self.ancestors(node)) if self.links.origins else ()
        return next((one for one in around if one in self.links.origins), None)

    def span(self, node: cst.CSTNode) -> SourceSpan:
        """The place of a node: its own or that of the statement around it."""
        current: cst.CSTNode | None = small(node) or node
        while current is not None and current not in self.spans:
            current = self.parents.get(current)
        return self.spans[current] if current is not None else SourceSpan(self.source.path, 1)

    @cached_property
    def methods(self) -> Mapping[str, list[cst.FunctionDef]]:
        """Methods of the top level's classes by name."""
        table: dict[str, list[cst.FunctionDef]] = defaultdict(list)
        for definition in self.classes.values():
            for statement in block(definition.body):
                if isinstance(statement, cst.FunctionDef):
                    table[statement.name.value].append(statement)
        return table

    @cached_property
    def _asked(self) -> dict[tuple[type[cst.CSTNode], ...], list[cst.CSTNode]]:
        return {}

    def nodes(self, *kinds: type[Node]) -> Sequence[Node]:
        """All nodes of some classes, below the module; each question reads the tree once."""
        if kinds not in self._asked:
            is_one = class_test(*kinds)
            self._asked[kinds] = [node for node in self.parents if is_one(node.__class__)]
        return self._asked[kinds]  # type: ignore[return-value]

    @cached_property
    def mentions(self) -> Mapping[str, Sequence[cst.Name]]:
        """The nodes of each name that the script mentions."""
        found: dict[str, list[cst.Name]] = defaultdict(list)
        for node in self.nodes(cst.Name):
            found[node.value].append(node)
        return dict(found)

    @property
    def names(self) -> Set[str]:
        """All names that the script mentions."""
        return self.mentions.keys()

    def fresh(self, *names: str) -> str:
        """The first of some names that the script does not mention."""
        return next(name for name in (*names, f"{names[-1]}_") if name not in self.names)

    def line_of(self, node: cst.CSTNode) -> str:
        """`line 12`, `line 12 of engine.py` for a node of another file, or `line 2 of cell 3` in a notebook."""
        span = self.source.in_cell(self.span(node))
        return span.where if span.path == self.source.path else f"{span.where} of {span.path}"

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes around a node, innermost first, without the node itself."""
        current = self.parents.get(node)
        while current is not None:
            yield current
            current = self.parents.get(current)

    def around(self, node: cst.CSTNode, *kinds: type[Node]) -> Node | None:
        """The innermost node of some classes around a node."""
        is_one = class_test(*kinds)
        return next((ancestor for ancestor in self.ancestors(node) if is_one(ancestor.__class__)), None)  # type: ignore[return-value]

    def function_of(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """The function around a node, or None for the module."""
        return self.around(node, cst.FunctionDef)

    def qualified(self, node: cst.CSTNode | None) -> str | None:
        """`torch.optim.Adam` for `optim.Adam` after `from torch import optim`; None for no dotted name."""
        name = dotted(node)
        if name is None:
            return None
        head, _, rest = name.partition(".")
        head = self.imports.get(head, head)
        return f"{head}.{rest}" if rest else head


class Once(cst.For):
    """A loop of one round around some statements: the script does not write it, so it is none of its statements."""


def edited(tree: Tree, edits: Mapping[cst.CSTNode, Callable[[cst.CSTNode], cst.CSTNode]]) -> Tree:
    """The tree with nodes made anew; statements stay one for one, so each keeps its place.

    A loop of one round stands where the last of its statements does.

    Args:
        edits: node to what makes its successor, from a copy in which the nodes below it are edited already.
    """

    def change(node: cst.CSTNode) -> cst.CSTNode:
        new = map_children(node, change)
        return edits[node](new) if node in edits else new

    module = change(tree.module)
    assert isinstance(module, cst.Module)
    linked: dict[cst.CSTNode, cst.CSTNode] = {old: change(old) for old in tree.links.definitions}
    spans: dict[cst.CSTNode, SourceSpan] = {}
    parents: dict[cst.CSTNode, cst.CSTNode] = dict.fromkeys(linked.values(), module)
    for old, new in ((tree.module, module), *linked.items()):
        before = (node for node in index(old)[0] if not isinstance(node, Once))
        statements, below = index(new)
        after = (node for node in statements if not isinstance(node, Once))
        spans.update((node, tree.spans[source]) for source, node in zip(before, after, strict=True))
        spans.update((one, spans[_last(one)]) for one in statements if isinstance(one, Once))
        parents.update(below)
    functions, classes = _definitions(module)
    return replace(
        tree,
        module=module,
        spans=spans,
        functions={**_renewed(tree.functions, linked), **functions},
        classes={**_renewed(tree.classes, linked), **classes},
        parents=parents,
        links=replace(
            tree.links,
            definitions=tuple(linked.values()),  # type: ignore[arg-type]
            origins={linked[node]: origin for node, origin in tree.links.origins.items()},
            fixed={linked[node]: reason for node, reason in tree.links.fixed.items()},
        ),
    )


def _last(loop: Once) -> cst.CSTNode:
    line = block(loop.body)[-1]
    return small(line) or line


def _renewed(named: Mapping[str, Node], linked: Mapping[cst.CSTNode, cst.CSTNode]) -> dict[str, Node]:
    return {name: linked.get(node, node) for name, node in named.items()}  # type: ignore[misc]


class _OneStatementPerLine(cst.CSTTransformer):
    """`a; b` becomes two lines, and the suite of `if x: y` holds lines, so that a statement is a node of its own."""

    def _split(self, body: Sequence[cst.BaseStatement]) -> list[cst.BaseStatement]:
        lines: list[cst.BaseStatement] = []
        for statement in body:
            if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) > 1:
                last = len(statement.body) - 1
                for number, part in enumerate(statement.body):
                    part = part.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)
                    leading = statement.leading_lines if number == 0 else ()
                    trailing = statement.trailing_whitespace if number == last else cst.TrailingWhitespace()
                    kind = cst.SimpleStatementLine if number == last else Continued
                    lines.append(kind([part], leading_lines=leading, trailing_whitespace=trailing))
            else:
                lines.append(statement)
        return lines

    def leave_Module(self, original: cst.Module, updated: cst.Module) -> cst.Module:
        return updated.with_changes(body=self._split(updated.body))

    def leave_IndentedBlock(self, original: cst.IndentedBlock, updated: cst.IndentedBlock) -> cst.IndentedBlock:
        return updated.with_changes(body=self._split(updated.body))

    def leave_SimpleStatementSuite(
        self, original: cst.SimpleStatementSuite, updated: cst.SimpleStatementSuite
    ) -> cst.IndentedBlock:
        line = cst.SimpleStatementLine(updated.body, trailing_whitespace=updated.trailing_whitespace)
        return OneLine(self._split((line,)))


@lru_cache(maxsize=8)
def syntax_of(text: str) -> ast.Module:
    """What Python reads in a text; several stages ask for the same text, and none changes what it gets."""
    return ast.parse(text)


def read_module(source: Source) -> tuple[ast.Module, cst.Module]:
    """The syntax of a script twice: as Python reads it, and with its layout.

    Raises:
        LightifyError: LF101, the text is not valid Python 3; with the line of the error. LF102, it is too deep.
    """
    try:
        # ast first: it refuses the depth at which the other would crash the process
        return syntax_of(source.text), cst.parse_module(source.text)
    except cst.ParserSyntaxError as error:
        place = SourceSpan(source.path, error.raw_line, error.raw_column)
        raise LightifyError(_syntax_error(place, source.text)) from None
    except (SyntaxError, ValueError) as error:
        line, column = getattr(error, "lineno", None) or 1, (getattr(error, "offset", None) or 1) - 1
        raise LightifyError(_syntax_error(SourceSpan(source.path, line, column), source.text)) from None
    except (RecursionError, MemoryError):
        raise LightifyError(too_deep(source)) from None


def too_deep(source: Source) -> Diagnostic:
    return Diagnostic("LF102", "the code is nested too deeply to be read", SourceSpan(source.path, 1), "split it up")


def is_deep(text: str) -> bool:
    """True for code so deep that reading it may reach the limit of recursion."""
    level: list[ast.AST] = [syntax_of(text)]
    for _ in range(_DEEP):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


_DEEP = 100


def parse(source: Source) -> Tree:
    """Parses a script.

    Raises:
        LightifyError: as `read_module`.
    """
    syntax, module = read_module(source)
    if any(
        node.__class__ is cst.SimpleStatementSuite or (node.__class__ is cst.SimpleStatementLine and len(node.body) > 1)  # type: ignore[attr-defined]
        for node in walk(module)
    ):
        module = module.visit(_OneStatementPerLine())
    module = name_fields(module)
    statements, parents = index(module)
    spans: dict[cst.CSTNode, SourceSpan] = dict(zip(statements, _places(syntax, source.path)))
    functions, classes = _definitions(module)
    return Tree(source, module, spans, functions, classes, imported_names(statements), parents)


def _syntax_error(place: SourceSpan, text: str) -> Diagnostic:
    lines = text.splitlines()
    line = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""
    hint = "mend the line first"
    if line.startswith(("print ", "exec ")):
        hint = "convert the file to Python 3 first (2to3)"
    elif "async=" in line:
        hint = "write non_blocking=..., as torch has it since 0.4.1: `async` is a word of Python's own since 3.7"
    return Diagnostic("LF101", f"not valid Python 3: {line[:80]!r}", place, hint=hint)


_is_statement = class_test(cst.BaseSmallStatement, cst.BaseCompoundStatement)


def index(module: cst.CSTNode) -> tuple[list[Statement], dict[cst.CSTNode, cst.CSTNode]]:
    """The statements below a node in the order of the text, itself included, and the parent of each node."""
    statements: list[Statement] = []
    parents: dict[cst.CSTNode, cst.CSTNode] = {}
    stack: list[cst.CSTNode] = [module]
    while stack:
        node = stack.pop()
        if _is_statement(node.__class__):
            statements.append(node)  # type: ignore[arg-type]
        below = children(node)
        for child in below:
            parents[child] = node
        stack.extend(reversed(below))
    return statements, parents


def _places(syntax: ast.Module, path: str) -> Iterator[SourceSpan]:
    stack: list[ast.AST] = [syntax]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = (node.lineno, 0) if body else (node.end_lineno or node.lineno, node.end_col_offset or 0)
            yield SourceSpan(path, node.lineno, node.col_offset, *end)
        stack.extend(reversed([child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]))


def _definitions(module: cst.Module) -> tuple[dict[str, cst.FunctionDef], dict[str, cst.ClassDef]]:
    functions: dict[str, cst.FunctionDef] = {}
    classes: dict[str, cst.ClassDef] = {}
    for node in _top_level(module):
        if isinstance(node, cst.FunctionDef):
            functions[node.name.value] = node
        elif isinstance(node, cst.ClassDef):
            classes[node.name.value] = node
    return functions, classes


def _top_level(module: cst.Module) -> Iterator[cst.CSTNode]:
    stack: list[cst.CSTNode] = list(reversed(module.body))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.SimpleStatementLine)):
            stack.extend(reversed(list(children(node))))


def imported_names(statements: Iterable[cst.CSTNode]) -> dict[str, str]:
    """What the import statements among some nodes bind: local name to qualified name."""
    names: dict[str, str] = {}
    for node in statements:
        if isinstance(node, cst.Import):
            for alias in node.names:
                full = dotted(alias.name) or ""
                if alias.evaluated_alias is not None:
                    names[alias.evaluated_alias] = full
                else:
                    names[full.partition(".")[0]] = full.partition(".")[0]
        elif isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
            package = "." * len(node.relative) + (dotted(node.module) or "")
            for alias in node.names:
                local = alias.evaluated_alias or alias.evaluated_name
                names[local] = f"{package}.{alias.evaluated_name}"
    return names
