"""What the names of a repository's other files are called in the script."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Set

import libcst as cst

from lightify.repository.project import Definition, Imported, Module, Project
from lightify.syntax.names import local_names
from lightify.syntax.query import LinkedName, dotted

BUILTINS = frozenset(dir(builtins))
_OF_FILE = ("__file__", "__name__", "__package__", "__spec__")


class Names:
    """Gives each definition and each import of the other files one name here.

    Attributes:
        given: (path or module, name there) -> name here.
        imports: name here -> the lines that import it, for code that moves to the script.
        qualified: names of other packages -> their full names.
        written: name here -> how its file writes it, where that has dots.
        wanted: definitions that got a name and are not taken up yet, each with the import that leads there.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.entry = project.entry
        self.taken = set(self.entry.bindings) | self.entry.locals
        self.given: dict[tuple[str, str], str] = {}
        self.imports: dict[str, tuple[str, ...]] = {}
        self.qualified: dict[str, str] = {}
        self.written: dict[str, str] = {}
        self.wanted: list[tuple[Definition, cst.CSTNode]] = []

    def member(
        self, module: Module, head: str, rest: str, written: str, origin: cst.CSTNode
    ) -> cst.BaseExpression | None:
        """`head.rest` of a module as one name, or as attributes of one."""
        parts = rest.split(".")
        for number in range(1, len(parts) + 1):
            found = self.project.resolve(module, ".".join([head, *parts[:number]]))
            if isinstance(found, Module):
                continue
            if found is None or self.changes(found, module):
                return None
            text, name = ".".join([written, *parts[:number]]), self._name(found, origin, module)
            if name in module.locals:
                return None  # a function of this file calls something of its own so
            node: cst.BaseExpression = LinkedName(name, written=text)
            for attribute in parts[number:]:
                node = cst.Attribute(node, cst.Name(attribute))
            return node
        return None

    def _name(self, found: Definition, origin: cst.CSTNode, reader: Module) -> str:
        """The name of a definition here; a new one is taken up, under a name that its reader has no other use for."""
        key = (found.module.path, found.name)
        if key not in self.given:
            self.given[key] = self._free(found.name, found.module, reader.locals)
            self.wanted.append((found, origin))
        return self.given[key]

    def _free(self, name: str, module: Module, used: Set[str] = frozenset()) -> str:
        stem = module.name.strip(".").rpartition(".")[2] or "package"
        tried = [name, f"{stem}_{name}", *(f"{stem}_{name}_{n}" for n in range(2, 99))]
        chosen = next(n for n in tried if n not in self.taken | used | BUILTINS)
        self.taken.add(chosen)
        return chosen

    def changes(self, found: Definition, reader: Module) -> bool:
        """True when a variable may change after its module is loaded."""
        stored = any(found.name in module.stored for module in (found.module, self.entry, reader))
        return stored or len(found.module.bindings.get(found.name, ())) != 1

    def meaning(self, module: Module, name: str, origin: cst.CSTNode) -> cst.BaseExpression | str | None:
        """What a name of a linked definition is called here; None leaves it, a text says why that is not known."""
        if name in _OF_FILE:
            return self._attribute(module, name)
        found = self.project.resolve(module, name)
        if isinstance(found, Module):
            return cst.Name(self.imported_module(module, name))
        if found is not None and self.changes(found, module):
            return self._attribute(module, name)
        if found is not None:
            new = self._name(found, origin, module)
            if new != name and new in module.locals:
                return f"{name} is {new} in the script, which is a local there"
            if self.entry.imports.get(new) is None or self.project.resolve(self.entry, new) is None:
                alias = f" as {new}" if new != found.name else ""
                self.bring(new, (f"from {found.module.name} import {found.name}{alias}",))
            return cst.Name(new)
        if name in module.imports and len(module.imports[name]) == len(module.bindings[name]):
            return cst.Name(self._foreign(module, name))
        if name in module.bindings:
            return self._attribute(module, name)
        importer = self.project.importer(module, name)
        if importer is not None:
            return cst.Name(self._foreign(importer, name))
        if name in BUILTINS:
            return f"the script gives {name} another meaning" if name in self.taken else None
        if module.star_imports:
            return f"{name} comes from a star import, or from nowhere"
        return None

    def bring(self, name: str, lines: Iterable[str]) -> None:
        """Adds lines that import a name: its own, or its module's where a file writes it as that module's."""
        self.imports[name] = tuple(dict.fromkeys((*self.imports.get(name, ()), *lines)))

    def _attribute(self, module: Module, name: str) -> cst.BaseExpression:
        """`engine.name`: read anew each time."""
        alias = self._module_alias(module.name, module)
        merged = f"{alias}_{name.strip('_')}"
        self.imports[merged] = self.imports.get(alias, ())
        self.written[merged] = f"{alias}.{name}"
        return LinkedName(merged, written=f"{alias}.{name}")

    def _module_alias(self, name: str, module: Module, there: str = "", reader: Module | None = None) -> str:
        """The name here of a module of the project.

        Args:
            there: its name in the file of the reader, whose functions may have variables of the module's own.
        """
        key = (name, "")
        if key not in self.given:
            package, _, last = name.rpartition(".")
            plain = not name.startswith(".") and not package
            taken = reader is not None and _is_variable(last, reader)
            self.given[key] = alias = self._free(there if taken else last or "package", module)
            suffix = f" as {alias}" if alias != last else ""
            source = package if package.strip(".") else f"{package}." if name.startswith(".") else ""
            self.imports[alias] = (f"import {name}{suffix}" if plain else f"from {source} import {last}{suffix}",)
        return self.given[key]

    def imported_module(self, module: Module, name: str) -> str:
        found = self.project.resolve(module, name)
        assert isinstance(found, Module)
        alias = self._module_alias(found.name, found, name, module)
        own = module.imports.get(name, ())  # none where a star import brings the module
        if alias in self.imports and own and all(one.plain for one in own):
            lines = (self._import_line(node, name, alias, module) for node in module.bindings[name])
            self.imports[alias] = tuple(dict.fromkeys(lines))
        return alias

    def _foreign(self, module: Module, name: str) -> str:
        """The name here of what a file imports from another package."""
        what = tuple(dict.fromkeys(module.imports[name]))
        if _distinct(self.entry, name) == what:
            return name
        key = (repr(what), name)
        if key not in self.given:
            same = [a for a in self.entry.imports if _distinct(self.entry, a) == what]
            if same:
                self.given[key] = same[0]
                return same[0]
            ours = self.entry.imports.get(name, ())
            alone = bool(ours) and len(ours) == len(self.entry.bindings[name])  # the script has no variable of the name
            kept = alone and all(one.plain for one in (*what, *ours))
            new = name if kept else self._free(name, module)
            self.given[key] = new
            nodes = module.bindings[name]
            lines = dict.fromkeys(self._import_line(node, name, new, module) for node in nodes)
            there = self.entry.bindings.get(name, ()) if kept else ()
            present = {self._import_line(node, name, name, self.entry) for node in there}
            self.imports[new] = tuple(line for line in lines if line not in present)
            one = what[0]
            self.qualified[new] = f"{one.module}.{one.name}" if one.name else one.module
        return self.given[key]

    def _import_line(self, node: cst.CSTNode, name: str, new: str, module: Module) -> str:
        assert isinstance(node, (cst.ImportAlias, cst.AsName))
        alias = node if isinstance(node, cst.ImportAlias) else module.tree.parents[node]
        assert isinstance(alias, cst.ImportAlias)
        statement = module.tree.parents[alias]
        full = dotted(alias.name) or ""
        suffix = f" as {new}" if new != full and not (new == name and alias.asname is None) else ""
        if isinstance(statement, cst.ImportFrom):
            source = self.project.imported(
                module, Imported(dotted(statement.module) or "", None, len(statement.relative))
            )
            return f"from {source} import {full}{suffix}"
        return f"import {full}{suffix}"


def _distinct(module: Module, name: str) -> tuple[Imported, ...]:
    """What a name is imported as, each once; empty where it is bound otherwise, too."""
    found = module.imports.get(name, ())
    return tuple(dict.fromkeys(found)) if len(found) == len(module.bindings.get(name, ())) else ()


def _is_variable(name: str, module: Module) -> bool:
    """True for what some function of a file calls one of its variables."""
    return any(name in local_names(function) for function in module.tree.nodes(cst.FunctionDef))
