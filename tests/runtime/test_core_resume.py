"""A run that was stopped anywhere and resumed equals one that was not, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
import torch.nn.functional as F
from lightify.runtime.checkpoint_io import AsyncCheckpointIO, CheckpointIO
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 3


class Killed(Exception):
    pass


def data(n: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    return TensorDataset(torch.randn(n, 5, generator=generator), torch.randn(n, 1, generator=generator))


class Module(L.LightningModule):
    """Dropout, batch norm, momentum, a scheduler that follows the validation loss; saves and dies where it is told."""

    def __init__(self, save_at: tuple[str, int, int] | None = None, path: Path | None = None, manual: bool = False):
        super().__init__()
        self.automatic_optimization = not manual
        self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Linear(8, 1))
        self.save_at, self.path = save_at, path
        self.seen: list[float] = []
        self.epoch_means: list[float] = []

    def maybe_die(self, hook: str, index: int) -> None:
        if self.save_at == (hook, self.current_epoch, index) and not self.trainer.sanity_checking:
            self.trainer.save_checkpoint(self.path)
            raise Killed

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = F.mse_loss(self.net(batch[0]), batch[1])
        self.seen.append(loss.item())
        self.log("train", loss, on_step=True, on_epoch=True)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        self.manual_backward(loss)  # zeroed every second batch only: gradients live on
        if batch_idx % 2:
            optimizer.step()
            optimizer.zero_grad()
        return None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", F.mse_loss(self.net(batch[0]), batch[1]))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.maybe_die("batch", batch_idx)

    def on_validation_end(self) -> None:
        self.maybe_die("validation", self.trainer.batch_idx)

    def on_train_epoch_end(self) -> None:
        self.epoch_means.append(self.trainer.callback_metrics["train_epoch"].item())
        self.maybe_die("epoch", 0)

    def on_train_end(self) -> None:
        self.maybe_die("end", 0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        if not self.automatic_optimization:
            return optimizer
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val"}}


def run(module: Module, workers: int, resume: Path | None = None, **arguments: Any) -> Module:
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        num_sanity_val_steps=0,
        **arguments,
    )
    train = DataLoader(data(18), batch_size=4, shuffle=True, num_workers=workers)
    val = DataLoader(data(6), batch_size=4, num_workers=workers)
    trainer.fit(module, train, val, ckpt_path=resume)
    return module


def fresh(seed: int, *arguments: Any, **keywords: Any) -> Module:
    torch.manual_seed(seed)
    return Module(*arguments, **keywords)


PLACES = [
    pytest.param(("batch", 1, 1), {}, id="within an epoch"),
    pytest.param(("batch", 1, 4), {}, id="after an epoch's last batch"),
    pytest.param(("epoch", 0, 0), {}, id="at an epoch's end"),
    pytest.param(("validation", 1, 4), {}, id="at the end of validation"),
    pytest.param(("validation", 1, 1), {"val_check_interval": 2}, id="validation within an epoch"),
    pytest.param(("batch", 1, 1), {"val_check_interval": 2}, id="before validation within an epoch"),
    pytest.param(("batch", 1, 1), {"accumulate_grad_batches": 3}, id="inside an accumulation window"),
    pytest.param(("batch", 0, 2), {"manual": True}, id="manual, with gradients kept"),
]


@pytest.mark.parametrize(("place", "arguments"), PLACES)
def test_killed_and_resumed_equals_uninterrupted(
    place: tuple[str, int, int], arguments: dict[str, Any], tmp_path: Path
) -> None:
    check(place, dict(arguments), tmp_path, workers=0)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "arguments"), [PLACES[0], PLACES[5]])
def test_killed_and_resumed_with_workers(place: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
    check(place, dict(arguments), tmp_path, workers=2)


def check(place: tuple[str, int, int], arguments: dict[str, Any], folder: Path, workers: int) -> None:
    manual = arguments.pop("manual", False)
    whole = run(fresh(1, manual=manual), workers, **arguments)
    path = folder / "killed.ckpt"
    first = fresh(1, place, path, manual=manual)
    with pytest.raises(Killed):
        run(first, workers, **arguments)
    second = run(fresh(99, manual=manual), workers, path, **arguments)
    assert first.seen + second.seen == whole.seen
    assert whole.epoch_means[-len(second.epoch_means) :] == second.epoch_means
    for ours, expected in zip(second.state_dict().values(), whole.state_dict().values()):
        assert torch.equal(ours, expected)
    assert second.trainer.global_step == whole.trainer.global_step
    assert second.optimizers().param_groups[0]["lr"] == whole.optimizers().param_groups[0]["lr"]


def test_twice_in_one_epoch(tmp_path: Path) -> None:
    whole = run(fresh(1), 0)
    pieces: list[float] = []
    resume = None
    for seed, batch_idx in ((1, 1), (5, 3)):
        path = tmp_path / f"{batch_idx}.ckpt"
        module = fresh(seed, ("batch", 1, batch_idx), path)
        with pytest.raises(Killed):
            run(module, 0, resume)
        pieces, resume = pieces + module.seen, path
    last = run(fresh(8), 0, resume)
    assert pieces + last.seen == whole.seen
    assert torch.equal(last.net[0].weight, whole.net[0].weight)


def test_more_epochs_after_a_finished_fit(tmp_path: Path) -> None:
    whole = run(fresh(1), 0)
    path = tmp_path / "done.ckpt"
    module = fresh(1)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", **quiet)
    trainer.num_sanity_val_steps = 0
    trainer.fit(module, DataLoader(data(18), batch_size=4, shuffle=True), DataLoader(data(6), batch_size=4))
    trainer.save_checkpoint(path)
    rest = run(fresh(9), 0, path)
    assert module.seen + rest.seen == whole.seen


def test_checkpoint_needs_no_pickle_and_has_lightning_keys(tmp_path: Path) -> None:
    path = tmp_path / "killed.ckpt"
    with pytest.raises(Killed):
        run(fresh(1, ("batch", 1, 1), path), 0)
    saved = torch.load(path, weights_only=True)
    assert {"epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks"} <= set(saved)
    assert (saved["epoch"], saved["global_step"]) == (1, 7)
    saved["loops"]["lightify"]["format"] -= 1
    torch.save(saved, path)
    with pytest.raises(L.MisconfigurationException, match=r"another version .* Load the weights alone"):
        run(fresh(1), 0, path)


class Torchs(CheckpointIO):
    """What a script may write: it takes no more arguments than it needs."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)

    def load_checkpoint(self, path: Any, weights_only: Any = True) -> Any:  # type: ignore[override]
        return torch.load(path, weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink()


@pytest.mark.parametrize("plugin", [Torchs(), AsyncCheckpointIO(Torchs())])
def test_a_scripts_own_checkpoint_io(tmp_path: Path, plugin: CheckpointIO) -> None:
    options = {
        "logger": False,
        "enable_progress_bar": False,
        "default_root_dir": tmp_path,
        "plugins": [plugin],
        "enable_checkpointing": True,
    }
    loader = DataLoader(data(8), batch_size=2)
    trainer = L.Trainer(max_epochs=1, **options)
    trainer.fit(Module(), loader, loader)
    path = trainer.checkpoint_callback.best_model_path
    again = L.Trainer(max_epochs=2, **options)
    again.fit(Module(), loader, loader, ckpt_path=path)
    assert again.global_step == 8


class Signed(L.Callback):
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        checkpoint["signed"] = True

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        assert checkpoint["signed"]


def test_callbacks_have_no_part_in_weights_alone(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 1, "logger": False, "default_root_dir": tmp_path, "callbacks": [Signed()]}
    loader = DataLoader(data(8), batch_size=2)
    trainer = L.Trainer(**options)
    trainer.fit(Module(), loader, loader)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert L.Trainer(**options).validate(Module(), loader, ckpt_path=tmp_path / "a.ckpt", verbose=False)
