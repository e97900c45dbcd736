"""Who this process is among the others. The only file of the runtime that reads or writes `os.environ`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping

from ..errors import rank_zero_only, rank_zero_warn


def read(name: str, default: str | None = None) -> str | None:
    return os.environ.get(name, default)


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


class TorchElasticEnvironment(ClusterEnvironment):
    """The processes are started by torchrun.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    """

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", 12910))

    @staticmethod
    def detect() -> bool:
        return "TORCHELASTIC_RUN_ID" in os.environ

    def world_size(self) -> int:
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """torchrun has decided."""

    def global_rank(self) -> int:
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return int(os.environ["LOCAL_RANK"])

    def node_rank(self) -> int:
        return int(os.environ.get("GROUP_RANK", 0))

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        if num_devices * num_nodes != self.world_size():
            raise ValueError(
                f"You set `devices={num_devices}` and `num_nodes={num_nodes}` in Lightning, but the product"
                f" ({num_devices} * {num_nodes}) does not match the world size ({self.world_size()})."
            )


class SLURMEnvironment(ClusterEnvironment):
    """The processes are started by `srun`, one task per device.

    Args:
        auto_requeue: Save and requeue the job when `requeue_signal` arrives.
        requeue_signal: SIGUSR1 where the platform has it.
    """

    def __init__(self, auto_requeue: bool = True, requeue_signal: signal.Signals | None = None) -> None:
        self.auto_requeue = auto_requeue
        if requeue_signal is None and sys.platform != "win32":
            requeue_signal = signal.SIGUSR1
        self.requeue_signal = requeue_signal
        self._warn_without_srun()

    @staticmethod
    def _warn_without_srun() -> None:
        if "SLURM_JOB_ID" not in os.environ or "SLURM_PROCID" in os.environ or shutil.which("srun") is None:
            return
        command = "srun python " + " ".join(sys.argv)
        rank_zero_warn(
            "The `srun` command is available on your system but is not used. HINT: If your intention is to run"
            f" the job on SLURM, prepend your python command with `srun` like so: {command[:64]} ..."
        )

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        address = os.environ.get("MASTER_ADDR")
        if address is None:
            address = self.first_host(os.environ.get("SLURM_NODELIST", "127.0.0.1"))
            publish("MASTER_ADDR", address)
        return address

    @property
    def main_port(self) -> int:
        if "MASTER_PORT" not in os.environ:
            # Every task derives the same port from the job's number without talking to the others.
            job = os.environ.get("SLURM_JOB_ID", "")
            publish("MASTER_PORT", str(15000 + int(job[-4:]) if job[-4:].isdigit() else 12910))
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def first_host(nodes: str) -> str:
        """The first host of a SLURM node list: ``a[05-09,12],b1`` -> ``a05``."""
        nodes = re.sub(r"\[(.*?)[,-].*\]", r"\1", nodes)
        nodes = re.sub(r"\[(.*?)\]", r"\1", nodes)
        return nodes.split(" ")[0].split(",")[0]

    @staticmethod
    def detect() -> bool:
        """Whether srun started this process; a job's own interactive shell does not count."""
        if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
            return False
        return "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ

    @staticmethod
    def job_name() -> str | None:
        return os.environ.get("SLURM_JOB_NAME")

    @staticmethod
    def job_id() -> int | None:
        if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
            return None
        job = os.environ.get("SLURM_JOB_ID", "")
        return int(job) if job.isdigit() else None

    @staticmethod
    def job_label() -> str | None:
        """What `scontrol requeue` wants: the job's number, or array number and task."""
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        return f"{array}_{task}" if array is not None else os.environ.get("SLURM_JOB_ID")

    def world_size(self) -> int:
        return int(os.environ["SLURM_NTASKS"])

    def set_world_size(self, size: int) -> None:
        """SLURM has decided."""

    def global_rank(self) -> int:
        return int(os.environ["SLURM_PROCID"])

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        return int(os.environ["SLURM_NODEID"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        if not self.detect():
            return
        per_node = os.environ.get("SLURM_NTASKS_PER_NODE")
        if per_node is not None and int(per_node) != num_devices:
            raise ValueError(
                f"You set `devices={num_devices}` in Lightning, but the number of tasks per node configured in SLURM"
                f" `--ntasks-per-node={per_node}` does not match. HINT: Set `devices={per_node}`."
            )
        nodes = os.environ.get("SLURM_NNODES")
        if nodes is not None and int(nodes) != num_nodes:
            raise ValueError(
                f"You set `num_nodes={num_nodes}` in Lightning, but the number of nodes configured in SLURM"
                f" `--nodes={nodes}` does not match. HINT: Set `num_nodes={nodes}`."
            )


class MPIEnvironment(ClusterEnvironment):
    """The processes are started by Open MPI's `mpirun`; its own variables are enough, mpi4py is not needed."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", 12910))

    @staticmethod
    def detect() -> bool:
        return int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1

    def world_size(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """mpirun has decided."""

    def global_rank(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_RANK"])

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"])

    def node_rank(self) -> int:
        return self.global_rank() // int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", self.world_size()))


class LSFEnvironment(ClusterEnvironment):
    """The processes are started by LSF's `jsrun`."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._hosts()[0]

    @property
    def main_port(self) -> int:
        # Every process derives the same port from the job's number without talking to the others.
        return int(os.environ["LSB_JOBID"]) % 1000 + 10000

    @staticmethod
    def detect() -> bool:
        return {"LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"} <= set(os.environ)

    @staticmethod
    def _hosts() -> list[str]:
        """The hosts of the job, without the one that only launches."""
        with open(os.environ["LSB_DJOB_RANKFILE"]) as file:
            hosts = list(dict.fromkeys(line.strip() for line in file if line.strip()))
        return hosts[1:] if len(hosts) > 1 else hosts

    def world_size(self) -> int:
        return int(os.environ["JSM_NAMESPACE_SIZE"])

    def set_world_size(self, size: int) -> None:
        """jsrun has decided."""

    def global_rank(self) -> int:
        return int(os.environ["JSM_NAMESPACE_RANK"])

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return int(os.environ["JSM_NAMESPACE_LOCAL_RANK"])

    def node_rank(self) -> int:
        return self._hosts().index(socket.gethostname())


class KubeflowEnvironment(ClusterEnvironment):
    """The processes are pods of a PyTorchJob, one device each; not detected, to be passed as a plugin."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        raise NotImplementedError("The Kubeflow environment can't be detected automatically.")

    def world_size(self) -> int:
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """The job has decided."""

    def global_rank(self) -> int:
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = self.global_rank()

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self.global_rank()


def detect_environment() -> ClusterEnvironment:
    """The first environment that claims this process; the runtime's own launch when none does."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment):
        if kind.detect():
            return kind()
    return LightningEnvironment()


def is_interactive() -> bool:
    """Whether this is a notebook or a prompt: there is no script to run again."""
    return hasattr(sys, "ps1")
