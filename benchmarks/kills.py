"""What real SIGKILLs at random moments of saving leave behind: every checkpoint whole, one temporary name at most.

usage: python benchmarks/kills.py [--kills 300] [--seed 0]

A process does nothing but save as a run does: its newest state under `last.ckpt`, and under the step's name, whose
predecessor it then removes. It is killed, what it left is read, and the next one goes on in the same folder. Lost is a
state that was saved and cannot be read; left over is any name but the checkpoints' and the one temporary name.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightify.runtime import checkpoints, shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

SIZE = 20_000
AT_ONCE = 3  # checkpoints in the folder: the last, the newest, and the one before it if the kill came in between
Write = Callable[[dict[str, Any], Path], None]


def write_folder(checkpoint: dict[str, Any], path: Path) -> None:
    """As a sharded strategy does, here the only process."""
    folder = shards.make_temporary_folder(path)
    save_shards({"model": checkpoint["state_dict"]}, checkpoint_id=folder, no_dist=True)
    shards.publish({"step": checkpoint["step"]}, path)


def write_in_turns(checkpoint: dict[str, Any], path: Path) -> None:
    """A file in place of a folder, and a folder in place of a file."""
    (write_folder if checkpoint["step"] % 2 else checkpoints.save)(checkpoint, path)


WRITES: dict[str, Write] = {
    "one file": checkpoints.save,
    "folder of shards": write_folder,
    "file and folder in turns": write_in_turns,
}


@dataclass
class Outcome:
    kills: int = 0
    within_a_save: int = 0  # the temporary name was there
    read: int = 0
    lost: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)


def save_step(folder: Path, write: Write, step: int) -> None:
    checkpoint = {"step": step, "state_dict": {"weight": torch.full((SIZE,), float(step))}}
    write(checkpoint, folder / "last.ckpt")
    write(checkpoint, folder / f"step={step}.ckpt")
    checkpoints.remove(folder / f"step={step - 1}.ckpt")


def save_without_end(folder: Path, write: Write, saved: Any) -> None:
    torch.set_num_threads(1)
    last = folder / "last.ckpt"
    step = shards.load_any(last)["step"] if shards.existing(last).exists() else 0
    while True:
        step += 1
        save_step(folder, write, step)
        saved.value = step


def seconds_of_a_step(write: Write) -> float:
    """Also imports what torch imports when it first saves and loads: the processes that fork from here need not."""
    with tempfile.TemporaryDirectory() as name:
        for step in range(5):
            start = time.perf_counter()
            save_step(Path(name), write, step)
            taken = time.perf_counter() - start
        shards.load_any(Path(name, "last.ckpt"))
    return taken


def check(folder: Path, saved: int, outcome: Outcome) -> None:
    """Reads everything in `folder`; removes all but the last checkpoint and the temporary name."""
    names = {path.name for path in folder.iterdir()}
    outcome.within_a_save += checkpoints.TEMPORARY_NAME in names
    kept = {name for name in names if name.endswith(".ckpt")}
    outcome.left_over += sorted(names - kept - {checkpoints.TEMPORARY_NAME})
    if len(kept) > AT_ONCE:
        outcome.left_over += sorted(kept)
    if saved:
        kept.add("last.ckpt")
    for name in sorted(kept):
        try:
            checkpoint = shards.load_any(folder / name)
            step = checkpoint["step"]
            whole = torch.equal(checkpoint["state_dict"]["weight"], torch.full((SIZE,), float(step)))
            if not whole or (name == "last.ckpt" and step < saved):
                outcome.lost.append(f"{name} holds step {step}, saved was {saved}")
            outcome.read += 1
        except Exception as error:
            outcome.lost.append(f"{name}: {error}")
        if name == "last.ckpt":
            continue
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)  # `checkpoints.remove` would clear the temporary name, too
        else:
            (folder / name).unlink()


def kill_while_saving(folder: Path, kills: int, write: Write = checkpoints.save, seed: int = 0) -> Outcome:
    draw, outcome, context = random.Random(seed), Outcome(), multiprocessing.get_context("fork")
    saved, longest_s = context.Value("q", 0, lock=False), 0.02 + 4 * seconds_of_a_step(write)
    for _ in range(kills):
        process = context.Process(target=save_without_end, args=(folder, write, saved))
        process.start()
        time.sleep(draw.uniform(0.01, longest_s))
        assert process.pid is not None and process.is_alive(), "saving failed"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        outcome.kills += 1
        check(folder, saved.value, outcome)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    outcomes = {}
    for name, write in WRITES.items():
        with tempfile.TemporaryDirectory() as folder:
            outcomes[name] = kill_while_saving(Path(folder), options.kills, write, options.seed)
    print(f"{'':20s}{'kills':>8s}{'within a save':>15s}{'read back':>11s}{'lost':>6s}{'left over':>11s}")
    for name, outcome in outcomes.items():
        numbers = f"{outcome.kills:8d}{outcome.within_a_save:15d}{outcome.read:11d}"
        print(f"{name:20s}{numbers}{len(outcome.lost):6d}{len(outcome.left_over):11d}")
    faults = [fault for outcome in outcomes.values() for fault in outcome.lost + outcome.left_over]
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
