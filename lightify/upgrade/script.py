"""A script that uses Lightning, as the forms read it: names, modules, callbacks, Trainers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import libcst as cst

from lightify.syntax.parse import imported_names
from lightify.syntax.query import dotted, target_names, walk

LIBRARIES = ("pytorch_lightning", "lightning.pytorch", "lightning", "lightify.runtime", "lightify_runtime")
STAGES = ("training", "validation", "test")
#: Methods that only a LightningModule has.
_MARKS = {f"{stage}_{end}" for stage in STAGES for end in ("step", "step_end", "epoch_end")}


class Script:
    """One version of the tree, and what can be asked of it."""

    def __init__(self, module: cst.Module) -> None:
        self.module = module

    @cached_property
    def nodes(self) -> tuple[cst.CSTNode, ...]:
        return tuple(walk(self.module))

    @cached_property
    def imports(self) -> dict[str, str]:
        return imported_names(self.nodes)

    @cached_property
    def package(self) -> str | None:
        """The Lightning that the script imports, by the name it uses; None when it imports none."""
        for full in self.imports.values():
            if (library := _library(full)) is not None:
                return library
        return None

    def qualified(self, node: cst.CSTNode | None) -> str:
        name = dotted(node)
        if name is None:
            return ""
        head, _, rest = name.partition(".")
        head = self.imports.get(head, head)
        return f"{head}.{rest}" if rest else head

    def lightning_name(self, node: cst.CSTNode | None) -> str:
        """`callbacks.ModelCheckpoint` for whatever spelling of it; empty for what is not Lightning's."""
        full = self.qualified(node)
        library = _library(full)
        if library is None or ((head := dotted(node) or "").partition(".")[0] not in self.imports and head != full):
            return ""
        return full[len(library) + 1 :]

    def calls(self) -> Iterator[cst.Call]:
        return (node for node in self.nodes if isinstance(node, cst.Call))

    @cached_property
    def classes(self) -> dict[str, cst.ClassDef]:
        return {node.name.value: node for node in self.nodes if isinstance(node, cst.ClassDef)}

    @cached_property
    def modules(self) -> tuple[cst.ClassDef, ...]:
        """Classes that are LightningModules: by their base, or by their methods when the base is in another file."""
        return tuple(node for node in self.classes.values() if self._is(node, "LightningModule"))

    @cached_property
    def callbacks(self) -> tuple[cst.ClassDef, ...]:
        return tuple(node for node in self.classes.values() if self._is(node, "Callback"))

    def _is(self, node: cst.ClassDef, what: str) -> bool:
        roots = set(self.roots(node))
        if any(root.rpartition(".")[2] == what for root in roots if root.startswith("<lightning>")):
            return True
        if what == "Callback":
            return any(root.startswith("<lightning>.callbacks.") for root in roots)
        unknown = {root for root in roots if not root.startswith(("<lightning>", "torch.", "abc.", "<none>"))}
        return bool(unknown) and bool(_MARKS & methods(node).keys()) and self.package is not None

    def roots(self, node: cst.ClassDef, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """Where the bases of a class lead within this file: qualified names, Lightning's as `<lightning>.Name`."""
        if not node.bases:
            yield "<none>"
        for base in node.bases:
            name = dotted(base.value) or "<expression>"
            if name in self.classes and name not in seen:
                yield from self.roots(self.classes[name], seen | {name})
            elif lightning := self.lightning_name(base.value):
                yield f"<lightning>.{lightning}"
            else:
                yield self.qualified(base.value)

    def family(self, node: cst.ClassDef) -> list[cst.ClassDef]:
        """The class and those of this file that it derives from, nearest first."""
        found, queue = [], [node]
        while queue:
            current = queue.pop(0)
            if current not in found:
                found.append(current)
                queue += [self.classes[name] for base in current.bases if (name := dotted(base.value)) in self.classes]
        return found

    def has_foreign_base(self, node: cst.ClassDef) -> bool:
        """Whether it derives from a class of another file that may bring methods of its own."""
        return any(not root.startswith(("<lightning>.LightningModule", "<lightning>.core", "torch.", "<none>", "abc."))
                   for root in self.roots(node))  # fmt: skip

    def inherited(self, node: cst.ClassDef, name: str) -> cst.FunctionDef | None:
        """A method, the class's own or that of a base in this file."""
        for owner in self.family(node):
            if (found := methods(owner).get(name)) is not None:
                return found
        return None

    def trainer_calls(self) -> list[cst.Call]:
        """Calls that make a Trainer, and `dict(...)` that hold arguments for one."""
        made = self._made()
        given = [arg.value for call in made for arg in call.args if arg.star == "**"]
        for call in self.calls():
            if self.lightning_name(call.func).endswith("LightningCLI"):
                given += [arg.value for arg in call.args if arg.keyword and arg.keyword.value == "trainer_defaults"]
        return made + [found for value in given if (found := self.dict_call(value)) is not None]

    def dict_call(self, value: cst.BaseExpression) -> cst.Call | None:
        """The `dict(...)` that a value is, or that its name is assigned once."""
        known = self.assigned(value.value) if isinstance(value, cst.Name) else [value]
        if len(known) == 1 and isinstance(known[0], cst.Call) and dotted(known[0].func) == "dict":
            return known[0]
        return None

    def _made(self) -> list[cst.Call]:
        names = ("Trainer", "trainer.Trainer", "trainer.trainer.Trainer")
        return [call for call in self.calls() if self.lightning_name(call.func) in names]

    @cached_property
    def trainers(self) -> dict[str, cst.Call]:
        """Names and fields that hold a Trainer, to the call that makes it."""
        made = {id(call) for call in self._made()}
        found = {}
        for node in self.nodes:
            if (
                isinstance(node, (cst.Assign, cst.AnnAssign))
                and isinstance(node.value, cst.Call)
                and id(node.value) in made
            ):
                targets = [target.target for target in node.targets] if isinstance(node, cst.Assign) else [node.target]
                for target in targets:
                    if (name := dotted(target)) is not None:
                        found[name] = node.value
        return found

    def is_trainer(self, node: cst.CSTNode) -> bool:
        name = dotted(node) or ""
        if self.package is None or isinstance(node, cst.Call):
            return node in self._made()
        return name in self.trainers or name == "trainer" or name.endswith(".trainer")

    def assigned(self, name: str) -> list[cst.BaseExpression]:
        """Every value that a plain assignment gives a name, anywhere in the file."""
        return [
            node.value
            for node in self.nodes
            if isinstance(node, cst.Assign) and any(target_names(target.target) == [name] for target in node.targets)
        ]


def methods(node: cst.ClassDef) -> dict[str, cst.FunctionDef]:
    return {part.name.value: part for part in node.body.body if isinstance(part, cst.FunctionDef)}


def _library(full: str) -> str | None:
    for library in LIBRARIES:
        if full == library or full.startswith(f"{library}."):
            return library
    return None
