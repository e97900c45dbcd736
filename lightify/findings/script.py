"""The questions about a script that are about its loops: what runs in a batch, in which order, under what condition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from lightify.facts import Analysis, Kind
from lightify.findings.index import Function, Index, Key
from lightify.loops.nest import Nest
from lightify.syntax.frames import Item
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, call_name, dotted, method_call, small

Loop = cst.For | cst.While


@dataclass(frozen=True, eq=False)
class Moment:
    """A call of the batch body that matters for gradients or modes.

    Attributes:
        always: it runs once in each batch, under no condition and in no inner loop.
        tests: the tests of the `if` statements around it.
    """

    method: str
    call: cst.Call
    position: int
    always: bool
    tests: tuple[cst.BaseExpression, ...]


class Script(Index):
    """A tree with one of its runs."""

    def __init__(
        self,
        tree: Tree,
        analysis: Analysis,
        nest: Nest,
        origins: Mapping[cst.CSTNode, cst.CSTNode] | None = None,
        others: Collection[Nest] = (),
    ) -> None:
        """Indexes a script.

        Args:
            origins: statements that the plan made anew to those of the source.
            others: the script's other runs; what they call is left out.
        """
        own = (nest.batch_loop, nest.host_loop)
        around = {*own, *(ancestor for loop in own for ancestor in tree.ancestors(loop))}
        super().__init__(tree, analysis, [other.host_loop for other in others if other.host_loop not in around])
        self.nest, self._sources = nest, origins or {}

    # -- regions ------------------------------------------------------------------------------------------------

    @cached_property
    def _called_in(self) -> Mapping[cst.CSTNode, set[Function]]:
        """The functions that each loop and each function calls, within inner ones, too."""
        found: dict[cst.CSTNode, set[Function]] = defaultdict(set)
        for function, sites in self.call_sites.items():
            for site in sites:
                for around in self.tree.ancestors(site):
                    found[around].add(function)
        return found

    def _reached_from(self, start: cst.CSTNode) -> frozenset[cst.CSTNode]:
        regions: set[cst.CSTNode] = {start}
        todo = [start]
        while todo:
            found = self._called_in.get(todo.pop(), set()) - regions
            regions |= found
            todo += found
        return frozenset(regions)

    def _within(self, node: cst.CSTNode, regions: Iterable[cst.CSTNode]) -> bool:
        return node in regions or any(ancestor in regions for ancestor in self.tree.ancestors(node))

    @cached_property
    def _batch_region(self) -> frozenset[cst.CSTNode]:
        return self._reached_from(self.nest.batch_loop)

    @cached_property
    def _run_region(self) -> frozenset[cst.CSTNode]:
        return self._reached_from(self.nest.epoch_loop or self.nest.batch_loop)

    def in_batches(self, node: cst.CSTNode) -> bool:
        """True for what may run during a batch: in the batch loop or in a function called from there."""
        return self._within(node, self._batch_region)

    def in_run(self, node: cst.CSTNode) -> bool:
        """True for what may run during training: in the loops or in a function called from there."""
        return self._within(node, self._run_region)

    def enclosing(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes around a node, and around the calls of its function, innermost first."""
        seen: set[Function] = set()
        todo = [node]
        while todo:
            for ancestor in self.tree.ancestors(todo.pop()):
                yield ancestor
                if isinstance(ancestor, cst.FunctionDef) and ancestor not in seen:
                    seen.add(ancestor)
                    todo += self.call_sites.get(ancestor, ())

    def without_gradients(self, node: cst.CSTNode) -> bool:
        """True when some way to a node switches gradients off."""
        for ancestor in self.enclosing(node):
            if isinstance(ancestor, cst.With) and any(_switches_off(item.item) for item in ancestor.items):
                return True
            if isinstance(ancestor, cst.FunctionDef) and any(_switches_off(d.decorator) for d in ancestor.decorators):
                return True
        return False

    # -- the batch body -----------------------------------------------------------------------------------------

    @cached_property
    def body(self) -> tuple[cst.BaseStatement, ...]:
        """The source's statements of the batch loop, calls of training functions opened.

        The plan's own body will not do: there statements may be made anew or be gone already.
        """
        opened = {self.statement(opened.call): opened.function for opened in self.nest.opened}

        def opening(nodes: Iterable[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
            for node in nodes:
                inner = small(node)
                function = opened.get(inner) if inner is not None else None
                if function is None:
                    yield node
                else:
                    yield from opening(block(function.body))

        return tuple(opening(block(self.nest.batch_loop.body)))

    @cached_property
    def epoch_start(self) -> tuple[cst.CSTNode, ...]:
        """The source's statements of an epoch before its batch loop."""
        steps = (step.node for step in self.nest.epoch_start if isinstance(step, Item))
        nodes = (self._sources.get(node, node) for node in steps)
        return tuple(node for node in nodes if node in self.tree.parents)

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """The calls of the batch body that matter for gradients, calls of training functions opened."""
        places: dict[cst.CSTNode, list[int]] = defaultdict(list)
        for number, node in enumerate(self.body):
            places[node].append(number)
        found: list[tuple[int, tuple[int, int], cst.Call, bool, tuple[cst.BaseExpression, ...]]] = []
        for call in self.calls(*_MOMENTS):
            tests: list[cst.BaseExpression] = []
            always = True
            for ancestor in (call, *self.tree.ancestors(call)):
                kind = type(ancestor)
                if kind in _SCOPES:
                    break
                if kind is cst.If:
                    tests.append(ancestor.test)  # type: ignore[attr-defined]
                always = always and kind not in _SOMETIMES
                if ancestor in places:
                    found += [(n, self.place(call), call, always, tuple(reversed(tests))) for n in places[ancestor]]
                    break
        found.sort(key=lambda entry: entry[:2])
        return tuple(
            Moment(call_name(call) or "", call, position, always, tests)
            for position, (_, _, call, always, tests) in enumerate(found)
        )

    def updates_parameters(self, moment: Moment) -> bool:
        """True for a `step` of an optimizer or of a scaler (never of a scheduler)."""
        used = method_call(moment.call)
        if moment.method != "step" or used is None:
            return False
        return self.kind(used[0]) in (Kind.OPTIMIZER, Kind.SCALER)

    @cached_property
    def straight(self) -> tuple[cst.BaseSmallStatement, ...]:
        """The statements that run in each batch, in order, each one once."""
        found: list[cst.BaseSmallStatement] = []

        def collect(node: cst.CSTNode) -> None:
            if isinstance(node, cst.SimpleStatementLine):
                found.extend(node.body)
            elif isinstance(node, cst.With):
                for inner in block(node.body):
                    collect(inner)

        for node in self.body:
            collect(node)
        return tuple(found)

    @cached_property
    def loss_names(self) -> frozenset[Key]:
        """The names that get a backward()."""
        return frozenset(
            self.key(fact.loss, name)
            for fact in self.analysis.backwards
            if fact.loss is not None and (name := dotted(fact.loss)) is not None
        )


_MOMENTS = {"backward", "zero_grad", "step", "unscale_", "clip_grad_norm_", "clip_grad_value_", "clip_grad_norm"}
_SCOPES = (cst.FunctionDef, cst.ClassDef, cst.Lambda)
_SOMETIMES = (
    cst.If,
    cst.For,
    cst.While,
    cst.Try,
    cst.Match,
    cst.IfExp,
    cst.BooleanOperation,
    cst.ListComp,
    cst.GeneratorExp,
)
CLIPS = ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm")


def _switches_off(node: cst.CSTNode) -> bool:
    name = call_name(node) if isinstance(node, cst.Call) else (dotted(node) or "").rpartition(".")[2]
    return name in ("no_grad", "inference_mode", "set_grad_enabled")


def unwrapped(iterable: cst.BaseExpression | None) -> cst.BaseExpression | None:
    """What a loop goes over, without the bar and the numbers around it."""
    while isinstance(iterable, cst.Call) and call_name(iterable) in ("enumerate", "tqdm"):
        iterable = arguments(iterable).get(0, "iterable")
    return iterable
