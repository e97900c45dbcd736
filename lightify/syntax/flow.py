"""What code reads and assigns: liveness on the structured tree, and the ways out of a loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import libcst as cst

from lightify.syntax.frames import Binding, Expression, Frame, Step, Usage, Variable, constant
from lightify.syntax.names import bound_names, collect_target_reads, read_names, same_scope
from lightify.syntax.query import assigned_pairs, block, children, class_test, small, target_names, walk


def usage(steps: Sequence[Step]) -> Usage:
    """Reads and writes of steps that run one after the other."""
    total = Usage()
    for step in steps:
        if isinstance(step, Binding):
            _read(total, step.value, step.value_frame)
            for target, value in assigned_pairs(step.target, step.value):
                if not _is_itself(target, value, step):
                    _write_target(total, target, step.target_frame)
        else:
            total += _statement(step.node, step.frame)
    return total


def _is_itself(target: cst.CSTNode, value: cst.CSTNode, step: Binding) -> bool:
    """True where a name gets what it holds: `net, optimizer = train(net, optimizer)`, which gives both back."""
    if not isinstance(target, cst.Name) or not isinstance(value, cst.Name):
        return False
    meaning = step.value_frame.resolve(value.value)
    return isinstance(meaning, Variable) and meaning is step.target_frame.resolve(target.value)


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
    names, walrus, sometimes = _expression_names(node)
    for name in names:
        _name_read(total, name, frame)
    for name in walrus:
        _name_write(total, name, frame)
    total.writes.update(frame.variable(name) for name in sometimes)


@lru_cache(maxsize=16384)
def _expression_names(node: cst.CSTNode) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names that an expression reads, those that its `:=` bind, and those that they bind on some ways through it."""
    bound: list[str] = []
    sometimes: list[str] = []
    for part in same_scope([node]):
        if isinstance(part, cst.NamedExpr):
            bound += target_names(part.target)
        for inner in _optional(part):
            found = (target_names(part.target) for part in same_scope([inner]) if isinstance(part, cst.NamedExpr))
            sometimes += [name for names in found for name in names]
    names = sorted(read_names(node) - {"None", "True", "False"})
    return tuple(names), tuple(name for name in bound if name not in sometimes), tuple(sometimes)


def _optional(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """The parts of an expression that are not always evaluated."""
    if isinstance(node, cst.BooleanOperation):
        return (node.right,)
    if isinstance(node, cst.IfExp):
        return (node.body, node.orelse)
    return (node,) if isinstance(node, (cst.CompFor, cst.BaseComp)) else ()


def _write_target(total: Usage, target: cst.CSTNode, frame: Frame) -> None:
    names: set[str] = set()
    collect_target_reads(target, frozenset(), names)
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
        _match(total, node, frame)
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
    if endless:
        total.must = before if _has_break(node) else None
    elif not _runs_once(node):
        total.must = before
    if node.orelse is not None and _has_break(node):
        left = Usage()  # what is done when `break` leaves the loop, as far as it is sure
        if isinstance(node, cst.For) and isinstance(small(block(node.body)[0]), cst.Break):
            _write_target(left, node.target, frame)
        _branches(total, [left, _block(block(node.orelse.body), frame)])
    elif node.orelse is not None:
        total += _block(block(node.orelse.body), frame)


def _runs_once(loop: cst.For | cst.While) -> bool:
    """True for a loop over values that are written out: what its body sets is set then."""
    given = loop.iter if isinstance(loop, cst.For) else None
    if not isinstance(given, (cst.List, cst.Tuple)) or any(True for _ in own_exits(loop)):
        return False
    return any(isinstance(one, cst.Element) for one in given.elements)


def _has_break(loop: cst.CSTNode) -> bool:
    return any(isinstance(node, cst.Break) for node in own_exits(loop))


_is_expression = class_test(cst.BaseExpression)


def own_exits(loop: cst.CSTNode) -> Iterator[cst.Break | cst.Continue | cst.Return]:
    """`break` and `continue` that belong to a loop, and every `return` in its body."""
    stack: list[tuple[cst.CSTNode, bool]] = [(node, True) for node in block(loop.body)]  # type: ignore[attr-defined]
    while stack:
        node, own = stack.pop()
        if _is_expression(node.__class__):
            continue
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
        final = _block(block(node.finalbody.body), frame)
        if total.must is None:  # it runs on the way out, too
            total.exposed |= final.exposed
        total += final


def _match(total: Usage, node: cst.Match, frame: Frame) -> None:
    _read(total, node.subject, frame)
    cases = []
    for case in node.cases:
        inner = Usage()
        for part in walk(case.pattern):
            if isinstance(part, (cst.MatchValue, cst.MatchClass)):
                _read(inner, part.value if isinstance(part, cst.MatchValue) else part.cls, frame)
        for name in sorted(bound_names([case.pattern])):
            _name_write(inner, name, frame)
        if case.guard is not None:
            _read(inner, case.guard, frame)
        inner += _block(block(case.body), frame)
        cases.append(inner)
    last = node.cases[-1]
    anything = isinstance(last.pattern, cst.MatchAs) and last.pattern.pattern is None and last.guard is None
    _branches(total, cases if anything else [*cases, Usage()])
