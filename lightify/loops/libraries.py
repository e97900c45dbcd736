"""Loops that belong to a library: the script makes a trainer of another package, which calls it back."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import libcst as cst

from lightify.errors import Refusal
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted

#: Package to its name and what of it trains.
_TRAINERS = {
    "catalyst": ("Catalyst", "*Runner"),
    "composer": ("Composer", "Trainer"),
    "detectron2": ("Detectron2", "*Trainer"),
    "fastai": ("fastai", "*[Ll]earner"),
    "ignite": ("PyTorch-Ignite", "Engine create_supervised_trainer"),
    "keras": ("Keras", "Model Sequential"),
    "lightning": ("Lightning", "Trainer"),
    "mmengine": ("MMEngine", "*Runner"),
    "poutyne": ("Poutyne", "Experiment Model"),
    "pytorch_lightning": ("Lightning", "Trainer"),
    "skorch": ("skorch", "NeuralNet*"),
    "torchbearer": ("torchbearer", "Trial"),
    "torchkeras": ("torchkeras", "KerasModel LightModel Model"),
    "transformers": ("the transformers library", "*Trainer"),
    "trl": ("TRL", "*Trainer"),
    "ultralytics": ("Ultralytics", "YOLO"),
}


def trained_by_library(tree: Tree) -> Refusal | None:
    """Says which library has the loop of a script that has none of its own."""
    imports = tree.nodes(cst.ImportFrom)
    starred = [dotted(node.module) or "" for node in imports if isinstance(node.names, cst.ImportStar)]
    calls = ((call, call.func) for call in tree.nodes(cst.Call))
    bases = ((definition, base.value) for definition in tree.nodes(cst.ClassDef) for base in definition.bases)
    for node, named in (*calls, *bases):
        for full in _meanings(named, starred, tree):
            library, patterns = _TRAINERS.get(full.partition(".")[0], ("", ""))
            name = full.rpartition(".")[2]
            if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
                return Refusal(
                    "LF218",
                    f"the loop is not the script's own: {library} runs the training ({name})",
                    tree.span(node),
                    "write the loop out (`for batch in loader:` with backward() and step()), and convert that",
                )
    return None


def _meanings(node: cst.BaseExpression, starred: Sequence[str], tree: Tree) -> Sequence[str]:
    """The qualified names that a name may have: one, or where nothing binds it one for each star import."""
    name = dotted(node) or ""
    head = name.partition(".")[0]
    if head in tree.imports:
        return [tree.qualified(node) or ""]
    return [f"{package}.{name}" for package in starred if head not in tree.functions.keys() | tree.classes.keys()]
