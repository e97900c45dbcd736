"""What scripts ask about processes: their number, which one this is, and where they meet."""

from __future__ import annotations

import libcst as cst

from lightify.distribution.edits import module_argument
from lightify.distribution.wrapping import Wrapping
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, literal, method_call, method_name, walk

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


def zero_test(node: cst.CSTNode, condition: cst.BaseExpression | None, tree: Tree) -> cst.BaseExpression | None:
    """`rank == 0`, and `not distributed or rank == 0`, around a rank."""
    test = tree.parents[node]
    if isinstance(test, cst.Comparison) and test.left is node and len(test.comparisons) == 1:
        target = test.comparisons[0]
        if not isinstance(target.operator, cst.Equal) or literal(target.comparator) != "0":
            return None
    elif not (isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not)):
        return None
    if not tells_first(node):
        return None
    outer = tree.parents[test]
    if isinstance(outer, cst.BooleanOperation) and isinstance(outer.operator, cst.Or) and condition is not None:
        other = outer.left if outer.right is test else outer.right
        if code(other) in (f"not {code(condition)}", f"not ({code(condition)})"):
            return outer
    return test  # type: ignore[return-value]


def device_around(node: cst.CSTNode, tree: Tree) -> cst.Call | None:
    """`torch.device("cuda", rank)`, `x.to(rank)`, `x.cuda(rank)` around a rank."""
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, cst.Call):
            method = method_name(ancestor)
            full = tree.qualified(ancestor.func)
            if full == "torch.device" or method in ("to", "cuda"):
                return ancestor
            return None
        if isinstance(ancestor, (cst.BaseSmallStatement, cst.BinaryOperation, cst.Comparison)):
            return None
    return None


def moves_network(call: cst.Call, wrapping: Wrapping, tree: Tree) -> bool:
    """True for `model.to(rank)` and `model = Net().to(rank)` of the network that the strategy moves."""
    parent, used = tree.parents[call], method_call(call)
    names = {code(wrap.args[module_argument(wrap)].value) for wrap in wrapping.calls}
    if used is None or isinstance(parent, cst.Expr) or tree.qualified(call.func) == "torch.device":
        return False
    targets = [code(target.target) for target in parent.targets] if isinstance(parent, cst.Assign) else []
    return code(used[0]) in names or bool(names & set(targets))
