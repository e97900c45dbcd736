"""What modules are called: after network, function, class or file; and what the script calls the runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePath

import libcst as cst

from lightify.analysis.calls import class_of
from lightify.facts import Analysis, Kind, Scope
from lightify.loops.runs import Loop
from lightify.plan.constructions import construction
from lightify.plan.types import Plan
from lightify.recognisers.base import is_module_class
from lightify.syntax.frames import Variable
from lightify.syntax.names import assignments, bound_names, declared_elsewhere, local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, dotted, made_by, walk

#: Classes of criteria: what is trained is another.
_LOSS = re.compile("loss|criterion|entropy", re.IGNORECASE)
#: Words of functions that say nothing of what is trained: `run_training`.
_COMMON = {"main", "train", "training", "trainer", "fit", "run", "do", "start", "loop", "model"}


#: Names of files and folders that say nothing of what is trained.
_PLAIN = (
    *("main", "train", "-", "run", "pytorch", "input", "training", "trainer", "", ".", ".."),
    *("src", "scripts", "code", "lib", "core", "utils", "tools"),
)

#: Functions that no training stands in: their own names hide nothing.
_NO_HOSTS = ("__init__", "forward", "__getitem__")


@lru_cache(maxsize=16)
def runtime_alias(tree: Tree) -> str:
    """`L`, or another name where the script calls something of its own so."""
    taken = set(bound_names(block(tree.scope)))
    for function in tree.nodes(cst.FunctionDef):
        if function.name.value not in _NO_HOSTS:
            taken |= local_names(function) | declared_elsewhere(function)
    return next(name for name in ("L", "pl", "lit", tree.fresh("lightify_runtime")) if name not in taken)


def class_names(plans: Sequence[Plan], tree: Tree, analysis: Analysis) -> list[str]:
    """A name for the module of each run, each another."""
    script = _of_script(tree, analysis)
    words: list[str] = [script]
    if len(plans) > 1:
        known = [(_network(plan, tree), _function(plan), _holder(plan, tree)) for plan in plans]
        every = [word for words_of_plan in known for word in words_of_plan]
        words = [next((w for w in words_of_plan if w and every.count(w) == 1), script) for words_of_plan in known]
    names: list[str] = []
    for word in words:
        name, number = f"Lit{word}", 2
        while name in tree.classes or name in tree.functions or name in tree.imports:
            name += "Module"
        first = name
        while name in names:
            name, number = f"{first}{number}", number + 1
        names.append(name)
    return names


def _of_script(tree: Tree, analysis: Analysis) -> str:
    """After the script's only network class, or the function that makes the network, else after the file."""
    own = [name for name, node in tree.classes.items() if is_module_class(node, tree) and not _LOSS.search(name)]
    modules = [f for f in analysis.named if f.kind is Kind.MODULE and not _LOSS.search(f.name)]
    modules = [f for f in modules if not _is_part(f.scope, tree)] or modules
    networks = [f.node.value for f in modules if isinstance(f.node, cst.Assign)]
    called = {dotted(call.func) for value in networks for call in walk(value) if isinstance(call, cst.Call)}
    held = (at for at, kind in analysis.kinds.items() if kind is Kind.MODULE and not _is_part(at[0], tree))
    bound = (one.value for scope, name in held for one in assignments(scope or tree.module).get(name, ()))
    made = dict.fromkeys(dotted(call.func) or "" for value in bound if (call := made_by(value)) is not None)
    trained = [tree.classes[name].name.value for name in own if name in called]
    trained = trained or [
        name for name in filter(None, called) if name in tree.functions and name[0].isupper()
    ]  # `ResNet18()`
    trained = trained or [
        name for name in made if name[:1].isupper() and tree.imports.get(name, "torch")[:5] != "torch"
    ]
    path = PurePath(tree.source.path)
    words = (word for word in (path.stem, *(folder.name for folder in path.parents)) if word not in _PLAIN)
    return trained[0] if len(trained) == 1 else _camel(next(words, "Model")) or "Model"


def _is_part(scope: Scope, tree: Tree) -> bool:
    """True for what a network makes of itself."""
    around = class_of(scope, tree) if isinstance(scope, cst.FunctionDef) else None
    return around is not None and is_module_class(around, tree)


def _network(plan: Plan, tree: Tree) -> str:
    """The class of the only network of the script's own that a run is handed."""
    found = {name for variable, _ in plan.captured if (name := _class_of(variable, plan.nest.host_loop, tree))}
    return found.pop() if len(found) == 1 else ""


def _class_of(variable: Variable, loop: Loop, tree: Tree) -> str:
    built = construction(variable, tree, loop)
    calls = [call for call in walk(built[1]) if isinstance(call, cst.Call)] if built is not None else []
    classes = (tree.classes.get(dotted(call.func) or "") for call in calls)
    return next((one.name.value for one in classes if one is not None and is_module_class(one, tree)), "")


def _function(plan: Plan) -> str:
    """The function that a run stands in, or the first that it opens."""
    names = (plan.nest.host.name, *(opened.function.name.value for opened in plan.nest.opened))
    return next((word for name in names if name and (word := _telling(name))), "")


def _telling(name: str) -> str:
    """`Distillation` for `run_distillation_training`; empty where a function's name tells nothing."""
    words = [word for word in name.split("_") if word.lower() not in _COMMON]
    if not any(map(str.isalpha, "".join(words))):
        return ""
    return _camel(name if {"epoch", "one", "step"}.issuperset(words) else "_".join(words))


def _holder(plan: Plan, tree: Tree) -> str:
    """The class in whose method a run stands."""
    function = plan.nest.host.function
    around = class_of(function, tree) if function is not None else None
    return around.name.value if around is not None else ""


def _camel(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return "".join(word[:1].upper() + word[1:] for word in words)
