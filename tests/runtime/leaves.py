"""A small module, its data and a quiet Trainer, for the tests of callbacks, loggers, profilers and the tuner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightify.runtime as L
import torch
from torch.utils.data import DataLoader, TensorDataset


def data(samples: int = 32) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(
        torch.randn(samples, 4, generator=generator), torch.randint(2, (samples,), generator=generator)
    )


class Classifier(L.LightningModule):
    def __init__(self, lr: float = 0.1, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.batch_size = batch_size
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def _loader(self) -> DataLoader:
        return DataLoader(data(), batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = _loader


def trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "default_root_dir": folder,
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, L.callbacks.Checkpoint) for callback in callbacks),
        "accelerator": "cpu",
        "callbacks": list(callbacks),
    }
    return L.Trainer(**{**quiet, **options})


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])
