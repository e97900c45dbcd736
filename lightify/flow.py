"""Variables, the frames they live in, and liveness on the structured tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import libcst as cst

from lightify.query import MODULE_SELF, block, children, class_test, target_names

_Function = cst.FunctionDef | cst.Lambda
_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)


@dataclass(eq=False)
class Variable:
    """A name of one frame; two frames may have variables of the same name."""

    name: str
    frame: Frame

    def __repr__(self) -> str:
        return f"{self.frame.name or '<module>'}.{self.name}"


@dataclass(eq=False)
class Field(Variable):
    """A field of an object that a variable holds."""

    owner: Variable

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
        aliases: parameters that stand for a variable or an expression of the caller.
        usages: what statements do here, as far as it was asked.
    """

    name: str
    function: cst.FunctionDef | None = None
    outer: Frame | None = None
    aliases: dict[str, Variable | Expression] = field(default_factory=dict)
    usages: dict[cst.CSTNode, Usage] = field(default_factory=dict, repr=False)
    _own: dict[str, Variable] = field(default_factory=dict)
    _base: Frame | None = None

    def resolve(self, name: str) -> Variable | Expression:
        """What a name means here; `self.x` is a variable of the object that self stands for."""
        if "." in name:
            owner = self.resolve(name.partition(".")[0])
            if isinstance(owner, Variable):
                return owner.frame.field(owner, name.partition(".")[2])
            return Expression(cst.Attribute(owner.node, cst.Name(name.partition(".")[2])), owner.frame)
        if self.function is not None and name not in local_names(self.function):
            assert self.outer is not None
            return self.outer.resolve(name)
        if name in self.aliases:
            return self.aliases[name]
        if name not in self._own:
            self._own[name] = Variable(name, self._base or self)
        return self._own[name]

    def with_fixed(self, name: str, value: cst.BaseExpression) -> Frame:
        """The same frame in one pass of a loop that is unrolled: one name has a known value."""
        aliases = {**self.aliases, name: Expression(value, self)}
        return Frame(self.name, self.function, self.outer, aliases, _own=self._own, _base=self._base or self)

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


def parameters(function: _Function) -> list[cst.Param]:
    """All parameters, `*args` and `**kwargs` included."""
    params = function.params
    extra = [p for p in (params.star_arg, params.star_kwarg) if isinstance(p, cst.Param)]
    return [*params.posonly_params, *params.params, *params.kwonly_params, *extra]


@lru_cache(maxsize=4096)
def local_names(function: _Function) -> frozenset[str]:
    """Names that belong to a function: its parameters and what its body binds, without `global` and `nonlocal`."""
    names = {param.name.value for param in parameters(function)}
    if isinstance(function, cst.FunctionDef):
        names |= bound_names(block(function.body))
        names -= declared_elsewhere(function)
    return frozenset(names)


@lru_cache(maxsize=4096)
def declared_elsewhere(function: cst.FunctionDef) -> frozenset[str]:
    """Names that a function declares `global` or `nonlocal`."""
    names: set[str] = set()
    for node in same_scope(block(function.body)):
        if isinstance(node, (cst.Global, cst.Nonlocal)):
            names |= {item.name.value for item in node.names}
    return frozenset(names)


_is_scope = class_test(cst.FunctionDef, cst.ClassDef, cst.Lambda)
_may_bind = class_test(
    *(cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.Del, cst.AsName, cst.FunctionDef),
    *(cst.ClassDef, cst.ImportAlias, cst.MatchAs, cst.MatchStar),
)
_reads_specially = class_test(
    *(cst.Name, cst.Attribute, cst.Arg, cst.FunctionDef, cst.ClassDef, cst.Lambda, *_COMPREHENSIONS, cst.CompFor),
    *(cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal),
    *(cst.AssignTarget, cst.AnnAssign, cst.For, cst.AsName, cst.NamedExpr, cst.Del),
)


def same_scope(nodes: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    stack = list(reversed(list(nodes)))
    while stack:
        node = stack.pop()
        yield node
        if not _is_scope(node.__class__):
            stack += reversed(children(node))


def bound_names(nodes: Iterable[cst.CSTNode]) -> set[str]:
    """Names that statements bind in their own scope."""
    return {name for node in same_scope(nodes) for name in bound_by(node)}


def bound_by(node: cst.CSTNode) -> Iterable[str]:
    """Names that a node itself binds, not those below it."""
    if not _may_bind(node.__class__):
        return ()
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.NamedExpr, cst.Del)):
        return target_names(node.target)
    if isinstance(node, cst.AsName):
        return target_names(node.name)
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        return (node.name.value,)
    if isinstance(node, cst.ImportAlias) and node.asname is None:
        root: cst.CSTNode = node.name
        while isinstance(root, cst.Attribute):
            root = root.value
        return target_names(root)
    if isinstance(node, (cst.MatchAs, cst.MatchStar)) and node.name is not None:
        return (node.name.value,)
    return ()


@lru_cache(maxsize=4096)
def free_names(function: cst.FunctionDef | cst.Lambda | cst.ClassDef) -> frozenset[str]:
    """Names that a nested function or class reads or declares from outside (defaults and decorators not counted)."""
    if isinstance(function, cst.ClassDef):
        own: frozenset[str] = frozenset()
        body: Iterable[cst.CSTNode] = block(function.body)
    else:
        own = local_names(function)
        body = block(function.body) if isinstance(function, cst.FunctionDef) else (function.body,)
    names: set[str] = set()
    for node in body:
        names.update(read_names(node))
    if isinstance(function, cst.FunctionDef):
        names |= declared_elsewhere(function)
    return frozenset(names - own)


def read_names(node: cst.CSTNode) -> set[str]:
    """Names read anywhere in a node, seen from the scope around it."""
    names: set[str] = set()
    _collect_reads(node, frozenset(), names)
    return names


def _collect_reads(node: cst.CSTNode, hidden: frozenset[str], names: set[str]) -> None:
    if not _reads_specially(node.__class__):
        for child in children(node):
            _collect_reads(child, hidden, names)
    elif isinstance(node, cst.Name):
        if node.value not in hidden and node.value != MODULE_SELF:
            names.add(node.value)
    elif isinstance(node, (cst.Attribute, cst.Arg)):
        _collect_reads(node.value, hidden, names)
    elif isinstance(node, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
        names |= free_names(node) - hidden
        for outside in _evaluated_outside(node):
            _collect_reads(outside, hidden, names)
    elif isinstance(node, _COMPREHENSIONS):
        inner = hidden | _comprehension_names(node)
        for child in children(node):
            _collect_reads(child, inner, names)
    elif isinstance(node, (cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal)):
        return
    elif isinstance(node, (cst.AssignTarget, cst.AnnAssign, cst.For, cst.AsName, cst.NamedExpr, cst.Del, cst.CompFor)):
        for child in children(node):
            if child is _target_of(node):
                _collect_target_reads(child, hidden, names)
            else:
                _collect_reads(child, hidden, names)


def _target_of(node: cst.CSTNode) -> cst.CSTNode | None:
    return node.name if isinstance(node, cst.AsName) else getattr(node, "target", None)


def _collect_target_reads(target: cst.CSTNode, hidden: frozenset[str], names: set[str]) -> None:
    if isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            _collect_target_reads(element.value, hidden, names)
    elif isinstance(target, cst.StarredElement):
        _collect_target_reads(target.value, hidden, names)
    elif not isinstance(target, cst.Name):
        _collect_reads(target, hidden, names)


def _comprehension_names(node: cst.CSTNode) -> frozenset[str]:
    names: set[str] = set()
    part = node.for_in  # type: ignore[attr-defined]
    while part is not None:
        names.update(target_names(part.target))
        part = part.inner_for_in
    return frozenset(names)


def _evaluated_outside(node: cst.FunctionDef | cst.Lambda | cst.ClassDef) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.ClassDef):
        yield from (*node.bases, *node.keywords, *node.decorators)
        return
    for param in parameters(node):
        if param.default is not None:
            yield param.default
        if param.annotation is not None:
            yield param.annotation
    if isinstance(node, cst.FunctionDef):
        yield from node.decorators
        if node.returns is not None:
            yield node.returns


_UNKNOWN = object()


def fixed_value(node: cst.BaseExpression, frame: Frame) -> object:
    """The value of an expression that the call or the unrolled loop fixes; `_UNKNOWN` when it does not."""
    if isinstance(node, cst.Name):
        if node.value in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[node.value]
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


def usage(steps: Sequence[Step]) -> Usage:
    """Reads and writes of steps that run one after the other."""
    total = Usage()
    for step in steps:
        if isinstance(step, Binding):
            _read(total, step.value, step.value_frame)
            _write_target(total, step.target, step.target_frame)
        else:
            total += _statement(step.node, step.frame)
    return total


def expression_usage(node: cst.CSTNode, frame: Frame) -> Usage:
    total = Usage()
    _read(total, node, frame)
    return total


def _block(nodes: Iterable[cst.BaseStatement], frame: Frame) -> Usage:
    total = Usage()
    for node in nodes:
        total += _statement(node, frame)
    return total


def _name_read(total: Usage, name: str, frame: Frame) -> None:
    meaning = frame.resolve(name)
    if isinstance(meaning, Expression):
        _read(total, meaning.node, meaning.frame)
        return
    total.reads.add(meaning)
    if total.must is not None and meaning not in total.must:
        total.exposed.add(meaning)


def _name_write(total: Usage, name: str, frame: Frame) -> None:
    variable = frame.variable(name)
    total.writes.add(variable)
    if total.must is not None:
        total.must.add(variable)


def _read(total: Usage, node: cst.CSTNode, frame: Frame) -> None:
    names, walrus = _expression_names(node)
    for name in names:
        _name_read(total, name, frame)
    for name in walrus:
        _name_write(total, name, frame)


@lru_cache(maxsize=16384)
def _expression_names(node: cst.CSTNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that an expression reads, and those that its `:=` bind."""
    bound = (target_names(part.target) for part in same_scope([node]) if isinstance(part, cst.NamedExpr))
    return tuple(sorted(read_names(node))), tuple(name for names in bound for name in names)


def _write_target(total: Usage, target: cst.CSTNode, frame: Frame) -> None:
    names: set[str] = set()
    _collect_target_reads(target, frozenset(), names)
    for name in sorted(names):
        _name_read(total, name, frame)
    for name in target_names(target):
        _name_write(total, name, frame)


def _branches(total: Usage, branches: Sequence[Usage]) -> None:
    before = total.must
    ends: list[set[Variable]] = []
    for branch in branches:
        if before is not None:
            total.exposed |= branch.exposed - before
        total.reads |= branch.reads
        total.writes |= branch.writes
        if branch.must is not None:
            ends.append(branch.must)
    if before is not None:
        total.must = before | set.intersection(*ends) if ends else None


def _statement(node: cst.CSTNode, frame: Frame) -> Usage:
    """What one statement does, computed once in each frame; the result is not to be changed."""
    found = frame.usages.get(node)
    if found is None:
        found = frame.usages[node] = _statement_anew(node, frame)
    return found


def _statement_anew(node: cst.CSTNode, frame: Frame) -> Usage:
    total = Usage()
    if isinstance(node, cst.SimpleStatementLine):
        for small in node.body:
            total += _statement(small, frame)
    elif isinstance(node, cst.Assign):
        _read(total, node.value, frame)
        for target in node.targets:
            _write_target(total, target.target, frame)
    elif isinstance(node, cst.AugAssign):
        for name in target_names(node.target):
            _name_read(total, name, frame)
        _read(total, node.value, frame)
        _write_target(total, node.target, frame)
    elif isinstance(node, cst.AnnAssign):
        if node.value is not None:
            _read(total, node.value, frame)
            _write_target(total, node.target, frame)
    elif isinstance(node, (cst.Return, cst.Raise)):
        for child in children(node):
            _read(total, child, frame)
        total.must = None
    elif isinstance(node, (cst.Break, cst.Continue)):
        total.must = None
    elif isinstance(node, (cst.Import, cst.ImportFrom)):
        for name in bound_names([node]):
            _name_write(total, name, frame)
    elif isinstance(node, cst.Del):
        for name in target_names(node.target):
            _name_read(total, name, frame)
    elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        _read(total, node, frame)
        _name_write(total, node.name.value, frame)
    elif isinstance(node, cst.If) and (truth := constant(node.test, frame)) is not None:
        total += _block(block(node.body), frame) if truth else _orelse(node.orelse, frame)
    elif isinstance(node, cst.If):
        _read(total, node.test, frame)
        other = _orelse(node.orelse, frame)
        _branches(total, [_block(block(node.body), frame), other])
    elif isinstance(node, (cst.For, cst.While)):
        _loop(total, node, frame)
    elif isinstance(node, cst.With):
        for item in node.items:
            _read(total, item.item, frame)
            if item.asname is not None:
                _write_target(total, item.asname.name, frame)
        total += _block(block(node.body), frame)
    elif isinstance(node, (cst.Try, cst.TryStar)):
        _try(total, node, frame)
    elif isinstance(node, cst.Match):
        _read(total, node.subject, frame)
        cases = []
        for case in node.cases:
            inner = Usage()
            for name in sorted(bound_names([case.pattern])):
                _name_write(inner, name, frame)
            inner += _block(block(case.body), frame)
            cases.append(inner)
        _branches(total, [*cases, Usage()])
    elif isinstance(node, (cst.Global, cst.Nonlocal, cst.Pass)):
        pass
    else:
        _read(total, node, frame)
    return total


def _orelse(node: cst.CSTNode | None, frame: Frame) -> Usage:
    if node is None:
        return Usage()
    if isinstance(node, cst.If):
        return _statement(node, frame)
    return _block(block(node.body), frame)  # type: ignore[attr-defined]


def _loop(total: Usage, node: cst.For | cst.While, frame: Frame) -> None:
    body = Usage()
    if isinstance(node, cst.For):
        _read(total, node.iter, frame)
        _write_target(body, node.target, frame)
    else:
        _read(total, node.test, frame)
    body += _block(block(node.body), frame)
    before = set(total.must) if total.must is not None else None
    endless = isinstance(node, cst.While) and isinstance(node.test, cst.Name) and node.test.value == "True"
    _branches(total, [body])
    total.must = before if not endless or _has_break(node) else None
    if node.orelse is not None:
        total += _block(block(node.orelse.body), frame)


def _has_break(loop: cst.CSTNode) -> bool:
    return any(isinstance(node, cst.Break) for node in own_exits(loop))


def own_exits(loop: cst.CSTNode) -> Iterator[cst.Break | cst.Continue | cst.Return]:
    """`break` and `continue` that belong to a loop, and every `return` in its body."""
    stack: list[tuple[cst.CSTNode, bool]] = [(node, True) for node in block(loop.body)]  # type: ignore[attr-defined]
    while stack:
        node, own = stack.pop()
        if isinstance(node, cst.Return) or (own and isinstance(node, (cst.Break, cst.Continue))):
            yield node
        if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            continue
        if isinstance(node, (cst.For, cst.While)):
            stack.extend((child, False) for child in block(node.body))
            if node.orelse is not None:
                stack.extend((child, own) for child in block(node.orelse.body))
            continue
        stack.extend((child, own) for child in children(node))


def exits_of(node: cst.CSTNode) -> Iterator[cst.Break | cst.Continue | cst.Return]:
    """Exits of a statement that leave the loop around it."""
    wrapper = cst.While(test=cst.Name("True"), body=cst.IndentedBlock([node]))  # type: ignore[list-item]
    return own_exits(wrapper)


def _try(total: Usage, node: cst.Try | cst.TryStar, frame: Frame) -> None:
    body = _block(block(node.body), frame)
    if node.orelse is not None:
        body += _block(block(node.orelse.body), frame)
    handlers = []
    for handler in node.handlers:
        inner = Usage()
        if handler.type is not None:
            _read(inner, handler.type, frame)
        if handler.name is not None:
            for name in target_names(handler.name.name):
                _name_write(inner, name, frame)
        inner += _block(block(handler.body), frame)
        handlers.append(inner)
    _branches(total, [body, *handlers])
    if node.finalbody is not None:
        total += _block(block(node.finalbody.body), frame)
