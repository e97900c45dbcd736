"""A Trainer calls `set_epoch` on any sampler that has it; the script's order stays what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import STEP, converted, script
from tests.converter.test_evaluation import EVALUATE

SAMPLED = """\
from torch.utils.data import DistributedSampler
sampler = DistributedSampler(data, num_replicas=1, rank=0{})
train_loader = DataLoader(data, batch_size=8, sampler=sampler)
"""
BOTH = "val_loader = DataLoader(data, batch_size=8, sampler=DistributedSampler(data, num_replicas=1, rank=0))\n"
HANDED_OVER = "trainer.fit(module, train_loader"
VALIDATES = "trainer.fit(module, train_loader, val_loader)"

#: (before, start of the epoch, what stands in the result)
ROWS = {
    "told by the script": (SAMPLED.format(""), "sampler.set_epoch(epoch)", VALIDATES),
    "not shuffled": (SAMPLED.format(", shuffle=False"), "", VALIDATES),
    "never told": (SAMPLED.format(""), "", "Passes(lambda: train_loader)"),
    "only the training sampler is told": (SAMPLED.format("") + BOTH, "sampler.set_epoch(epoch)", f"{HANDED_OVER})"),
}


def text_of(before: str, start: str) -> str:
    return script(STEP, before=before, start=f"model.train()\n{start}", end=EVALUATE)


@pytest.mark.parametrize(("before", "start", "expected"), ROWS.values(), ids=ROWS)
def test_what_the_trainer_gets(before: str, start: str, expected: str) -> None:
    assert expected in (converted(text_of(before, start)).text)


@pytest.mark.slow
def test_a_sampler_that_is_never_told_repeats_its_order(trains_identically: Callable[[str, str | None], None]) -> None:
    text = text_of(SAMPLED.format("") + BOTH, "")
    trains_identically(text, converted(text).text)


def test_a_single_pass_takes_the_loader_as_it_is() -> None:
    text = script(STEP, before=SAMPLED.format(""), epochs="if True:")
    assert HANDED_OVER in (converted(text).text)
