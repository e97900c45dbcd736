"""A run that was cut off anywhere and taken up again equals the run that was not, bit for bit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightify.runtime as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

SAMPLES, BATCH, EPOCHS = 22, 2, 3  # 11 batches; windows of 4 leave an incomplete one


class Noisy(Dataset):
    """Augments at random, from all three streams."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        noise = torch.rand(4) + random.random() + np.random.rand()
        return torch.full((4,), float(index)) / SAMPLES + noise.float()


class Net(L.LightningModule):
    """Draws in training (dropout) and in validation, logs sums over the epoch, follows a schedule per step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        self.seen: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batch = batch["a"] + batch["b"].mean() if isinstance(batch, dict) else batch
        loss = self.net(batch).square().mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        self.seen.append(f"{self.current_epoch}/{batch_idx} {loss.item().hex()}")
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch).square().mean() + torch.rand(()))

    def on_train_epoch_end(self) -> None:
        self.seen.append(f"epoch {self.trainer.callback_metrics['loss'].item().hex()}")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97), "interval": "step"},
            torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9),
        ]


class Cut(Exception):
    """The power goes out."""


class SaveAndCut(L.Callback):
    """Saves at the n-th call of a hook, goes on for a while, then ends the run."""

    def __init__(self, hook: str, call: int, path: Path, later: int = 2) -> None:
        self.path, self.calls, self.at, self.left = path, 0, call, -1
        self.later = later
        setattr(self, hook, self._count)

    def _count(self, trainer: L.Trainer, *_: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            trainer.save_checkpoint(self.path)
            self.left = self.later

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.left == 0:
            raise Cut
        self.left -= 1


def shuffled(num_workers: int) -> Any:
    return DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=num_workers)


def fit(
    folder: Path, loader: Any, cut: SaveAndCut | None = None, ckpt_path: Path | None = None, **options: Any
) -> tuple[list[str], dict[str, Tensor]]:
    model = Net()
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[cut] if cut else None,
        **{"accumulate_grad_batches": 4, "val_check_interval": 5, "gradient_clip_val": 1.0, **options},
    )
    validation = DataLoader(Noisy(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(7))
    with contextlib.suppress(Cut):
        trainer.fit(model, loader, validation, ckpt_path=ckpt_path)
    return model.seen, model.state_dict()


def assert_resumed_equals_whole(folder: Path, make_loader: Any, cuts: list[tuple[str, int]], **options: Any) -> None:
    L.seed_everything(1, verbose=False)
    whole, weights = fit(folder, make_loader(), **options)
    L.seed_everything(1, verbose=False)
    path: Path | None = None
    seen: list[str] = []
    for number, (hook, call) in enumerate(cuts):
        following = folder / f"cut{number}.ckpt"
        part, _ = fit(folder, make_loader(), SaveAndCut(hook, call, following), path, **options)
        assert following.exists(), "the run ended before the moment of the cut"
        seen, path = _joined(seen, part), following
        L.seed_everything(1000 + number, verbose=False)  # the next process starts from anywhere
    part, resumed = fit(folder, make_loader(), None, path, **options)
    assert _joined(seen, part) == whole
    for name, value in weights.items():
        assert torch.equal(resumed[name], value), name


def _joined(before: list[str], after: list[str]) -> list[str]:
    """What was seen, the steps between the save and the cut taken once: they are repeated alike."""
    repeated = len(before) - before.index(after[0]) if after[0] in before else 0
    assert before[len(before) - repeated :] == after[:repeated]
    return before + after[repeated:]


MOMENTS = {
    "inside a window": [("on_train_batch_end", 2)],
    "at a window's end": [("on_train_batch_end", 4)],
    "in the second epoch": [("on_train_batch_end", 11 + 7)],
    "after an epoch's last batch": [("on_train_batch_end", 11)],
    "at an epoch's end": [("on_train_epoch_end", 1)],
    "at an epoch's start": [("on_train_epoch_start", 2)],
    "during validation": [("on_validation_batch_end", 2)],
    "at validation's end": [("on_validation_end", 2)],
    "twice in one epoch": [("on_train_batch_end", 2), ("on_train_batch_end", 3)],
    "in each epoch": [("on_train_batch_end", 6), ("on_train_epoch_end", 1), ("on_validation_end", 1)],
}


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_cut_and_taken_up(moment: str, num_workers: int, tmp_path: Path) -> None:
    # The sanity pass runs in the whole run only; it is isolated from the random streams.
    cuts = MOMENTS[moment]
    assert_resumed_equals_whole(tmp_path, lambda: shuffled(num_workers), cuts, num_sanity_val_steps=0)


OTHER = {
    "own generator": lambda: DataLoader(
        Noisy(), batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "weighted": lambda: DataLoader(Noisy(), batch_size=BATCH, sampler=WeightedRandomSampler([1.0] * SAMPLES, SAMPLES)),
    "two loaders": lambda: {"a": shuffled(0), "b": DataLoader(Noisy(), batch_size=7, shuffle=True)},
    "stateful": lambda: StatefulDataLoader(Noisy(), batch_size=BATCH, shuffle=True),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_loaders(name: str, tmp_path: Path) -> None:
    cuts = [("on_train_batch_end", 6), ("on_train_epoch_end", 1), ("on_validation_end", 1), ("on_train_batch_end", 2)]
    assert_resumed_equals_whole(tmp_path, OTHER[name], cuts, num_sanity_val_steps=0)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"accumulate_grad_batches": 1},
        {"val_check_interval": 1.0},
        {"limit_train_batches": 7},
        {"max_steps": 7, "max_epochs": -1},
    ],
    ids=str,
)
def test_other_options(options: dict[str, Any], tmp_path: Path) -> None:
    if "max_epochs" in options:
        options = {"max_steps": options["max_steps"]}
    cuts = [("on_train_batch_end", 3), ("on_train_batch_end", 5)]
    assert_resumed_equals_whole(tmp_path, lambda: shuffled(0), cuts, num_sanity_val_steps=0, **options)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        for index in range(SAMPLES):
            yield torch.full((4,), float(index)) / SAMPLES + torch.rand(4)


def test_a_stream_that_repeats_itself_is_exact_too(tmp_path: Path) -> None:
    cuts = [("on_train_batch_end", 3), ("on_train_batch_end", 12)]
    assert_resumed_equals_whole(tmp_path, lambda: DataLoader(Stream(), batch_size=BATCH), cuts, num_sanity_val_steps=0)


def test_what_cannot_be_exact_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    with caplog.at_level("INFO"):
        trainer.fit(Net(), DataLoader(Stream(), batch_size=BATCH))
    assert "Stream is iterable and keeps no state" in caplog.text
