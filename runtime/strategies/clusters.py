"""Environments in which something else than the runtime starts the processes and names them by variables."""

from __future__ import annotations

import socket
from pathlib import Path

from ..errors import rank_zero_only
from .environment import ClusterEnvironment, number, read, required


class ExternalEnvironment(ClusterEnvironment):
    """What such environments share; subclasses say what their variables are called."""

    size_variable = "WORLD_SIZE"
    rank_variable = "RANK"
    local_rank_variable = "LOCAL_RANK"

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return read("MASTER_ADDR") or "127.0.0.1"

    @property
    def main_port(self) -> int:
        return number("MASTER_PORT", 12910)

    def world_size(self) -> int:
        return number(self.size_variable)

    def set_world_size(self, size: int) -> None:
        """It is decided already."""

    def global_rank(self) -> int:
        return number(self.rank_variable)

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return number(self.local_rank_variable)


class TorchElasticEnvironment(ExternalEnvironment):
    """The processes are started by torchrun.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    """

    @staticmethod
    def detect() -> bool:
        return read("TORCHELASTIC_RUN_ID") is not None

    def node_rank(self) -> int:
        return number("GROUP_RANK", 0)

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        if num_devices * num_nodes != self.world_size():
            raise ValueError(
                f"You set `devices={num_devices}` and `num_nodes={num_nodes}` in Lightning, but the product"
                f" ({num_devices} * {num_nodes}) does not match the world size ({self.world_size()})."
            )


class MPIEnvironment(ExternalEnvironment):
    """The processes are started by Open MPI's `mpirun`; its own variables are enough, mpi4py is not needed."""

    size_variable = "OMPI_COMM_WORLD_SIZE"
    rank_variable = "OMPI_COMM_WORLD_RANK"
    local_rank_variable = "OMPI_COMM_WORLD_LOCAL_RANK"

    @staticmethod
    def detect() -> bool:
        return number("OMPI_COMM_WORLD_SIZE", 1) > 1

    def node_rank(self) -> int:
        return self.global_rank() // number("OMPI_COMM_WORLD_LOCAL_SIZE", self.world_size())


class LSFEnvironment(ExternalEnvironment):
    """The processes are started by LSF's `jsrun`."""

    size_variable = "JSM_NAMESPACE_SIZE"
    rank_variable = "JSM_NAMESPACE_RANK"
    local_rank_variable = "JSM_NAMESPACE_LOCAL_RANK"

    @property
    def main_address(self) -> str:
        return self._hosts()[0]

    @property
    def main_port(self) -> int:
        # Every process derives the same port from the job's number without talking to the others.
        return number("LSB_JOBID") % 1000 + 10000

    @staticmethod
    def detect() -> bool:
        needed = ("LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")
        return all(read(name) is not None for name in needed)

    @staticmethod
    def _hosts() -> list[str]:
        """The hosts of the job, without the one that only launches."""
        lines = Path(required("LSB_DJOB_RANKFILE")).read_text().splitlines()
        hosts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        return hosts[1:] if len(hosts) > 1 else hosts

    def node_rank(self) -> int:
        return self._hosts().index(socket.gethostname())


class KubeflowEnvironment(ExternalEnvironment):
    """The processes are pods of a PyTorchJob, one device each; not detected, to be passed as a plugin."""

    @staticmethod
    def detect() -> bool:
        raise NotImplementedError("The Kubeflow environment can't be detected automatically.")

    @property
    def main_address(self) -> str:
        return required("MASTER_ADDR")

    @property
    def main_port(self) -> int:
        return number("MASTER_PORT")

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self.global_rank()
