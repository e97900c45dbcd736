"""A run that was cut off anywhere and taken up again equals the run that was not, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.combined import CombinedLoader
from lightify.runtime.order import inexact_reason
from lightify.runtime.precision import MixedPrecision
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torchdata.stateful_dataloader import StatefulDataLoader
from torchmetrics import MeanMetric

from tests.runtime.cuts import BATCH, SAMPLES, Net, Noisy, Run, assert_same, left_of, shuffled


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The networks are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
THROUGHOUT = [("on_train_batch_end", 6), ("on_train_epoch_end", 1), ("on_validation_end", 1), ("on_train_batch_end", 2)]


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_cut_and_taken_up(moment: str, num_workers: int, tmp_path: Path) -> None:
    Run(lambda: shuffled(num_workers)).assert_resumed_equals_whole(tmp_path, MOMENTS[moment])


# --- loaders ---------------------------------------------------------------------------------------------------------


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Spiral(Sampler[int]):
    """Goes on where its last pass ended; says so in its state."""

    def __init__(self) -> None:
        self.start = 0

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        for _ in range(SAMPLES):
            self.start = (self.start + 7) % SAMPLES
            yield self.start

    def state_dict(self) -> dict[str, Any]:
        return {"start": self.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start = state["start"]


class Pairs(Sampler[list[int]]):
    """Batches of the user's own, drawn from the global stream, without a sampler inside."""

    def __len__(self) -> int:
        return 9

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(9):
            yield torch.randint(SAMPLES, (2,)).tolist()


class Stream(IterableDataset):
    """Begins anew in each pass."""

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(SAMPLES):
            yield torch.full((4,), float(index)) / SAMPLES + torch.rand(4)


class Batches:
    """Any iterable is a loader."""

    def __len__(self) -> int:
        return 11

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.rand(2, 4) for _ in range(11))


class River(IterableDataset):
    """Never begins anew; says in its state where it is."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            self.position += 1
            yield torch.full((4,), (self.position % 17) / 17) + torch.rand(4)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def loader(**options: Any) -> Any:
    return DataLoader(Noisy(), **({} if "batch_sampler" in options else {"batch_size": BATCH}), **options)


def combined(mode: str) -> Any:
    parts = {"a": shuffled(), "b": DataLoader(Noisy(), batch_size=7, shuffle=True)}
    return CombinedLoader(parts, mode)


LOADERS: dict[str, Any] = {
    "own generator": lambda: loader(shuffle=True, generator=seeded()),
    "weighted": lambda: loader(sampler=WeightedRandomSampler([1.0] * SAMPLES, SAMPLES)),
    "weighted, own generator": lambda: loader(sampler=WeightedRandomSampler([1.0] * 22, 22, generator=seeded())),
    "subset, own generator": lambda: loader(sampler=SubsetRandomSampler(range(3, 21), generator=seeded())),
    "own sampler with state": lambda: loader(sampler=Spiral()),
    "batches over a sampler": lambda: loader(batch_sampler=BatchSampler(RandomSampler(range(22)), 3, drop_last=True)),
    "own batch sampler": lambda: loader(batch_sampler=Pairs()),
    "two loaders": lambda: {"a": shuffled(), "b": DataLoader(Noisy(), batch_size=7, shuffle=True)},
    "stateful": lambda: StatefulDataLoader(Noisy(), batch_size=BATCH, shuffle=True),
    "no DataLoader": lambda: Batches(),
    "stream": lambda: DataLoader(Stream(), batch_size=BATCH),
    "min_size": lambda: combined("min_size"),
    "max_size": lambda: combined("max_size"),
    "max_size_cycle": lambda: combined("max_size_cycle"),
}


@pytest.mark.parametrize("name", LOADERS)
def test_loaders(name: str, tmp_path: Path) -> None:
    cuts = [(hook, 2) if hook == "on_train_batch_end" and name == "min_size" else (hook, n) for hook, n in THROUGHOUT]
    interval = {"val_check_interval": 3} if name == "min_size" else {}
    Run(LOADERS[name], options=interval).assert_resumed_equals_whole(tmp_path, cuts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stateful", "persistent"])
def test_loaders_with_workers(name: str, tmp_path: Path) -> None:
    plain = torch.arange(88.0).view(22, 4) / 88  # exact as long as the data set draws nothing in the workers
    make = {
        "stateful": lambda: StatefulDataLoader(plain, batch_size=BATCH, shuffle=True, num_workers=1),
        "persistent": lambda: DataLoader(plain, BATCH, shuffle=True, num_workers=1, persistent_workers=True),
    }
    Run(make[name]).assert_resumed_equals_whole(tmp_path, THROUGHOUT[:3])


def test_a_stream_goes_on_where_its_state_says(tmp_path: Path) -> None:
    # Longer than an epoch, so that each epoch sees the next part of it.
    options = {"limit_train_batches": 11}
    Run(lambda: DataLoader(River(), BATCH), options=options).assert_resumed_equals_whole(tmp_path, THROUGHOUT)


INEXACT: list[tuple[Any, str]] = [
    (lambda: DataLoader(Stream(), batch_size=BATCH), "Stream is iterable and keeps no state"),
    (lambda: DataLoader(River(), BATCH, num_workers=1), "River is iterable and its state is in the workers"),
    (lambda: shuffled(1, persistent_workers=True), "its workers persist"),
    (lambda: StatefulDataLoader(Noisy(), BATCH, num_workers=1), "its workers' random states"),
]


@pytest.mark.parametrize(("make", "reason"), INEXACT, ids=[reason for _, reason in INEXACT])
def test_what_cannot_be_exact_is_known(make: Any, reason: str) -> None:
    assert reason in (inexact_reason(make()) or "")


def test_what_cannot_be_exact_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    with caplog.at_level("INFO"):
        trainer.fit(Net(), DataLoader(Stream(), batch_size=BATCH))
    assert "Stream is iterable and keeps no state" in caplog.text


def test_callbacks_and_strategies_say_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pruning = L.callbacks.ModelPruning("l1_unstructured", amount=0.1)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    with caplog.at_level("INFO"):
        L.Trainer(max_epochs=1, accelerator="cpu", callbacks=pruning, **options).fit(Net(), shuffled(0))
    assert "exactly this one: no checkpoint holds the masks and first weights of `ModelPruning`" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        L.Trainer(max_epochs=1, accelerator="cpu", **options).fit(Net(), shuffled(0))
    assert "exactly this one" not in caplog.text


@pytest.mark.parametrize(
    ("processes", "options", "exact"),
    [(2, {"static_graph": True}, True), (3, {}, True), (3, {"static_graph": True}, False)],
)
def test_sums_over_three_processes_depend_on_the_buckets(
    processes: int, options: Any, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L.strategies.DDPStrategy, "world_size", processes)
    assert (L.strategies.DDPStrategy(**options).inexact == "") is exact


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"precision": "bf16-true"},
        {"accumulate_grad_batches": 1},
        {"val_check_interval": 1.0},
        {"val_check_interval": 0.4},
        {"val_check_interval": 9, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 2, "val_check_interval": 1.0},
        {"limit_train_batches": 7},
        {"limit_train_batches": 0.7},
        {"limit_val_batches": 1},
        {"overfit_batches": 8},
        {"max_steps": 7},
        {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    Run(options=options).assert_resumed_equals_whole(tmp_path, [("on_train_batch_end", 3), ("on_train_batch_end", 5)])


# --- modules ---------------------------------------------------------------------------------------------------------


class Adversaries(Net):
    """Two optimizers stepped by hand, one every third batch, its gradients living on; schedules stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        loss = self.loss(batch)
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.manual_backward((self.critic(batch) - loss.detach()).square().mean())
        if batch_idx % 3 == 2:
            second.step()
            second.zero_grad()
            self.lr_schedulers().step()
        self.log("loss", loss, on_step=False, on_epoch=True)
        self.note(batch_idx, loss)

    def configure_optimizers(self) -> Any:
        first = torch.optim.SGD(self.net.parameters(), 0.01, momentum=0.9)
        second = torch.optim.RMSprop(self.critic.parameters(), 0.01)
        return [first, second], [torch.optim.lr_scheduler.ExponentialLR(second, 0.9)]


class Scheduled(Net):
    """Schedulers of every interval, frequency and kind."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.05)
        of = torch.optim.lr_scheduler
        plateau = of.ReduceLROnPlateau(optimizer, patience=0, factor=0.7)
        by_step = of.ReduceLROnPlateau(optimizer, patience=1, factor=0.9)
        return [optimizer], [
            {"scheduler": of.CosineAnnealingWarmRestarts(optimizer, 3), "interval": "step", "frequency": 2},
            {"scheduler": of.ExponentialLR(optimizer, 0.9), "interval": "epoch", "frequency": 2},
            {"scheduler": plateau, "monitor": "val_loss"},
            {"scheduler": by_step, "monitor": "val_loss", "interval": "step", "strict": False},
        ]


class Measured(Net):
    """Logs metric objects in training and validation."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.val_mean = MeanMetric(), MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.mean(loss.detach() if loss is not None else 0.0)
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.val_mean.update(batch.mean())
        self.log("val_mean", self.val_mean)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.seen.append(f"mean {self.trainer.callback_metrics['mean_epoch'].item().hex()}")


class Closure(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), 0.1, max_iter=2)


class Unscheduled(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


class Reloading(Net):
    """Data that is other in the third epoch; making a loader draws."""

    def train_dataloader(self) -> Any:
        samples = torch.arange(88.0).view(22, 4) / 88
        torch.rand(())
        return DataLoader(samples[4 * (self.current_epoch // 2) :], BATCH, shuffle=True)


class Splitting(Net):
    """Which samples there are is drawn when a loader is made."""

    def train_dataloader(self) -> Any:
        return DataLoader(Subset(Noisy(), torch.randperm(SAMPLES)[:18].tolist()), BATCH, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(Subset(Noisy(), torch.randperm(SAMPLES)[:8].tolist()), BATCH, shuffle=True)


class Bottom(Net):
    """Skips some batches, and the rest of the second epoch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if self.current_epoch == 1 and batch_idx == 9 else None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx == 5 else loss


class Starting(Net):
    """At each epoch's start, makes what no checkpoint holds, and changes what one does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("carried", torch.zeros(()))
        self.momentum = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def on_train_epoch_start(self) -> None:
        self.scale = 0.5
        self.carried.zero_()
        self.momentum.data.mul_(0.9)
        optimizer, schedulers = self.optimizers(), self.lr_schedulers()
        for group in optimizer.param_groups:
            group["lr"] *= 0.8
        if self.current_epoch == 2:
            optimizer.state.clear()
        schedulers[1].step()
        self.log("starts", 1.0, reduce_fx="sum")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.carried += loss.detach() * self.momentum
        return self.scale * loss * (1 + self.carried)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.seen.append(f"starts {self.trainer.callback_metrics['starts'].item()}")


class Kept(Net):
    """Clears its gradients at every second batch alone."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if batch_idx % 2:
            optimizer.zero_grad()


class Backbone(Unscheduled):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))

    def loss(self, batch: Any) -> Tensor:
        return super().loss(self.backbone(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], 0.05, momentum=0.9)


class Counted(L.Callback):
    """Counts what it is told of."""

    starts = 0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.starts += 1

    def state_dict(self) -> dict[str, Any]:
        return {"starts": self.starts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.starts = state_dict["starts"]


MODULES: dict[str, type[Net]] = {
    "several optimizers by hand": Adversaries, "schedulers": Scheduled, "metric objects": Measured,
    "closures": Closure, "skipped batches": Bottom, "changes at an epoch's start": Starting,
    "gradients that are kept": Kept,
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore")
def test_modules(name: str, tmp_path: Path) -> None:
    Run(module=MODULES[name], callbacks=lambda _: [Counted()]).assert_resumed_equals_whole(tmp_path, THROUGHOUT)


def test_loaders_made_anew(tmp_path: Path) -> None:
    options = {"reload_dataloaders_every_n_epochs": 2, "max_epochs": 4}
    run = Run(lambda: None, Reloading, options=options)
    run.assert_resumed_equals_whole(tmp_path, [("on_train_epoch_end", 2), ("on_train_epoch_end", 1)])


@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("moment", [("on_train_batch_end", 2), ("on_train_epoch_end", 1), ("on_validation_start", 2)])
def test_splits_are_drawn_again(moment: tuple[str, int], every: int, tmp_path: Path) -> None:
    options = {"reload_dataloaders_every_n_epochs": every}
    run = Run(lambda: None, Splitting, options=options, validation=lambda: None)
    run.assert_resumed_equals_whole(tmp_path, [moment])


# --- callbacks and precision -----------------------------------------------------------------------------------------

CALLBACKS: dict[str, Any] = {
    "average over all": lambda folder: [L.callbacks.WeightAveraging()],
    "exponential average": lambda folder: [L.callbacks.EMAWeightAveraging(decay=0.9)],
    "stochastic average": lambda folder: [L.callbacks.StochasticWeightAveraging(0.1, swa_epoch_start=1)],
    "early stopping": lambda folder: [L.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.5)],
    "checkpoints": lambda folder: [
        L.callbacks.ModelCheckpoint(folder / "kept", "{epoch}-{step}", "val_loss", save_top_k=2, save_last=True)
    ],
    "finetuning": lambda folder: [L.callbacks.BackboneFinetuning(unfreeze_backbone_at_epoch=1)],
    "windows that grow": lambda folder: [L.callbacks.GradientAccumulationScheduler({0: 2, 1: 3})],
}


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.filterwarnings("ignore")
def test_callbacks(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": 1, "val_check_interval": 1.0}
    module = {"stochastic average": Unscheduled, "finetuning": Backbone}.get(name, Net)
    # A checkpoint that was written between the save and the cut would be written again, under another name.
    cuts = THROUGHOUT[:2] if name == "checkpoints" else THROUGHOUT
    Run(module=module, callbacks=CALLBACKS[name], options=options).assert_resumed_equals_whole(tmp_path, cuts)


def test_an_average_that_is_being_validated(tmp_path: Path) -> None:
    # Its weights are in the module just then, and those in training beside it.
    run = Run(callbacks=CALLBACKS["exponential average"], options={"accumulate_grad_batches": 1})
    run.assert_resumed_equals_whole(tmp_path, [("on_validation_batch_end", 5)])


def test_the_scaler_goes_on(tmp_path: Path) -> None:
    def growing() -> list[Any]:
        return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", growth_interval=2))]

    Run(plugins=growing).assert_resumed_equals_whole(tmp_path, THROUGHOUT)


# --- really killed ---------------------------------------------------------------------------------------------------


class Kill(L.Callback):
    """Ends the process without a farewell, in the n-th call of a hook."""

    def __init__(self, hook: str, call: int) -> None:
        self.left = call
        setattr(self, hook, self._count)

    def _count(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def fit_until_killed(folder: Path, num_workers: int, kill: tuple[str, int] | None) -> None:
    """Goes on from the newest checkpoint, keeps one of every step, and leaves its outcome if it gets there."""
    torch.set_num_threads(1)
    L.seed_everything(1, verbose=False)
    saved = folder / "last.ckpt"
    keeps = L.ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)
    module = Net()
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, val_check_interval=5, accumulate_grad_batches=2, default_root_dir=folder,
        callbacks=[keeps, *([Kill(*kill)] if kill else [])],
    )  # fmt: skip
    validation = DataLoader(Noisy(), batch_size=8, shuffle=True)
    trainer.fit(module, shuffled(num_workers), validation, ckpt_path=saved if saved.exists() else None)
    left = left_of(trainer)
    torch.save({name: left[name] for name in ("weights", "optimizers", "metrics", "step", "random")}, folder / "left")


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_killed_and_started_again(num_workers: int, tmp_path: Path) -> None:
    # Inside a window, twice in one epoch, during validation, at an epoch's end.
    kills = [
        ("on_train_batch_end", 4),
        ("on_train_batch_start", 5),
        ("on_validation_batch_end", 2),
        ("on_train_epoch_end", 1),
    ]
    for folder, plan in ((tmp_path / "whole", [None]), (tmp_path / "killed", [*kills, None])):
        for kill in plan:
            process = multiprocessing.get_context("fork").Process(
                target=fit_until_killed, args=(folder, num_workers, kill)
            )
            process.start()
            process.join(100)
            assert process.exitcode == (0 if kill is None else -signal.SIGKILL)
    assert_same(torch.load(tmp_path / "killed" / "left"), torch.load(tmp_path / "whole" / "left"))
