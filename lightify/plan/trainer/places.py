"""Whether a script puts anything on a device at all: one that only names a device trains on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted, nodes_of

_WORDS = ("cuda", "accelerator", "mps", "device")
#: Methods that move, and `type`, which an old script hands `torch.cuda.FloatTensor`.
_MOVES = frozenset("to cuda mps xpu hpu ipu type to_empty".split())  # noqa: SIM905
#: What asks for a device, makes one or tells of it, and moves nothing.
_ASKS = tuple(
    """torch.device print str torch.cuda.is_available torch.cuda.get_device_name torch.cuda.device_count
    torch.cuda.manual_seed torch.backends. torch.accelerator.""".split()  # noqa: SIM905, a list of words
)
#: Calls that would do nothing if nothing were on a card.
_TELLING = ("accelerat", "cuda.amp", "gradscaler")


@lru_cache(maxsize=4)
def moves_nothing(tree: Tree) -> bool:
    """True where no network and no tensor of the script can get to a card."""
    source = re.sub("#.*", "", tree.text)
    if not any(word in source for word in _WORDS):
        return True
    return not any(_may_place(node, tree) for node in tree.nodes(cst.Call, cst.Attribute, cst.With))


def _may_place(node: cst.CSTNode, tree: Tree) -> bool:
    if isinstance(node, cst.Attribute):  # `torch.cuda.FloatTensor`
        return node.attr.value.endswith("Tensor") and "cuda" in (dotted(node) or "")
    if isinstance(node, cst.With):
        return any(_names_device(item.item) for item in node.items)
    assert isinstance(node, cst.Call)
    called = tree.qualified(node.func) or ""
    if called.startswith(_ASKS) or called.endswith(".add_argument"):
        return False
    if (isinstance(node.func, cst.Attribute) and node.func.attr.value in _MOVES) or "set_default" in called:
        return True
    return any(word in called.lower() for word in _TELLING) or any(map(_names_device, _handed(node)))


def _handed(call: cst.Call) -> Iterator[cst.CSTNode]:
    for arg in call.args:
        yield arg.value
        if arg.keyword is not None:
            yield arg.keyword


def _names_device(node: cst.CSTNode) -> bool:
    """True for `device`, `args.device`, `"cuda:0"`, and for what such are part of."""
    names = (dotted(one) or "" for one in nodes_of(node, cst.Name, cst.Attribute))
    texts = (str(one.raw_value) for one in nodes_of(node, cst.SimpleString))
    return any(word in text.lower() for text in (*names, *texts) for word in _WORDS)
