"""Frames of names: what a name means in one run of a function, and the steps that run in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

import libcst as cst

from lightify.syntax.names import local_names
from lightify.syntax.query import children


@dataclass(eq=False)
class Variable:
    """A name of one frame; two frames may have variables of the same name."""

    name: str
    frame: Frame

    @property
    def path(self) -> str:
        """How its frame writes it: `x`, `config.x` for another file's, or `agent.x` for a field."""
        return self.frame.written.get(self.name, self.name)

    @property
    def order(self) -> tuple[str, str, int]:
        """Sorts variables by name, and the same name in the order in which the script was read."""
        return self.name, self.path, self.frame.number

    def __repr__(self) -> str:
        return f"{self.frame.name or '<module>'}.{self.name}"


@dataclass(eq=False)
class Field(Variable):
    """A field of an object that a variable holds."""

    owner: Variable

    @property
    def path(self) -> str:
        return f"{self.owner.path}.{self.name}"

    def __repr__(self) -> str:
        return f"{self.owner}.{self.name}"


@dataclass(frozen=True, eq=False)
class Expression:
    """What a parameter stands for in the caller: an expression and the frame that it is read in."""

    node: cst.BaseExpression
    frame: Frame


@dataclass(eq=False)
class Frame:
    """One activation of a function, or the module (`function` is None).

    Attributes:
        outer: the frame that free names are looked up in.
        aliases: parameters that stand for a variable or an expression of the caller, and names that are made up.
        given: parameters that stand for an object, which is there: never None.
        usages: what statements do here, as far as it was asked.
        written: names of other files to how the text writes them, where that has dots.
        number: frames that were opened earlier have smaller ones.
    """

    name: str
    function: cst.FunctionDef | None = None
    outer: Frame | None = None
    aliases: dict[str, Variable | Expression] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    usages: dict[cst.CSTNode, Usage] = field(default_factory=dict, repr=False)
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    number: int = field(default_factory=count().__next__, repr=False)
    _own: dict[str, Variable] = field(default_factory=dict)
    _base: Frame | None = None

    def resolve(self, name: str) -> Variable | Expression:
        """What a name means here; `self.x` is a variable of the object that self stands for."""
        if "." in name:
            owner = self.resolve(name.partition(".")[0])
            if isinstance(owner, Variable):
                return owner.frame.field(owner, name.partition(".")[2])
            return Expression(cst.Attribute(owner.node, cst.Name(name.partition(".")[2])), owner.frame)
        if name in self.aliases:
            return self.aliases[name]
        if self.function is not None and name not in local_names(self.function):
            assert self.outer is not None
            return self.outer.resolve(name)
        if name not in self._own:
            self._own[name] = Variable(name, self._base or self)
        return self._own[name]

    def meaning(self, name: str) -> Variable | Expression:
        """What a name means in the end, through parameters that stand for other names."""
        found = self.resolve(name)
        while isinstance(found, Expression) and isinstance(found.node, cst.Name):
            found = found.frame.resolve(found.node.value)
        return found

    def with_fixed(self, name: str, value: cst.BaseExpression) -> Frame:
        """The same frame in one pass of a loop that is unrolled: one name has a known value."""
        aliases = {**self.aliases, name: Expression(value, self)}
        return Frame(
            self.name, self.function, self.outer, aliases, self.given, _own=self._own, _base=self._base or self
        )

    def with_own(self, names: Iterable[str]) -> Frame:
        """The same frame for code in which these names are others."""
        apart = Frame(self.name, self.function, self.outer, {}, self.given, _own=self._own, _base=self._base or self)
        apart.aliases.update({**self.aliases, **{name: Variable(name, apart) for name in names}})
        return apart

    def stand_for(self, name: str, meaning: Variable | Expression) -> None:
        """Makes a name stand for something of the caller's."""
        self.aliases[name] = meaning
        self.usages.clear()

    def known_field(self, owner: Variable, name: str) -> Variable | None:
        """The variable for a field of an object, if the field was met already."""
        return self._own.get(f"{owner.name}.{name}")

    def variable(self, name: str) -> Variable:
        """The variable behind a name that is assigned here (never an expression)."""
        meaning = self.resolve(name)
        assert isinstance(meaning, Variable), name
        return meaning

    def field(self, owner: Variable, name: str) -> Field:
        """The variable for a field of an object."""
        key = f"{owner.name}.{name}"
        if key not in self._own:
            self._own[key] = Field(name, self._base or self, owner)
        return self._own[key]  # type: ignore[return-value]

    @property
    def outermost(self) -> Frame:
        """The module's frame, in which all names are looked up last."""
        return self if self.outer is None else self.outer.outermost

    @property
    def is_module(self) -> bool:
        return self.function is None


@dataclass(frozen=True, eq=False)
class Item:
    """A statement as it runs in a frame."""

    node: cst.BaseStatement
    frame: Frame


@dataclass(frozen=True, eq=False)
class Binding:
    """`target = value` across frames: a parameter that gets its argument, a result that is returned."""

    target: cst.BaseExpression
    target_frame: Frame
    value: cst.BaseExpression
    value_frame: Frame
    origin: cst.CSTNode  # the statement that it comes from


Step = Item | Binding


_UNKNOWN = object()
_OBJECT = object()


def fixed_value(node: cst.BaseExpression, frame: Frame) -> object:
    """The value of an expression that the call or the unrolled loop fixes; `_UNKNOWN` when it does not."""
    if isinstance(node, cst.Name):
        if node.value in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[node.value]
        if node.value in frame.given:
            return _OBJECT
        meaning = frame.resolve(node.value) if frame.aliases or frame.outer is not None else None
        return fixed_value(meaning.node, meaning.frame) if isinstance(meaning, Expression) else _UNKNOWN
    if isinstance(node, (cst.Integer, cst.SimpleString)):
        return node.evaluated_value
    if isinstance(node, (cst.List, cst.Tuple)):
        values = [fixed_value(element.value, frame) for element in node.elements]
        return _UNKNOWN if any(value is _UNKNOWN for value in values) else tuple(values)
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Not):
        value = fixed_value(node.expression, frame)
        return value if value is _UNKNOWN else not value
    if isinstance(node, cst.BooleanOperation):
        left, right = fixed_value(node.left, frame), fixed_value(node.right, frame)
        decides = isinstance(node.operator, cst.Or)
        if left is not _UNKNOWN and bool(left) is decides:
            return left
        return right if left is not _UNKNOWN else _UNKNOWN
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        left, right = fixed_value(node.left, frame), fixed_value(node.comparisons[0].comparator, frame)
        if left is _UNKNOWN or right is _UNKNOWN:
            return _UNKNOWN
        operator = node.comparisons[0].operator
        if isinstance(operator, (cst.Equal, cst.NotEqual)):
            return (left == right) is isinstance(operator, cst.Equal)
        if isinstance(operator, (cst.Is, cst.IsNot)) and None in (left, right):
            return (left is right) is isinstance(operator, cst.Is)
        if isinstance(operator, (cst.In, cst.NotIn)) and isinstance(right, tuple):
            return (left in right) is isinstance(operator, cst.In)
    return _UNKNOWN


def constant(node: cst.BaseExpression, frame: Frame) -> bool | None:
    """The truth of a test on what the call or the unrolled loop fixes (`if flag:`, `if phase == "train":`)."""
    if not frame.aliases or (isinstance(node, cst.Name) and node.value in ("True", "False")):
        return None
    value = fixed_value(node, frame)
    return None if value is _UNKNOWN else bool(value)


def live_nodes(node: cst.CSTNode, frame: Frame) -> Iterator[cst.CSTNode]:
    """Yields a node and all below it, without the branches that a fixed flag rules out."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        truth = constant(current.test, frame) if isinstance(current, cst.If) else None
        if truth is None:
            stack.extend(reversed(list(children(current))))
        else:
            branch = current.body if truth else current.orelse  # type: ignore[attr-defined]
            if branch is not None:
                stack.append(branch)


@dataclass
class Usage:
    """What a stretch of code does with variables.

    Attributes:
        exposed: read before it is surely assigned here.
        reads, writes: read, assigned anywhere here.
        must: surely assigned at the end; None when the end is never reached.
    """

    exposed: set[Variable] = field(default_factory=set)
    reads: set[Variable] = field(default_factory=set)
    writes: set[Variable] = field(default_factory=set)
    must: set[Variable] | None = field(default_factory=set)

    def __iadd__(self, other: Usage) -> Usage:
        """Appends what runs after this."""
        if self.must is not None:
            self.exposed |= other.exposed - self.must
            self.must = None if other.must is None else self.must | other.must
        self.reads |= other.reads
        self.writes |= other.writes
        return self
