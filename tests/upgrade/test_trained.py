"""Modules of 1.x run on the runtime as they are, and upgraded on the runtime and on Lightning: with the same numbers."""

from __future__ import annotations

import re
import warnings

import pytest

from tests.upgrade.scripts import run

HEAD = """
import torch
import pytorch_lightning as pl
from pytorch_lightning.core.lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(10, 6, 4)
loader = DataLoader(TensorDataset(x, x.sum(-1, keepdim=True)), batch_size=4, shuffle=True)
seen = []


def sgd(part):
    return torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9)


class Base(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2), nn.Linear(3, 1))
        self.other = nn.Linear(1, 1)

    def loss(self, batch):
        loss = nn.functional.mse_loss(self.other(self.net(batch[0])), batch[1])
        seen.append(loss.item())
        return loss

    def configure_optimizers(self):
        return sgd(self)

"""
TAIL = """

torch.manual_seed(1)
module = Old()
trainer = pl.Trainer(
    max_nb_epochs=2,
    weights_summary=None,
    checkpoint_callback=False,
    progress_bar_refresh_rate=0,
    nb_sanity_val_steps=0,
    gpus=None,
    logger=False,
)
trainer.fit(module, train_dataloader=loader, val_dataloaders=VAL)
seen += [p.detach().double().sum().item() for p in module.parameters()]
seen += [value.item() for name, value in sorted(trainer.callback_metrics.items())]
"""
MODULES = {
    "epoch ends": """
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def training_epoch_end(self, outputs):
        seen.append(torch.stack([out["loss"] for out in outputs]).mean().item())

    def validation_step(self, batch, batch_idx):
        return {"val_loss": self.loss(batch), "n": len(batch[0])}

    def validation_epoch_end(self, outputs):
        mean = sum(out["val_loss"] * out["n"] for out in outputs) / sum(out["n"] for out in outputs)
        return {"val_loss": mean, "log": {"mean": mean}, "progress_bar": {"mean": mean}}
""",
    "several loaders": """
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return self.loss(batch) * (dataloader_idx + 1)

    def validation_epoch_end(self, outputs):
        for number, of_loader in enumerate(outputs):
            self.log(f"loader_{number}", torch.stack(of_loader).mean())
""",
    "step ends and returned logs": """
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        if batch_idx == 1:
            return {"part": loss / 2}
        return {"part": loss}

    def training_step_end(self, outputs):
        loss = outputs["part"] * 2
        logs = {"train": loss.detach()}
        return {"loss": loss, "log": logs, "progress_bar": logs}

    def on_epoch_start(self):
        seen.append(-1.0)
""",
    "optimizers in turn": """
    def training_step(self, batch, batch_idx, optimizer_idx):
        loss = self.loss(batch)
        if optimizer_idx == 1:
            loss = loss * 0.5
        return {"loss": loss, "log": {f"loss_{optimizer_idx}": loss.detach()}}

    def configure_optimizers(self):
        first, second = sgd(self.net), sgd(self.other)
        return [first, second], [torch.optim.lr_scheduler.StepLR(first, 1), torch.optim.lr_scheduler.StepLR(second, 1)]
""",
    "frequencies": """
    def training_step(self, batch, batch_idx, optimizer_idx):
        return self.loss(batch) if optimizer_idx == 0 else self.loss(batch) * 0.5

    def configure_optimizers(self):
        return (
            {"optimizer": sgd(self.net), "frequency": 2},
            {"optimizer": sgd(self.other), "frequency": 1},
        )
""",
    "truncated back-propagation": """
    truncated_bptt_steps = 2

    def training_step(self, batch, batch_idx, hiddens):
        x, y = batch
        loss = nn.functional.mse_loss(self.other(self.net(x)), y.expand(-1, x.shape[1], -1))
        if hiddens is not None:
            loss = loss + (self.other(hiddens) - hiddens).pow(2).mean()
        seen.append(loss.item())
        return {"loss": loss, "hiddens": self.net(x)[:, -1]}
""",
    "signatures": """
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp,
                       using_lbfgs):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + self.trainer.global_step + optimizer_idx)
        optimizer.step(closure=optimizer_closure)

    def backward(self, loss, optimizer, optimizer_idx):
        (loss * len(optimizer.param_groups)).backward()
""",
    "manual": """
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch), optimizer)
        self.manual_optimizer_step(optimizer)
""",
}
VALIDATED = {"epoch ends": "[loader]", "several loaders": "[loader, loader]"}


def numbers(text: str) -> list[float]:
    scope: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(text, scope)
    seen = scope["seen"]
    assert isinstance(seen, list)
    return seen


@pytest.mark.parametrize("library", ["bundled", pytest.param("lightning", marks=[pytest.mark.lightning])])
@pytest.mark.parametrize("name", MODULES)
def test_the_same_numbers(name: str, library: str) -> None:
    old = HEAD + "\nclass Old(Base):" + MODULES[name] + TAIL.replace("VAL", VALIDATED.get(name, "None"))
    on_runtime = re.sub(r"pytorch_lightning(\.core\.lightning)?", "lightify.runtime", old)
    result = run(old, runtime=library)
    assert [str(refusal) for refusal in result.refusals] == []
    assert result.text is not None
    expected = numbers(on_runtime)
    assert len(expected) > 10 and all(value == value for value in expected)
    assert numbers(result.text) == expected
