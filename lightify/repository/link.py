"""Links the definitions that a script uses from other files of its repository to the script's tree.

A linked definition gets the name by which the script knows it, or a free one, and so do all names that it reads: to the
rest of the converter the script and its files are one. The files' text stays as it is; code that moves to the script
brings the imports that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from lightify.errors import SourceSpan
from lightify.repository.naming import BUILTINS, Names
from lightify.repository.project import Definition, Imported, Module, Project
from lightify.syntax.fields import name_fields, training_classes, with_named_fields
from lightify.syntax.names import bound_names, read_names
from lightify.syntax.parse import Links, Tree, index
from lightify.syntax.query import LinkedName, block, code, dotted, nodes_of, small
from lightify.syntax.substitute import substitute

_MOST_DEFINITIONS = 400


def link(tree: Tree) -> Tree:
    """Returns the tree with the definitions of its repository's other files; without any, the tree itself."""
    if tree.source.root is None:
        return tree
    return _Linker(tree).linked()


@dataclass(frozen=True, eq=False)
class _Taken:
    """A definition that is taken up, the script's import that leads to it, and why its code can't move."""

    definition: Definition
    origin: cst.CSTNode
    reasons: Sequence[str]


class _Linker:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.project = Project(tree)
        self.entry = self.project.entry
        self.names = Names(self.project)
        self.aliases: dict[str, str] = {}  # names that the script imports -> the first of those for the same definition
        self.nodes: dict[str, cst.BaseStatement] = {}
        self.taken_up: dict[str, _Taken] = {}
        self.spans: dict[cst.CSTNode, SourceSpan] = {}
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.origins: dict[cst.CSTNode, cst.CSTNode] = {}
        self.fixed: dict[cst.CSTNode, str] = {}
        self.texts: dict[str, str] = {}

    def linked(self) -> Tree:
        modules = self._imported_by_the_script()
        module = self._with_linked_names(modules) if modules else self.tree.module
        while self.names.wanted:
            definition, origin = self.names.wanted.pop(0)
            if definition.node is not None and len(self.nodes) < _MOST_DEFINITIONS:
                self._take(definition, origin)
        if not self.nodes:
            return self.tree
        self._name_fields(module)
        for name, taken in self.taken_up.items():
            self._record(name, taken)
        return self._tree(name_fields(module, self.nodes.values()))

    # -- what the script imports --------------------------------------------------------------------------------

    def _imported_by_the_script(self) -> dict[str, cst.CSTNode]:
        """Gives the names that the script imports to their definitions; returns those that are modules."""
        modules: dict[str, cst.CSTNode] = {}
        for name in [*self.entry.imports, *self._starred()]:
            found = self.project.resolve(self.entry, name)
            if found is None:
                continue
            origin = self._importing(name)
            if isinstance(found, Module):
                modules[name] = origin
                self.names.given.setdefault((found.name, ""), name)
            elif not self.names.changes(found, self.entry):
                first = self.names.given.setdefault((found.module.path, found.name), name)
                self.aliases[name] = first
                self.names.wanted.append((found, origin))
        return modules

    def _starred(self) -> Iterator[str]:
        """Names that the script reads and that may come from a star import."""
        if self.entry.star_imports:
            known = self.entry.bindings.keys() | BUILTINS
            yield from sorted(read_names(self.tree.module) - known)

    def _importing(self, name: str) -> cst.CSTNode:
        """The script's statement that imports a name."""
        for node in self.entry.bindings.get(name, ()):
            return next(a for a in self.tree.ancestors(node) if isinstance(a, (cst.Import, cst.ImportFrom)))
        return next(
            node
            for node in self.tree.spans
            if isinstance(node, cst.ImportFrom) and isinstance(node.names, cst.ImportStar)
        )

    def _with_linked_names(self, modules: dict[str, cst.CSTNode]) -> cst.Module:
        """The script with `engine.train` as one name, where engine is a file of the repository."""

        def chain(name: str) -> cst.BaseExpression | None:
            head, _, rest = name.partition(".")
            if head not in modules:
                return None
            node = self.names.member(self.entry, head, rest, head, modules[head])
            self._note_written(node)
            return node

        return substitute(self.tree.module, lambda name: None, chain)  # type: ignore[return-value]

    def _note_written(self, node: cst.BaseExpression | None) -> LinkedName | None:
        """Notes how a text writes a name that the script does not import; returns the name."""
        while isinstance(node, cst.Attribute):
            node = node.value
        if not isinstance(node, LinkedName):
            return None
        if node.value not in self.aliases:
            self.names.written.setdefault(node.value, node.written)
        return node

    # -- definitions --------------------------------------------------------------------------------------------

    def _take(self, definition: Definition, origin: cst.CSTNode) -> None:
        """Takes one definition up, its names replaced by those that mean the same here."""
        module, old = definition.module, definition.node
        assert old is not None
        new_name = self.names.given[module.path, definition.name]
        if new_name in self.nodes:
            return
        reasons = list(_fixed_reasons(old, module))
        free = {name for name in read_names(old) if "." not in name}
        if isinstance(old, cst.SimpleStatementLine):
            free.discard(definition.name)
        replaced: dict[str, cst.BaseExpression] = {}
        for name in sorted(free):
            if isinstance(self.project.resolve(module, name), Module):
                continue  # its members are resolved where they stand
            meaning = self.names.meaning(module, name, origin)
            if isinstance(meaning, str):
                reasons.append(meaning)
            elif isinstance(meaning, LinkedName) or (isinstance(meaning, cst.Name) and meaning.value != name):
                replaced[name] = meaning

        def chain(name: str) -> cst.BaseExpression | None:
            head, _, rest = name.partition(".")
            if head not in free or not isinstance(self.project.resolve(module, head), Module):
                return None
            alias = self.names.imported_module(module, head)
            node = self.names.member(module, head, rest, alias, origin)
            inner = self._note_written(node)
            if inner is not None:
                self.names.bring(inner.value, self.names.imports.get(alias, ()))
            return node

        def name_here(name: str) -> cst.BaseExpression | None:
            if name in free and name not in replaced and isinstance(self.project.resolve(module, name), Module):
                return cst.Name(self.names.imported_module(module, name))
            new = replaced.get(name)
            return new.with_changes() if new is not None else None  # one node for each place

        node = substitute(old, name_here, chain)
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            if node.name.value != new_name:
                node = node.with_changes(name=cst.Name(new_name))
        elif new_name != definition.name:
            node = substitute(node, lambda name: cst.Name(new_name) if name == definition.name else None)
        if set(replaced) & _bound_in_classes(old):
            reasons.append("a class in it binds a name that means something else in the script")
        self.nodes[new_name] = node  # type: ignore[assignment]
        self.taken_up[new_name] = _Taken(definition, origin, reasons)

    def _name_fields(self, module: cst.Module) -> None:
        """Reads `self.x` as one name in classes that train together with others, here or in the script."""
        own = {node.name.value: node for node in module.body if isinstance(node, cst.ClassDef)}
        linked = {name: node for name, node in self.nodes.items() if isinstance(node, cst.ClassDef)}
        training = training_classes({**linked, **own})
        self.nodes.update((name, with_named_fields(node)) for name, node in linked.items() if node in training)

    def _record(self, name: str, taken: _Taken) -> None:
        """Notes where the statements of a definition stand."""
        definition, node = taken.definition, self.nodes[name]
        module = definition.module
        assert definition.node is not None
        here, parents = index(node)
        there, _ = index(definition.node)
        self.parents[node] = self.tree.module
        self.parents.update(parents)
        self.spans.update((new, module.tree.span(before)) for new, before in zip(here, there, strict=True))
        self.origins[node] = taken.origin
        self.texts[module.path] = module.tree.source.text
        if taken.reasons:
            self.fixed[node] = taken.reasons[0]

    def _acting(self, script: cst.Module) -> dict[cst.CSTNode, str]:
        """The script's imports of files that do something when they are loaded."""
        found: dict[cst.CSTNode, str] = {}
        for statement in script.body:
            node = small(statement)
            if isinstance(node, cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
                name = self.project.imported(self.entry, Imported(dotted(node.module) or "", None, len(node.relative)))
                module = self.project.module(name) if name else None
                if module is not None and self.project.acts(module):
                    package, _, last = module.name.rpartition(".")
                    relative = f"from {package or '.'} import {last}"
                    found[statement] = relative if module.name.startswith(".") else f"import {module.name}"
            elif isinstance(node, cst.Import):
                modules = [self.project.module(dotted(alias.name) or "") for alias in node.names]
                if any(module is not None and self.project.acts(module) for module in modules):
                    found[statement] = code(node)
        return found

    def _tree(self, module: cst.Module) -> Tree:
        tree = self.tree
        spans, parents = dict(tree.spans), dict(tree.parents)
        functions, classes = dict(tree.functions), dict(tree.classes)
        moved: dict[cst.CSTNode, cst.CSTNode] = dict(self.origins)
        if module is not tree.module:
            old, _ = index(tree.module)
            new, parents = index(module)
            again: dict[cst.CSTNode, cst.CSTNode] = dict(zip(old, new, strict=True))
            spans = {again[node]: span for node, span in tree.spans.items()}
            functions = {name: again[node] for name, node in functions.items()}  # type: ignore[misc]
            classes = {name: again[node] for name, node in classes.items()}  # type: ignore[misc]
            moved = {node: again[origin] for node, origin in moved.items()}
        for name, node in self.nodes.items():
            if isinstance(node, cst.FunctionDef):
                functions[name] = node
            elif isinstance(node, cst.ClassDef):
                classes[name] = node
            self.parents[node] = module
        for name, first in self.aliases.items():
            if first in functions:
                functions[name] = functions[first]
            elif first in classes:
                classes[name] = classes[first]
        imports = {name: full for name, full in tree.imports.items() if self.aliases.get(name) not in self.nodes}
        links = Links(
            tuple(self.nodes.values()),
            moved,
            self.fixed,
            self.names.imports,
            frozenset(self.names.qualified),
            self.names.written,
            self.texts,
            self._acting(module),
        )
        return replace(
            tree,
            module=module,
            spans={**spans, **self.spans},
            functions=functions,
            classes=classes,
            imports={**imports, **self.names.qualified},
            parents={**parents, **self.parents},
            links=links,
        )


def _fixed_reasons(node: cst.CSTNode, module: Module) -> Iterator[str]:
    """Why the code of a definition can't stand in another file."""
    for part in nodes_of(node, cst.Global, cst.ImportFrom, cst.Call):
        if isinstance(part, cst.Global):
            names = ", ".join(item.name.value for item in part.names)
            yield f"it assigns {names} of {module.path}, declared global"
        elif isinstance(part, cst.ImportFrom) and part.relative:
            yield "it holds a relative import"
        elif isinstance(part, cst.Call) and dotted(part.func) in ("globals", "locals", "eval", "exec"):
            yield f"it calls {dotted(part.func)}()"


def _bound_in_classes(node: cst.CSTNode) -> set[str]:
    return {name for part in nodes_of(node, cst.ClassDef) for name in bound_names(block(part.body))}
