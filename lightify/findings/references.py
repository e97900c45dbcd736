"""Results that are meant to be copies and go on changing with the training."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.query import arguments, dotted, method_call, words

NO_COPY = Rule(
    "LF463",
    "warning",
    "{name} is no copy: it holds the weights themselves, which later steps change; at the end it is the last model",
    "kept as it is; copy.deepcopy({value}) keeps the weights of this moment, ModelCheckpoint the best ones in a file",
)
RULES = (NO_COPY,)


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts `best = net.state_dict()` and `best = net` under a condition in the epochs, and a use outside of it."""
    for node in script.nodes(cst.Assign):
        name = dotted(node.targets[0].target) if len(node.targets) == 1 else None
        if name is None or not _is_live(script, node.value, name) or not script.in_run(node):
            continue
        branch = script.tree.parents[script.tree.parents[node]]
        conditional = isinstance(script.tree.parents.get(branch), (cst.If, cst.Else))
        if conditional and any(_is_used_outside(script, name, node, branch)):
            yield NO_COPY.at(script, node, name=name, value=cst.Module([]).code_for_node(node.value))


#: What a name says that is meant to keep a network; without such a word, one of several networks is chosen.
_KEEPS = {"best", "kept", "saved", "snapshot", "backup"}


def _is_live(script: Script, value: cst.BaseExpression, name: str) -> bool:
    """True for weights as `state_dict()` gives them, and for a network that is to be kept."""
    used = method_call(value)
    if used is not None and isinstance(value, cst.Call):
        return used[1] == "state_dict" and not len(arguments(value)) and script.kind(used[0]) is Kind.MODULE
    named = isinstance(value, (cst.Name, cst.Attribute)) and bool(words(name) & _KEEPS)
    return named and script.kind(value) is Kind.MODULE


def _is_used_outside(script: Script, name: str, assign: cst.Assign, branch: cst.CSTNode) -> Iterator[bool]:
    """For each place that loads, saves, returns or calls what the name holds, outside its branch: True."""
    key = script.key(assign, name)
    for node in (*script.nodes(cst.Name), *script.nodes(cst.Attribute)):
        if dotted(node) != name or script.key(node, name) != key:
            continue
        parent = script.tree.parents[node]
        uses = isinstance(parent, (cst.Arg, cst.Return)) or (isinstance(parent, cst.Call) and parent.func is node)
        called = isinstance(parent, cst.Attribute) and parent.attr.value in ("eval", "state_dict")
        if (uses or called) and branch not in script.tree.ancestors(node):
            yield script.place(node) > script.place(assign)
