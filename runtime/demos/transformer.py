"""A small language model on WikiText-2."""

from __future__ import annotations

import math
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..module import STEP_OUTPUT, LightningModule

WORDS = 33278  # different ones in WikiText-2
SOURCE = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/train.txt"


class WikiText2(Dataset[Any]):
    """Blocks of words, and the same blocks one word later.

    Args:
        data_dir: Where the text lies, or is downloaded to.
        block_size: Words per block.
        download: Whether to fetch the text if it is not there.
    """

    def __init__(self, data_dir: str | Path = "data", block_size: int = 35, download: bool = True) -> None:
        path = Path(data_dir) / "wikitext-2.txt"
        if download and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            urllib.request.urlretrieve(SOURCE, path)
        words = [word for line in path.read_text(encoding="utf-8").splitlines() for word in (*line.split(), "<eos>")]
        self.dictionary = {word: index for index, word in enumerate(dict.fromkeys(words))}
        self.data = torch.tensor([self.dictionary[word] for word in words])
        self.block_size = block_size

    @property
    def vocab_size(self) -> int:
        """How many different words there are."""
        return len(self.dictionary)

    def __len__(self) -> int:
        return len(self.data) // self.block_size - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.block_size
        block = self.data[start : start + self.block_size + 1]
        return block[:-1], block[1:]


class Transformer(nn.Module):
    """An encoder and decoder over words.

    Args:
        vocab_size: Number of words.
        ninp: Size of a word's vector.
        nhead: Heads of attention.
        nhid: Size of the feed-forward layers.
        nlayers: Layers of encoder and decoder.
        dropout: Its probability.
    """

    def __init__(
        self,
        vocab_size: int = WORDS,
        ninp: int = 200,
        nhead: int = 2,
        nhid: int = 200,
        nlayers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(ninp, nhead, nlayers, nlayers, nhid, dropout, batch_first=True)
        self.decoder = nn.Linear(ninp, vocab_size)

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities of words, ``(B * T, vocab_size)``, from word numbers, ``(B, T)``."""
        if mask is None:
            mask = nn.Transformer.generate_square_subsequent_mask(inputs.size(1), device=inputs.device)
        source, wanted = self._vectors(inputs), self._vectors(target)
        output = self.decoder(self.transformer(source, wanted, tgt_mask=mask))
        return nn.functional.log_softmax(output, dim=-1).view(-1, self.vocab_size)

    def _vectors(self, words: Tensor) -> Tensor:
        vectors = self.embedding(words) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(vectors + _positions(vectors))


def _positions(vectors: Tensor) -> Tensor:
    """Sines and cosines of the position, ``(T, C)``, at wavelengths from 2π to 20000π."""
    length, size = vectors.shape[1:]
    place = torch.arange(length, device=vectors.device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, size, 2, device=vectors.device) * (-math.log(10000.0) / size))
    waves = torch.zeros(length, size, device=vectors.device)
    waves[:, 0::2] = torch.sin(place * rate)
    waves[:, 1::2] = torch.cos(place * rate)[:, : size // 2]
    return waves


class LightningTransformer(LightningModule):
    """Trains `Transformer` to foretell the next word."""

    def __init__(self, vocab_size: int = WORDS) -> None:
        super().__init__()
        self.model = Transformer(vocab_size)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        return self.model(inputs, target)

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        inputs, target = batch
        return nn.functional.nll_loss(self(inputs, target), target.reshape(-1))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def prepare_data(self) -> None:
        WikiText2(download=True)

    def train_dataloader(self) -> Any:
        return DataLoader(WikiText2())
