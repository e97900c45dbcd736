"""Starts the other processes of a run: the script again, or this process's function in spawned ones."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessRaisedException

from ..errors import MisconfigurationException
from . import environment
from .base import Launcher
from .environment import ClusterEnvironment
from .handover import collect, hand_over

if TYPE_CHECKING:
    from .parallel import ParallelStrategy

T = TypeVar("T")

POLL_INTERVAL_S = 0.2
GRACE_S = 10.0  # for a process to end by itself once another has failed
FAREWELL_S = 60.0  # for the others to end once the first process is done


class SubprocessLauncher(Launcher):
    """Runs the same command again for the local ranks after the first; they find out who they are by environment.

    Each process is watched: when one fails, its error is shown and the others are ended.
    """

    def __init__(self, cluster_environment: ClusterEnvironment, num_processes: int, num_nodes: int) -> None:
        self.environment = cluster_environment
        self.num_processes, self.num_nodes = num_processes, num_nodes
        self.processes: list[subprocess.Popen[bytes]] = []

    def launch(self, function: Callable[..., T], *args: Any, trainer: Any = None, **kwargs: Any) -> T:
        if not self.processes and not self.environment.creates_processes_externally and self.num_processes > 1:
            self._start()
        return function(*args, **kwargs)

    def _start(self) -> None:
        shared = {
            "MASTER_ADDR": self.environment.main_address,
            "MASTER_PORT": str(self.environment.main_port),
            "NODE_RANK": str(self.environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        command = script_command()
        for local_rank in range(1, self.num_processes):
            own = {**shared, "LOCAL_RANK": str(local_rank)}
            self.processes.append(subprocess.Popen(command, env=environment.child_environment(own), cwd=os.getcwd()))
        # A later Trainer of this script finds its processes running.
        environment.publish("LOCAL_RANK", "0")
        watcher = threading.Thread(target=self._watch, name="lightify-process-watch", daemon=True)
        watcher.start()
        atexit.register(self._farewell)

    def _watch(self) -> None:
        while True:
            codes = [process.poll() for process in self.processes]
            failed = next((rank for rank, code in enumerate(codes, start=1) if code not in (None, 0)), None)
            if failed is not None:
                self._end_after_failure(failed, codes[failed - 1])
                return
            if all(code == 0 for code in codes):
                return
            time.sleep(POLL_INTERVAL_S)

    def _end_after_failure(self, local_rank: int, code: int | None) -> None:
        print(
            f"The process of local rank {local_rank} ended with exit code {code}; its error is printed above."
            " The other processes of the run are being ended.",
            file=sys.stderr,
            flush=True,
        )
        for process in self.processes:
            if process.poll() is None:
                process.kill()  # it may be waiting for the failed one inside torch, where no signal handler runs
        # This process usually fails by itself, its connection being gone. If it hangs, nothing else can end it.
        time.sleep(GRACE_S)
        os._exit(1)

    def _farewell(self) -> None:
        """At this process's end: the others end too, or are ended."""
        failed = hasattr(sys, "last_value") or hasattr(sys, "last_exc")
        deadline = time.monotonic() + (1.0 if failed else FAREWELL_S)
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def kill(self, signum: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signum)


def script_command() -> list[str]:
    """The command that started this process: a script, or a module by `python -m`."""
    main = sys.modules["__main__"]  # which whoever runs a script from within Python replaces
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        name = spec.parent if spec.name.endswith("__main__") and spec.parent else spec.name
        return [sys.executable, "-m", name, *sys.argv[1:]]
    script = getattr(main, "__file__", None)
    if script is None:
        raise MisconfigurationException(
            "`strategy='ddp'` starts this script again in each process, but there is no script: you are in an"
            " interactive session. Use `strategy='ddp_notebook'` or `strategy='ddp_fork'`, or put the code in a file."
        )
    return [sys.executable, os.path.abspath(script), *sys.argv[1:]]


class SpawnLauncher(Launcher):
    """Runs the function in new processes of this machine and brings the first one's result and state back.

    Args:
        strategy: Whose processes these are.
        start_method: "spawn" and "forkserver" start afresh, and pickle the trainer and the module; "fork" copies this
            process as it is, and works in notebooks, but not once this process has used CUDA.
    """

    def __init__(self, strategy: ParallelStrategy, start_method: str) -> None:
        if start_method not in mp.get_all_start_methods():
            raise ValueError(
                f"The start method '{start_method}' is not available on this platform. Available methods are:"
                f" {', '.join(mp.get_all_start_methods())}"
            )
        self.strategy, self.start_method = strategy, start_method
        self.is_interactive_compatible = start_method == "fork"
        self.pids: list[int] = []

    def launch(self, function: Callable[..., T], *args: Any, trainer: Any = None, **kwargs: Any) -> T:
        if self.strategy.spawned_rank is not None:
            return function(*args, **kwargs)  # already in one of the processes
        if self.start_method in ("fork", "forkserver") and torch.cuda.is_initialized():
            raise RuntimeError(
                "Lightning can't create new processes if CUDA is already initialized. Did you manually call"
                " `torch.cuda.*` functions, have moved the model to the device, or allocated memory on the GPU any"
                " other way? Please remove any such calls, or change the selected strategy."
            )
        environment.publish("MASTER_ADDR", self.strategy.environment.main_address)
        environment.publish("MASTER_PORT", str(self.strategy.environment.main_port))
        with tempfile.TemporaryDirectory() as folder:
            result_file = str(Path(folder, "result.pt"))
            processes = mp.start_processes(  # type: ignore[attr-defined]
                _run_spawned,
                args=(self.strategy, function, args, kwargs, trainer, result_file),
                nprocs=self.strategy.num_processes,
                start_method=self.start_method,
                join=False,
            )
            self.pids = processes.pids()
            try:
                # Raises the error of the process that ended first, after ending the others.
                while not processes.join():
                    pass
            except ProcessRaisedException as error:
                raise first_raised(processes, error) from None
            # Written by our own child a moment ago; what steps return can be of any class.
            result, leftovers = torch.load(result_file, map_location="cpu", weights_only=False)
        environment.withdraw("MASTER_PORT")
        if trainer is not None:
            hand_over(leftovers, trainer, next((each for each in args if isinstance(each, torch.nn.Module)), None))
        return result

    def kill(self, signum: int) -> None:
        for pid in self.pids:
            os.kill(pid, signum)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "pids": []}


def _run_spawned(
    local_rank: int,
    strategy: ParallelStrategy,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    trainer: Any,
    result_file: str,
) -> None:
    for part in (*args, *kwargs.values(), getattr(trainer, "lightning_module", None)):
        if isinstance(part, torch.nn.Module):
            _own_memory(part)
    strategy.spawned_rank = local_rank
    environment.publish("LOCAL_RANK", str(local_rank))
    strategy.announce_rank()
    result = function(*args, **kwargs)
    if local_rank == 0:
        leftovers = collect(trainer) if trainer is not None else None
        torch.save((result, leftovers), result_file)
    strategy.barrier("spawned processes end together")


def first_raised(processes: Any, error: ProcessRaisedException) -> ProcessRaisedException:
    """The error of the process that raised first: others lose their connection to it, and may end before it does.

    Args:
        processes: what `torch.multiprocessing` started; each process leaves its error in a file.
        error: of the process that ended first.
    """
    told = [index for index, path in enumerate(processes.error_files) if os.path.exists(path)]
    first = min(told, key=lambda index: os.stat(processes.error_files[index]).st_mtime_ns)
    if first == error.error_index:
        return error
    # Written by our own child a moment ago.
    trace = pickle.loads(Path(processes.error_files[first]).read_bytes())
    text = f"\n\n-- Process {first} terminated with the following error:\n{trace}"
    return ProcessRaisedException(text, first, processes.processes[first].pid)


def _own_memory(module: torch.nn.Module) -> None:
    """Gives the module weights of its own: those that came through a pipe are shared by all processes on CPU."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()
