"""A real GPU against a plain loop on it: precisions, random streams, moves, resume, engines. Without one, skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
import torch.nn.functional as F
from lightify.runtime.callbacks import BatchSizeFinder, DeviceStatsMonitor, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

EPOCHS, LR = 2, 0.05


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    """A GPU repeats itself only where cuDNN does not search for the fastest kernel."""
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(0)
    yield
    torch.backends.cudnn.deterministic = False


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 3)
    )


def loader(shuffle: bool = False, **options: Any) -> DataLoader:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(44, 1, 8, 8, generator=generator)
    return DataLoader(
        TensorDataset(images, torch.randint(0, 3, (44,), generator=generator)), batch_size=4, shuffle=shuffle, **options
    )


class Classifier(L.LightningModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = network()
        self.losses: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.losses.append(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9)


def trainer(**arguments: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "gpu",
        "devices": 1,
    }
    return L.Trainer(**{"max_epochs": EPOCHS, **quiet, **arguments})


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double().cpu() for value in module.state_dict().values()])


def plain_loop(precision: str, clip: float | None) -> tuple[list[torch.Tensor], nn.Module, torch.Tensor]:
    """The loop as a user writes it by hand, in each precision."""
    kinds = {"64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}
    autocast = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(precision)
    dtype = kinds.get(precision, torch.float32)
    net = network().to("cuda", dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "16-mixed")
    torch.manual_seed(2)
    losses = []
    for _ in range(EPOCHS):
        for images, labels in loader():
            images, labels = images.to("cuda", dtype), labels.to("cuda")
            with torch.autocast("cuda", autocast) if autocast else contextlib.nullcontext():
                loss = F.cross_entropy(net(images), labels)
            losses.append(loss.detach())
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
    return losses, net, torch.cuda.get_rng_state()


@pytest.mark.parametrize("clip", [None, 0.1], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true"])
def test_every_precision_trains_as_the_plain_loop(precision: str, clip: float | None) -> None:
    losses, net, draws = plain_loop(precision, clip)
    module = Classifier()
    torch.manual_seed(2)
    trainer(precision=precision, gradient_clip_val=clip).fit(module, loader())
    assert [loss.item() for loss in module.losses] == [loss.item() for loss in losses]
    assert torch.equal(weights(module.net), weights(net))
    assert torch.equal(torch.cuda.get_rng_state(), draws)


def test_auto_takes_the_gpu_and_gives_the_module_back_in_memory() -> None:
    devices = []

    class Asked(Classifier):
        def on_train_end(self) -> None:
            devices.append((self.device, next(self.parameters()).device))

    ours = trainer(accelerator="auto", devices="auto", max_epochs=1, limit_train_batches=1)
    module = Asked()
    ours.fit(module, loader())
    assert devices == [(torch.device("cuda", 0), torch.device("cuda", 0))] and ours.strategy.root_device.index == 0
    assert module.device.type == "cpu" and next(module.parameters()).device.type == "cpu"


class Unwaiting(L.Callback):
    """Makes every wait for the device an error, from the second batch on."""

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def on_train_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    on_exception = on_train_end


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_no_step_waits_for_the_device(precision: str) -> None:
    ours = trainer(precision=precision, max_epochs=1, callbacks=[Unwaiting()], log_every_n_steps=1000)
    try:
        ours.fit(Classifier(), loader(pin_memory=True))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert ours.global_step == 11


def test_pinned_batches_are_moved_once_and_without_waiting() -> None:
    copies: list[int] = []

    class Counted(Classifier):
        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
            copies.append(all(part.is_pinned() for part in batch) + 2 * all(part.is_cuda for part in moved))
            return moved

    trainer(max_epochs=1).fit(Counted(), loader(pin_memory=True))
    assert copies == [3] * 11


class Stop(Exception):
    pass


class StopAt(L.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise Stop


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("step", [5, 11, 16])
def test_resumed_equals_uninterrupted(precision: str, step: int, tmp_path: Path) -> None:
    def shuffled() -> DataLoader:
        return loader(shuffle=True)

    whole, cut, resumed = Classifier(), Classifier(), Classifier()
    torch.manual_seed(3)
    trainer(precision=precision).fit(whole, shuffled())
    draws = torch.cuda.get_rng_state()
    torch.manual_seed(3)
    with pytest.raises(Stop):
        trainer(precision=precision, callbacks=[StopAt(step, tmp_path / "cut.ckpt")]).fit(cut, shuffled())
    torch.manual_seed(99)
    trainer(precision=precision).fit(resumed, shuffled(), ckpt_path=tmp_path / "cut.ckpt")
    assert torch.equal(weights(resumed.net), weights(whole.net))
    assert [loss.item() for loss in cut.losses + resumed.losses] == [loss.item() for loss in whole.losses]
    assert torch.equal(torch.cuda.get_rng_state(), draws)


def test_a_checkpoint_of_the_gpu_is_read_without_one(tmp_path: Path) -> None:
    module, path = Classifier(), tmp_path / "gpu.ckpt"
    ours = trainer(max_epochs=1)
    ours.fit(module, loader())
    ours.save_checkpoint(path)
    on_cpu = Classifier.load_from_checkpoint(path, map_location="cpu")
    assert on_cpu.device.type == "cpu" and torch.equal(weights(on_cpu.net), weights(module.net))
    further = trainer(accelerator="cpu")
    further.fit(on_cpu, loader(), ckpt_path=path)
    assert further.global_step == 22


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_engines_with_one_process_train_as_without(strategy: str, precision: str) -> None:
    plain, module = Classifier(), Classifier()
    torch.manual_seed(2)
    trainer(precision=precision, max_epochs=1).fit(plain, loader())
    torch.manual_seed(2)
    ours = trainer(precision=precision, max_epochs=1, strategy=strategy)
    ours.fit(module, loader())
    assert torch.distributed.get_backend() == "nccl"
    ours.strategy.barrier()
    torch.distributed.destroy_process_group()
    torch.testing.assert_close(
        torch.stack([loss.float() for loss in module.losses]),
        torch.stack([loss.float() for loss in plain.losses]),
        rtol=0.02 if precision == "bf16-mixed" else 1e-5,
        atol=0.02 if precision == "bf16-mixed" else 1e-6,
    )


def test_a_compiled_module_logs_and_trains() -> None:
    module, compiled = Classifier(), Classifier()
    compiled.net[4].p = module.net[4].p = 0.0  # a compiled dropout draws in its own way
    trainer(max_epochs=1).fit(module, loader())
    ours = trainer(max_epochs=1)
    ours.fit(torch.compile(compiled), loader())
    torch.testing.assert_close(ours.callback_metrics["loss_epoch"].cpu(), torch.stack(module.losses).mean().cpu())


def test_the_batch_size_grows_until_memory_is_short() -> None:
    class Hungry(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            torch.empty(self.hparams.batch_size * 2**20, device=self.device)  # 4 MiB per sample
            return super().training_step(batch, batch_idx)

        def train_dataloader(self) -> DataLoader:
            return DataLoader(loader().dataset, batch_size=self.hparams.batch_size)

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 100 * 2**20) / total)
    try:
        module = Hungry(batch_size=2)
        trainer(max_epochs=1, callbacks=[BatchSizeFinder(mode="power", steps_per_trial=1)]).fit(module)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert module.hparams.batch_size == 16


def test_the_device_reports_its_memory(tmp_path: Path) -> None:
    logger = L.loggers.CSVLogger(tmp_path)
    ours = trainer(max_epochs=1, logger=logger, callbacks=[DeviceStatsMonitor()], log_every_n_steps=1)
    ours.fit(Classifier(), loader())
    assert any("allocated_bytes" in name for row in logger.experiment.metrics for name in row) or any(
        "allocated_bytes" in line for line in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[:1]
    )


def test_deterministic_asks_torch_for_it() -> None:
    ours = trainer(max_epochs=1, deterministic=True)
    ours.fit(Classifier(), loader())
    try:
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_best_checkpoint_holds_the_state_of_the_scaler(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, monitor="val_loss")
    ours = trainer(precision="16-mixed", max_epochs=1, enable_checkpointing=True, callbacks=[saved])
    ours.fit(Classifier(), loader(), loader())
    state = torch.load(saved.best_model_path, weights_only=True)
    assert state["MixedPrecision"]["scale"] == ours.precision_plugin.scaler.get_scale()


@pytest.mark.parametrize("move", [lambda batch: batch, lambda batch: {"nested": [batch, {"x": batch[0]}]}])
def test_prediction_moves_nested_batches(move: Callable[[Any], Any]) -> None:
    class Predicts(Classifier):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            images = batch["nested"][1]["x"] if isinstance(batch, dict) else batch[0]
            assert images.is_cuda
            return self.net(images).argmax(1)

    batches = [move(batch) for batch in loader()]
    found = trainer().predict(Predicts(), DataLoader(batches, batch_size=None))
    assert torch.cat(found).shape == (44,)
