"""What variables hold, aliases of opened calls included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property

import libcst as cst

from lightify.analysis.analyze import owner_of
from lightify.analysis.callers import run_by
from lightify.analysis.calls import class_of, class_of_object, family_of
from lightify.analysis.sharing import Sharing
from lightify.facts import Analysis, Kind, Scope
from lightify.loops.nest import Nest
from lightify.recognisers.base import is_criterion, is_module_class
from lightify.syntax.flow import usage
from lightify.syntax.frames import Expression, Field, Frame, Variable
from lightify.syntax.names import assignments, parameters, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import IN_PLACE, FieldName, assigned_pairs, block, dotted, method_call


class Kinds:
    """Answers what a variable or an expression holds."""

    def __init__(self, nest: Nest, analysis: Analysis, tree: Tree) -> None:
        self._kinds = analysis.kinds
        self._sure = analysis.sure
        self.tree = tree
        self._nest = nest
        self.host_loop = nest.host_loop
        self.module = nest.module
        self._analysis = analysis
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

    @cached_property
    def differentiated(self) -> frozenset[str]:
        """Names that `backward()` is called on."""
        return frozenset(filter(None, (dotted(fact.loss) for fact in self._analysis.backwards)))

    @cached_property
    def _sharing(self) -> Sharing:
        return Sharing(self.tree, self._analysis.kinds)

    def shares_weights(self, variable: Variable) -> bool:
        """True for what may be a part of a network, or hold such."""
        return any(self._sharing.holds(scope, name.removeprefix("self.")) for scope, name in self._lookup(variable))

    def _class_of(self, owner: Variable) -> cst.ClassDef | None:
        """The script's class that the object in a variable is of."""
        function = owner.frame.function
        if owner.name == "self":
            return class_of(function, self.tree) if function is not None else None
        known = isinstance(owner, Field)  # as its class writes it
        name = FieldName(f"self.{owner.name}") if known else cst.Name(owner.name)
        return class_of_object(name, self.tree, function)

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

    def others_than(self, networks: Iterable[Variable]) -> bool:
        """True when names hold networks beside some, those of parameters and of networks' own parts apart."""
        known = {key for variable in networks for key in self._lookup(variable)}
        return any(
            kind is Kind.MODULE and (scope, name) not in known and not self._is_part_or_given(scope, name)
            for (scope, name), kind in self._kinds.items()
        )

    def _is_part_or_given(self, scope: Scope, name: str) -> bool:
        """True for a layer of a network, a criterion, a parameter and what a factory makes and returns."""
        if isinstance(scope, cst.ClassDef):
            return is_module_class(scope, self.tree)
        if self._are_losses([(scope, name)]):
            return True
        return scope is not None and (name in [one.name.value for one in parameters(scope)] or _returns(scope, name))

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
        return self._are_losses(self._lookup(variable))

    def _are_losses(self, keys: Sequence[tuple[Scope, str]]) -> bool:
        names = [self.tree.qualified(called) or "" for called in self._made_by(keys)]
        return bool(names) and all(map(is_criterion, names))

    def makers(self, variable: Variable) -> list[cst.BaseExpression | None]:
        """What is called to make what a variable holds; None for what is not known."""
        return self._made_by(self._lookup(variable))

    def _made_by(self, keys: Sequence[tuple[Scope, str]]) -> list[cst.BaseExpression | None]:
        own = {name for _, name in keys}
        made = [(node.value, _place(node, own)) for node in self._bindings(keys) if not _keeps(node.value, own)]
        return [maker for value, place in made for maker in self._makers(value, place)]

    def _makers(
        self, value: cst.CSTNode | None, place: int | None, within: frozenset[cst.FunctionDef] = frozenset()
    ) -> Iterator[cst.BaseExpression | None]:
        """What is called to make a value; a function of the script's own is asked what it returns.

        Args:
            place: which part of the value is meant; None: all of it.
        """
        value, place = _part(value, place)
        call = _innermost(value)
        functions = set(run_by(call, self.tree)) if call is not None else set()
        if call is None or not functions or functions & within:
            yield call.func if call is not None and place is None else None
            return
        for function in functions:
            for node in same_scope(block(function.body)):
                if isinstance(node, cst.Return):
                    part, rest = _part(node.value, place)
                    known = [each.value for each in assignments(function).get(dotted(part) or "", ())]
                    for one in known or [part]:  # type: ignore[list-item]
                        yield from self._makers(one, rest, within | functions)

    def values(self, variable: Variable) -> list[cst.BaseExpression]:
        """What is assigned to the variable where that makes something known."""
        return self._values(self._lookup(variable))

    def _values(self, keys: Sequence[tuple[Scope, str]]) -> list[cst.BaseExpression]:
        return [node.value for node in self._bindings(keys)]

    def _bindings(self, keys: Sequence[tuple[Scope, str]]) -> list[cst.Assign]:
        facts = [fact for fact in self._named if (owner_of(fact, self.tree), fact.name) in keys]
        return [fact.node for fact in facts if isinstance(fact.node, cst.Assign)]

    def assigned(self, variable: Variable) -> Sequence[cst.CSTNode]:
        """What the script assigns to a variable's name, wherever that is."""
        return self._assigned.get(variable.name, ())

    @cached_property
    def _assigned(self) -> Mapping[str, Sequence[cst.CSTNode]]:
        found: dict[str, list[cst.CSTNode]] = defaultdict(list)
        for one in self.tree.nodes(cst.Assign):
            for target, value in (pair for each in one.targets for pair in assigned_pairs(each.target, one.value)):
                if (name := dotted(target)) is not None:
                    found[name].append(value)
        return dict(found)

    def variable(self, node: cst.CSTNode | None, frame: Frame) -> Variable | None:
        """The variable that a name stands for, through parameters."""
        if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
            owner = self.variable(node.value, frame)
            if owner is not None and (self.of(owner) is None):
                return owner.frame.known_field(owner, node.attr.value)
            return None
        meaning = self.meaning(node, frame) if isinstance(node, cst.Name) else None
        return meaning if isinstance(meaning, Variable) else None

    def meaning(self, node: cst.Name, frame: Frame) -> Variable | Expression:
        """The variable that a name stands for, through parameters, or the expression that it is."""
        return frame.meaning(node.value)

    def expression(self, node: cst.BaseExpression, frame: Frame) -> tuple[cst.BaseExpression, Frame]:
        """What a parameter's name stands for, where that is an expression; else what is given."""
        meaning = self.meaning(node, frame) if isinstance(node, cst.Name) else None
        return (meaning.node, meaning.frame) if isinstance(meaning, Expression) else (node, frame)

    def kind(self, node: cst.CSTNode | None, frame: Frame) -> Kind | None:
        variable = self.variable(node, frame)
        return self.of(variable) if variable is not None else None


def _keeps(value: cst.BaseExpression, own: Set[str]) -> bool:
    """True for `net.to(device)`, which leaves a name the object that it has."""
    used = method_call(value)
    return used is not None and used[1] in IN_PLACE and dotted(used[0]) in own


def _place(node: cst.Assign, names: Set[str]) -> int | None:
    """Which part of what is assigned one of the names gets; None: all of it."""
    target = node.targets[0].target
    parts = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
    return next((n for n, part in enumerate(parts) if dotted(part.value) in names), None)


def _part(value: cst.CSTNode | None, place: int | None) -> tuple[cst.CSTNode | None, int | None]:
    """One part of a tuple, and which part of that is meant."""
    if place is None or not isinstance(value, (cst.Tuple, cst.List)):
        return value, place
    return value.elements[place].value if place < len(value.elements) else None, None


def _innermost(value: cst.CSTNode | None) -> cst.Call | None:
    """`nn.MSELoss()` for `nn.MSELoss().to(device)`."""
    while (
        isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and isinstance(value.func.value, cst.Call)
    ):
        value = value.func.value
    return value if isinstance(value, cst.Call) else None


def _returns(function: cst.FunctionDef, name: str) -> bool:
    found = (node for node in same_scope(block(function.body)) if isinstance(node, cst.Return))
    return any(dotted(node.value) == name for node in found)
