"""Batches on their way to a device; "meta" stands for the device that is not there."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any, ClassVar

import pytest
import torch
from lightify.runtime.transfer import move_data_to_device
from torch.nn.utils.rnn import pack_sequence

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass(frozen=True)
class Record:
    tensor: torch.Tensor
    name: str


class InPlace:
    """A batch type of the user's own."""

    def __init__(self) -> None:
        self.tensor = torch.ones(2)

    def to(self, device: torch.device) -> None:
        self.tensor = self.tensor.to(device)


def on_cpu() -> dict[str, Any]:
    x = torch.ones(2)
    return {
        "a tensor": x,
        "a list": [x, 1],
        "a tuple": (x, "a"),
        "a named tuple": Pair(x, None),
        "a dictionary": {"a": {"b": [x]}},
        "an ordered dictionary": OrderedDict(a=x),
        "a default dictionary": defaultdict(list, a=[x]),
        "a frozen dataclass": Record(x, "n"),
        "a packed sequence": pack_sequence([x]),
    }


def tensors(data: Any) -> list[torch.Tensor]:
    if isinstance(data, torch.Tensor):
        return [data]
    if isinstance(data, dict):
        return [tensor for value in data.values() for tensor in tensors(value)]
    if dataclasses.is_dataclass(data):
        return [tensor for field in dataclasses.fields(data) for tensor in tensors(getattr(data, field.name))]
    if isinstance(data, (list, tuple)):
        return [tensor for value in data for tensor in tensors(value)]
    return []


@pytest.mark.parametrize("name", on_cpu())
def test_a_batch_already_there_is_returned_itself(name: str) -> None:
    batch = on_cpu()[name]
    moved = move_data_to_device(batch, torch.device("cpu"))
    if name == "a packed sequence":
        assert moved.data is batch.data
    else:
        assert moved is batch


@pytest.mark.parametrize("name", [name for name in on_cpu() if name != "a packed sequence"])
def test_containers_keep_their_types_and_their_tensors_move(name: str) -> None:
    batch = on_cpu()[name]
    moved = move_data_to_device(batch, "meta")
    assert type(moved) is type(batch)
    assert tensors(moved) and all(tensor.device.type == "meta" for tensor in tensors(moved))
    assert all(tensor.device.type == "cpu" for tensor in tensors(batch))


@pytest.mark.parametrize("value", [None, 1, 1.5, "text", b"x", range(3), {1, 2}], ids=str)
def test_what_has_no_device_stays(value: object) -> None:
    assert move_data_to_device(value, "meta") is value


def test_a_tensor_that_occurs_twice_is_copied_once() -> None:
    x = torch.ones(2)
    first, second = move_data_to_device([x, {"again": x}], "meta")
    assert first is second["again"]


def test_an_object_that_moves_in_place_is_kept() -> None:
    batch = InPlace()
    assert move_data_to_device(batch, "meta") is batch
    assert batch.tensor.device.type == "meta"


class Recorded(torch.Tensor):
    """Notes how it was asked to move."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def to(self, *args: Any, **kwargs: Any) -> Any:
        Recorded.asked.append(kwargs)
        return torch.ones(2)


@pytest.mark.parametrize(("device", "non_blocking"), [("cuda:0", True), ("mps", False), ("meta", True)])
def test_copies_do_not_wait_where_the_device_allows_it(device: str, non_blocking: bool) -> None:
    Recorded.asked.clear()
    move_data_to_device([torch.ones(2).as_subclass(Recorded)], device)
    assert Recorded.asked == [{"non_blocking": non_blocking}]
