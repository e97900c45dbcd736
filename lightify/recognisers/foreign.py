"""Training that belongs to another framework or to other machinery: a reason to refuse."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Foreign, Scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import method_name

_FRAMEWORKS = {
    "torch.distributed.rpc": ("LF211", "training runs over torch.distributed.rpc; a Trainer has no such processes"),
    "torch.distributed.tensor.parallel": ("LF212", "tensor parallelism is set up by hand"),
    "horovod.torch": ("LF213", "training is distributed by Horovod"),
    "deepspeed": ("LF214", "training is driven by DeepSpeed"),
}
#: Libraries whose losses have a `backward()` as well.
_OTHER_THAN_TORCH = {
    "chainer": "Chainer",
    "dynet": "DyNet",
    "jittor": "Jittor",
    "megengine": "MegEngine",
    "mxnet": "MXNet",
    "oneflow": "OneFlow",
    "paddle": "PaddlePaddle",
}


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts imports and base classes that say who drives the training."""
    if isinstance(node, cst.ClassDef):
        for base in node.bases:
            full = tree.qualified(base.value) or ""
            if full.endswith(".LightningModule"):
                yield Foreign(node, "LF202", f"{node.name.value} is a LightningModule already: nothing to convert")
    elif isinstance(node, cst.FunctionDef):
        if any(_is_cell(one.decorator, tree) for one in node.decorators):
            yield Foreign(
                node,
                "LF217",
                "a marimo notebook: each cell is a function that sees what the others hand it, and nothing else",
                "convert what `marimo export script` makes of it",
            )
    elif isinstance(node, cst.Call) and method_name(node) == "share_memory":
        yield Foreign(
            node,
            "LF215",
            "several processes train one network in shared memory (Hogwild)",
            "train in one process, or with DistributedDataParallel",
        )
    elif isinstance(node, (cst.Import, cst.ImportFrom)) and scope is None and (found := framework(tree)) is not None:
        yield Foreign(node, *found, "convert the plain PyTorch version of the script")


def framework(tree: Tree) -> tuple[str, str] | None:
    """The code and reason of a refusal when a script imports another framework's loop, or trains without torch."""
    for name in tree.imports.values():
        for driver, found in _FRAMEWORKS.items():
            if name == driver or name.startswith(f"{driver}."):
                return found
    packages = {name.partition(".")[0] for name in tree.imports.values()}
    others = sorted(packages & set(_OTHER_THAN_TORCH))
    if others and "torch" not in packages:
        return "LF216", f"the script trains with {_OTHER_THAN_TORCH[others[0]]}, not with PyTorch: nothing to convert"
    return None


def _is_cell(decorator: cst.BaseExpression, tree: Tree) -> bool:
    """True for `@app.cell` and `@app.cell(hide_code=True)`."""
    called = decorator.func if isinstance(decorator, cst.Call) else decorator
    attribute = called if isinstance(called, cst.Attribute) and called.attr.value == "cell" else None
    return attribute is not None and any(name.partition(".")[0] == "marimo" for name in tree.imports.values())
