"""One small run, described by JSON on the command line; the first process writes what came out of it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import lightify.runtime as L
import torch
from lightify.runtime.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


class Net(L.LightningModule):
    def __init__(self, manual: bool = False, fail_on_rank: int | None = None, batch_norm: bool = False) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
        if batch_norm:
            self.net[0].bias = None  # a normalised bias has no gradient but noise, which Adam would blow up
            self.net.insert(1, torch.nn.BatchNorm1d(16))
        self.automatic_optimization = not manual
        self.fail_on_rank = fail_on_rank
        self.pause_s = 0.0
        self.losses: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = torch.nn.functional.mse_loss(self(x), y)
        if self.pause_s:
            if self.trainer.global_step == 0:  # once: rewriting it would leave it empty for a moment
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

    def __iter__(self) -> Any:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        for _ in range(8 + 4 * rank):
            yield torch.ones(8), torch.ones(1)


def main(case: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(case.get("samples", 64), 8)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    strategy: Any = case["strategy"]
    if strategy == "fsdp":
        strategy = FSDPStrategy(state_dict_type=case.get("state_dict_type", "full"), auto_wrap_policy={torch.nn.Linear})
    if strategy == "ddp" and case.get("find_unused_parameters"):
        strategy = DDPStrategy(find_unused_parameters=True)
    model = Net(case.get("manual", False), case.get("fail_on_rank"), case.get("batch_norm", False))
    model.pause_s = case.get("pause_s", 0.0)
    trainer = L.Trainer(
        callbacks=[L.ModelCheckpoint(dirpath=case["folder"], save_on_exception=True)],
        accelerator="cpu",
        strategy=strategy,
        devices=case["devices"],
        num_nodes=case.get("num_nodes", 1),
        max_epochs=case.get("max_epochs", 2),
        accumulate_grad_batches=case.get("accumulate", 1),
        sync_batchnorm=case.get("batch_norm", False),
        gradient_clip_val=case.get("clip"),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=case["folder"],
    )
    train = DataLoader(data, batch_size=case["batch_size"])
    if case.get("uneven"):
        train = DataLoader(Uneven(), batch_size=case["batch_size"])
    trainer.fit(model, train, DataLoader(data, batch_size=case["batch_size"]), ckpt_path=case.get("ckpt_path"))
    path = trainer.checkpoint_callback.best_model_path
    if trainer.is_global_zero:
        result = {
            "loss": trainer.callback_metrics["loss"].item(),
            "val_loss": trainer.callback_metrics["val_loss"].item(),
            "global_step": trainer.global_step,
            "checkpoint": path,
        }
        Path(case["folder"], "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
