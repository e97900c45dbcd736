"""In the idiomatic style the Trainer starts a script's processes, tells them apart and shares out the data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightify.ledger import Fate
from tests.converter.processes import in_two_processes
from tests.converter.scripts import converted, methods

TORCHRUN = """\
import hashlib
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def setup():
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    print(f"process {rank} of {world_size}")
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    return rank, world_size


def main():
    rank, world_size = setup()
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    torch.manual_seed(7)
    x = torch.randn(90, 3)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank)
    loader = DataLoader(data, batch_size=8, sampler=sampler, shuffle=False)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for i, (x, y) in enumerate(loader):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0:
            torch.save(model.state_dict(), "net.pt")
    weights = torch.cat([value.detach().flatten() for value in model.parameters()])
    print(f"weights {hashlib.sha256(weights.numpy().tobytes()).hexdigest()}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
"""

SPAWN = """\
import hashlib
import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def setup(rank, world_size):
    os.environ["MASTER_ADDR"] = "localhost"
    os.environ["MASTER_PORT"] = "29642"
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def worker(rank, world_size, use_ddp):
    if use_ddp:
        setup(rank, world_size)
    torch.manual_seed(5)
    options = {"batch_size": 8}
    x = torch.randn(60, 3)
    data = TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1)
    if use_ddp:
        options["sampler"] = DistributedSampler(data, num_replicas=world_size, rank=rank, shuffle=False)
    loader = DataLoader(data, **options)
    net = nn.Linear(3, 1)
    if use_ddp:
        net = DDP(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.8)
    for epoch in range(2):
        for i, (x, y) in enumerate(loader):
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            if (i + 1) % 2 == 0 or i == len(loader) - 1:
                optimizer.step()
                optimizer.zero_grad()
    if not use_ddp or rank == 0:
        torch.save(net.state_dict(), "net.pt")
    weights = torch.cat([value.detach().flatten() for value in net.parameters()])
    print(f"weights {hashlib.sha256(weights.numpy().tobytes()).hexdigest()}")
    if use_ddp:
        dist.destroy_process_group()


if __name__ == "__main__":
    size = int(os.getenv("SIZE", 2))
    if len(sys.argv) > 1:
        mp.spawn(worker, args=(size, True), nprocs=size)
    else:
        worker(0, size, False)
"""

CLASSES = """\
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


class Fitter:
    def __init__(self, model: nn.Module, data: DataLoader, gpu_id: int):
        self.gpu_id = gpu_id
        self.model = model.to(gpu_id)
        self.data = data
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.model = DDP(self.model, device_ids=[gpu_id])

    def run_batch(self, x, y):
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()

    def fit(self, epochs):
        for epoch in range(epochs):
            self.data.sampler.set_epoch(epoch)
            for x, y in self.data:
                self.run_batch(x.to(self.gpu_id), y.to(self.gpu_id))
            if self.gpu_id == 0:
                self.save(epoch)

    def save(self, epoch):
        torch.save(self.model.module.state_dict(), f"{epoch}.pt")


def main(rank, size, epochs):
    init_process_group("nccl", rank=rank, world_size=size)
    x = torch.randn(32, 3)
    data = DataLoader(
        TensorDataset(x, x.sum(1, keepdim=True)),
        batch_size=4,
        sampler=DistributedSampler(TensorDataset(x, x.sum(1, keepdim=True))),
    )
    Fitter(nn.Linear(3, 1), data, rank).fit(epochs)
    destroy_process_group()


if __name__ == "__main__":
    size = torch.cuda.device_count()
    mp.spawn(main, args=(size, 2), nprocs=size)
"""


def test_environment_group_and_sampler_go() -> None:
    text = converted(TORCHRUN, style="idiomatic").text or ""
    assert 'strategy="ddp", devices="auto"' in text
    assert "self.trainer.is_global_zero" in text and "shuffle=True" in text
    assert not re.search(r"RANK|init_process|set_device|setup|Sampler|set_epoch|destroy", text)


def test_spawned_worker_is_called() -> None:
    text = converted(SPAWN, style="idiomatic").text or ""
    assert "def worker(world_size, use_ddp):" in text and "worker(size, True)" in text and "worker(size, False)" in text
    assert "if trainer.is_global_zero:" in text and "len(self.trainer.train_dataloader)" in text
    assert "devices=world_size if use_ddp else 1" in text
    assert not re.search(r"rank\b|spawn|MASTER|Sampler|destroy|prefix", text)


#: (a script, why it keeps its processes)
KEPT = {
    "each process has a seed of its own": (
        TORCHRUN.replace("manual_seed(7)", "manual_seed(rank)"),
        "told apart where there is no Trainer yet",
    ),
    "the order is the same in each epoch": (
        TORCHRUN.replace("        sampler.set_epoch(epoch)\n", ""),
        "a shuffling sampler is not told the epoch",
    ),
    "the order is another one": (
        TORCHRUN.replace("set_epoch(epoch)", "set_epoch(epoch + 1)"),
        "tells a sampler other numbers than the Trainer would",
    ),
    "a sampler of its own seed": (
        TORCHRUN.replace("rank=rank)\n    loader", "rank=rank, seed=3)\n    loader"),
        "is made in a way that the Trainer does not know",
    ),
    "a loader that each process runs as a whole": (
        TORCHRUN.replace("    model =", "    whole = DataLoader(data)\n    model =", 1),
        "a loader without a DistributedSampler would be shared out, too",
    ),
    "what one process does before": (
        TORCHRUN.replace("    model =", "    if rank == 0:\n        os.makedirs('out', exist_ok=True)\n    model =", 1),
        "told apart where there is no Trainer yet",
    ),
    "the number of processes is used": (
        TORCHRUN.replace("lr=0.05", "lr=0.05 * world_size"),
        "processes are counted",
    ),
    "something is exchanged before": (
        TORCHRUN.replace("    model =", "    dist.broadcast(x, 0)\n    model =", 1),
        "`dist.broadcast(x, 0)` needs the script's own process group",
    ),
    "what the script does after its processes": (
        SPAWN.replace("nprocs=size)", "nprocs=size)\n        print('done')"),
        "what follows the spawned processes runs once",
    ),
    "as many processes as another function knows": (
        CLASSES.replace("torch.cuda.device_count()", "int(input())"),
        "the number of processes is not known where the training starts",
    ),
    "processes on several machines": (
        SPAWN.replace("size = int", "nodes = 1\n    size = int"),
        "its processes run on several machines",
    ),
}


@pytest.mark.parametrize(("text", "reason"), KEPT.values(), ids=KEPT)
def test_processes_stay_where_the_trainer_would_do_something_else(text: str, reason: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None, done.refusals
    assert "init_process_group" in done.text and "strategy=" in done.text
    assert any("starts its processes itself" in note and reason in note for note in done.reasons), done.reasons


def test_trainers_that_know_of_no_other_process_write_no_files() -> None:
    averaged = (
        "for value in model.parameters():\n                dist.all_reduce(value.grad)\n            optimizer.step()"
    )
    own = TORCHRUN.replace("    model = DistributedDataParallel(model)\n", "").replace("optimizer.step()", averaged)
    done = converted(own, style="idiomatic")
    assert "logger=False" in str(done.text) and "enable_checkpointing=False" in str(done.text)
    assert not any("lightning_logs" in one for one in done.departures)


def test_ranks_that_are_handed_around_go() -> None:
    done = converted(CLASSES, style="idiomatic")
    text = done.text or ""
    assert "def main(size, epochs):" in text and "main(size, 2)" in text
    assert "def __init__(self, model: nn.Module, data: DataLoader):" in text
    assert "if self.trainer.is_global_zero:" in text and 'strategy="ddp", devices="auto"' in text
    assert not re.search(r"gpu_id|rank|DDP|group|Sampler|set_epoch|\.to\(|cuda\(\)", text)
    assert "run_batch(self" not in text and "methods whose code moved are gone: run_batch" in done.departures


def test_ranks_and_sums_in_the_run_are_the_trainers() -> None:
    shown = 'print(f"[{rank}] of {world_size}")\n        dist.all_reduce(loss.detach())\n        if rank == 0'
    hooks = methods(converted(TORCHRUN.replace("if rank == 0", shown), style="idiomatic").text)
    end = hooks["on_train_epoch_end"]
    assert "f'[{self.trainer.global_rank}] of {self.trainer.world_size}'" in end and "dist.all_reduce(" in end


def test_lightning_joins_the_scripts_own_processes() -> None:
    assert "init_process_group" in (converted(SPAWN, style="idiomatic", runtime="lightning").text or "")


def test_each_statement_has_one_fate() -> None:
    for text in (TORCHRUN, SPAWN):
        done = converted(text, style="idiomatic")
        missing = [e for e in done.ledger.entries if "init_process_group" in e.text or "DistributedSampler(" in e.text]
        assert {(e.fate, e.target) for e in missing} == {(Fate.REPLACED, "Trainer(strategy=...)")}


SCRIPTS = {"torchrun": TORCHRUN, "spawn": SPAWN}


@pytest.mark.slow
def test_two_processes_train_as_before(tmp_path: Path) -> None:
    """Started by torchrun's environment as by the source; or by the Trainer, where the source spawned them."""
    results = {name: converted(text, style="idiomatic").text or "" for name, text in SCRIPTS.items()}
    scripts = {**{f"{name}_source.py": text for name, text in SCRIPTS.items()}, "torchrun.py": results["torchrun"]}
    started = in_two_processes(scripts, tmp_path)
    (tmp_path / "result.py").write_text(results["spawn"], encoding="utf-8")
    command = [sys.executable, "result.py", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    weights = re.findall(r"weights (\w{64})", started + run.stdout)  # two of each source, two of each result
    assert len(weights) == 8
    assert sorted(weights.count(each) for each in set(weights)) == [4, 4]
