"""The questions about a script that are about names: where they live, what they stand for, and who calls whom."""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import libcst as cst

from lightify.analysis.calls import class_of
from lightify.facts import Analysis, Kind, Scope
from lightify.syntax.names import bound_names, local_names, parameters
from lightify.syntax.parse import Once, Tree
from lightify.syntax.query import arguments, block, call_name, dotted, method_call

Node = TypeVar("Node", bound=cst.CSTNode)
Key = tuple[Scope, str]
Function = cst.FunctionDef

#: Calls on a module that return the module.
_KEEPS_MODULE = {"to", "cuda", "cpu", "double", "half", "float", "train", "eval", "apply", "requires_grad_"}
_WRAPPERS = {"DataParallel", "DistributedDataParallel", "compile"}
#: Methods that many objects have: a call on an unknown object says nothing about the file's own classes.
_COMMON_METHODS = {
    "train",
    "eval",
    "step",
    "forward",
    "to",
    "cuda",
    "backward",
    "zero_grad",
    "update",
    "reset",
    "append",
}


@dataclass(frozen=True, eq=False)
class Definition:
    """One binding of a name; `value` is None when it is bound by other means than an assignment.

    Attributes:
        index: which element of the value the name gets, None for all of it.
    """

    value: cst.BaseExpression | None
    node: cst.CSTNode
    index: int | None = None


class Index:
    """A tree's names, calls and functions, indexed once for all findings."""

    def __init__(self, tree: Tree, analysis: Analysis, without: Collection[cst.CSTNode] = ()) -> None:
        """Indexes a tree.

        Args:
            without: statements whose calls are left out.
        """
        self.tree, self.analysis = tree, analysis
        self._nodes: dict[type, list[cst.CSTNode]] = defaultdict(list)
        self._functions: dict[cst.CSTNode, Function | None] = {tree.module: None}
        elsewhere = set(without)
        for node, parent in tree.parents.items():  # parents come first; exact types, since asking ABCs is slow
            if parent in elsewhere:
                elsewhere.add(node)
            self._nodes[cst.For if type(node) is Once else type(node)].append(node)
            self._functions[node] = parent if type(parent) is cst.FunctionDef else self._functions[parent]
        self._origins: dict[Key, frozenset[Key]] = {}
        self._calls: dict[str, list[cst.Call]] = defaultdict(list)
        for call in self.nodes(cst.Call):
            name = call_name(call)
            if name is not None and call not in elsewhere:
                self._calls[name].append(call)
        for calls in self._calls.values():
            calls.sort(key=self.place)

    def nodes(self, kind: type[Node]) -> list[Node]:
        """All nodes of exactly this type."""
        return self._nodes.get(kind, [])  # type: ignore[return-value]

    # -- places -------------------------------------------------------------------------------------------------

    def place(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where a node's statement starts, for putting nodes in the order of the text."""
        span = self.tree.span(node)
        return span.line, span.column

    def calls(self, *names: str) -> list[cst.Call]:
        """The calls of functions or methods of these (last) names, in the order of the text."""
        return [call for name in names for call in self._calls.get(name, ())]

    def called(self, *names: str) -> bool:
        return any(name in self._calls for name in names)

    @property
    def call_names(self) -> Iterable[str]:
        """The last names of everything that is called."""
        return self._calls.keys()

    def statement(self, node: cst.CSTNode) -> cst.CSTNode:
        """The small statement around a node, or the compound statement whose head it stands in."""
        spans = self.tree.spans
        while node not in spans and node is not self.tree.module:
            node = self.tree.parents[node]
        return node

    def function(self, node: cst.CSTNode) -> Function | None:
        """The function around a node."""
        return self._functions[node]

    def qualified(self, call: cst.Call) -> str:
        """The qualified name of the called function; an empty text when it has none."""
        return self.tree.qualified(call.func) or ""

    # -- names --------------------------------------------------------------------------------------------------

    def key(self, node: cst.CSTNode, name: str) -> Key:
        """Where a name that stands at a node lives."""
        if name.startswith("self."):
            return class_of(node, self.tree), name
        head = name.partition(".")[0]
        function = self._functions[node]
        while function is not None and head not in local_names(function):
            function = self._functions[function]
        return function, name

    def origins(self, node: cst.CSTNode | None) -> frozenset[Key]:
        """What a name stands for, a parameter being what the callers give; empty for other expressions."""
        name = dotted(node)
        return self._origins_of(self.key(node, name)) if node is not None and name is not None else frozenset()

    def _origins_of(self, start: Key) -> frozenset[Key]:
        known = self._origins.get(start)
        if known is not None:
            return known
        found: set[Key] = set()
        seen, todo = {start}, [start]
        while todo:
            key = todo.pop()
            given = self._given_by_callers(key)
            if not given:
                found.add(key)
            todo += given - seen
            seen |= given
        self._origins[start] = frozenset(found)
        return self._origins[start]

    def _given_by_callers(self, key: Key) -> set[Key]:
        """The names that callers give for a parameter."""
        scope, name = key
        if not isinstance(scope, cst.FunctionDef) or name.startswith("self."):
            return set()
        given = (self._given(call, scope, name) for call in self.call_sites.get(scope, ()))
        return {self.key(node, called) for node in given if node is not None and (called := dotted(node)) is not None}

    def _given(self, call: cst.Call, function: Function, name: str) -> cst.BaseExpression | None:
        names = [param.name.value for param in parameters(function)]
        if name not in names:
            return None
        method = names[:1] == ["self"]
        given = arguments(call)
        return None if given.starred else given.get(names.index(name) - method, name)

    def kind(self, node: cst.CSTNode | None) -> Kind | None:
        """What a name holds, here or in a caller."""
        name = dotted(node)
        if node is None or name is None or name.partition(".")[0] in self._never_objects:
            return None
        keys = [self.key(node, name), *self.origins(node)]
        return next((kind for key in keys if (kind := self.analysis.kinds.get(key)) is not None), None)

    @cached_property
    def _never_objects(self) -> frozenset[str]:
        """Names of modules, functions and classes, which are asked about most."""
        return frozenset((*self.tree.imports, *self.tree.functions, *self.tree.classes, *dir(builtins))) - {
            name.partition(".")[0] for _, name in self.analysis.kinds
        }

    @cached_property
    def definitions(self) -> dict[Key, list[Definition]]:
        """The bindings of each name, in the order of the text."""
        found: dict[Key, list[Definition]] = defaultdict(list)

        def bind(target: cst.CSTNode, value: cst.BaseExpression | None, node: cst.CSTNode) -> None:
            name = dotted(target)
            if name is not None:
                found[self.key(node, name)].append(Definition(value, node))
            elif isinstance(target, (cst.Tuple, cst.List)):
                for number, element in enumerate(target.elements):
                    inner = dotted(element.value)
                    if inner is not None:
                        found[self.key(node, inner)].append(Definition(value, node, number))
                    else:
                        bind(element.value, None, node)

        for assign in self.nodes(cst.Assign):
            for target in assign.targets:
                bind(target.target, assign.value, assign)
        for annotated in self.nodes(cst.AnnAssign):
            bind(annotated.target, annotated.value, annotated)
        for other in (
            *self.nodes(cst.For),
            *self.nodes(cst.CompFor),
            *self.nodes(cst.AugAssign),
            *self.nodes(cst.NamedExpr),
        ):
            bind(other.target, None, other)  # type: ignore[attr-defined]
        for named in self.nodes(cst.AsName):
            bind(named.name, None, named)
        for imported in (*self.nodes(cst.Import), *self.nodes(cst.ImportFrom)):
            for name in bound_names([imported]):
                found[self.key(imported, name)].append(Definition(None, imported))
        for bindings in found.values():
            bindings.sort(key=lambda definition: self.place(definition.node))
        return found

    def values(self, node: cst.CSTNode) -> list[Definition]:
        """All bindings of what a name stands for; empty when one of them is out of sight."""
        found: list[Definition] = []
        for key in self.origins(node):
            bindings = self.definitions.get(key, [])
            scope, name = key
            if not bindings or (isinstance(scope, cst.FunctionDef) and name in _parameter_names(scope)):
                return []
            found += bindings
        return found

    def construction(self, node: cst.CSTNode | None, depth: int = 0) -> cst.Call | None:
        """The call that builds what an expression holds, moves and wrappers taken off; None when not sure."""
        if depth > 6:
            return None
        if isinstance(node, cst.Call):
            used = method_call(node)
            if used is not None and used[1] in _KEEPS_MODULE and not self.qualified(node).startswith("torch."):
                return self.construction(used[0], depth + 1)
            if call_name(node) in _WRAPPERS:
                return self.construction(arguments(node).get(0, "module"), depth + 1)
            return node
        if node is None or dotted(node) is None:
            return None
        calls: dict[cst.Call, None] = {}
        for definition in self.values(node):
            if definition.value is None or definition.index is not None:
                return None
            if any(self.origins(node) & self.origins(part) for part in _wrapped(definition.value)):
                continue  # model = model.to(device)
            call = self.construction(definition.value, depth + 1)
            if call is None:
                return None
            calls[call] = None
        return next(iter(calls)) if len(calls) == 1 else None

    def class_of(self, node: cst.CSTNode | None) -> cst.ClassDef | None:
        """The file's class that an object is of, when sure."""
        call = self.construction(node)
        return self.tree.classes.get(dotted(call.func) or "") if call is not None else None

    # -- who calls whom -----------------------------------------------------------------------------------------

    @cached_property
    def _methods(self) -> dict[str, list[Function]]:
        table: dict[str, list[Function]] = defaultdict(list)
        for definition in self.tree.classes.values():
            for statement in block(definition.body):
                if isinstance(statement, cst.FunctionDef):
                    table[statement.name.value].append(statement)
        return table

    @cached_property
    def _named_functions(self) -> dict[str, list[Function]]:
        table: dict[str, list[Function]] = defaultdict(list)
        for node in self.nodes(cst.FunctionDef):
            if not isinstance(self.tree.parents.get(self.tree.parents[node]), cst.ClassDef):
                table[node.name.value].append(node)
        return table

    def targets(self, call: cst.Call) -> Sequence[Function]:
        """The file's functions that a call may run, as far as names tell."""
        name = call_name(call)
        if name is None:
            return ()
        if _is_plain(call):
            return self._named_functions.get(name, ())
        if dotted(call.func) != f"self.{name}" and name in _COMMON_METHODS:
            definition = self.class_of(method_call(call)[0]) if method_call(call) else None  # type: ignore[index]
            return [
                f
                for f in self._methods.get(name, ())
                if definition is not None and class_of(f, self.tree) is definition
            ]
        return self._methods.get(name, ())

    @cached_property
    def call_sites(self) -> dict[Function, list[cst.Call]]:
        """The calls of each function."""
        sites: dict[Function, list[cst.Call]] = {}
        for name, functions in self._named_functions.items():
            calls = [call for call in self._calls.get(name, ()) if _is_plain(call)]
            sites.update((function, calls) for function in functions if calls)
        for name, functions in self._methods.items():
            if name not in _COMMON_METHODS:  # those ask for constructions, which ask for call sites
                calls = [call for call in self._calls.get(name, ()) if not _is_plain(call)]
                sites.update((function, calls) for function in functions if calls)
        return sites


def _is_plain(call: cst.Call) -> bool:
    """True for the call of a name, which no method has."""
    return isinstance(call.func, cst.Name) and not call.func.value.startswith("self.")


def _parameter_names(function: Function) -> set[str]:
    return {param.name.value for param in parameters(function)}


def _wrapped(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    if isinstance(value, cst.Call):
        used = method_call(value)
        if used is not None and used[1] in _KEEPS_MODULE:
            yield used[0]
        if call_name(value) in _WRAPPERS and (inner := arguments(value).get(0, "module")) is not None:
            yield inner
