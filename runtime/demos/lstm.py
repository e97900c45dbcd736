"""A recurrent language model on WikiText-2, whose memory goes on from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from ..module import STEP_OUTPUT, LightningModule
from .transformer import WORDS, WikiText2

Memory = tuple[Tensor, Tensor]


class SimpleLSTM(nn.Module):
    """An LSTM over words.

    Args:
        vocab_size: Number of words.
        ninp: Size of a word's vector.
        nhid: Size of the memory.
        nlayers: Layers of the LSTM.
        dropout: Its probability.
    """

    def __init__(
        self, vocab_size: int = WORDS, ninp: int = 512, nhid: int = 512, nlayers: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.vocab_size, self.nlayers, self.nhid = vocab_size, nlayers, nhid
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout, batch_first=True)
        self.decoder = nn.Linear(nhid, vocab_size)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, words: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Log-probabilities of words, ``(B * T, vocab_size)``, from word numbers, ``(B, T)``; and the new memory."""
        output, memory = self.rnn(self.drop(self.encoder(words)), memory)
        output = self.decoder(self.drop(output)).view(-1, self.vocab_size)
        return nn.functional.log_softmax(output, dim=1), memory

    def init_hidden(self, batch_size: int) -> Memory:
        """An empty memory."""
        shape = (self.nlayers, batch_size, self.nhid)
        return self.decoder.weight.new_zeros(shape), self.decoder.weight.new_zeros(shape)


class SequenceSampler(Sampler[list[int]]):
    """Batches whose every place reads its own part of the data from one batch to the next.

    Args:
        dataset: What has an order.
        batch_size: How many parts there are; what is left over is not read.
    """

    def __init__(self, dataset: Sized, batch_size: int) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.chunk_size = len(dataset) // batch_size

    def __len__(self) -> int:
        return self.chunk_size

    def __iter__(self) -> Iterator[list[int]]:
        for place in range(self.chunk_size):
            yield [part * self.chunk_size + place for part in range(self.batch_size)]


class LightningLSTM(LightningModule):
    """Trains `SimpleLSTM` to foretell the next word."""

    def __init__(self, vocab_size: int = WORDS) -> None:
        super().__init__()
        self.model = SimpleLSTM(vocab_size)
        self.hidden: Memory | None = None

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        words, target = batch
        state, cell = self.model.init_hidden(len(words)) if self.hidden is None else self.hidden
        output, self.hidden = self.model(words, (state.detach(), cell.detach()))
        loss = nn.functional.nll_loss(output, target.reshape(-1))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.hidden = None

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=20.0)

    def prepare_data(self) -> None:
        WikiText2(download=True)

    def train_dataloader(self) -> Any:
        dataset = WikiText2()
        return DataLoader(dataset, batch_sampler=SequenceSampler(dataset, batch_size=20))
