"""Whether memory grows with the steps of a run, with `self.log`, bar, CSV logger and checkpoints.

usage: python benchmarks/memory.py [--steps 100000] [--lightning]

The tiny model of step_overhead.py. At every tenth of the steps, unreachable objects are collected, and the process's
resident memory and the objects that Python's collector knows are counted, here and in a raw loop: the memory of any
process that runs torch settles only after a while. More objects at the end than after the first tenth, which warms up,
end the command with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from step_overhead import SHOWN, module, network
from torch.nn import functional as F

PARTS = 10
NO_GROWTH = 20  # objects in all that may come and go


@dataclass
class Batches:
    """The same few batches over and over, and what was counted on the way."""

    steps: int
    counted: list[tuple[float, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        data = torch.randn(8, 8, 16, generator=generator), torch.randint(0, 4, (8, 8), generator=generator)
        batches = list(zip(*data))
        for step in range(1, self.steps + 1):
            yield batches[step % len(batches)]
            if step % (self.steps // PARTS) == 0:
                gc.collect()
                self.counted.append((psutil.Process().memory_info().rss / 2**20, len(gc.get_objects())))


def raw(batches: Batches) -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def fit(package: Any, batches: Batches) -> None:
    callbacks, loggers = (importlib.import_module(f"{package.__name__}.{name}") for name in ("callbacks", "loggers"))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = callbacks.ModelCheckpoint(every_n_train_steps=batches.steps // PARTS // 2)
        package.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            enable_model_summary=False,
            default_root_dir=folder,
            logger=loggers.CSVLogger(folder),
            callbacks=[callbacks.TQDMProgressBar(), checkpoint],
        ).fit(module(package, SHOWN), batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--lightning", action="store_true", help="measure the lightning package instead")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    package = importlib.import_module("lightning.pytorch" if options.lightning else "lightify.runtime")
    ours, plain = Batches(options.steps), Batches(options.steps)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        raw(plain)
        fit(package, ours)
    print(f"{package.__name__}, torch {torch.__version__}")
    columns = f"{'resident MiB':>14s}{'objects':>10s}"
    print(f"{'step':>8s}{columns}{columns}   (right: a raw loop)")
    for part, (own, other) in enumerate(zip(ours.counted, plain.counted), start=1):
        numbers = f"{own[0]:14.2f}{own[1]:10d}{other[0]:14.2f}{other[1]:10d}"
        print(f"{part * options.steps // PARTS:8d}{numbers}")
    grown = ours.counted[-1][1] - ours.counted[0][1]
    sys.exit(f"{grown} more objects than after the first tenth" if grown > NO_GROWTH else 0)


if __name__ == "__main__":
    main()
