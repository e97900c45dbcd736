"""`fit` equals a hand-written torch loop bit for bit: losses, parameters and the random stream afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightify.runtime as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 3


def data(n: int = 22) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    return TensorDataset(torch.randn(n, 6, generator=generator), torch.randint(0, 3, (n,), generator=generator))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


@dataclass
class Trace:
    losses: list[float]
    parameters: torch.Tensor
    next_random: float
    val_losses: list[float]


def trace(model: nn.Module, losses: list[float], val_losses: list[float]) -> Trace:
    parameters = torch.cat([value.flatten().float() for value in model.state_dict().values()])
    return Trace(losses, parameters, torch.rand(()).item(), val_losses)


def assert_same(ours: Trace, raw: Trace) -> None:
    assert ours.losses == raw.losses
    assert ours.val_losses == raw.val_losses
    assert torch.equal(ours.parameters, raw.parameters)
    assert ours.next_random == raw.next_random


def trainer(**arguments: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return L.Trainer(**{"max_epochs": EPOCHS, **quiet, **arguments})


class Classifier(L.LightningModule):
    def __init__(self, make_optimizer: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net = network()
        self.make_optimizer = make_optimizer
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.losses.append(loss.item())
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.val_losses.append(loss.item())
        self.log("val_loss", loss)

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self.net.parameters())


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def with_step_lr(parameters: Any) -> Any:
    optimizer = sgd(parameters)
    return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def with_one_cycle(parameters: Any) -> Any:
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def with_plateau(parameters: Any) -> Any:
    optimizer = sgd(parameters)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_loss"}


def raw_loop(
    make: Callable[[Any], Any],
    workers: int,
    validate: bool,
    after_step: Callable[[Any], None] | None,
    after_epoch: Callable[[Any, float], None] | None,
    clip: Callable[[nn.Module], None] | None = None,
) -> Trace:
    net = network()
    made = make(net.parameters())
    if isinstance(made, dict):
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]
        scheduler = scheduler["scheduler"] if isinstance(scheduler, dict) else scheduler
    elif isinstance(made, tuple):
        optimizer, scheduler = made[0][0], made[1][0]
    else:
        optimizer, scheduler = made, None
    train = DataLoader(data(), batch_size=4, shuffle=True, num_workers=workers)
    val = DataLoader(data(10), batch_size=4, num_workers=workers)
    losses, val_losses = [], []
    for _ in range(EPOCHS):
        net.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            if clip:
                clip(net)
            optimizer.step()
            losses.append(loss.item())
            if after_step:
                after_step(scheduler)
        weighted = 0.0
        if validate:
            net.eval()
            with torch.no_grad():
                for x, y in val:
                    loss = F.cross_entropy(net(x), y)
                    val_losses.append(loss.item())
                    weighted += loss.item() * len(y)
        if after_epoch:
            after_epoch(scheduler, weighted / 10)
    return trace(net, losses, val_losses)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("make", "validate", "after_step", "after_epoch"),
    [
        pytest.param(sgd, False, None, None, id="plain"),
        pytest.param(sgd, True, None, None, id="validation per epoch"),
        pytest.param(with_step_lr, True, None, lambda s, _: s.step(), id="scheduler per epoch"),
        pytest.param(with_one_cycle, False, lambda s: s.step(), None, id="scheduler per step"),
        pytest.param(with_plateau, True, None, lambda s, metric: s.step(metric), id="scheduler with metric"),
    ],
)
def test_automatic_optimization(make: Any, validate: bool, after_step: Any, after_epoch: Any, workers: int) -> None:
    torch.manual_seed(1)
    raw = raw_loop(make, workers, validate, after_step, after_epoch)
    torch.manual_seed(1)
    module = Classifier(make)
    train = DataLoader(data(), batch_size=4, shuffle=True, num_workers=workers)
    val = DataLoader(data(10), batch_size=4, num_workers=workers) if validate else None
    trainer(num_sanity_val_steps=0).fit(module, train, val)
    assert_same(trace(module.net, module.losses, module.val_losses), raw)


@pytest.mark.parametrize(
    ("arguments", "clip"),
    [
        pytest.param(
            {"gradient_clip_val": 0.5}, lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.5), id="norm"
        ),
        pytest.param(
            {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
            lambda net: nn.utils.clip_grad_value_(net.parameters(), 0.05),
            id="value",
        ),
    ],
)
def test_clipping(arguments: dict[str, Any], clip: Any) -> None:
    torch.manual_seed(1)
    raw = raw_loop(sgd, 0, False, None, None, clip)
    torch.manual_seed(1)
    module = Classifier(sgd)
    trainer(**arguments).fit(module, DataLoader(data(), batch_size=4, shuffle=True))
    assert_same(trace(module.net, module.losses, []), raw)


def test_sanity_validation_leaves_no_trace() -> None:
    torch.manual_seed(1)
    raw = raw_loop(sgd, 0, True, None, None)
    torch.manual_seed(1)
    module = Classifier(sgd)
    loaders = DataLoader(data(), batch_size=4, shuffle=True), DataLoader(data(10), batch_size=4)
    trainer(num_sanity_val_steps=2).fit(module, *loaders)
    assert_same(trace(module.net, module.losses, module.val_losses[2:]), raw)


def test_lbfgs() -> None:
    def make(parameters: Any) -> Any:
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)

    class Regression(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(6, 3)
            self.losses: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> Any:
            return make(self.parameters())

    torch.manual_seed(1)
    net = nn.Linear(6, 3)
    optimizer = make(net.parameters())
    losses: list[float] = []
    for _ in range(EPOCHS):
        for x, y in DataLoader(data(), batch_size=8, shuffle=True):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)  # noqa: B023
                loss.backward()
                losses.append(loss.item())
                return loss

            optimizer.step(closure)
    raw = trace(net, losses, [])
    torch.manual_seed(1)
    module = Regression()
    fitting = trainer()
    fitting.fit(module, DataLoader(data(), batch_size=8, shuffle=True))
    assert_same(trace(module.net, module.losses, []), raw)
    assert fitting.global_step == EPOCHS * 3


def test_manual_optimization_of_two_networks() -> None:
    def networks() -> tuple[nn.Module, nn.Module]:
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6)), nn.Sequential(
            nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 1)
        )

    def optimizers(g: nn.Module, d: nn.Module) -> tuple[Any, Any]:
        return torch.optim.Adam(g.parameters(), lr=0.01), torch.optim.RMSprop(d.parameters(), lr=0.01)

    def d_loss(g: nn.Module, d: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return d(fake.detach()).mean() - d(real).mean()

    class Gan(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.g, self.d = networks()
            self.losses: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> None:
            opt_g, opt_d = self.optimizers()
            real, fake = batch[0], self.g(torch.randn(len(batch[0]), 2))
            opt_d.zero_grad()
            loss = d_loss(self.g, self.d, real, fake)
            self.manual_backward(loss)
            opt_d.step()
            for p in self.d.parameters():
                p.data.clamp_(-0.1, 0.1)
            if batch_idx % 2 == 0:
                opt_g.zero_grad()
                loss = -self.d(fake).mean()
                self.manual_backward(loss)
                opt_g.step()
            self.losses.append(loss.item())

        def configure_optimizers(self) -> Any:
            return optimizers(self.g, self.d)

    torch.manual_seed(1)
    g, d = networks()
    opt_g, opt_d = optimizers(g, d)
    losses: list[float] = []
    for _ in range(EPOCHS):
        for batch_idx, (real, _) in enumerate(DataLoader(data(), batch_size=4, shuffle=True)):
            fake = g(torch.randn(len(real), 2))
            opt_d.zero_grad()
            loss = d_loss(g, d, real, fake)
            loss.backward()
            opt_d.step()
            for p in d.parameters():
                p.data.clamp_(-0.1, 0.1)
            if batch_idx % 2 == 0:
                opt_g.zero_grad()
                loss = -d(fake).mean()
                loss.backward()
                opt_g.step()
            losses.append(loss.item())
    raw = trace(nn.ModuleList([g, d]), losses, [])
    torch.manual_seed(1)
    module = Gan()
    fitting = trainer()
    fitting.fit(module, DataLoader(data(), batch_size=4, shuffle=True))
    assert_same(trace(nn.ModuleList([module.g, module.d]), module.losses, []), raw)
    assert fitting.global_step == EPOCHS * (6 + 3)


def test_one_iter_per_pass_made_after_the_hooks_at_its_start() -> None:
    events: list[str] = []

    class Source:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            events.append("iter")
            for i in range(2):
                events.append(f"batch {i}")
                yield torch.ones(1, 6)
            events.append("end of data")

    class Module(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            events.append(f"step {batch_idx}")
            return self.net[0](batch).sum()

        def on_train_start(self) -> None:
            events.append("train start")

        def on_train_epoch_start(self) -> None:
            events.append("epoch start")

        def on_train_epoch_end(self) -> None:
            events.append("epoch end")

    trainer(max_epochs=2).fit(Module(sgd), Source())
    epoch = ["epoch start", "iter", "batch 0", "step 0", "batch 1", "step 1", "end of data", "epoch end"]
    assert events == ["train start", *epoch, *epoch]


@pytest.mark.parametrize("source", [range(3), [0, 1, 2], "generator"], ids=["range", "list", "unsized"])
def test_any_iterable_is_a_loader(source: Any) -> None:
    seen: list[Any] = []

    class Unsized:
        def __iter__(self) -> Any:
            return iter([0, 1, 2])

    class Module(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            seen.append(batch)
            return self.net[0](torch.ones(1, 6)).sum()

    trainer(max_epochs=2).fit(Module(sgd), Unsized() if source == "generator" else source)
    assert seen == [0, 1, 2] * 2


@pytest.mark.parametrize("sized", [True, False])
def test_accumulation_steps_on_the_last_window(sized: bool) -> None:
    """Divided by the window, stepped at its end and at the pass's end, as Lightning does."""
    batches = DataLoader(data(), batch_size=4)  # 6 batches, windows of 4 and 2

    class Unsized:
        def __iter__(self) -> Any:
            return iter(batches)

    torch.manual_seed(1)
    net = nn.Linear(6, 3)
    optimizer = sgd(net.parameters())
    for _ in range(EPOCHS):
        for i, (x, y) in enumerate(batches):
            if i % 4 == 0:
                optimizer.zero_grad()
            (F.cross_entropy(net(x), y) / 4).backward()
            if i in (3, 5):
                optimizer.step()

    class Module(Classifier):
        def __init__(self) -> None:
            super().__init__(sgd)
            torch.manual_seed(1)
            self.net = nn.Linear(6, 3)

    module = Module()
    fitting = trainer(accumulate_grad_batches=4)
    fitting.fit(module, batches if sized else Unsized())
    assert torch.equal(module.net.weight, net.weight)
    assert fitting.global_step == EPOCHS * 2


class Counts(L.LightningModule):
    """Counts batches and passes, and trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seen: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append("batch")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append("val")

    def on_validation_epoch_end(self) -> None:
        self.seen.append("validated")

    def on_train_epoch_end(self) -> None:
        self.seen.append("end")

    def configure_optimizers(self) -> None:
        return None


def test_epochs_without_batches_are_epochs() -> None:
    module, filled = Counts(), []  # type: ignore[var-annotated]
    module.on_train_epoch_end = lambda: (module.seen.append("end"), filled.append(len(filled)))  # type: ignore[method-assign]
    trainer(num_sanity_val_steps=0).fit(module, filled, filled)
    assert module.seen == [
        *("validated", "end"),
        *("batch", "val", "validated", "end"),
        *("batch", "batch", "val", "val", "validated", "end"),
    ]


@pytest.mark.parametrize("said", [1, 3, 8])
def test_a_pass_is_as_long_as_it_is(said: int) -> None:
    class Loader:
        def __len__(self) -> int:
            return said

        def __iter__(self) -> Any:
            return iter(range(3))

    module = Counts()
    trainer(num_sanity_val_steps=0, max_epochs=2).fit(module, Loader(), [0])
    assert module.seen == ["batch"] * 3 + ["val", "validated", "end"] + ["batch"] * 3 + ["val", "validated", "end"]
