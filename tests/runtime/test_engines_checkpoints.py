"""Checkpoint files: whole or absent, checked, readable by anyone."""

from __future__ import annotations

import argparse
import contextlib
import enum
import os
import random
import time
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import lightify.runtime as L
import numpy as np
import pytest
import torch
from lightify.runtime import checkpoints, randomness, shards
from lightify.runtime.checkpoint_io import AsyncCheckpointIO, TorchCheckpointIO
from lightify.runtime.checkpoints import TEMPORARY_NAME, CheckpointDamaged
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.strategies import FSDPStrategy

from benchmarks.kills import WRITES, kill_while_saving, write_folder


class Colour(str, enum.Enum):
    RED = "red"


class Thing:
    """Of a class that weights_only loading knows nothing of."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


PLAIN = {
    "numbers": ({"a": 1, "b": 2.5, "c": 1j, "d": True, "e": None}, {"a": 1, "b": 2.5, "c": 1j, "d": True, "e": None}),
    "containers": ([(1, 2), {3}, b"x"], [(1, 2), {3}, b"x"]),
    "ordered": (OrderedDict(a=1), OrderedDict(a=1)),
    "counter": (Counter("aab"), Counter("aab")),
    "torch values": ((torch.float16, torch.Size([2]), torch.device("cpu")),) * 2,
    "numpy number": (np.float32(1.5), 1.5),
    "enum of strings": (Colour.RED, "red"),
    "path": (Path("a/b"), str(Path("a/b"))),
    "namespace": (argparse.Namespace(a=1, b=Path("c")), {"a": 1, "b": "c"}),
    "default dictionary": (defaultdict(list, a=[1]), {"a": [1]}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_survive_a_weights_only_load(tmp_path: Path, name: str) -> None:
    value, expected = PLAIN[name]
    checkpoints.save({"value": value}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"value": expected}


def test_arrays_and_random_states_survive_a_weights_only_load(tmp_path: Path) -> None:
    checkpoints.save({"array": np.arange(3), "rng": randomness.capture()}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(loaded["array"], torch.arange(3))
    expected = torch.rand(3), random.random(), np.random.rand()
    randomness.restore(loaded["rng"])
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]


def test_objects_of_other_classes_come_back_only_when_asked_for(tmp_path: Path) -> None:
    checkpoints.save({"thing": Thing(3), "function": torch.relu, "in": [Thing(4)]}, tmp_path / "a.ckpt")
    plain = checkpoints.load(tmp_path / "a.ckpt")
    assert plain["thing"]["type"].endswith("Thing")
    full = checkpoints.load(tmp_path / "a.ckpt", weights_only=False)
    assert full == {"thing": Thing(3), "function": torch.relu, "in": [Thing(4)]}


def test_what_cannot_be_pickled_is_left_out_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"checkpoint\['callbacks'\]\['mine'\].*cannot be pickled"):
        checkpoints.save({"callbacks": {"mine": lambda: 0}}, tmp_path / "a.ckpt")
    assert checkpoints.load(tmp_path / "a.ckpt") == {"callbacks": {"mine": None}}


def test_the_file_is_a_sound_archive_and_maps_into_memory(tmp_path: Path) -> None:
    state = torch.nn.Linear(30, 30).state_dict()
    checkpoints.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert zipfile.ZipFile(tmp_path / "a.ckpt").testzip() is None
    mapped = torch.load(tmp_path / "a.ckpt", mmap=True, weights_only=True)["state_dict"]
    assert torch.equal(mapped["weight"], state["weight"])
    assert mapped._metadata == state._metadata  # type: ignore[attr-defined]
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoints.save({"w": torch.arange(20)}, path)
    content = path.read_bytes()
    draw = random.Random(0)
    for position in [0, 1, len(content) - 1, len(content) - 82, *draw.sample(range(len(content)), 200)]:
        broken = bytearray(content)
        broken[position] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(CheckpointDamaged):
            checkpoints.load(path)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_cut_file_is_noticed_and_the_last_good_one_named(tmp_path: Path, length: int) -> None:
    for name in ("old", "good", "damaged"):
        checkpoints.save({"w": torch.arange(20)}, tmp_path / f"{name}.ckpt")
        time.sleep(0.01)
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(CheckpointDamaged, match=r"damaged\.ckpt is damaged.*\n  hint: .*good\.ckpt") as caught:
        checkpoints.load(damaged)
    assert caught.value.last_good == tmp_path / "good.ckpt"


def test_files_of_others_load_and_are_checked_by_their_own_checksums(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"w": torch.arange(1000)}, path)
    assert torch.equal(checkpoints.load(path)["w"], torch.arange(1000))
    broken = bytearray(path.read_bytes())
    broken[broken.index(torch.arange(1000).numpy().tobytes()[:64]) + 8] ^= 1
    path.write_bytes(broken)
    with pytest.raises(CheckpointDamaged, match="does not match its checksum"):
        checkpoints.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Checkpoint file not found: .*none\.ckpt"):
        checkpoints.load(tmp_path / "none.ckpt")


def test_a_folder_is_no_checkpoint_and_what_is_in_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not point to a valid checkpoint: it is a folder"):
        checkpoints.load(tmp_path)
    checkpoints.save({"w": 1}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"The newest checkpoint in it is 'last\.ckpt'"):
        checkpoints.load(tmp_path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    checkpoints.save({"step": 1}, path)

    def fails(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save({"step": 2}, path)
    monkeypatch.undo()
    assert checkpoints.load(path) == {"step": 1}
    assert set(os.listdir(tmp_path)) <= {"a.ckpt", TEMPORARY_NAME}


def test_asynchronous_writes_keep_what_was_saved_and_their_order(tmp_path: Path) -> None:
    writer, weight = AsyncCheckpointIO(), torch.zeros(3)
    for step in range(5):
        writer.save_checkpoint({"w": weight, "step": step}, tmp_path / "a.ckpt")
        weight += 1
    writer.teardown()
    assert torch.equal(checkpoints.load(tmp_path / "a.ckpt")["w"], torch.full((3,), 4.0))


def test_an_asynchronous_write_leaves_what_it_copies_alone(tmp_path: Path) -> None:
    states = defaultdict(dict, {"a": torch.zeros(1)})
    before, writer = states["a"], AsyncCheckpointIO()
    writer.save_checkpoint({"states": states}, tmp_path / "a.ckpt")
    before += 1
    writer.teardown()
    assert states["a"] is before and not checkpoints.load(tmp_path / "a.ckpt")["states"]["a"].any()


def test_an_asynchronous_write_reports_its_error(tmp_path: Path) -> None:
    writer = AsyncCheckpointIO()
    (tmp_path / "file").touch()
    writer.save_checkpoint({}, tmp_path / "file" / "a.ckpt")
    with pytest.raises(OSError):
        writer.teardown()


def test_storage_options_need_a_writer_that_knows_them(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`storage_options` arg is not supported for `TorchCheckpointIO`"):
        TorchCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={})


@pytest.mark.parametrize("kind", WRITES)
def test_a_killed_save_loses_nothing(kind: str, tmp_path: Path) -> None:
    outcome = kill_while_saving(tmp_path, 12, WRITES[kind])
    assert (outcome.lost, outcome.left_over) == ([], [])


@pytest.mark.slow
def test_more_killed_saves_lose_nothing(tmp_path: Path) -> None:
    outcome = kill_while_saving(tmp_path, 40, seed=1)
    assert (outcome.lost, outcome.left_over) == ([], [])


WEIGHT = {"weight": torch.ones(2)}


@pytest.mark.parametrize("kind", WRITES)
def test_a_folder_whose_replacement_was_killed_is_put_back(kind: str, tmp_path: Path) -> None:
    def step(name: str) -> int:
        return shards.load_any(tmp_path / name)["step"]

    write_folder({"step": 1, "state_dict": WEIGHT}, tmp_path / "a.ckpt")
    # Killed between the two renames of the next save of a.ckpt.
    replaced = tmp_path / TEMPORARY_NAME / checkpoints.REPLACED_NAME
    replaced.mkdir(parents=True)
    os.rename(tmp_path / "a.ckpt", replaced / "a.ckpt")
    assert step("a.ckpt") == 1
    WRITES[kind]({"step": 2, "state_dict": WEIGHT}, tmp_path / "b.ckpt")
    WRITES[kind]({"step": 3, "state_dict": WEIGHT}, tmp_path / "b.ckpt")
    assert [step(name) for name in ("a.ckpt", "b.ckpt")] == [1, 3]
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "b.ckpt"]


class Own(TorchCheckpointIO):
    """A script's own writer, which looks where the folder of its name is."""

    def __init__(self, fails: bool) -> None:
        self.fails, self.seen = fails, 0

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        self.seen = shards.load_any(path)["step"]
        if self.fails:
            raise OSError("No space left on device")
        torch.save(checkpoint, path)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("wrap", [lambda writer: writer, AsyncCheckpointIO])
def test_a_folder_stays_until_a_writer_of_the_scripts_own_is_done(wrap: Any, fails: bool, tmp_path: Path) -> None:
    write_folder({"step": 1, "state_dict": WEIGHT}, tmp_path / "a.ckpt")
    writer = Own(fails)
    strategy = FSDPStrategy(checkpoint_io=wrap(writer), parallel_devices=[torch.device("cpu")])
    with pytest.raises(OSError, match="No space left") if fails else contextlib.nullcontext():
        strategy.save_checkpoint({"step": 2, "state_dict": WEIGHT}, tmp_path / "a.ckpt")
    assert (writer.seen, shards.load_any(tmp_path / "a.ckpt")["step"]) == (1, 1 if fails else 2)
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_a_folder_whose_removal_was_killed_is_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder({"step": 1, "state_dict": WEIGHT}, tmp_path / "a.ckpt")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoints.shutil, "rmtree", mock.Mock(side_effect=KeyboardInterrupt))
        checkpoints.remove(tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == [TEMPORARY_NAME]
    checkpoints.save({"step": 2}, tmp_path / "b.ckpt")
    assert os.listdir(tmp_path) == ["b.ckpt"]


# --- objects in states -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_has_no_shape_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoints.save({"state_dict": torch.nn.LazyLinear(2).state_dict()}, path)
    torch.load(path, weights_only=True)
    torch.nn.LazyLinear(2).load_state_dict(checkpoints.load(path, weights_only=False)["state_dict"])


class Hoarder(L.Callback):
    def __init__(self, thing: object) -> None:
        self.thing = thing

    def state_dict(self) -> dict[str, object]:
        return {"thing": self.thing}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.thing = state["thing"]


def test_an_object_in_a_state_is_named_when_saved_and_when_needed(tmp_path: Path) -> None:
    class Net(L.LightningModule):
        def __init__(self, thing: Thing) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return self.layer(batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(max_epochs: int, thing: object, **options: object) -> Hoarder:
        callback = Hoarder(thing)
        trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, max_epochs=max_epochs, callbacks=callback,
        )  # fmt: skip
        trainer.fit(Net(Thing(1)), torch.ones(2, 1, 1), **options)
        if max_epochs == 1:
            trainer.save_checkpoint(path)
        return callback

    path = tmp_path / "a.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="checkpoint")
        fit(1, thing=3)  # a hyperparameter that is an object is asked for by name when it is needed
    assert fit(2, thing=None, ckpt_path=path).thing == 3
    with pytest.warns(UserWarning, match=r"checkpoint\['callbacks'\]\['Hoarder'\]\['thing'\] is an object of .*Thing"):
        fit(1, thing=Thing(5))
    with pytest.raises(
        MisconfigurationException, match=r"\['Hoarder'\]\['thing'\].*`trainer.fit\(..., weights_only=False"
    ):
        fit(2, thing=None, ckpt_path=path)
    assert fit(2, thing=None, ckpt_path=path, weights_only=False).thing == Thing(5)
