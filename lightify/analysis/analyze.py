"""One batched walk over the recognisers; joins their facts into an Analysis; never edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import libcst as cst

from lightify.analysis.computed import is_computed
from lightify.analysis.factories import Factories
from lightify.analysis.held import objects_at
from lightify.facts import Analysis, Backward, Fact, Foreign, Kind, Named, Scope, Update
from lightify.recognisers import REGISTRY
from lightify.recognisers.optimizers import is_optimizer_class
from lightify.syntax.names import local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import children, class_test, dotted

#: A name that is used as several things is the first of these.
_PRECEDENCE = (
    Kind.ACCELERATOR,
    Kind.SCALER,
    Kind.SCHEDULER,
    Kind.OPTIMIZER,
    Kind.MODULE,
    Kind.COLLECTION,
    Kind.LOADER,
    Kind.NAMESPACE,
    Kind.DEVICE,
    Kind.TENSOR_TYPE,
    Kind.OBJECT,
)

#: How often a function may return what another one made.
_MOST_FACTORIES = 4


def analyze(tree: Tree) -> Analysis:
    """Reads all facts of a script."""
    facts = _collect(tree)
    seen: dict[tuple[Scope, str], list[Named]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, Named):
            seen[(owner_of(fact, tree), fact.name)].append(fact)
    kinds = _kinds(seen)
    for _ in range(_MOST_FACTORIES):
        known = {(fact.name, fact.kind, fact.node) for found in seen.values() for fact in found if fact.sure}
        made = [fact for fact in Factories(kinds, tree).made() if (fact.name, fact.kind, fact.node) not in known]
        for fact in made:
            seen[(owner_of(fact, tree), fact.name)].append(fact)
        facts.extend(made)
        before, kinds = kinds, _kinds(seen)
        if kinds == before:
            break
    kinds = {key: kind for key, kind in kinds.items() if not _is_computed(key[1], tree)}
    updates = tuple(fact for fact in facts if isinstance(fact, Update) and _may_update(fact, kinds, tree))
    sure = frozenset(key for key, found in seen.items() if any(fact.sure for fact in found))
    return Analysis(
        kinds=kinds | {key: Kind.OBJECT for key in kinds if key not in sure and _is_wrapper(key, kinds, tree)},
        sure=sure,
        backwards=tuple(fact for fact in facts if isinstance(fact, Backward)),
        updates=updates,
        foreign=tuple(fact for fact in facts if isinstance(fact, Foreign)),
        named=tuple(fact for fact in facts if isinstance(fact, Named) and fact.sure),
    )


def _kinds(seen: Mapping[tuple[Scope, str], Sequence[Named]]) -> dict[tuple[Scope, str], Kind]:
    kinds: dict[tuple[Scope, str], Kind] = {}
    for key, found in seen.items():
        sure = [fact.kind for fact in found if fact.sure]
        kinds[key] = min(sure or [fact.kind for fact in found], key=_PRECEDENCE.index)
    return kinds


def _is_wrapper(key: tuple[Scope, str], kinds: Mapping[tuple[Scope, str], Kind], tree: Tree) -> bool:
    """True for a parameter that is used as an optimizer is, and is handed an object of the script that is none."""
    found = objects_at(*key, tree) if kinds[key] is Kind.OPTIMIZER else []
    return bool(found) and not any(is_optimizer_class(definition, tree) for definition in found)


def _is_computed(name: str, tree: Tree) -> bool:
    """True for `self.optimizer` that is made, or may be, each time it is read."""
    path, _, attribute = name.rpartition(".")
    return bool(path) and is_computed(attribute, tree)


_is_scope = class_test(cst.FunctionDef, cst.ClassDef)


def _collect(tree: Tree) -> list[Fact]:
    readers: dict[type, list] = defaultdict(list)
    for recognise, kinds in REGISTRY:
        for kind in kinds:
            readers[kind].append(recognise)
    facts: list[Fact] = []
    stack: list[tuple[cst.CSTNode, Scope]] = [(tree.scope, None)]
    while stack:
        node, scope = stack.pop()
        for recognise in readers.get(type(node), ()):
            facts.extend(recognise(node, scope, tree))
        inner: Scope = node if _is_scope(node.__class__) else scope  # type: ignore[assignment]
        stack += [(child, inner) for child in reversed(children(node))]
    return facts


def owner_of(fact: Named, tree: Tree) -> Scope:
    """Where a name lives: attributes of self in the class, free names of a function in the module."""
    if fact.name.startswith("self."):
        return tree.around(fact.node, cst.ClassDef)
    scope = fact.scope
    head = fact.name.partition(".")[0]
    while isinstance(scope, cst.FunctionDef) and head not in local_names(scope):
        scope = tree.function_of(scope)
    return scope


def _may_update(fact: Update, kinds: dict[tuple[Scope, str], Kind], tree: Tree) -> bool:
    name = dotted(fact.receiver)
    if name is None:
        return not fact.call.args
    found = kinds.get((owner_of(Named(tree.function_of(fact.call), name, Kind.OPTIMIZER, fact.call), tree), name))
    if found is Kind.SCHEDULER:
        return False
    if found in (Kind.OPTIMIZER, Kind.SCALER):
        return True
    lowered = name.lower()
    if "sched" in lowered or "env" in lowered or lowered.startswith("prof"):
        return False
    return "opt" in lowered or "solver" in lowered
