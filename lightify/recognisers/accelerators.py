"""Hugging Face accelerate: the Accelerator that owns devices, gradients and optimizer steps."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Foreign, Kind, Named, Scope
from lightify.recognisers.base import assigned_value, named
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, dotted, method_call

_CLASSES = ("accelerate.Accelerator", "accelerate.accelerator.Accelerator")
#: Methods that nothing else has.
_USED_AS_ACCELERATOR = {"gather_for_metrics", "unwrap_model", "wait_for_everyone", "skip_first_batches"}
#: Arguments that hand the training to another engine.
_ENGINES = {
    "deepspeed_plugin": "DeepSpeed",
    "deepspeed_plugins": "DeepSpeed",
    "fsdp_plugin": "FSDP",
    "megatron_lm_plugin": "Megatron-LM",
    "torch_tp_plugin": "tensor parallelism",
    "parallelism_config": "a mesh of devices",
}


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `accelerator = Accelerator(...)` and `accelerator.gather_for_metrics(...)`; refuses sharding plugins."""
    value = assigned_value(node)
    if value is not None and kind_of(value, tree) is not None:
        yield from named(node, scope, Kind.ACCELERATOR)
    annotation = node.annotation if isinstance(node, cst.Param) else None
    if isinstance(node, cst.Param) and annotation is not None and tree.qualified(annotation.annotation) in _CLASSES:
        yield Named(scope, node.name.value, Kind.ACCELERATOR, node, sure=True)
    if not isinstance(node, cst.Call):
        return
    used = method_call(node)
    if used is not None and used[1] in _USED_AS_ACCELERATOR and (name := dotted(used[0])) is not None:
        yield Named(scope, name, Kind.ACCELERATOR, node)
    if kind_of(node, tree) is not None:
        for name, argument in arguments(node).keyword.items():
            if name in _ENGINES and dotted(argument) != "None":
                reason = f"accelerate hands the training to {_ENGINES[name]} ({name}=...), which no Trainer may touch"
                yield Foreign(node, "LF210", reason, "convert the script without that plugin")


def kind_of(value: cst.BaseExpression, tree: Tree) -> Kind | None:
    """The kind of `Accelerator(...)`."""
    made = isinstance(value, cst.Call) and tree.qualified(value.func) in _CLASSES
    return Kind.ACCELERATOR if made else None
