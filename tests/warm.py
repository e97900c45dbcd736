"""A Python that has torch and Lightning imported already, for tests that run many scripts under the tracer.

`python tests/warm.py SOCKET` serves: each script is run in a fork, with the arguments, folder, environment and standard
streams of who asks. Who asks is `warm_python.py`, which stands for the interpreter on a command line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

IMPORTED = ("numpy", "torch", "lightify.runtime.trainer", "lightning.pytorch")
CLIENT = Path(__file__).with_name("warm_python.py")
POLL_S = 0.01
START_S = 120.0


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[str]:
    """Starts the server; yields the path of a command that runs a script as an interpreter would."""
    address, command = folder / "socket", folder / "python"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{CLIENT}' '{address}' \"$@\"\n", encoding="utf-8")
    command.chmod(0o755)
    pinned = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    server = subprocess.Popen(
        [sys.executable, __file__, str(address)], env={**os.environ, **pinned}, stdin=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_S
        while not address.exists():
            assert server.poll() is None and time.monotonic() < end, "the warm Python did not start"
            time.sleep(POLL_S)
        yield str(command)
    finally:
        server.kill()
        server.wait()


class Served:
    """A script that runs for someone."""

    def __init__(self, asker: socket.socket, pid: int) -> None:
        self.asker, self.pid = asker, pid

    def is_over(self) -> bool:
        """Tells who asks how the script ended; ends it when nobody waits for it."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            with contextlib.suppress(OSError):
                self.asker.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            self.asker.close()
            return True
        with contextlib.suppress(BlockingIOError):
            if not self.asker.recv(1):
                os.killpg(self.pid, signal.SIGKILL)
        return False


def serve(address: str) -> None:
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    listener.settimeout(POLL_S)
    os.rename(f"{address}.new", address)
    parent, running = os.getppid(), list[Served]()
    while os.getppid() == parent:
        running = [script for script in running if not script.is_over()]
        with contextlib.suppress(TimeoutError):
            asker, _ = listener.accept()
            wanted, streams = receive(asker)
            pid = os.fork()
            if not pid:
                listener.close()
                return become(wanted, streams)
            for stream in streams:
                os.close(stream)
            asker.setblocking(False)
            running.append(Served(asker, pid))


def receive(asker: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is to be run, and its standard streams."""
    asker.setblocking(True)
    size, streams, _, _ = socket.recv_fds(asker, 8, 3)
    with asker.makefile("rb", buffering=0) as file:
        content = b""
        while len(content) < int(size):
            content += file.read(int(size) - len(content)) or b""
    return json.loads(content), streams


def become(wanted: dict[str, Any], streams: list[int]) -> None:
    """Turns this fork into an interpreter that runs a script."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["arguments"]
    sys.path[:1] = [str(Path(sys.argv[0]).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
