"""Several real processes over gloo: against one process, started in each way, in trouble, and their checkpoints.

Starting processes takes longer than anything they do here, so that one start serves many checks. Each process is a fresh
one: what a group of gloo needs to end does not survive a fork for sure.
"""

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

import psutil
import pytest
import torch
from lightify.runtime import shards
from lightify.runtime.strategies.environment import free_port

from tests.runtime.engines_scripts.train import train

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SCRIPT = Path(__file__).parent / "engines_scripts" / "train.py"
ROOT = str(Path(__file__).parents[2])
TIMEOUT_S = 250

# Two processes add the halves of a batch in another order than one adds the whole.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}

Case = dict[str, Any]


MARK = "LIGHTIFY_TEST_FOLDER"  # in the environment, which every process that a process starts inherits

Start = tuple[str, ...]
FRESH: Start = (sys.executable, "-W", "ignore")
TORCHRUN: Start = (*FRESH, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def command(cases: list[Case], start: Start = FRESH) -> list[str]:
    return [*start, str(SCRIPT), json.dumps(cases)]


def clean_environment(**extra: str) -> dict[str, str]:
    ours = ("MASTER_", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "RANK", "PL_", "TORCHELASTIC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **extra}


def run(
    folder: Path,
    cases: dict[str, Case],
    start: Start = FRESH,
    /,
    environment: dict[str, str] | None = None,
    **common: Any,
) -> dict[str, Any]:
    """Runs all cases in one start; their results by name, what was written to stderr, and the processes still there.

    A case that fails ends them all, so it comes last; of a check there are the results of all processes.
    """
    full = []
    for name, case in cases.items():
        (folder / name).mkdir(parents=True)
        full.append({"devices": 2, "batch_size": 4, "folder": str(folder / name), **common, **case})
    done = subprocess.run(
        command(full, start), env=clean_environment(**environment or {}, **{MARK: str(folder)}), capture_output=True,
        text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    *_, last = cases.values()
    assert (done.returncode != 0) == ("fail_on_rank" in last), done.stderr[-3000:]
    ended = {name: case for name, case in cases.items() if "fail_on_rank" not in case}
    results = {name: result_of(folder / name, is_check="check" in case) for name, case in ended.items()}
    return {**results, "stderr": done.stderr, "left": processes_of(folder)}


def processes_of(folder: Path) -> list[str]:
    """What runs of a start, whoever started it."""
    running = psutil.process_iter(["environ", "cmdline"])
    return [str(each.info["cmdline"]) for each in running if (each.info["environ"] or {}).get(MARK) == str(folder)]


def result_of(folder: Path, is_check: bool = False) -> Any:
    results = json.loads((folder / "result.json").read_text())
    return results if is_check else with_weights(results[0])


def with_weights(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "weights": shards.load_any(result["checkpoint"])["state_dict"]}


def in_one_process(folder: Path, case: Case) -> dict[str, Any]:
    """The same case with the doubled batch, here."""
    alone = {"ddp": None, "strategy": "auto", "state_dict_type": None, "devices": 1, "batch_size": 8}
    return with_weights(train({**case, **alone, "folder": str(folder)}))


def assert_same_training(result: dict[str, Any], expected: dict[str, Any]) -> None:
    assert result["global_step"] == expected["global_step"]
    torch.testing.assert_close(result["loss"], expected["loss"], **TOLERANCE)
    torch.testing.assert_close(result["val_loss"], expected["val_loss"], **TOLERANCE)
    torch.testing.assert_close(dict(result["weights"]), dict(expected["weights"]), **TOLERANCE)


# --- as one process --------------------------------------------------------------------------------------------------

DDP, FSDP = {"strategy": "ddp"}, {"strategy": "fsdp"}
IN_SHARDS = {**FSDP, "state_dict_type": "sharded"}

TRAINED: dict[str, Case] = {
    "ddp": {**DDP, "clip": 1.0},
    "ddp, accumulating": {**DDP, "clip": 1.0, "accumulate": 4, "samples": 80},
    "ddp, manual with two backward passes": {**DDP, "manual": True},
    "ddp, batch normalisation over all": {**DDP, "batch_norm": "sync"},
    "ddp, arguments of torch's own": {**DDP, "ddp": {"find_unused_parameters": True, "gradient_as_bucket_view": True}},
    "ddp, static graph": {**DDP, "ddp": {"static_graph": True, "process_group_backend": "gloo"}},
    "fsdp": {**FSDP, "clip": 1.0},
    "fsdp, accumulating": {**FSDP, "clip": 1.0, "accumulate": 4, "samples": 80},
    "fsdp, in shards": {**IN_SHARDS, "clip": 1.0},
}
UNEVEN: dict[str, Case] = {
    "65 samples": {**DDP, "samples": 65},
    "62 samples": {**DDP, "samples": 62},
    "more batches in one process": {**DDP, "uneven": True},
    "more of validation in one process": {**DDP, "uneven_validation": True, "max_epochs": 1},
    "more of validation in one process, fsdp": {**FSDP, "uneven_validation": True, "max_epochs": 1},
}
WINDOW = {"check": "cut", "accumulate": 4, "samples": 88, "dropout": 0.3, "shuffle": True, "max_epochs": 2}
CUT: dict[str, Case] = {
    "inside a window": {**WINDOW, **DDP, "cuts": [2]},
    "inside two windows": {**WINDOW, **DDP, "cuts": [3, 5, 13]},
    "inside a window, gradients in buckets": {**WINDOW, **DDP, "cuts": [6], "ddp": {"gradient_as_bucket_view": True}},
    "manual, gradients live on": {**WINDOW, **DDP, "cuts": [4], "accumulate": 1, "accumulates_itself": True},
    "at a window's end": {**WINDOW, **DDP, "cuts": [4]},
    "inside a window, fsdp": {**WINDOW, **FSDP, "cuts": [2, 7], "clip": 0.5},
    "inside a window, fsdp in shards": {**WINDOW, **IN_SHARDS, "cuts": [3]},
    "inside a window, fsdp in 16 bits": {**WINDOW, **FSDP, "cuts": [3], "precision": "bf16-mixed"},
    "manual, gradients live on, fsdp": {**WINDOW, **FSDP, "cuts": [4], "accumulate": 1, "accumulates_itself": True},
}
OTHER: dict[str, Case] = {
    "by hand": {"check": "by_hand"},
    "by hand, gradients in buckets": {"check": "by_hand", "ddp": {"gradient_as_bucket_view": True}},
    "by hand, fsdp": {"check": "by_hand_in_shards", "types": False, "clips": "norm"},
    "by hand, fsdp, in 16 bits": {"check": "by_hand_in_shards", "types": True, "clips": "norm"},
    "by hand, fsdp, clipped by value": {"check": "by_hand_in_shards", "types": False, "clips": "value"},
    "samplers": {"check": "samplers", **DDP},
    "talk": {"check": "talk", **DDP},
    "folders": {"check": "folders", **IN_SHARDS},
}


@pytest.fixture(scope="module")
def own_launch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that two processes, started by the runtime, came to; `by hand` last: it makes the group itself."""
    return run(tmp_path_factory.mktemp("own launch"), {**TRAINED, **UNEVEN, **CUT, **OTHER})


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same from torchrun; `from one` starts at a checkpoint of one process."""
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "one").mkdir()
    of_one = train({"folder": str(folder / "one"), "batch_size": 8, "max_epochs": 1})["checkpoint"]
    cases = {
        "ddp": TRAINED["ddp"],
        "fsdp, in shards": TRAINED["fsdp, in shards"],
        "half": {**IN_SHARDS, "max_epochs": 1},
        "from one": {**FSDP, "ckpt_path": of_one},
        "by hand": OTHER["by hand"],
        "fails": {**DDP, "fail_on_rank": 1},
    }
    return run(folder, cases, TORCHRUN)


@pytest.fixture(scope="module")
def from_this_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Processes that the script's own makes, without starting the script again."""
    cases = {
        "ddp_fork": {**TRAINED["ddp"], "strategy": "ddp_fork"},
        "ddp_spawn": {**TRAINED["ddp"], "strategy": "ddp_spawn"},
        "fails": {"strategy": "ddp_spawn", "fail_on_rank": 0},
    }
    return run(tmp_path_factory.mktemp("from this one"), cases)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_as_one_with_the_doubled_batch(
    name: str, tmp_path: Path, own_launch: dict[str, Any]
) -> None:
    assert_same_training(own_launch[name], in_one_process(tmp_path, TRAINED[name]))


@pytest.mark.parametrize("name", ["ddp", "fsdp, in shards"])
def test_under_torchrun(name: str, under_torchrun: dict[str, Any], own_launch: dict[str, Any]) -> None:
    assert_same_training(under_torchrun[name], own_launch[name])


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_in_processes_of_this_one(strategy: str, from_this_one: dict[str, Any], own_launch: dict[str, Any]) -> None:
    assert_same_training(from_this_one[strategy], own_launch["ddp"])


def test_two_nodes_of_one_process_each(tmp_path: Path, own_launch: dict[str, Any]) -> None:
    case = {**TRAINED["ddp"], "devices": 1, "num_nodes": 2, "batch_size": 4, "folder": str(tmp_path)}
    port = str(free_port())
    nodes = [
        subprocess.Popen(
            command([case]),
            env=clean_environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, NODE_RANK=str(node), LOCAL_RANK="0"),
        )
        for node in range(2)
    ]
    assert [node.wait(TIMEOUT_S) for node in nodes] == [0, 0]
    assert_same_training(result_of(tmp_path), own_launch["ddp"])


def test_an_uneven_last_batch_does_not_hang(own_launch: dict[str, Any]) -> None:
    for samples in (65, 62):
        steps_per_epoch = math.ceil(math.ceil(samples / 2) / 4)
        assert own_launch[f"{samples} samples"]["global_step"] == 2 * steps_per_epoch


def test_uneven_numbers_of_batches_do_not_hang(own_launch: dict[str, Any]) -> None:
    assert own_launch["more batches in one process"]["global_step"] == 2 * 2  # two epochs of the shorter share


@pytest.mark.parametrize("strategy", ["", ", fsdp"])
def test_uneven_numbers_of_validation_batches_do_not_hang(strategy: str, own_launch: dict[str, Any]) -> None:
    assert own_launch[f"more of validation in one process{strategy}"]["val_loss"] > 0


# --- bit for bit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CUT)
def test_cut_and_taken_up_bit_for_bit_in_each_process(name: str, own_launch: dict[str, Any]) -> None:
    results = own_launch[name]
    assert len(results) == 2
    for result in results:
        assert result["resumed"] == result["whole"]


def test_three_processes_cut_and_taken_up_bit_for_bit(tmp_path: Path) -> None:
    # A sum of three depends on its order, and that on the buckets that DDP forms in its second step.
    window = {**WINDOW, **DDP, "devices": 3, "crossed": True}
    cases = {
        "after the first step": {**window, "accumulate": 1, "cuts": [1]},
        "inside a window": {**window, "accumulate": 2, "cuts": [3]},
        "gradients in buckets": {**window, "accumulate": 3, "cuts": [5], "ddp": {"gradient_as_bucket_view": True}},
    }
    results = run(tmp_path, cases)
    for name in cases:
        assert [result["resumed"] for result in results[name]] == [result["whole"] for result in results[name]], name


@pytest.mark.parametrize("start", ["own launch", "torchrun"])
def test_ddp_is_a_loop_written_by_hand_around_torchs_ddp(
    start: str, own_launch: dict[str, Any], under_torchrun: dict[str, Any]
) -> None:
    results = [under_torchrun["by hand"]] if start == "torchrun" else [
        own_launch["by hand"], own_launch["by hand, gradients in buckets"]
    ]  # fmt: skip
    for of_processes in results:
        assert len(of_processes) == 2
        for result in of_processes:
            assert result["seen"] == result["expected"]
            assert result["group kept"]


@pytest.mark.parametrize("name", [name for name in OTHER if name.startswith("by hand, fsdp")])
def test_fsdp_is_a_loop_written_by_hand_around_torchs(name: str, own_launch: dict[str, Any]) -> None:
    for result in own_launch[name]:
        assert result["seen"] == result["expected"]


# --- samplers and talk -----------------------------------------------------------------------------------------------


def test_samplers_share_what_they_would_yield(own_launch: dict[str, Any]) -> None:
    first, second = own_launch["samplers"]
    for name in ("shuffled", "distributed", "backwards", "sequential"):
        for epoch in range(2):
            assert sorted(first[name][epoch] + second[name][epoch]) == list(range(12)), name
    assert first["backwards"] == [list(range(11, 0, -2))] * 2
    assert first["sequential"] == [list(range(0, 12, 2))] * 2
    for name in ("shuffled", "weighted", "distributed"):
        assert first[name][0] != first[name][1], name
    assert len(first["weighted"][0]) == 6 and len({*first["weighted"][0], *second["weighted"][0]}) < 12
    assert first["epochs told"] == second["epochs told"] == [0, 1]


def test_collective_calls(own_launch: dict[str, Any]) -> None:
    first, second = own_launch["talk"]
    expected = {
        "mean": [1.5, 2.5], "sum": [3.0, 5.0], "min": [1.0, 2.0], "max": [2.0, 3.0], "product": [2.0, 6.0],
        "mean of whole numbers": 0.5, "broadcast": {"from": 1}, "all": False, "any": True,
        "gathered": [[1.0, 2.0], [2.0, 3.0]], "kept": "text",
        "log_mean": 1.5, "log_sum": 3.0, "log_min": 1.0, "log_max": 2.0, "wrote": False, "last row": True,
        "validated with": 0.0,
    }  # fmt: skip
    for rank, answers in enumerate((first, second)):
        # The gradient of what all gathered: every process's share of it.
        own = {"own": [1.0 + rank, 2.0 + rank], "wrote": rank == 0, "kept": "kept"}
        own |= dict.fromkeys(("log_own", "log_alone", "log_first"), rank + 1.0)
        own["gradient"] = [4 * value for value in own["own"]]
        assert answers == {**expected, **own}


def test_folders_of_shards(own_launch: dict[str, Any]) -> None:
    expected = {"batches after the first epoch": 8, "one process reads": 0, "still read": 0}
    for answers in own_launch["folders"]:
        assert answers == {**expected, "a file": True, "then read": 4}


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_ends_the_others_with_its_error(rank: int, tmp_path: Path) -> None:
    ended = run(tmp_path, {"fails": {**DDP, "fail_on_rank": rank}})
    assert "ValueError: the user's own error" in ended["stderr"]
    assert ended["left"] == []


def test_a_rank_that_fails_in_processes_started_otherwise(
    under_torchrun: dict[str, Any], from_this_one: dict[str, Any]
) -> None:
    for results in (under_torchrun, from_this_one):
        assert "ValueError: the user's own error" in results["stderr"]
        assert results["left"] == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_all_after_the_same_batch(rank: int, tmp_path: Path) -> None:
    case = {**DDP, "devices": 2, "batch_size": 4, "folder": str(tmp_path), "pause_s": 0.01, "max_epochs": 1000}
    process = subprocess.Popen(command([case]), env=clean_environment(), stderr=subprocess.PIPE, text=True)
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


# --- checkpoints of other numbers of processes -----------------------------------------------------------------------


def test_checkpoints_load_at_other_numbers_of_processes(tmp_path: Path, under_torchrun: dict[str, Any]) -> None:
    expected = in_one_process(tmp_path / "whole", {})
    path = under_torchrun["half"]["checkpoint"]
    assert Path(path).is_dir()
    as_torchrun = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    as_torchrun |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    alone = {"by hand": OTHER["by hand"], "fsdp": {**FSDP, "ckpt_path": path}, "plain": {"ckpt_path": path}}
    one = run(tmp_path / "again", alone, environment=as_torchrun, devices=1, batch_size=8)
    (by_hand,) = one["by hand"]
    assert by_hand["seen"] == by_hand["expected"] and by_hand["group kept"]
    for result in (under_torchrun["from one"], one["fsdp"], one["plain"]):
        torch.testing.assert_close(dict(result["weights"]), dict(expected["weights"]), **TOLERANCE)
