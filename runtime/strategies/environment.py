"""Who this process is among the others. The only file of the runtime that reads or writes `os.environ`."""

from __future__ import annotations

import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping

from ..errors import rank_zero_only


def read(name: str, default: str | None = None) -> str | None:
    return os.environ.get(name, default)


def required(name: str) -> str:
    """A variable that whoever started this process has set."""
    return os.environ[name]


def number(name: str, default: int | None = None) -> int:
    return int(os.environ[name] if default is None else os.environ.get(name, default))


def publish(name: str, value: str) -> None:
    """Sets a variable for this process and those it starts."""
    os.environ[name] = value


def withdraw(*names: str) -> None:
    for name in names:
        os.environ.pop(name, None)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `extra` on top, for a process to be started."""
    return {**os.environ, **extra}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class ClusterEnvironment(ABC):
    """Answers where the processes of one run find each other and which of them this one is."""

    @property
    @abstractmethod
    def creates_processes_externally(self) -> bool:
        """Whether something else than the runtime starts the processes."""

    @property
    @abstractmethod
    def main_address(self) -> str: ...

    @property
    @abstractmethod
    def main_port(self) -> int: ...

    @staticmethod
    @abstractmethod
    def detect() -> bool:
        """Whether this process runs in such an environment."""

    @abstractmethod
    def world_size(self) -> int: ...

    @abstractmethod
    def set_world_size(self, size: int) -> None: ...

    @abstractmethod
    def global_rank(self) -> int: ...

    @abstractmethod
    def set_global_rank(self, rank: int) -> None: ...

    @abstractmethod
    def local_rank(self) -> int: ...

    @abstractmethod
    def node_rank(self) -> int: ...

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raises ValueError when the Trainer's `devices` and `num_nodes` contradict the environment."""

    def teardown(self) -> None:
        """Removes what was published for the run."""


class LightningEnvironment(ClusterEnvironment):
    """The processes are started by the runtime, or one per node by hand with LOCAL_RANK, NODE_RANK and MASTER_ADDR."""

    def __init__(self) -> None:
        self._main_port: int | None = None
        self._global_rank = 0
        self._world_size = 1

    @property
    def creates_processes_externally(self) -> bool:
        return "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        if self._main_port is None:
            self._main_port = int(os.environ["MASTER_PORT"]) if "MASTER_PORT" in os.environ else free_port()
        return self._main_port

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return self._world_size

    def set_world_size(self, size: int) -> None:
        self._world_size = size

    def global_rank(self) -> int:
        return self._global_rank

    def set_global_rank(self, rank: int) -> None:
        self._global_rank = rank
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", 0))

    def node_rank(self) -> int:
        return int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0)))

    def teardown(self) -> None:
        if "WORLD_SIZE" in os.environ and self.node_rank() == 0 and self.local_rank() == 0:
            withdraw("WORLD_SIZE")


def is_interactive() -> bool:
    """Whether this is a notebook or a prompt: there is no script to run again."""
    return hasattr(sys, "ps1")
