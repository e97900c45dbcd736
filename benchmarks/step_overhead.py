"""What one training step costs beside a raw loop: bare, with `self.log`, and with bar, CSV logger and checkpoints.

usage: python benchmarks/step_overhead.py [--rounds 9] [--steps 2000] [--lightning] [--device cuda]

The cases take turns, so that a busy machine slows all of them alike; processor time is counted (on a GPU the time until
it has finished), and for each case the median of its rounds is shown, and beside it the least, which a busy machine
disturbs less. Every case must end with the raw loop's parameters, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Case = Callable[[], tuple[float, nn.Module]]
SHOWN = {"on_step": True, "on_epoch": True, "prog_bar": True}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def batches(steps: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.randn(steps, 8, 16, generator=generator), torch.randint(0, 4, (steps, 8), generator=generator)
    )
    return torch.utils.data.DataLoader(data, batch_size=None)


def now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def raw(steps: int, device: str) -> tuple[float, nn.Module]:
    net, loader = network().to(device), batches(steps)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    start = now(device)
    for x, y in loader:
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return now(device) - start, net


def module(package: Any, log: dict[str, Any] | None) -> Any:
    """The network as a module of a package, its loss logged with some arguments, or not logged."""

    class Module(package.LightningModule):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            if log is not None:
                self.log("train_loss", loss, **log)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module()


def fit(package: Any, steps: int, device: str, log: dict[str, Any] | None, everything: bool) -> tuple[float, nn.Module]:
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        if everything:
            loggers = importlib.import_module(f"{package.__name__}.loggers")
            parts = {"logger": loggers.CSVLogger(folder), "enable_checkpointing": True, "enable_progress_bar": True}
        trainer = package.Trainer(
            max_epochs=1, accelerator=device, devices=1, enable_model_summary=False, default_root_dir=folder, **parts
        )
        trained, loader = module(package, log), batches(steps)
        start = now(device)
        trainer.fit(trained, loader)
        return now(device) - start, trained.net


def cases(steps: int, device: str, names: list[str]) -> dict[str, Case]:
    found: dict[str, Case] = {"raw": lambda: raw(steps, device)}
    for name in names:
        package = importlib.import_module(name)
        label = name.split(".")[0]
        found[label] = lambda package=package: fit(package, steps, device, None, False)
        found[f"{label}, self.log"] = lambda package=package: fit(package, steps, device, {}, False)
        found[f"{label}, log per step and epoch"] = lambda package=package: fit(package, steps, device, SHOWN, False)
        found[f"{label}, bar + CSV + checkpoint"] = lambda package=package: fit(package, steps, device, {}, True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lightning", action="store_true", help="measure the lightning package, too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    table = cases(
        options.steps, options.device, ["lightify.runtime", *(["lightning.pytorch"] if options.lightning else [])]
    )
    times: dict[str, list[float]] = {name: [] for name in table}
    expected: torch.Tensor | None = None
    for turn in range(options.rounds + 1):
        for name, case in table.items():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                seconds, net = case()
            weights = torch.cat([p.detach().flatten().cpu() for p in net.parameters()])
            expected = weights if expected is None else expected
            assert torch.equal(weights, expected), f"{name} does not train as the raw loop does"
            if turn:  # the first one warms up
                times[name].append(seconds)
    base, least = statistics.median(times["raw"]), min(times["raw"])
    print(f"{options.steps} steps, {options.rounds} rounds, torch {torch.__version__}, {options.device}")
    for name, values in times.items():
        middle = statistics.median(values)
        each, over = middle / options.steps * 1e6, (middle - base) / options.steps * 1e6
        best = (min(values) - least) / options.steps * 1e6
        print(f"{name:36s} {each:8.1f} us/step   over raw {over:7.1f} us   x{middle / base:.3f}   least {best:7.1f} us")


if __name__ == "__main__":
    main()
