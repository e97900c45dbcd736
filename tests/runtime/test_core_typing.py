"""A user's module type-checks without casts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
import lightify.runtime as L
from torch import Tensor


class Module(L.LightningModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = torch.nn.functional.mse_loss(self(x), y)
        self.log("loss", loss, prog_bar=True)
        if self.trainer.is_last_batch and self.trainer.global_step > 3:
            self.trainer.should_stop = True
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log_dict({"val": batch[0].mean()})

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: Tensor, batch_idx: int) -> None:
        self.print(self.current_epoch, self.device, self.trainer.max_epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Adversarial(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    def training_step(self, batch: dict[str, Tensor]) -> None:
        g, d = self.optimizers()
        loss: Tensor = self.critic(self.generator(batch["x"])).mean()
        self.toggle_optimizer(g)
        self.manual_backward(loss)
        self.clip_gradients(g, gradient_clip_val=0.5)
        g.step()
        self.untoggle_optimizer(g)
        self.log_dict({"loss": loss, "steps": self.global_step}, on_epoch=True)
        if self.logger is not None:
            self.logger.log_metrics({"loss": loss.item()}, self.global_step)

    def on_validation_epoch_end(self) -> None:
        self.lr_schedulers().step(self.trainer.callback_metrics["loss"])

    def predict_step(self, batch: Tensor, batch_idx: int) -> list[float]:
        scores: list[float] = self.critic(batch).flatten().tolist()
        return scores

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return torch.optim.Adam(self.generator.parameters()), torch.optim.Adam(self.critic.parameters())


class Watch(L.Callback):
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rate: float = trainer.optimizers[0].param_groups[0]["lr"]
        print(trainer.callback_metrics["loss"].item(), rate)


trainer = L.Trainer(max_epochs=2, callbacks=[Watch(), L.EarlyStopping("val")])
trainer.fit(Module(), [torch.ones(1)])
loaded: Module = Module.load_from_checkpoint("last.ckpt")
predictions = trainer.predict(Adversarial(), [torch.ones(1)])
assert predictions is not None and len(predictions) == 1
score: float = trainer.validate(loaded)[0]["val"]
"""

# The runtime, and of torch what a script touches. The rest (loggers' packages, torch's compiler) takes mypy most of a
# minute to read, and no type above comes from there.
SETTINGS = """
[mypy]
strict = True
follow_imports = skip
[mypy-lightify.*,torch,torch._C.*,torch._tensor,torch.functional,torch.nn.*,torch.optim.*,torch.types,torch.utils.data.*]
follow_imports = silent
"""


@pytest.mark.slow
def test_mypy_accepts_a_module(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).parents[2]
    # The names under which an installed package is found; mypy does not follow the hooks of an editable one.
    package = tmp_path / "path" / "lightify"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "runtime").symlink_to(root / "runtime", target_is_directory=True)
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", os.devnull, str(script)]
    environment = {**os.environ, "MYPYPATH": str(package.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout
