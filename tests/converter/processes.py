"""Runs scripts one after the other, each in two processes as torchrun would start them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_LAUNCH = """\
import faulthandler, os, pathlib, runpy, signal, socket, sys

os.environ["OMP_NUM_THREADS"] = "1"  # as torchrun sets it; Lightning would choose another number
import torch, lightify.runtime, lightning  # once, before the processes part
import torch.distributed as dist

os.environ.update(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0", GROUP_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")


def leave(group=None):
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may wait for ever while the wrapper and its group are torn down


def train(name, rank):
    dist.destroy_process_group = leave  # the last line of each script
    faulthandler.dump_traceback_later(150, exit=True)  # a process that waits for ever says where
    if "spawn" in name:
        runpy.run_path(name, run_name="__mp_main__")["worker"](rank, 2, 3)
    else:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), TORCHELASTIC_RUN_ID="test")
        runpy.run_path(name, run_name="__main__")
    if dist.is_initialized():
        leave()  # a Trainer has opened the group


for name in sys.argv[1:]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
    pathlib.Path(name).write_text(pathlib.Path(name).read_text().replace("29642", port))
    pids = []
    for rank in (0, 1):
        pids.append(os.fork())
        if pids[-1] == 0:
            try:
                train(name, rank)
            finally:
                os._exit(1)
    while pids:
        pid, status = os.wait()
        pids.remove(pid)
        if status:
            for other in pids:
                os.kill(other, signal.SIGKILL)
            sys.exit(f"{name} failed")
"""


def in_two_processes(scripts: Mapping[str, str], folder: Path) -> str:
    """What some scripts print, by file name; the last thing that each does with its process group is to take it down, if it does."""
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", _LAUNCH, *scripts]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout
