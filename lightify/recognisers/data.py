"""Data loaders, parsed arguments and devices."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Named, Scope
from lightify.recognisers.base import assigned_value, base_of, named
from lightify.syntax.names import parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, block, dotted, method_name, target_names

_DISPLAYS = (cst.List, cst.Tuple, cst.Set, cst.Dict, cst.ListComp, cst.SetComp, cst.DictComp)
#: What gives lists, tuples and dicts, or may give them, of whatever it may be.
_COLLECTIONS = (
    *("list", "tuple", "dict", "set", "sorted", "deque", "OrderedDict", "defaultdict", "load", "loads"),
    *("split", "array_split", "chunk", "unbind", "tensor_split"),
)
_SPLITS = ("split", "chunk", "unbind", "tensor_split", "tolist")
_TEXTS = ("Iterator", "BucketIterator", "BPTTIterator")
_DEVICES = ("torch.device", "torch.accelerator.current_accelerator")


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `loader = DataLoader(...)`, `args = parser.parse_args()`, `device = torch.device(...)`.

    Lists, tuples and dicts are told apart: the Trainer would take their elements for loaders.

    `train_iter, val_iter = BucketIterator.splits(...)` of torchtext gives loaders, as each of its iterators is one.

    A parameter of the type `DataLoader` is one, too, where it is kept: `self.loader = loader`.
    """
    value = assigned_value(node)
    kind = kind_of(value, tree) if value is not None else None
    target = node.targets[0].target if isinstance(node, cst.Assign) else None
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Call) and _is_text(value, tree, ".splits"):
        yield from (Named(scope, name, Kind.LOADER, node) for name in target_names(target))
    if kind is None and isinstance(value, cst.Name) and isinstance(scope, cst.FunctionDef):
        annotations = {param.name.value: param.annotation for param in parameters(scope)}
        annotation = annotations.get(value.value)
        full = tree.qualified(annotation.annotation) if annotation is not None else None
        kind = Kind.LOADER if full is not None and full.endswith("data.DataLoader") else None
    if kind is not None:
        yield from named(node, scope, kind)


def _is_text(call: cst.Call, tree: Tree, splits: str = "") -> bool:
    """True for an iterator of torchtext, or for what makes several, which goes over its data once each time."""
    full = tree.qualified(call.func) or ""
    known = full.startswith("torchtext.") and full.endswith(tuple(f".{name}{splits}" for name in _TEXTS))
    repeats = arguments(call).keyword.get("repeat")
    return known and (repeats is None or dotted(repeats) == "False")


def is_loader_class(definition: cst.ClassDef, tree: Tree) -> bool:
    """True when a class derives from DataLoader and goes over its batches as that does."""

    def known(full: str) -> bool:
        return full.startswith("torch.") and full.endswith(".DataLoader")

    return bool(base_of(definition, tree, known, _goes_over_as_its_base))


def _goes_over_as_its_base(definition: cst.ClassDef) -> bool:
    own = {node.name.value for node in block(definition.body) if isinstance(node, cst.FunctionDef)}
    return own.isdisjoint(("__iter__", "__len__"))


def kind_of(value: cst.BaseExpression, tree: Tree) -> Kind | None:
    """The kind of an expression that makes a loader, parsed arguments, a device or a tensor type."""
    if isinstance(value, cst.IfExp):
        value = value.body
    if isinstance(value, cst.Attribute) and (tree.qualified(value) or "").startswith("torch.cuda."):
        return Kind.TENSOR_TYPE
    if isinstance(value, cst.SimpleString) and str(value.raw_value).startswith(("cuda", "cpu", "mps")):
        return Kind.DEVICE
    if isinstance(value, cst.BinaryOperation):  # [batch] * 5, batches + more
        return next((Kind.COLLECTION for part in (value.left, value.right) if isinstance(part, _DISPLAYS)), None)
    if isinstance(value, _DISPLAYS):
        return Kind.COLLECTION
    if not isinstance(value, cst.Call):
        return None
    full = tree.qualified(value.func) or ""
    if (
        full.endswith("DataLoader")
        or (full in tree.classes and is_loader_class(tree.classes[full], tree))
        or _is_text(value, tree)
    ):
        return Kind.LOADER
    if full in _DEVICES:
        return Kind.DEVICE
    method = method_name(value)
    if full.rpartition(".")[2] in _COLLECTIONS or method in _SPLITS or _is_text(value, tree, ".splits"):
        return Kind.COLLECTION
    return Kind.NAMESPACE if method == "parse_args" else None
