"""The files of a script's own repository that it imports, and where a name of theirs is defined.

Nothing is imported or run: files are found as Python would find them from the script's folder, and parsed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import libcst as cst

from lightify.errors import LightifyError
from lightify.settings import VENDORED_MODULE
from lightify.sources import Source, read_source
from lightify.syntax.names import bound_by, local_names, read_names, same_scope
from lightify.syntax.parse import Tree, parse
from lightify.syntax.query import children, dotted, is_docstring, small, walk

#: A repository's script needs few files; beyond these it is a framework, whose files say little about the loop.
_MOST_FILES, _MOST_BYTES, _MOST_FOLDERS_UP = 64, 400_000, 6
#: Read by what their documentation says, also where they stand beside the script.
_LIBRARIES = ("accelerate",)
_ROOT_MARKERS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
#: Stand where a repository begins, too; `src/` beside them is on the path of who runs its scripts.
_BEGINNINGS = (".git", "requirements.txt", "environment.yml")


@dataclass(frozen=True)
class Imported:
    """What an import statement binds a name to: a module, or `name` of one.

    Attributes:
        level: leading dots of a relative import.
        plain: `import a.b`, which binds `a`.
    """

    module: str
    name: str | None = None
    level: int = 0
    plain: bool = False


@dataclass(frozen=True, eq=False)
class Module:
    """A file of the repository.

    Attributes:
        name: as the script may import it: `engine`, `package.engine` or `.engine`.
    """

    name: str
    tree: Tree
    is_package: bool = False

    @property
    def path(self) -> str:
        return self.tree.source.path

    @cached_property
    def _own_nodes(self) -> Sequence[cst.CSTNode]:
        return list(same_scope(self.tree.module.body))

    @cached_property
    def bindings(self) -> Mapping[str, list[cst.CSTNode]]:
        """What binds each name of the module's own scope."""
        found: dict[str, list[cst.CSTNode]] = {}
        for node in self._own_nodes:
            for name in bound_by(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def locals(self) -> frozenset[str]:
        """Names that any of the file's functions has for itself."""
        return frozenset().union(*map(local_names, self.tree.nodes(cst.FunctionDef)))

    @cached_property
    def imports(self) -> Mapping[str, list[Imported]]:
        """What the imports of the module's own scope bind."""
        found: dict[str, list[Imported]] = {}
        for node in self._own_nodes:
            for name, imported in _imported(node):
                found.setdefault(name, []).append(imported)
        return found

    @cached_property
    def star_imports(self) -> list[Imported]:
        """The modules that the module takes all names from."""
        return [
            Imported(dotted(node.module) or "", None, len(node.relative))
            for node in self._own_nodes
            if isinstance(node, cst.ImportFrom) and isinstance(node.names, cst.ImportStar)
        ]

    @cached_property
    def stored(self) -> frozenset[str]:
        """Names that the file changes after a module is loaded: declared `global`, or set as `module.name = ...`."""
        names: set[str] = set()
        for declared in self.tree.nodes(cst.Global):
            names |= {item.name.value for item in declared.names}
        for node in self.tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del, cst.For):
            head, _, name = (dotted(node.target) or "").rpartition(".")  # type: ignore[attr-defined]
            if head and head != "self":
                names.add(name)
        return frozenset(names)


@dataclass(frozen=True, eq=False)
class Definition:
    """Where a name comes from: a function or class, or the statement that assigns it; None when that is unclear."""

    module: Module
    name: str
    node: cst.FunctionDef | cst.ClassDef | cst.SimpleStatementLine | None


class Project:
    """The files that a script can import from its repository, read when they are asked for."""

    def __init__(self, script: Tree) -> None:
        assert script.source.root is not None
        self.folder = os.path.abspath(script.source.root)
        path = script.source.path
        self.entry = Module(f".{Path(path).stem}", script)
        self._entry_file = os.path.realpath(os.path.join(self.folder, os.path.basename(path)))
        self._changes_path = "sys.path" in script.source.text
        self._found: dict[str, Module | None] = {}
        self._files = 0

    def module(self, name: str) -> Module | None:
        """The file behind a module's name as the script sees it; None when it is not of this repository."""
        if name not in self._found:
            known = name.partition(".")[0] in (VENDORED_MODULE, *_LIBRARIES)
            self._found[name] = None if known else self._find(name)
        return self._found[name]

    def resolve(self, module: Module, path: str) -> Definition | Module | None:
        """What a dotted name means in a module of the project; None for what other packages define."""
        return self._resolve(module, path.split("."), 0)

    def imported(self, module: Module, what: Imported) -> str | None:
        """The name, as the script sees it, of the module that an import of `module` names."""
        if not what.level:
            return what.module
        package = module.name if module.is_package else _parent(module.name)
        for _ in range(what.level - 1):
            package = _parent(package) if package else None
        if not package or not what.module:
            return package or None
        return _joined(package, what.module)

    def _resolve(self, module: Module, parts: list[str], depth: int) -> Definition | Module | None:
        head, rest = parts[0], parts[1:]
        found = self._own(module, head, depth)
        if found is None and module.is_package and head not in module.bindings:
            found = self.module(_joined(module.name, head))
        while rest and isinstance(found, Module):
            inner = self._own(found, rest[0], depth) if depth < 8 else None
            found = inner or self.module(_joined(found.name, rest[0]))
            rest = rest[1:]
        return found if not rest else None

    def _own(self, module: Module, name: str, depth: int) -> Definition | Module | None:
        """What a name of a module's own scope means."""
        nodes = module.bindings.get(name, [])
        if not nodes:
            return self._starred(module, name, depth) if depth < 8 else None
        imports = module.imports.get(name, [])
        if len(imports) == len(nodes) and depth < 8:  # alternatives of a `try` name the same thing
            return next((found for one in imports if (found := self._follow(module, one, depth + 1))), None)
        if imports or module is self.entry:
            return None
        node = nodes[0] if len(nodes) == 1 else None
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return Definition(module, name, node)
        return Definition(module, name, _assignment(node, module.tree))

    def _starred(self, module: Module, name: str, depth: int) -> Definition | Module | None:
        if name.startswith("_"):
            return None
        for star in module.star_imports:
            target = self.imported(module, star)
            source = self.module(target) if target else None
            found = self._own(source, name, depth + 1) if source is not None else None
            if found is not None:
                return found
        return None

    def importer(self, module: Module, name: str, depth: int = 0) -> Module | None:
        """The file whose import of another package reaches a module by a star import."""
        for star in reversed(module.star_imports if depth < 8 and not name.startswith("_") else ()):
            target = self.imported(module, star)
            source = self.module(target) if target else None
            if source is None:
                return None  # another package, which may have the name, too
            if name in source.bindings:
                return source if len(source.imports.get(name, ())) == len(source.bindings[name]) else None
            found = self.importer(source, name, depth + 1)
            if found is not None or source.star_imports:
                return found
        return None

    def _follow(self, module: Module, what: Imported, depth: int) -> Definition | Module | None:
        target = self.imported(module, what)
        if target is None:
            return None
        found = self.module(target)
        if what.name is None:
            return found
        inner = self._own(found, what.name, depth) if found is not None else None
        return inner or self.module(_joined(target, what.name))

    def acts(self, module: Module, seen: frozenset[str] = frozenset()) -> bool:
        """True when loading a module does more than define: it seeds, registers, sets options, prints."""
        if module.name in seen or len(seen) > _MOST_FILES:
            return False
        seen |= {module.name}
        if any(_acts(node) for node in module.tree.module.body):
            return True
        names = {self.imported(module, one) for found in module.imports.values() for one in found}
        loaded = (self.module(name) for name in sorted(filter(None, names)))
        return any(other is not None and self.acts(other, seen) for other in loaded)

    # -- files --------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Module | None:
        dots = len(name) - len(name.lstrip("."))
        parts = [part for part in name[dots:].split(".") if part]
        for root in self._roots(dots, parts):
            place = os.path.join(root, *parts)
            for file, is_package in ((os.path.join(place, "__init__.py"), True), (f"{place}.py", False)):
                if (parts or is_package) and os.path.isfile(file):
                    return self._read(file, name, is_package)
            if parts and os.path.isdir(place) and _holds_code(place):
                return self._read(None, name, True, place)
        return None

    def _roots(self, dots: int, parts: list[str]) -> Iterator[str]:
        if dots:
            yield os.path.normpath(os.path.join(self.folder, *[".."] * (dots - 1)))
            return
        yield self.folder
        first, folder = parts[0] if parts else "", self.folder
        for _ in range(_MOST_FOLDERS_UP):
            above = os.path.dirname(folder)
            inside = os.path.basename(folder) == first  # the script is part of the package that it names
            folder = above
            packaged = any(os.path.exists(os.path.join(folder, marker)) for marker in _ROOT_MARKERS[1:])
            if inside or packaged or self._changes_path:
                yield folder
            if packaged or any(os.path.exists(os.path.join(folder, one)) for one in _BEGINNINGS):
                yield os.path.join(folder, "src")
            if packaged or os.path.exists(os.path.join(folder, _ROOT_MARKERS[0])) or folder == os.path.dirname(folder):
                return

    def _read(self, file: str | None, name: str, is_package: bool, folder: str = "") -> Module | None:
        if file is None:
            return Module(name, _parsed("", 0, os.path.join(folder, "__init__.py")), True)
        if os.path.realpath(file) == self._entry_file or self._files >= _MOST_FILES:
            return None
        size = os.path.getsize(file)
        if size > _MOST_BYTES:
            return None
        self._files += 1
        shown = os.path.join(os.path.dirname(self.entry.path), os.path.relpath(file, self.folder))
        try:
            return Module(name, _parsed(file, os.stat(file).st_mtime_ns, os.path.normpath(shown)), is_package)
        except (LightifyError, OSError):
            return None  # not even Python: what it defines stays unknown


@lru_cache(maxsize=128)
def _parsed(file: str, modified_ns: int, shown: str) -> Tree:
    """A file's tree, its places named as the user would; kept while the file stays as it is."""
    if not file or not os.path.getsize(file):
        return parse(Source(shown, ""))
    return parse(replace(read_source(file), path=shown))


def _assignment(node: cst.CSTNode | None, tree: Tree) -> cst.SimpleStatementLine | None:
    """The line of `name = value` that binds one name and nothing else."""
    inner = tree.parents[node] if isinstance(node, cst.AssignTarget) else node
    if isinstance(inner, cst.Assign) and (len(inner.targets) > 1 or not isinstance(inner.targets[0].target, cst.Name)):
        return None
    line = tree.parents.get(inner) if isinstance(inner, (cst.Assign, cst.AnnAssign)) else None
    return line if isinstance(line, cst.SimpleStatementLine) else None


_DEFINING = frozenset(
    """getLogger getenv device namedtuple TypeVar compile Path dirname abspath realpath join get is_available list dict
    set tuple range len str int float bool field defaultdict OrderedDict partial""".split()  # noqa: SIM905, words
)


def _acts(node: cst.CSTNode) -> bool:
    """True for a statement of a module that does more than define a name."""
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        return False
    if isinstance(node, cst.If) and "__name__" in read_names(node.test):
        return False
    if isinstance(node, (cst.If, cst.Try, cst.Else, cst.ExceptHandler, cst.IndentedBlock)):
        below = [child for child in children(node) if not isinstance(child, cst.BaseExpression)]
        return any(_acts(child) for child in below)
    inner = small(node)
    if isinstance(inner, (cst.Import, cst.ImportFrom, cst.Pass)) or is_docstring(node):
        return False
    if isinstance(inner, cst.Assign) and not all(isinstance(t.target, (cst.Name, cst.Tuple)) for t in inner.targets):
        return True
    if not isinstance(inner, (cst.Assign, cst.AnnAssign)):
        return True
    calls = (part for part in walk(inner) if isinstance(part, cst.Call))
    return any((dotted(call.func) or "").rpartition(".")[2] not in _DEFINING for call in calls)


def _imported(node: cst.CSTNode) -> Iterator[tuple[str, Imported]]:
    if isinstance(node, cst.Import):
        for alias in node.names:
            full = dotted(alias.name) or ""
            if alias.evaluated_alias is not None:
                yield alias.evaluated_alias, Imported(full)
            else:
                yield full.partition(".")[0], Imported(full.partition(".")[0], plain=True)
    elif isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
        for alias in node.names:
            local = alias.evaluated_alias or alias.evaluated_name
            yield local, Imported(dotted(node.module) or "", alias.evaluated_name, len(node.relative))


def _parent(name: str) -> str | None:
    """The package around a module; one more dot above a relative import's own."""
    rest = name.lstrip(".")
    dots = name[: len(name) - len(rest)]
    return f"{dots}{rest.rpartition('.')[0]}" or None if rest else f"{dots}."


def _joined(package: str, name: str) -> str:
    return f"{package}{name}" if not package.strip(".") else f"{package}.{name}"


def _holds_code(folder: str) -> bool:
    """True for a folder that can be imported without an `__init__.py`."""
    return any(entry.name.endswith(".py") or entry.is_dir() for entry in os.scandir(folder))
