"""What scripts ask about processes: their number, which one this is, and where they meet."""

from __future__ import annotations

import libcst as cst

from lightify.parse import Tree
from lightify.query import code, literal, walk

#: What a launcher tells each process.
VARIABLES = {
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
}
_RANKS = ("get_rank", "get_world_size", "get_local_rank", "get_node_local_rank")
_STATES = ("is_available", "is_initialized", "is_nccl_available", "is_gloo_available", "is_torchelastic_launched")
_OPENS = ("init_process_group", "destroy_process_group", "barrier")
_CHOOSES = ("torch.cuda.set_device", "torch.accelerator.set_device_index", "torch.accelerator.set_device_idx")


def asks(node: cst.CSTNode, tree: Tree) -> bool:
    """True for `dist.get_rank()`, `os.environ["RANK"]` and their like."""
    if isinstance(node, cst.Subscript):
        return names_variable(node, tree)
    if not isinstance(node, cst.Call):
        return False
    full = tree.qualified(node.func) or ""
    if full in ("os.getenv", "os.environ.get"):
        return bool(node.args) and literal(node.args[0].value) in VARIABLES
    return full.startswith("torch.distributed.") and full.rpartition(".")[2] in (*_RANKS, *_STATES)


def names_variable(node: cst.Subscript, tree: Tree) -> bool:
    """True for `os.environ["RANK"]`, read or written."""
    index = node.slice[0].slice
    variable = literal(index.value) if isinstance(index, cst.Index) else None
    return tree.qualified(node.value) == "os.environ" and variable in VARIABLES


def sets_up(call: cst.Call, tree: Tree) -> bool:
    """True for what opens or closes the group, chooses a process's device or says where processes meet."""
    full = tree.qualified(call.func) or ""
    if full == "os.environ.setdefault":
        return literal(call.args[0].value) in VARIABLES
    return full in _CHOOSES or (full.startswith("torch.distributed.") and full.rpartition(".")[2] in _OPENS)


def stands_alone(node: cst.CSTNode, tree: Tree) -> bool:
    """True for environment variables with a default: they are known in each process, and without a launcher."""
    asked = [part for part in walk(node) if asks(part, tree)]
    return bool(asked) and all(
        isinstance(part, cst.Call) and (tree.qualified(part.func) or "").startswith("os.") and len(part.args) == 2
        for part in asked
    )


def tells_first(node: cst.CSTNode) -> bool:
    """True for a process's number, by its name or by what it asks; how many there are tells nothing."""
    text = code(node).lower()
    return not any(word in text for word in ("size", "count", "node"))


def answer(node: cst.CSTNode) -> str:
    """The Trainer's attribute for what a name or a question is about."""
    text = code(node).lower()
    if "size" in text or "count" in text:
        return "world_size"
    return "local_rank" if "local" in text or "gpu" in text else "global_rank"


def exchanges(call: cst.Call, tree: Tree) -> bool:
    """True for what needs the group: `dist.all_reduce(x)`."""
    full = tree.qualified(call.func) or ""
    return full.startswith("torch.distributed.") and full.islower() and not (asks(call, tree) or sets_up(call, tree))
