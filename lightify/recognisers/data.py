"""Data loaders, parsed arguments and devices."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from lightify.facts import Fact, Kind, Scope
from lightify.parse import Tree
from lightify.query import method_call
from lightify.recognisers.base import assigned_value, named

_DEVICES = ("torch.device", "torch.accelerator.current_accelerator")


def recognise(node: cst.CSTNode, scope: Scope, tree: Tree) -> Iterable[Fact]:
    """Accepts `loader = DataLoader(...)`, `args = parser.parse_args()`, `device = torch.device(...)`."""
    value = assigned_value(node)
    if isinstance(value, cst.IfExp):
        value = value.body
    if isinstance(value, cst.Attribute) and (tree.qualified(value) or "").startswith("torch.cuda."):
        yield from named(node, scope, Kind.TENSOR_TYPE)
    if isinstance(value, cst.SimpleString) and value.raw_value.startswith(("cuda", "cpu", "mps")):
        yield from named(node, scope, Kind.DEVICE)
    if not isinstance(value, cst.Call):
        return
    full = tree.qualified(value.func) or ""
    if full.endswith("DataLoader"):
        yield from named(node, scope, Kind.LOADER)
    elif full in _DEVICES:
        yield from named(node, scope, Kind.DEVICE)
    elif (method_call(value) or ("", ""))[1] == "parse_args":
        yield from named(node, scope, Kind.NAMESPACE)
