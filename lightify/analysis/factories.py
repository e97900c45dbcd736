"""What the script's functions return, by kind: a function that makes the loaders is as good as their construction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import libcst as cst

from lightify.analysis.calls import class_of_object, family_of
from lightify.analysis.handed import only_site
from lightify.facts import Kind, Named, Scope
from lightify.recognisers import kind_of_value
from lightify.syntax.names import local_names, parameters, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import IN_PLACE, arguments, block, dotted, method_call, name_node

Kinds = Mapping[tuple[Scope, str], Kind]


class Factories:
    """Reads calls of the script's own functions and methods as what they return."""

    def __init__(self, kinds: Kinds, tree: Tree) -> None:
        self.kinds = kinds
        self.tree = tree
        self.returned: dict[cst.FunctionDef, tuple[Kind | None, ...]] = {}

    def made(self) -> Iterator[Named]:
        """The names that hold what a function made, and those that a collection was handed on to."""
        for node in self.tree.spans:
            if isinstance(node, cst.Assign) and len(node.targets) == 1:
                if isinstance(node.value, cst.Call):
                    yield from self._bound(node, node.targets[0].target, node.value)
                else:
                    yield from self._renamed(node, node.targets[0].target, node.value)
        for call in self.tree.nodes(cst.Call):
            yield from self._handed(call)

    def _renamed(self, node: cst.Assign, target: cst.BaseExpression, value: cst.BaseExpression) -> Iterator[Named]:
        """What another name gives a collection, alone or in `a, b = c, d`, and a loader in `a, b = get(c), get(d)`."""
        if isinstance(target, (cst.Tuple, cst.List)) and isinstance(value, (cst.Tuple, cst.List)):
            for inner, part in zip(target.elements, value.elements):
                yield from self._renamed(node, inner.value, part.value)
        scope, name = self._scope(node), dotted(target)
        kind = self._kind(value, scope) if name is not None else None
        if name is not None and (kind is Kind.COLLECTION or (kind is Kind.LOADER and isinstance(value, cst.Call))):
            yield Named(scope, name, kind, node, sure=True)

    def _handed(self, call: cst.Call) -> Iterator[Named]:
        """What a call hands to a function or class of the script."""
        name = dotted(call.func) or ""
        made = self.tree.classes.get(name)
        function = self._method(made, "__init__") if made is not None else self._called(call, name)
        if function is None or not call.args:
            return
        names = [param.name.value for param in parameters(function)]
        first = int(made is not None or "." in name)
        given = arguments(call)
        pairs = [*zip(names[first:], given.positional), *given.keyword.items()]
        for param, value in pairs if not given.starred else ():
            kind = self._kind(value, self._scope(call)) if param in names else None
            alone = kind in (Kind.NAMESPACE, Kind.LOADER) and only_site(function, self.tree) is call
            if kind is not None and (kind is Kind.COLLECTION or alone):
                yield Named(function, param, kind, function, sure=True)

    def _scope(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        return self.tree.around(node, cst.FunctionDef)

    def _bound(self, node: cst.Assign, target: cst.BaseExpression, value: cst.Call) -> Iterator[Named]:
        scope = self._scope(node)
        targets = [e.value for e in target.elements] if isinstance(target, (cst.Tuple, cst.List)) else [target]
        if len(targets) == 1 and kind_of_value(value, self.tree) is None:
            found: tuple[Kind | None, ...] = (self._kind(value, scope),)
        else:
            found = self._results(value)
        if len(found) != len(targets):
            return
        for part, kind in zip(targets, found):
            name = dotted(part)
            if name is not None and kind is not None:
                yield Named(scope, name, kind, node, sure=True)

    def _kind(self, value: cst.BaseExpression, scope: Scope, depth: int = 0) -> Kind | None:
        """What an expression holds."""
        name = dotted(value)
        if name is not None:
            local = isinstance(scope, cst.FunctionDef) and name.partition(".")[0] in local_names(scope)
            return self.kinds.get((scope if local else None, name))
        known = kind_of_value(value, self.tree)
        if known is not None or not isinstance(value, cst.Call):
            return known
        used = method_call(value)
        if used is not None and used[1] in IN_PLACE:
            kind = self._kind(used[0], scope, depth)
            return kind if kind is Kind.MODULE else None
        results = self._results(value, depth)
        return results[0] if len(results) == 1 else None

    def _results(self, call: cst.Call, depth: int = 0) -> tuple[Kind | None, ...]:
        """What a call of the script's own function returns, element by element."""
        name = dotted(call.func) or ""
        function = self._called(call, name)
        if function is None or depth > 4 or function.asynchronous is not None:
            return ()
        if function not in self.returned:
            self.returned[function] = ()  # until it is known: it may call itself
            self.returned[function] = self._returned(function, depth)
        return self.returned[function]

    def _returned(self, function: cst.FunctionDef, depth: int) -> tuple[Kind | None, ...]:
        found: set[tuple[Kind | None, ...]] = set()
        for node in same_scope(block(function.body)):
            if isinstance(node, (cst.Yield, cst.Await)):
                return ()
            if isinstance(node, cst.Return):
                values = [e.value for e in node.value.elements] if isinstance(node.value, cst.Tuple) else [node.value]
                found.add(tuple(self._kind(v, function, depth + 1) if v is not None else None for v in values))
        return found.pop() if len(found) == 1 else ()

    def _called(self, call: cst.Call, name: str) -> cst.FunctionDef | None:
        """The script's own function or method that a call runs."""
        if "." not in name:
            return self.tree.functions.get(name)
        head, _, method = name.rpartition(".")
        around = self.tree.around(call, cst.ClassDef)
        definition = around if head == "self" else class_of_object(name_node(head), self.tree)
        return self._method(definition, method)

    def _method(self, definition: cst.ClassDef | None, method: str) -> cst.FunctionDef | None:
        family = family_of(definition, self.tree) if definition is not None else ()
        methods = (m for one in family for m in block(one.body) if isinstance(m, cst.FunctionDef))
        return next((m for m in methods if m.name.value == method), None)
