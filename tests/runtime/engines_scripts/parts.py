"""What the runs of several processes are made of: a module, data, a trainer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightify.runtime as L
import torch
from lightify.runtime.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


class Net(L.LightningModule):
    """A small network whose options come from a case."""

    def __init__(
        self,
        manual: bool = False,
        fail_on_rank: int | None = None,
        batch_norm: bool = False,
        dropout: float = 0.0,
        pause_s: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        if batch_norm:
            self.net[0].bias = None  # a normalised bias has no gradient but noise, which Adam would blow up
            self.net.insert(1, torch.nn.BatchNorm1d(16))
        if dropout:
            self.net.insert(1, torch.nn.Dropout(dropout))
        self.automatic_optimization = not manual
        self.fail_on_rank, self.pause_s = fail_on_rank, pause_s

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = torch.nn.functional.mse_loss(self(x), y)
        if self.pause_s:
            if self.global_step == 0:
                Path(self.trainer.default_root_dir, f"pid{self.global_rank}").write_text(str(os.getpid()))
            time.sleep(self.pause_s)
        if self.fail_on_rank == self.global_rank and batch_idx == 2:
            raise ValueError("the user's own error")
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            for _ in range(2):  # two backward passes in one step, which DDP does not expect
                optimizer.zero_grad()
                self.manual_backward(torch.nn.functional.mse_loss(self(x), y))
                optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self(x), y), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


class Uneven(IterableDataset):
    """As many samples as the rank says, without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        for _ in range(8 + 4 * rank):
            yield torch.ones(8), torch.ones(1)


def data(samples: int = 64) -> TensorDataset:
    x = torch.randn(samples, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x.sum(1, keepdim=True))


def net(case: dict[str, Any]) -> Net:
    torch.manual_seed(0)
    return Net(**{name: case[name] for name in ("manual", "fail_on_rank", "dropout", "pause_s") if name in case},
               batch_norm=case.get("batch_norm") is not None)  # fmt: skip


def loaders(case: dict[str, Any]) -> tuple[DataLoader, DataLoader]:
    """For training and validation."""
    samples, batch_size = data(case.get("samples", 64)), case["batch_size"]
    training = Uneven() if case.get("uneven") else samples
    train = DataLoader(training, batch_size, shuffle=case.get("shuffle", False))
    return train, DataLoader(Uneven() if case.get("uneven_validation") else samples, batch_size)


def trainer(case: dict[str, Any], **more: Any) -> L.Trainer:
    strategy: Any = case.get("strategy", "auto")
    if strategy == "fsdp":
        strategy = FSDPStrategy(state_dict_type=case.get("state_dict_type", "full"), auto_wrap_policy={torch.nn.Linear})
    elif strategy == "ddp" and "ddp" in case:
        strategy = DDPStrategy(**case["ddp"])
    arguments: dict[str, Any] = {
        "accelerator": "cpu",
        "strategy": strategy,
        "devices": case.get("devices", 1),
        "num_nodes": case.get("num_nodes", 1),
        "max_epochs": case.get("max_epochs", 2),
        "accumulate_grad_batches": case.get("accumulate", 1),
        "sync_batchnorm": case.get("batch_norm") == "sync",
        "gradient_clip_val": case.get("clip"),
        "precision": case.get("precision", "32-true"),
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": case["folder"],
    }
    return L.Trainer(**{**arguments, **more})
