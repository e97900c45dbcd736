"""Finds the loops that train, from the parameter updates outwards, through calls; one run for each nest of loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple

import libcst as cst

from lightify.analysis.callers import callers
from lightify.errors import Refusal
from lightify.facts import Analysis, Kind, Named
from lightify.loops.ruled_out import is_ruled_out
from lightify.syntax.frames import Expression, Frame, Variable
from lightify.syntax.names import assignments, entered_as
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, dotted, expression_of, method_call, root_name, walk

Loop = cst.For | cst.While
#: What to do where no loop is found.
_WITHOUT_LOOP = "convert the script that starts the training: what it imports of its repository is read with it"


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: the loops around its updates, outermost first, and the calls that update."""

    loops: tuple[Loop, ...]
    sites: tuple[cst.Call, ...]


class _Chain(NamedTuple):
    """A call that updates, and the loops around it on one way down to it."""

    site: cst.Call
    loops: list[Loop]


def find_runs(tree: Tree, analysis: Analysis) -> tuple[Run, ...] | Refusal:
    """Finds the runs that the script trains in, in source order, or says why there is none to convert."""
    backwards = [fact.call for fact in analysis.backwards]
    if not backwards:
        message = "no training loop found: nothing calls backward()"
        return Refusal("LF201", message, tree.span(tree.module), _WITHOUT_LOOP)
    sites = [*backwards, *(fact.call for fact in analysis.updates)]
    calls = callers(tree)
    every = [(site, way) for site in sites for way in ways_to(site, tree, calls)]
    every = [(site, way) for site, way in every if not _is_ruled_out(way, site, tree)] or every
    ways = [(site, way) for site, way in every if not _starts_elsewhere(way, site, tree)]
    here = [site for site in sites if tree.linked(site) is None]
    if not ways and here:  # a library of those files: as if it stood alone
        calls = {function: [call for call in found if tree.linked(call) is None] for function, found in calls.items()}
        ways = [(site, way) for site in here for way in ways_to(site, tree, calls)]
    if not ways and not any(tree.linked(call) is None for call in tree.nodes(cst.Call)):
        return Refusal("LF201", "no training loop found: nothing is called", tree.span(tree.module), _WITHOUT_LOOP)
    if not ways:
        message = f"the training code stands in {tree.span(sites[0]).path}, and how the script calls it is not known"
        return Refusal("LF231", message, tree.span(sites[0]), "call it by its name, or convert that file")
    chains = [_Chain(site, loops) for site, way in ways if (loops := [node for node in way if isinstance(node, Loop)])]
    if not chains:
        return Refusal(
            "LF203",
            "backward() is called once, in no loop",
            tree.span(sites[0]),
            hint="a Trainer repeats a step: convert the script whose loop calls this code; a single step needs none",
        )
    groups = _split(chains, tree, analysis)
    if len(groups) > 1:
        trained = [group for group in groups if any(chain.site in backwards or chain.site.args for chain in group)]
        groups = trained or groups
    runs, reached = [], {site for site, _ in ways}
    for group in groups:
        held = {chain.site for chain in group}
        own = tuple(site for site in sites if site in held or (len(groups) == 1 and site in reached))
        runs.append(Run(_without_sweeps(_common(group), tree, analysis), own))
    return tuple(sorted(runs, key=lambda run: tree.span(run.loops[0])))


def _without_sweeps(loops: Sequence[Loop], tree: Tree, analysis: Analysis) -> tuple[Loop, ...]:
    """The loops within those that repeat whole runs."""
    starts = [
        number for number in range(1, len(loops)) if _makes_anew(loops[number - 1], loops[number], tree, analysis)
    ]
    return tuple(loops[max(starts, default=0) :])


def ways_to(
    node: cst.CSTNode, tree: Tree, calls: Mapping[cst.FunctionDef, list[cst.Call]], depth: int = 0
) -> list[list[cst.CSTNode]]:
    """Ways from the outermost loop or call down to a node: loops and calls, outermost first."""
    path: list[cst.CSTNode] = []
    below = node
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, Loop) and below is not getattr(ancestor, "iter", None):
            path.append(ancestor)
        elif isinstance(ancestor, cst.FunctionDef):
            sites = [call for call in calls.get(ancestor, ()) if not _inside(call, ancestor, tree)]
            if sites and depth < 6:
                inner = list(reversed(path))
                return [[*outer, call, *inner] for call in sites for outer in ways_to(call, tree, calls, depth + 1)]
            if not any(isinstance(a, (cst.FunctionDef, Loop)) for a in tree.ancestors(ancestor)):
                break
        below = ancestor
    return [list(reversed(path))]


def _starts_elsewhere(way: Sequence[cst.CSTNode], site: cst.Call, tree: Tree) -> bool:
    """True for a way that starts in another file: the script itself never goes it."""
    return tree.linked(way[0] if way else site) is not None


def _is_ruled_out(way: Sequence[cst.CSTNode], site: cst.Call, tree: Tree) -> bool:
    """True for a way with a call that never gets to the next one, or to the site."""
    calls = [node for node in way if isinstance(node, cst.Call)]
    return any(is_ruled_out(inner, call, tree) for call, inner in pairwise([*calls, site]))


def _inside(node: cst.CSTNode, outer: cst.CSTNode, tree: Tree) -> bool:
    return any(ancestor is outer for ancestor in tree.ancestors(node))


def _split(chains: Sequence[_Chain], tree: Tree, analysis: Analysis) -> list[list[_Chain]]:
    """Takes apart what several runs do: separate loops, also side by side in a loop over folds or settings."""
    common = _common(chains)
    groups: dict[Loop | None, list[_Chain]] = {}
    for chain in chains:
        groups.setdefault(chain.loops[len(common)] if len(chain.loops) > len(common) else None, []).append(chain)
    if None in groups or len(groups) == 1:
        return [list(chains)]
    if common and not all(
        len(_common(group)) >= len(common) + 2 or (loop is not None and _makes_anew(common[-1], loop, tree, analysis))
        for loop, group in groups.items()
    ):
        return [list(chains)]
    return [part for group in groups.values() for part in _split(group, tree, analysis)]


def _common(chains: Sequence[_Chain]) -> list[Loop]:
    """The loops around all of them."""
    levels = zip(*(chain.loops for chain in chains))
    return [loops[0] for loops in takewhile(lambda loops: all(loop is loops[0] for loop in loops), levels)]


def _makes_anew(outer: Loop, inner: Loop, tree: Tree, analysis: Analysis) -> bool:
    """True when each pass of the outer loop makes its own network and optimizer: it repeats whole runs."""
    function = tree.function_of(inner)
    within = outer if tree.function_of(outer) is function else function
    made = {
        fact.kind
        for fact in analysis.named
        if within is not None
        and _inside(fact.node, within, tree)
        and not _inside(fact.node, inner, tree)
        and not (fact.kind is Kind.MODULE and _is_loss(fact, tree))
    }
    if Kind.OPTIMIZER in made and within is not None and _resets(within, inner, tree, analysis):
        made.add(Kind.MODULE)
    return {Kind.MODULE, Kind.OPTIMIZER} <= made


def _resets(within: cst.CSTNode, inner: Loop, tree: Tree, analysis: Analysis) -> bool:
    """True for `model.reset_parameters()` and `model.apply(init_weights)` before a loop: the network is as new."""
    networks = {name for (_, name), kind in analysis.kinds.items() if kind is Kind.MODULE}
    for node in walk(within):
        used = method_call(expression_of(node)) if isinstance(node, cst.SimpleStatementLine) else None
        resets = used is not None and (used[1] == "apply" or used[1].startswith(("reset", "init")))
        if used is not None and resets and dotted(used[0]) in networks and not _inside(node, inner, tree):
            return True
    return False


def _is_loss(fact: Named, tree: Tree) -> bool:
    calls = (part for part in walk(fact.node) if isinstance(part, cst.Call))
    return any((tree.qualified(call.func) or "").endswith("Loss") for call in calls)


def is_over_data(loop: Loop, analysis: Analysis, frame: Frame | None = None) -> bool:
    """True when a loop goes over a loader, as far as names and constructions tell.

    Args:
        frame: tells what a parameter stands for in the call.
    """
    if not isinstance(loop, cst.For):
        return False
    loaders = {key[1] for key, kind in analysis.kinds.items() if kind is Kind.LOADER}
    loaders |= {fact.name for fact in analysis.named if fact.kind is Kind.COLLECTION and _holds_loaders(fact)}

    def is_loader(name: str) -> bool:
        return name in loaders or "load" in name.lower()

    iterable = _unwrapped(loop.iter)
    while not is_loader(dotted(iterable) or root_name(iterable) or ""):
        meaning = frame.resolve(iterable.value) if frame is not None and isinstance(iterable, cst.Name) else None
        if isinstance(meaning, Variable) and (shown := _shown_by(meaning)) is not None:
            iterable, frame = shown, meaning.frame
            continue
        if not isinstance(meaning, Expression):
            zipped = isinstance(iterable, cst.Call) and dotted(iterable.func) == "zip"
            return zipped or (isinstance(meaning, Variable) and is_loader(meaning.path))
        iterable, frame = _unwrapped(meaning.node), meaning.frame
    return True


def _holds_loaders(fact: Named) -> bool:
    """True for `{"train": DataLoader(...)}`."""
    calls = (part for part in walk(fact.node) if isinstance(part, cst.Call))
    return any((dotted(call.func) or "").endswith("DataLoader") for call in calls)


def _shown_by(variable: Variable) -> cst.BaseExpression | None:
    """`loader` for the `bar` of `bar = tqdm(loader)`, or of `with tqdm(loader) as bar:`, in a function."""
    function = variable.frame.function
    if function is None:
        return None
    known = [one.value for one in assignments(function).get(variable.name, ())]
    known += [one.item for one in entered_as(function).get(variable.name, ())]
    inner = _unwrapped(known[0]) if len(known) == 1 else None
    return inner if inner is not None and inner is not known[0] else None


def _unwrapped(iterable: cst.BaseExpression) -> cst.BaseExpression:
    """The iterable inside `enumerate(...)` and progress bars."""
    while isinstance(iterable, cst.Call) and iterable.args:
        name = (dotted(iterable.func) or "").rpartition(".")[2]
        if name not in ("enumerate", "iter", "tqdm", "track", "notebook", "progress_bar", "ProgressBar"):
            break
        inner = arguments(iterable).get(0, "iterable")
        if inner is None:
            break
        iterable = inner
    return iterable
