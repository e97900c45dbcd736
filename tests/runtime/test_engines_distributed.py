"""Several real processes over gloo: against one process, started in each way, in trouble, and their checkpoints."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightify.runtime import shards
from lightify.runtime.strategies.environment import free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SCRIPT = str(Path(__file__).parent / "engines_scripts" / "train.py")
TIMEOUT_S = 150

# Two processes add the halves of a batch in another order than one adds the whole.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def command(case: dict[str, Any], launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *launcher, SCRIPT, json.dumps(case)]


def clean_environment(**extra: str) -> dict[str, str]:
    ours = ("MASTER_", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "RANK", "PL_", "TORCHELASTIC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "OMP_NUM_THREADS": "1", **extra}


def run(folder: Path, launcher: tuple[str, ...] = (), **case: Any) -> dict[str, Any]:
    """Runs the script and returns its result with the weights of its checkpoint."""
    case = {"strategy": "auto", "devices": 1, "batch_size": 8, "folder": str(folder), **case}
    done = subprocess.run(
        command(case, launcher), env=clean_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return result_of(folder)


def result_of(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    result["weights"] = shards.load_any(result["checkpoint"])["state_dict"]
    return result


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process with the doubled batch."""
    return run(tmp_path_factory.mktemp("one"), clip=1.0)


def assert_same_training(result: dict[str, Any], expected: dict[str, Any]) -> None:
    assert result["global_step"] == expected["global_step"]
    torch.testing.assert_close(result["loss"], expected["loss"], **TOLERANCE)
    torch.testing.assert_close(result["val_loss"], expected["val_loss"], **TOLERANCE)
    torch.testing.assert_close(dict(result["weights"]), dict(expected["weights"]), **TOLERANCE)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

STARTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "own launch": ((), {"strategy": "ddp"}),
    "torchrun": (TORCHRUN, {"strategy": "ddp"}),
    "spawn": ((), {"strategy": "ddp_spawn"}),
    "fork": ((), {"strategy": "ddp_fork"}),
    "own launch, fsdp": ((), {"strategy": "fsdp"}),
    "torchrun, fsdp in shards": (TORCHRUN, {"strategy": "fsdp", "state_dict_type": "sharded"}),
}


@pytest.mark.parametrize("start", STARTS)
def test_two_processes_train_as_one_with_the_doubled_batch(start: str, tmp_path: Path, one: dict[str, Any]) -> None:
    launcher, case = STARTS[start]
    result = run(tmp_path, launcher, devices=2, batch_size=4, clip=1.0, **case)
    assert_same_training(result, one)


def test_two_nodes_of_one_process_each(tmp_path: Path, one: dict[str, Any]) -> None:
    case = {"strategy": "ddp", "devices": 1, "num_nodes": 2, "batch_size": 4, "clip": 1.0, "folder": str(tmp_path)}
    port = str(free_port())
    nodes = [
        subprocess.Popen(
            command(case),
            env=clean_environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=str(node), LOCAL_RANK="0"),
        )
        for node in range(2)
    ]
    assert [node.wait(TIMEOUT_S) for node in nodes] == [0, 0]
    assert_same_training(result_of(tmp_path), one)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_accumulated_gradients_are_exchanged_once_and_are_the_same(strategy: str, tmp_path: Path) -> None:
    expected = run(tmp_path / "one", accumulate=4, clip=1.0, samples=80)
    result = run(tmp_path / "two", strategy=strategy, devices=2, batch_size=4, accumulate=4, clip=1.0, samples=80)
    assert_same_training(result, expected)


def test_manual_optimization_with_two_backward_passes(tmp_path: Path) -> None:
    expected = run(tmp_path / "one", manual=True)
    result = run(tmp_path / "two", manual=True, strategy="ddp", devices=2, batch_size=4)
    assert_same_training(result, expected)


def test_batch_normalisation_sees_the_batches_of_all_processes(tmp_path: Path) -> None:
    expected = run(tmp_path / "one", batch_norm=True)
    result = run(tmp_path / "two", batch_norm=True, strategy="ddp", devices=2, batch_size=4)
    assert_same_training(result, expected)


@pytest.mark.parametrize("samples", [65, 62])
def test_an_uneven_last_batch_does_not_hang(samples: int, tmp_path: Path) -> None:
    result = run(tmp_path, strategy="ddp", devices=2, batch_size=4, samples=samples)
    assert result["global_step"] == 2 * math.ceil(math.ceil(samples / 2) / 4)


def test_uneven_numbers_of_batches_do_not_hang(tmp_path: Path) -> None:
    result = run(tmp_path, strategy="ddp", devices=2, batch_size=4, uneven=True)
    assert result["global_step"] == 2 * 2  # two epochs of the shorter share


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("start", ["own launch", "torchrun", "spawn"])
def test_a_rank_that_fails_ends_the_others_with_its_error(start: str, rank: int, tmp_path: Path) -> None:
    launcher, strategy = STARTS[start]
    case = {"devices": 2, "batch_size": 4, "folder": str(tmp_path), "fail_on_rank": rank, **strategy}
    done = subprocess.run(
        command(case, launcher), env=clean_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode != 0
    assert "ValueError: the user's own error" in done.stderr
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_all_after_the_same_batch(rank: int, tmp_path: Path) -> None:
    case = {
        "strategy": "ddp", "devices": 2, "batch_size": 4, "folder": str(tmp_path), "pause_s": 0.01, "max_epochs": 1000
    }  # fmt: skip
    process = subprocess.Popen(command(case), env=clean_environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + TIMEOUT_S
    files = [tmp_path / "pid0", tmp_path / "pid1"]
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(int(files[rank].read_text()), signal.SIGTERM)
    _, error = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM, error
    saved = list(tmp_path.glob("*.ckpt"))
    assert saved and all(shards.load_any(path)["global_step"] > 0 for path in saved)


def test_shards_load_at_other_numbers_of_processes(tmp_path: Path) -> None:
    expected = run(tmp_path / "whole", max_epochs=2)
    first = run(
        tmp_path / "two", TORCHRUN, strategy="fsdp", state_dict_type="sharded", devices=2, batch_size=4, max_epochs=1
    )
    assert Path(first["checkpoint"]).is_dir()
    for name, case in {
        "three": {"strategy": "fsdp", "devices": 1},
        "plain": {},
    }.items():
        result = run(tmp_path / name, ckpt_path=first["checkpoint"], max_epochs=2, **case)
        torch.testing.assert_close(dict(result["weights"]), dict(expected["weights"]), **TOLERANCE)
    back = run(
        tmp_path / "back", strategy="fsdp", devices=2, batch_size=4, max_epochs=2,
        ckpt_path=run(tmp_path / "one", max_epochs=1)["checkpoint"],
    )  # fmt: skip
    torch.testing.assert_close(dict(back["weights"]), dict(expected["weights"]), **TOLERANCE)
