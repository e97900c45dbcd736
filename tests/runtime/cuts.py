"""Runs that are cut off and taken up again, against runs that are not: everything compared bit for bit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightify.runtime as L
import numpy as np
import torch
from lightify.runtime.callbacks.checkpoint import Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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

    def loss(self, batch: Any) -> Tensor:
        if isinstance(batch, dict):
            batch = sum(part.mean() if part is not None else 0.0 for part in batch.values()) + torch.ones(1, 4)
        return self.net(batch).square().mean()

    def note(self, batch_idx: int, loss: Tensor) -> None:
        self.seen.append(f"{self.current_epoch}/{batch_idx} {loss.item().hex()}")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=False, on_epoch=True)
        self.note(batch_idx, loss)
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


class SaveAndCut(Checkpoint):
    """Saves at the n-th call of a hook, when all others have had theirs, goes on for a while, then ends the run."""

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


def shuffled(num_workers: int = 0, **options: Any) -> Any:
    return DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=num_workers, **options)


def in_own_order() -> Any:
    return DataLoader(Noisy(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(7))


@dataclass(frozen=True)
class Run:
    """How a run is made, as often as needed."""

    loader: Callable[[], Any] = shuffled
    module: Callable[[], Net] = Net
    callbacks: Callable[[Path], list[Any]] = lambda folder: []
    options: Mapping[str, Any] = field(default_factory=dict)
    plugins: Callable[[], list[Any]] = list
    validation: Callable[[], Any] = in_own_order

    def fit(
        self, folder: Path, cut: SaveAndCut | None = None, ckpt_path: Path | None = None
    ) -> tuple[list[str], dict[str, Any]]:
        """What the steps saw, and what is left at the end."""
        module = self.module()
        defaults = {"accumulate_grad_batches": 4, "val_check_interval": 5, "gradient_clip_val": 1.0}
        options, callbacks = dict(self.options), [*self.callbacks(folder), *([cut] if cut else [])]
        if not module.automatic_optimization:
            options |= {"accumulate_grad_batches": 1, "gradient_clip_val": None}
        trainer = L.Trainer(
            max_epochs=options.pop("max_epochs", EPOCHS),
            accelerator="cpu",
            logger=False,
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            # Runs in the whole run only; it is isolated from the random streams.
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=callbacks,
            plugins=self.plugins(),
            **{**defaults, **options},
        )
        with contextlib.suppress(Cut):
            trainer.fit(module, self.loader(), self.validation(), ckpt_path=ckpt_path)
        return module.seen, left_of(trainer)

    def assert_resumed_equals_whole(self, folder: Path, cuts: list[tuple[str, int]]) -> None:
        L.seed_everything(1, verbose=False)
        whole, expected = self.fit(folder / "whole")
        L.seed_everything(1, verbose=False)
        path: Path | None = None
        seen: list[str] = []
        for number, (hook, call) in enumerate(cuts):
            following = folder / f"cut{number}.ckpt"
            part, _ = self.fit(folder / "parts", SaveAndCut(hook, call, following), path)
            assert following.exists(), "the run ended before the moment of the cut"
            seen, path = _joined(seen, part), following
            L.seed_everything(1000 + number, verbose=False)  # the next process starts from anywhere
        part, resumed = self.fit(folder / "parts", None, path)
        joined = _joined(seen, part)
        different = [(ours, theirs) for ours, theirs in zip(joined, whole) if ours != theirs]
        assert not different and len(joined) == len(whole), (different[:3], len(joined), len(whole))
        assert_same(resumed, expected)


def left_of(trainer: L.Trainer) -> dict[str, Any]:
    """Everything that a further run would start from, and what was measured."""
    callbacks = {type(each).__name__: each.state_dict() for each in trainer.callbacks}
    callbacks.pop("SaveAndCut", None)
    return {
        "weights": trainer.lightning_module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "callbacks": callbacks,
        "precision": trainer.precision_plugin.state_dict(),
        "metrics": dict(trainer.callback_metrics),
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "random": [torch.rand(3), random.random(), np.random.rand()],
    }


def assert_same(value: Any, expected: Any, place: str = "left") -> None:
    if isinstance(expected, Tensor):
        assert torch.equal(value, expected), place
    elif isinstance(expected, Mapping):
        own = {_where(key): item for key, item in value.items()}
        assert own.keys() == {_where(key) for key in expected}, place
        for key, item in expected.items():
            assert_same(own[_where(key)], item, f"{place}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(value) == len(expected), place
        for index, item in enumerate(expected):
            assert_same(value[index], item, f"{place}[{index}]")
    else:
        assert _where(value) == _where(expected), (place, value, expected)


def _where(value: Any) -> str:
    """As text; both runs' folders count as one."""
    return str(value).replace("/parts/", "/whole/")


def _joined(before: list[str], after: list[str]) -> list[str]:
    """What was seen, the steps between the save and the cut taken once: they are repeated alike."""
    repeated = len(before) - before.index(after[0]) if after and after[0] in before else 0
    assert before[len(before) - repeated :] == after[:repeated]
    return before + after[repeated:]
