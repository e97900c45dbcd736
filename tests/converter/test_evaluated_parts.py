"""Evaluations over parts of what is held in memory, as language models have them, and over torchtext's iterators."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import converted, in_each_mode, methods

MEMORY = """\
import torch
from torch import nn

torch.manual_seed(0)
words, val_words = torch.randint(9, (41, 4)), torch.randint(9, (20, 4))
bptt = 6


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.drop = nn.Embedding(9, 8), nn.Dropout(0.2)
        self.memory, self.scores = nn.LSTM(8, 8), nn.Linear(8, 9)

    def forward(self, x, state):
        out, state = self.memory(self.drop(self.embed(x)), state)
        return self.scores(out).flatten(0, 1), state

    def empty(self, n):
        weight = next(self.parameters())
        return weight.new_zeros(1, n, 8), weight.new_zeros(1, n, 8)


model = Words()
criterion = nn.CrossEntropyLoss()


def part(source, i):
    n = min(bptt, len(source) - 1 - i)
    return source[i:i + n], source[i + 1:i + 1 + n].flatten()


def evaluate(source):
    model.eval()
    total = 0.0
    state = model.empty(4)
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, bptt):
            x, y = part(source, i)
            out, state = model(x, state)
            total += len(x) * criterion(out, y).item()
    return total / (len(source) - 1)


def train(lr):
    model.train()
    state = model.empty(4)
    for i in range(0, words.size(0) - 1, bptt):
        x, y = part(words, i)
        state = tuple(one.detach() for one in state)
        model.zero_grad()
        out, state = model(x, state)
        loss = criterion(out, y)
        loss.backward()
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)


lr, best = 1.0, None
for epoch in range(3):
    train(lr)
    loss = evaluate(val_words)
    print(f"{loss:.4f}")
    if not best or loss < best:
        torch.save(model, "best.pt")
        best = loss
    else:
        lr /= 4.0
"""
LEFT = {
    "a list that grows": (
        MEMORY.replace("source.size(0) - 1, bptt", "len(seen), 1")
        .replace("lr, best =", "seen = [0]\nlr, best =")
        .replace("    train(lr)\n", "    train(lr)\n    seen.append(epoch)\n"),
        "its data is no loader that is made before the loops, once",
    ),
    "a size that changes": (
        MEMORY.replace("    train(lr)\n", "    train(lr)\n    bptt = 5\n"),
        "its data is no loader that is made before the loops, once",
    ),
    "a rate of tensors": (
        MEMORY.replace("lr /= 4.0", "lr = lr * loss"),
        "what follows the evaluation gives the training what may have gradients",
    ),
}


def test_a_range_of_starts_is_handed_to_the_trainer() -> None:
    text = converted(MEMORY).text or ""
    assert "range(0, words.size(0) - 1, bptt), range(0, val_words.size(0) - 1, bptt)" in text
    assert methods(text)["validation_step"].startswith("x, y = part(val_words, i)\nout, self.state = self.model(")


@pytest.mark.slow
@in_each_mode
def test_it_evaluates_identically(
    style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(MEMORY, converted(MEMORY, style=style, runtime=runtime).text)


@pytest.mark.parametrize("text, reason", LEFT.values(), ids=LEFT)
def test_it_stays_where_it_is(text: str, reason: str) -> None:
    told = [one.message for one in converted(text).findings if one.code == "LF222"]
    assert len(told) == 1 and reason in told[0]


TEXTS = """\
from torch import nn, optim
from torchtext.legacy import data
import torch

train_iter, valid_iter, test_iter = data.BucketIterator.splits(parts, batch_size=4)
model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.1))
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters())


def evaluate(model, iterator):
    model.eval()
    total = 0
    with torch.no_grad():
        for batch in iterator:
            total += criterion(model(batch.text), batch.label).item()
    return total / len(iterator)


for epoch in range(3):
    model.train()
    for batch in train_iter:
        optimizer.zero_grad()
        loss = criterion(model(batch.text), batch.label)
        loss.backward()
        optimizer.step()
    print(evaluate(model, valid_iter))
"""
SPLIT = "train_iter, valid_iter, test_iter = data.BucketIterator.splits(parts, batch_size=4)"


@pytest.mark.parametrize(
    "made",
    [
        SPLIT,
        SPLIT.replace("=4)", "=4, repeat=False)"),
        "train_iter = data.Iterator(parts[0], 4)\nvalid_iter = data.BPTTIterator(parts[1], 4)",
        "def load():\n    a, b = data.BucketIterator.splits(parts, 4)\n    return a, b\ntrain_iter, valid_iter = load()",
    ],
)
def test_iterators_of_torchtext_are_loaders(made: str) -> None:
    text = converted(TEXTS.replace(SPLIT, made)).text or ""
    assert "trainer.fit(module, train_iter, valid_iter)" in text and "validation_step" in methods(text)


@pytest.mark.parametrize(
    "made",
    [
        SPLIT.replace("=4)", "=4, repeat=True)"),
        f"{SPLIT.replace('train_iter, valid_iter, test_iter', 'all')}\ntrain_iter, valid_iter = all[:2]",
    ],
)
def test_what_may_go_on_or_be_a_tuple_is_none(made: str) -> None:
    text = converted(TEXTS.replace(SPLIT, made)).text or ""
    assert "Passes(lambda: train_iter)" in text and "validation_step" not in methods(text)
