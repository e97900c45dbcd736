"""What variables hold, aliases of opened calls included."""

from __future__ import annotations

from functools import cached_property

import libcst as cst

from lightify.analysis.analyze import owner_of
from lightify.analysis.calls import class_of, class_of_object, family_of
from lightify.facts import Analysis, Kind, Scope
from lightify.loops.nest import Nest
from lightify.recognisers.base import is_module_class
from lightify.syntax.flow import usage
from lightify.syntax.frames import Expression, Field, Frame, Variable
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted


class Kinds:
    """Answers what a variable or an expression holds."""

    def __init__(self, nest: Nest, analysis: Analysis, tree: Tree) -> None:
        self._kinds = analysis.kinds
        self._sure = analysis.sure
        self.tree = tree
        self._nest = nest
        self.host_loop = nest.host_loop
        self._named = analysis.named
        self._keys: dict[Variable, list[tuple[Scope, str]]] = {}
        for opened in nest.opened:
            for name in opened.frame.aliases:
                variable = opened.frame.resolve(name)
                while isinstance(variable, Expression):
                    key = dotted(variable.node)
                    if key is None:
                        break
                    variable = variable.frame.resolve(key)
                else:
                    self._keys.setdefault(variable, []).append((opened.function, name))

    @cached_property
    def assigned_in_loops(self) -> set[Variable]:
        """What the loops themselves assign."""
        return usage((*self._nest.epoch_start, *self._nest.body, *self._nest.epoch_end)).writes

    def _class_of(self, owner: Variable) -> cst.ClassDef | None:
        """The script's class that the object in a variable is of."""
        function = owner.frame.function
        if owner.name == "self":
            return class_of(function, self.tree) if function is not None else None
        return class_of_object(cst.Name(owner.name), self.tree, function)

    def _lookup(self, variable: Variable) -> list[tuple[Scope, str]]:
        keys = list(self._keys.get(variable, ()))
        if isinstance(variable, Field):
            around = self._class_of(variable.owner)
            family = family_of(around, self.tree) if around is not None else ()
            keys[:0] = [(definition, f"self.{variable.name}") for definition in family]
        else:
            keys.insert(0, (variable.frame.function, variable.name))
        return keys

    def of(self, variable: Variable) -> Kind | None:
        """The kind of a variable, by its own construction and use or by that of its parameters."""
        found = [kind for key in self._lookup(variable) if (kind := self._kinds.get(key)) is not None]
        for kind in (Kind.SCALER, Kind.SCHEDULER, Kind.OPTIMIZER):
            if kind in found:
                return kind
        return found[0] if found else None

    def in_scope(self, name: str | None, scope: Scope) -> Kind | None:
        """The kind of a name in a function, or of a global; fields of `self` are told by their class."""
        function = scope if isinstance(scope, cst.FunctionDef) else None
        around = class_of(function, self.tree) if function is not None and (name or "").startswith("self.") else None
        scopes = family_of(around, self.tree) if around is not None else (scope, None)
        return next((kind for one in scopes if (kind := self._kinds.get((one, name or ""))) is not None), None)

    def built_here(self, variable: Variable) -> bool:
        """True when the construction of what the variable holds is in sight."""
        return any(key in self._sure for key in self._lookup(variable))

    def is_loss(self, variable: Variable) -> bool:
        """True for a criterion of torch.nn, whose result does not depend on its mode."""
        values = self.values(variable)
        return bool(values) and all(self._makes_loss(value) for value in values)

    def _makes_loss(self, value: cst.BaseExpression) -> bool:
        name = self.tree.qualified(_innermost(value)) or ""
        return name.startswith("torch.nn.") and name.endswith("Loss")

    @cached_property
    def networks(self) -> frozenset[str]:
        """What the script calls its networks, their layers and criteria of torch.nn apart."""
        losses = {
            fact.name for fact in self._named if isinstance(fact.node, cst.Assign) and self._makes_loss(fact.node.value)
        }
        modules = (scope_name for scope_name, kind in self._kinds.items() if kind is Kind.MODULE)
        return frozenset(
            name
            for scope, name in modules
            if name not in losses and not (isinstance(scope, cst.ClassDef) and is_module_class(scope, self.tree))
        )

    def values(self, variable: Variable) -> list[cst.BaseExpression]:
        """What is assigned to the variable where that makes something known."""
        keys = self._lookup(variable)
        facts = [fact for fact in self._named if (owner_of(fact, self.tree), fact.name) in keys]
        return [fact.node.value for fact in facts if isinstance(fact.node, cst.Assign)]

    def variable(self, node: cst.CSTNode | None, frame: Frame) -> Variable | None:
        """The variable that a name stands for, through parameters."""
        if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
            owner = self.variable(node.value, frame)
            if owner is not None and (self.of(owner) is None):
                return owner.frame.known_field(owner, node.attr.value)
            return None
        if not isinstance(node, cst.Name):
            return None
        meaning = frame.resolve(node.value)
        while isinstance(meaning, Expression):
            if not isinstance(meaning.node, cst.Name):
                return None
            meaning = meaning.frame.resolve(meaning.node.value)
        return meaning

    def kind(self, node: cst.CSTNode | None, frame: Frame) -> Kind | None:
        variable = self.variable(node, frame)
        return self.of(variable) if variable is not None else None


def _innermost(value: cst.BaseExpression) -> cst.BaseExpression | None:
    """`nn.MSELoss` for `nn.MSELoss().to(device)`."""
    while (
        isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and isinstance(value.func.value, cst.Call)
    ):
        value = value.func.value
    return value.func if isinstance(value, cst.Call) else None
