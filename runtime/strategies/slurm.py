"""SLURM: who this process is, and whether the job can be put back into the queue."""

from __future__ import annotations

import re
import shutil
import signal
import sys

from ..errors import rank_zero_warn
from .clusters import ExternalEnvironment
from .environment import number, publish, read


class SLURMEnvironment(ExternalEnvironment):
    """The processes are started by `srun`, one task per device.

    Args:
        auto_requeue: Save and requeue the job when `requeue_signal` arrives.
        requeue_signal: SIGUSR1 where the platform has it.
    """

    size_variable = "SLURM_NTASKS"
    rank_variable = "SLURM_PROCID"
    local_rank_variable = "SLURM_LOCALID"

    def __init__(self, auto_requeue: bool = True, requeue_signal: signal.Signals | None = None) -> None:
        self.auto_requeue = auto_requeue
        if requeue_signal is None and sys.platform != "win32":
            requeue_signal = signal.SIGUSR1
        self.requeue_signal = requeue_signal
        self._warn_without_srun()

    @staticmethod
    def _warn_without_srun() -> None:
        if read("SLURM_JOB_ID") is None or read("SLURM_PROCID") is not None or shutil.which("srun") is None:
            return
        command = "srun python " + " ".join(sys.argv)
        rank_zero_warn(
            "The `srun` command is available on your system but is not used. HINT: If your intention is to run"
            f" the job on SLURM, prepend your python command with `srun` like so: {command[:64]} ..."
        )

    @property
    def main_address(self) -> str:
        address = read("MASTER_ADDR")
        if address is None:
            address = self.first_host(read("SLURM_NODELIST") or "127.0.0.1")
            publish("MASTER_ADDR", address)
        return address

    @property
    def main_port(self) -> int:
        if read("MASTER_PORT") is None:
            # Every task derives the same port from the job's number without talking to the others.
            job = read("SLURM_JOB_ID") or ""
            publish("MASTER_PORT", str(15000 + int(job[-4:]) if job[-4:].isdigit() else 12910))
        return number("MASTER_PORT")

    @staticmethod
    def first_host(nodes: str) -> str:
        """The first host of a SLURM node list: ``a[05-09,12],b1`` -> ``a05``."""
        nodes = re.sub(r"\[(.*?)[,-].*\]", r"\1", nodes)
        nodes = re.sub(r"\[(.*?)\]", r"\1", nodes)
        return nodes.split(" ")[0].split(",")[0]

    @staticmethod
    def detect() -> bool:
        """Whether srun started this process; a job's own interactive shell does not count."""
        if read("SLURM_JOB_NAME") in ("bash", "interactive"):
            return False
        return read("SLURM_NTASKS") is not None and read("SLURM_PROCID") is not None

    @staticmethod
    def job_name() -> str | None:
        return read("SLURM_JOB_NAME")

    @staticmethod
    def job_id() -> int | None:
        if read("SLURM_JOB_NAME") in ("bash", "interactive"):
            return None
        job = read("SLURM_JOB_ID") or ""
        return int(job) if job.isdigit() else None

    @staticmethod
    def job_label() -> str | None:
        """What `scontrol requeue` wants: the job's number, or array number and task."""
        array, task = read("SLURM_ARRAY_JOB_ID"), read("SLURM_ARRAY_TASK_ID")
        return f"{array}_{task}" if array is not None else read("SLURM_JOB_ID")

    def node_rank(self) -> int:
        return number("SLURM_NODEID")

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        if not self.detect():
            return
        per_node = read("SLURM_NTASKS_PER_NODE")
        if per_node is not None and int(per_node) != num_devices:
            raise ValueError(
                f"You set `devices={num_devices}` in Lightning, but the number of tasks per node configured in SLURM"
                f" `--ntasks-per-node={per_node}` does not match. HINT: Set `devices={per_node}`."
            )
        nodes = read("SLURM_NNODES")
        if nodes is not None and int(nodes) != num_nodes:
            raise ValueError(
                f"You set `num_nodes={num_nodes}` in Lightning, but the number of nodes configured in SLURM"
                f" `--nodes={nodes}` does not match. HINT: Set `num_nodes={nodes}`."
            )
