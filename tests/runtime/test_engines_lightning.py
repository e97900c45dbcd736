"""Checkpoints of the runtime and of Lightning: each loads the other's model and hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightify.runtime as ours
import pytest
import torch
from lightify.runtime import checkpoints
from torch.utils.data import DataLoader

lightning = pytest.importorskip("lightning.pytorch")
pytestmark = [pytest.mark.lightning, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LIGHTNINGS_KEYS = {
    "epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states",
    "lr_schedulers", "hparams_name", "hyper_parameters",
}  # fmt: skip


def net(library: Any) -> type:
    class Net(library.LightningModule):
        def __init__(self, hidden: int = 4, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Sequential(torch.nn.Linear(2, hidden), torch.nn.Linear(hidden, 1))

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return self.net(batch).sum()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), self.hparams.lr)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Net


def fit(library: Any, folder: Path, max_epochs: int = 1, ckpt_path: str | None = None) -> tuple[Any, str]:
    torch.manual_seed(0)
    module = net(library)(hidden=3)
    trainer = library.Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(torch.ones(4, 2)), ckpt_path=ckpt_path)
    assert trainer.current_epoch == max_epochs and trainer.global_step == 4 * max_epochs
    return module, trainer.checkpoint_callback.best_model_path


@pytest.mark.parametrize(
    ("writer", "reader"), [(ours, lightning), (lightning, ours)], ids=["theirs reads", "ours reads"]
)
def test_model_hyperparameters_and_a_further_epoch(writer: Any, reader: Any, tmp_path: Path) -> None:
    module, path = fit(writer, tmp_path / "first")
    content = torch.load(path, weights_only=True)
    assert set(content) == LIGHTNINGS_KEYS
    loaded = net(reader).load_from_checkpoint(path)
    assert dict(loaded.hparams) == {"hidden": 3, "lr": 0.1}
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    further, _ = fit(reader, tmp_path / "further", max_epochs=2, ckpt_path=path)
    whole, _ = fit(writer, tmp_path / "whole", max_epochs=2)
    for name, value in whole.state_dict().items():
        assert torch.equal(further.state_dict()[name], value)


def test_a_hyperparameter_that_is_an_object_is_asked_for(tmp_path: Path) -> None:
    class Net(ours.LightningModule):
        def __init__(self, loss: Any, width: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.loss = torch.nn.Linear(width, 1), loss

    path = tmp_path / "a.ckpt"
    trainer = ours.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(Net(torch.nn.L1Loss(), 3))
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r"hyperparameters \['loss'\].*`Net.load_from_checkpoint\(..., loss=...\)`"):
        Net.load_from_checkpoint(path)
    assert isinstance(Net.load_from_checkpoint(path, loss=torch.nn.MSELoss()).loss, torch.nn.MSELoss)
    assert isinstance(Net.load_from_checkpoint(path, weights_only=False).loss, torch.nn.L1Loss)


def test_every_file_of_the_runtime_is_checked_and_plain(tmp_path: Path) -> None:
    _, path = fit(ours, tmp_path)
    assert checkpoints.is_sound(Path(path))
    torch.load(path, weights_only=True)
