from __future__ import annotations

import pytest

from tests.upgrade.scripts import check, check_refused, check_same, of_module

STEP = (
    "def {}(self, batch, batch_idx, hiddens):\n    x, y = batch\n    out, hiddens = self.lstm(x, hiddens)\n"
    "    return {{'loss': (out - y).sum(), 'hiddens': hiddens}}\n\n"
)
LOOP = """\
def training_step(self, batch, batch_idx):
    optimizer, hiddens = self.optimizers(), None
    for piece in self.tbptt_split_batch(batch, self.truncated_bptt_steps):
        output = self._step_on_piece(piece, batch_idx, hiddens)
        optimizer.zero_grad()
        self.manual_backward(output["loss"])
        optimizer.step()
        hiddens = output["hiddens"]
        if hasattr(hiddens, "detach"):
            hiddens = hiddens.detach()
        elif hiddens is not None:
            hiddens = type(hiddens)(part.detach() for part in hiddens)
"""
SPLIT = """
def tbptt_split_batch(self, batch, split_size):
    # sequences (B, T, ...), cut along T
    return zip(*(part.split(split_size, dim=1) for part in batch))
"""
OWN_SPLIT = "def tbptt_split_batch(self, batch, split_size):\n    return batch.split(split_size)\n\n"
OPTIMIZERS = "\ndef configure_optimizers(self):\n    return sgd(self)"
INIT = "def __init__(self):\n    super().__init__()\n{}    self.truncated_bptt_steps = 2\n\n"
MANUAL = "    self.automatic_optimization = False\n"


def test_stays() -> None:
    check_same(of_module("def training_step(self, batch, batch_idx):\n    return self.lstm(batch)"))


def test_becomes_a_loop_over_pieces() -> None:
    check(
        of_module(INIT.format("") + STEP.format("training_step") + OPTIMIZERS),
        of_module(INIT.format(MANUAL) + STEP.format("_step_on_piece") + LOOP + SPLIT + "\n" + OPTIMIZERS),
        "truncated_bptt",
    )


def test_the_users_own_pieces_and_the_trainers_length() -> None:
    step = STEP.replace("    x, y = batch\n", "    x = y = batch\n")
    end = "\n\n\ntrainer = pl.Trainer({})"
    before = of_module(OWN_SPLIT + step.format("training_step") + OPTIMIZERS) + end.format("truncated_bptt_steps=2")
    made = INIT.format(MANUAL)
    check(
        before,
        of_module(made + OWN_SPLIT + step.format("_step_on_piece") + LOOP + "\n" + OPTIMIZERS) + end.format(""),
        "truncated_bptt",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (STEP.format("training_step") + OPTIMIZERS, "is set elsewhere"),
        (INIT.format("") + STEP.format("training_step"), "`configure_optimizers` is in another file"),
        (
            INIT.format("") + STEP.format("training_step").replace("x, y = batch", "x = y = batch") + OPTIMIZERS,
            "how a batch is cut",
        ),
    ],
)
def test_is_refused(body: str, reason: str) -> None:
    check_refused(of_module(body), reason, "def training_step")
