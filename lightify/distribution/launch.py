"""How the processes of a distributed script are started, in terms that a Trainer understands."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from lightify.syntax.names import parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, code, dotted

SPAWNS = ("torch.multiprocessing.spawn", "torch.multiprocessing.start_processes", "torch.multiprocessing.spawn.spawn")
_MACHINES = {"nodes", "nnodes", "num_nodes", "n_nodes", "node_rank", "nr"}


@dataclass(frozen=True, eq=False)
class Launch:
    """Who started a process of the script.

    Attributes:
        spawned: the script itself did, at least in one of its ways; else torchrun or the like, by environment.
        group: the name under which the script imports `torch.distributed`, to ask for the number of processes.
        worker: the function that a spawned process runs.
        per_machine: the worker's parameter that says how many processes one machine runs.
        several_machines: the group may count more processes than were spawned here.
    """

    spawned: bool
    group: str
    worker: str = ""
    per_machine: str = ""
    several_machines: bool = False


def launch_of(tree: Tree) -> Launch | str:
    """Reads how the processes are started; a text says why a Trainer can't be told."""
    if "SLURM_" in tree.source.text or "OMPI_" in tree.source.text:
        return "its processes are counted by a cluster's own variables"
    aliases = {full: name for name, full in tree.imports.items()}
    group = aliases.get("torch.distributed") or ("torch.distributed" if tree.imports.get("torch") == "torch" else "")
    if not group:
        return "torch.distributed can't be asked for the number of processes"
    calls = tree.nodes(cst.Call)
    spawns = [call for call in calls if tree.qualified(call.func) in SPAWNS]
    if not spawns:
        return Launch(
            any((tree.qualified(call.func) or "").endswith("multiprocessing.Process") for call in calls), group
        )
    worker, per_machine = _worker(spawns[0], tree)
    return Launch(True, group, worker, per_machine, _on_several_machines(tree))


def _worker(call: cst.Call, tree: Tree) -> tuple[str, str]:
    """The function that is spawned, and its parameter that gets the number of processes."""
    given = arguments(call)
    name = dotted(given.get(0, "fn")) or ""
    handed, count = given.get(1, "args"), given.get(2, "nprocs")
    function = tree.functions.get(name)
    if function is None or count is None or not isinstance(handed, cst.Tuple):
        return name, ""
    for param, element in zip(parameters(function)[1:], handed.elements):
        if code(element.value) == code(count):
            return name, param.name.value
    return name, ""


def _on_several_machines(tree: Tree) -> bool:
    for node in tree.parents:
        word = node.value if isinstance(node, cst.Name) else ""
        if word.lower() in _MACHINES:
            return True
        targets = node.targets if isinstance(node, cst.Assign) and isinstance(node.value, cst.BinaryOperation) else ()
        if any("world_size" in (dotted(target.target) or "").lower() for target in targets):
            return True
    return False
