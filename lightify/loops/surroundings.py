"""What stands around the run: before and after it in the host, and the functions that stay."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import libcst as cst

from lightify.analysis.changes import bound_by_text, changes_of, may_run
from lightify.analysis.closures import Closure, closures
from lightify.loops.headers import asked_within
from lightify.loops.nest import Nest
from lightify.loops.runs import Loop
from lightify.syntax.flow import exits_of, expression_usage, usage
from lightify.syntax.frames import Frame, Item, Step, Variable
from lightify.syntax.names import declared_elsewhere, free_names, local_names, parameters, read_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, path_node, target_names, walk


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The host without its loop.

    Attributes:
        before, after: statements of the host that run before and after the loop; in an outer loop, both.
        removed: functions whose body moved and that nothing else calls.
        kept_reads: names that the functions and classes which stay read from outside.
        unseen_reads: those of them that what others may call reads: a lambda, a class, a function that is handed on.
        within_reads: what definitions in the host read, and what making them does.
        rebound: names that they bind outside of themselves; with a dot, fields that functions which the run calls bind.
        outermost: the outermost loop of the host that repeats the run, if one does.
        carried: what a run leaves to the next one, which may read it before it sets it anew.
        defined: functions and classes that the host defines before the loop.
    """

    before: tuple[Item, ...]
    after: tuple[Item, ...]
    removed: frozenset[cst.FunctionDef]
    kept_reads: frozenset[str]
    unseen_reads: frozenset[str]
    within_reads: frozenset[str]
    rebound: frozenset[str]
    outermost: Loop | None
    carried: frozenset[Variable]
    defined: frozenset[str]

    @property
    def repeated(self) -> bool:
        """True where the run stands in an outer loop."""
        return self.outermost is not None

    def set_before(self, host: Frame) -> set[Variable]:
        """Variables that the host may have set when the loop is reached."""
        return usage(self.before).writes | self._defined(host) | _given(host)

    def surely_set(self, host: Frame) -> set[Variable]:
        """Variables that the host has set on every path to the loop."""
        return (usage(self.before).must or set()) | self._defined(host) | _given(host)

    def _defined(self, host: Frame) -> set[Variable]:
        return {host.variable(name) for name in self.defined}


def _given(host: Frame) -> set[Variable]:
    return {host.variable(p.name.value) for p in parameters(host.function)} if host.function is not None else set()


def surroundings(
    nest: Nest, tree: Tree, more: tuple[Step, ...] = (), gone: frozenset[cst.CSTNode] = frozenset(), *, methods: bool
) -> Surroundings:
    """Reads the host around the run's loop.

    Args:
        more: steps of the run that stand in none of the nest's parts.
        gone: statements that the result does without.
        methods: those that nothing calls any more go, too.
    """
    before, after, outermost = _around_loop(nest, tree)
    carried = _carried_on(after, nest, more)
    removed = removed_functions((nest,), tree, methods=methods)
    run = (*nest.epoch_start, *nest.body, *nest.epoch_end, *more)
    moved = {node for step in run if isinstance(step, Item) for node in walk(step.node)}
    handed_on = _handed_on(tree)
    reads: set[str] = set()
    unseen: set[str] = set()
    within: set[str] = set()
    rebound: set[str] = set()
    for node in _kept_definitions(nest, tree, moved | gone, removed):
        reads |= free_names(node)
        if not isinstance(node, cst.FunctionDef) or node.name.value in handed_on:
            unseen |= free_names(node)
        if nest.host.is_module or nest.host.function in set(tree.ancestors(node)):
            within |= read_names(node)  # defaults and decorators, too
        if isinstance(node, cst.FunctionDef):
            rebound |= declared_elsewhere(node) | bound_by_text(node)
    if not nest.host.is_module:  # what the script's top level reads of what the run leaves
        top = (node for node in tree.module.body if not isinstance(node, _DEFINITIONS))
        reads |= {name for node in top for name in read_names(node)}
    for part in moved:
        for function in may_run(part, tree) if isinstance(part, (cst.Call, cst.Attribute)) else ():
            rebound |= {f".{field}" for field in changes_of(function, tree).fields}
    return Surroundings(
        before=tuple(item for item in before if _runs(item, gone)),
        after=tuple(item for item in _with_next_run(after, nest, carried) if _runs(item, gone)),
        removed=removed,
        kept_reads=frozenset(reads),
        unseen_reads=frozenset(unseen),
        within_reads=frozenset(within),
        rebound=frozenset(rebound),
        outermost=outermost,
        carried=carried,
        defined=frozenset(item.node.name.value for item in before if isinstance(item.node, _DEFINITIONS)),
    )


_DEFINITIONS = (cst.FunctionDef, cst.ClassDef)


def _around_loop(nest: Nest, tree: Tree) -> tuple[list[Item], list[Item], Loop | None]:
    """What the host runs before the loop and after it, and the outermost loop that repeats it all."""
    before: list[Item] = []
    after: list[Item] = []
    outermost: Loop | None = None
    inner: cst.CSTNode = nest.host_loop
    if isinstance(nest.epoch_loop, cst.While) and asked_within(nest.epoch_loop) is None:
        before.append(Item(cst.SimpleStatementLine([cst.Expr(nest.epoch_loop.test)]), nest.host))
    if nest.host_loop.orelse is not None:  # runs unless a break ends the loop
        after.append(Item(_perhaps(nest.host_loop.orelse.body), nest.host))
    for outer in tree.ancestors(inner):
        if isinstance(outer, (cst.IndentedBlock, cst.Module)):
            body = block(outer)
            index = next(i for i, node in enumerate(body) if node is inner)
            before[:0] = [Item(node, nest.host) for node in body[:index]]
            after.extend(Item(node, nest.host) for node in body[index + 1 :])
        elif isinstance(outer, (cst.Try, cst.TryStar)):
            after = _after_try(outer, inner, after, nest.host)
        if isinstance(outer, cst.FunctionDef):
            break
        if isinstance(outer, (cst.For, cst.While)):
            outermost = outer
            if isinstance(outer, cst.While):
                after.append(Item(cst.SimpleStatementLine([cst.Expr(outer.test)]), nest.host))
            after = [_going_on(item) for item in (*after, *(Item(node, nest.host) for node in block(outer.body)))]
        inner = outer
    return before, after, outermost


def _after_try(outer: cst.Try | cst.TryStar, inner: cst.CSTNode, after: list[Item], host: Frame) -> list[Item]:
    """What follows a part of a `try`: its handlers, which may leave it to what comes later, and its other ends."""
    found = list(after)
    if inner is outer.body and outer.handlers:
        found.append(
            Item(outer.with_changes(body=cst.SimpleStatementSuite([cst.Pass()]), orelse=None, finalbody=None), host)
        )
    ends = (outer.orelse if inner is outer.body else None, outer.finalbody if inner is not outer.finalbody else None)
    for part in ends:
        if part is not None and usage(found).must is None:  # it runs on the way out, too
            found.insert(0, Item(_perhaps(part.body), host))
        found.extend(Item(node, host) for node in (block(part.body) if part is not None else ()))
    return found


def _perhaps(body: cst.BaseSuite) -> cst.If:
    """A suite that runs on some ways only."""
    return cst.If(cst.Ellipsis(), body)


def _going_on(item: Item) -> Item:
    """A statement at the end of an outer loop: what follows that loop runs behind its `break` as well."""
    left = usage([item]).must is None and any(isinstance(way, (cst.Break, cst.Continue)) for way in exits_of(item.node))
    return replace(item, node=_perhaps(cst.IndentedBlock([item.node]))) if left else item


def _with_next_run(after: Sequence[Item], nest: Nest, carried: Collection[Variable]) -> Iterator[Item]:
    """What follows the run, with what the next run reads of this one where an outer loop comes to it again."""
    for item in after:
        if item.node is not nest.host_loop:
            yield item
            continue
        for variable in sorted(carried, key=lambda v: v.order):
            yield Item(cst.SimpleStatementLine([cst.Expr(path_node(variable.path))]), nest.host)


def _carried_on(after: Sequence[Item], nest: Nest, more: Sequence[Step]) -> frozenset[Variable]:
    """What the next run reads of this one: nothing where none follows, and nothing that the host sets in between."""
    if not any(item.node is nest.host_loop for item in after):
        return frozenset()
    between = takewhile(lambda item: item.node is not nest.host_loop, after)
    left = _carried(nest, more) - (usage(list(between)).must or set())
    own = (variable for variable in left if variable.frame is nest.host or variable.frame.is_module)
    return frozenset(variable for variable in own if nest.host.resolve(variable.path) is variable)  # no made up name


def _carried(nest: Nest, more: Sequence[Step]) -> set[Variable]:
    """What a run changes and reads before it surely sets it."""
    start, body, end = usage(nest.epoch_start), usage(nest.body), usage((*nest.epoch_end, *more))
    asked = ((nest.epoch_loop, nest.host), (nest.batch_loop, nest.batch_frame))
    tests = (expression_usage(loop.test, frame).reads for loop, frame in asked if isinstance(loop, cst.While))
    head = nest.batch_loop.target if isinstance(nest.batch_loop, cst.For) else cst.Name("_")
    first = {nest.batch_frame.variable(name) for name in target_names(head)}
    ended = end.exposed - (body.must or set())  # there is a batch
    read = start.exposed | ((body.exposed - first | ended).union(*tests) - (start.must or set()))
    return read & (start.writes | body.writes | end.writes)


def _runs(item: Item, without: Container[cst.CSTNode]) -> bool:
    """True for a statement that does more than define."""
    return not isinstance(item.node, _DEFINITIONS) and item.node not in without


def _kept_definitions(
    nest: Nest, tree: Tree, gone: Container[cst.CSTNode], removed: frozenset[cst.FunctionDef]
) -> Iterator[cst.FunctionDef | cst.ClassDef | cst.Lambda]:
    """The functions and classes that stay where they are."""
    for node in tree.nodes(cst.FunctionDef, cst.ClassDef, cst.Lambda):
        if node in gone or node in removed or node is nest.host.function or not _runs_later(node, tree):
            continue
        around = set(tree.ancestors(node))
        if nest.host_loop not in around and removed.isdisjoint(around):
            yield node  # type: ignore[misc]


def _handed_on(tree: Tree) -> set[str]:
    """Names that stand for a value, which is not called on the spot."""
    return {
        node.value
        for node in tree.nodes(cst.Name)
        if not isinstance(parent := tree.parents[node], (cst.FunctionDef, cst.AssignTarget))
        and not (isinstance(parent, cst.Call) and parent.func is node)
    }


def _runs_later(node: cst.CSTNode, tree: Tree) -> bool:
    """True for what reads names of the scope around it when it is called: a function's own lambdas are part of it."""
    return not isinstance(node, cst.Lambda) or tree.around(node, cst.FunctionDef, cst.ClassDef, cst.Lambda) is None


def removed_functions(nests: Sequence[Nest], tree: Tree, *, methods: bool) -> frozenset[cst.FunctionDef]:
    """Opened functions that are named nowhere else any more.

    Args:
        methods: of classes that derive from nothing, too; else they stay with their class.
    """
    opened = {call.function for nest in nests for call in nest.opened}
    unneeded = needless_closures(nests, tree)
    opened |= {closure.factory for closure in unneeded}
    candidates = {f for f in opened if _may_go(f, tree, methods)}
    gone: set[cst.FunctionDef] = set()
    moved = [step for nest in nests for step in (*nest.epoch_start, *nest.body, *nest.epoch_end)]
    called = {name for step in moved for name in read_names(step.node if isinstance(step, Item) else step.value)}
    changed = True
    while changed:
        changed = False
        for function in candidates - gone:
            method = isinstance(_holder(function, tree), cst.ClassDef)
            if not method and function.name.value in called:
                continue  # of its calls, some moved as they are
            if method:
                named = _asked_for(function, nests, gone, tree)
            else:
                named = _named_elsewhere(function, nests, gone, {closure.made for closure in unneeded}, tree)
            if not named:
                gone.add(function)
                changed = True
    return frozenset(gone)


def _may_go(function: cst.FunctionDef, tree: Tree, methods: bool) -> bool:
    holder = _holder(function, tree)
    if not isinstance(holder, cst.ClassDef):
        return True
    return methods and not holder.bases and not function.decorators and tree.linked(function) is None


def _asked_for(method: cst.FunctionDef, nests: Sequence[Nest], gone: set[cst.FunctionDef], tree: Tree) -> bool:
    """True when anything but the calls that were opened names a method, of whatever object."""
    name = method.name.value
    calls = _moved_calls(nests, gone, tree)
    named = [node for text, nodes in tree.mentions.items() if text.rpartition(".")[2] == name for node in nodes]
    written = [node for node in tree.nodes(cst.SimpleString) if node.raw_value == name]
    for node in (*named, *written):
        if node is not method.name and not any(a is method or a in gone for a in tree.ancestors(node)):
            parent = tree.parents[node]
            call = tree.parents[parent] if isinstance(parent, cst.Attribute) else parent
            if call not in calls:
                return True
    return False


def _moved_calls(nests: Sequence[Nest], gone: set[cst.FunctionDef], tree: Tree) -> set[cst.Call]:
    """The calls that were opened, but for those of functions that were opened and stay for other calls."""
    opened = [one for nest in nests for one in nest.opened]
    staying = {one.function for one in opened} - gone
    return {one.call for one in opened if not any(around in staying for around in tree.ancestors(one.call))}


def _holder(function: cst.FunctionDef, tree: Tree) -> cst.CSTNode | None:
    return tree.around(function, cst.FunctionDef, cst.ClassDef)


def needless_closures(nests: Sequence[Nest], tree: Tree) -> list[Closure]:
    """The functions made by others whose every call is open: making them does nothing else."""
    calls = {opened.call for nest in nests for opened in nest.opened}
    opened = {one.function for nest in nests for one in nest.opened}
    found = [closure for closure in closures(tree).values() if closure.function in opened]
    return [closure for closure in found if not _read_otherwise(closure, calls, tree)]


def _read_otherwise(closure: Closure, calls: set[cst.Call], tree: Tree) -> bool:
    """True when a name that may be the closure's stands for more than calls that are open."""
    for node in tree.mentions.get(closure.name, ()):
        parent = tree.parents[node]
        if isinstance(parent, cst.AssignTarget):
            continue
        if isinstance(parent, (cst.Attribute, cst.Arg)) and node is not getattr(parent, "value", None):
            continue
        if not (isinstance(parent, cst.Call) and node is parent.func and parent in calls):
            return True
    return False


def _named_elsewhere(
    function: cst.FunctionDef,
    nests: Sequence[Nest],
    gone: set[cst.FunctionDef],
    making: set[cst.Call],
    tree: Tree,
) -> bool:
    name = function.name.value
    calls = _moved_calls(nests, gone, tree) | making
    for node in tree.mentions.get(name, ()):
        parent = tree.parents[node]
        if node is function.name:
            continue
        if isinstance(parent, (cst.Attribute, cst.Arg)) and node is not getattr(parent, "value", None):
            continue
        around = list(tree.ancestors(node))
        if any(a is function or a in gone for a in around):
            continue
        inside = [a for a in around if isinstance(a, cst.FunctionDef)]
        if any(name in local_names(a) and a is not _holder(function, tree) for a in inside):
            continue
        if isinstance(parent, cst.Call) and node is parent.func and parent in calls:
            continue
        return True
    return False
