"""Steps of 1.x: what they return, their ends, several optimizers, and sequences cut into pieces."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .said import instead

STEPS = ("training_step", "validation_step", "test_step")


def log_returned(module: Any, returned: Any) -> None:
    """Logs the ``log`` and ``progress_bar`` entries of a returned dict, and other numbers for callbacks."""
    if not isinstance(returned, Mapping):
        return
    shown, logged = returned.get("progress_bar", {}), returned.get("log", {})
    if "log" in returned or "progress_bar" in returned:
        instead("a returned dict with 'log' or 'progress_bar'", "`self.log(name, value, prog_bar=...)`")
    for name, value in {**shown, **logged}.items():
        module.log(name, value, prog_bar=name in shown, logger=name in logged)
    for name, value in returned.items():
        is_number = isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
        if is_number and name not in ("loss", *shown, *logged):
            module.log(name, value, logger=False)


def then(step: Callable[..., Any], ending: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def step_and_ending(*arguments: Any, **keywords: Any) -> Any:
        return ending(step(*arguments, **keywords))

    return step_and_ending


class OptimizerLoop:
    """`training_step` for each optimizer in turn, or for each piece of a sequence; steps by itself."""

    def __init__(
        self, trainer: Any, module: Any, step: Callable[..., Any], parameters: Mapping[str, Any], pieces: int
    ) -> None:
        self.trainer, self.module, self.step, self.pieces = trainer, module, step, pieces
        self.takes_index, self.takes_hiddens = "optimizer_idx" in parameters, "hiddens" in parameters
        if self.takes_index:
            instead("training_step(..., optimizer_idx)", "`automatic_optimization = False` and `self.optimizers()`")
        if self.takes_hiddens:
            instead("truncated_bptt_steps", "`automatic_optimization = False` and a loop over the pieces")

    def __call__(self, batch: Any, batch_idx: int) -> Any:
        optimizers = self.module.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        loss = None
        for piece, hiddens in self._split(batch):
            for index, optimizer in self._due(optimizers, batch_idx):
                self.module.toggle_optimizer(optimizer)
                keywords: dict[str, Any] = {"optimizer_idx": index} if self.takes_index else {}
                if self.takes_hiddens:
                    keywords["hiddens"] = hiddens[0]
                output = self.step(piece, batch_idx, **keywords)
                if isinstance(output, Mapping):
                    log_returned(self.module, {k: v for k, v in output.items() if k in ("log", "progress_bar")})
                    hiddens[0] = _detached(output.get("hiddens"))
                    output = output.get("loss")
                if output is not None:
                    optimizer.zero_grad()
                    self.module.manual_backward(output)
                    optimizer.step()
                    loss = output
                self.module.untoggle_optimizer(optimizer)
        for config in self.trainer.lr_scheduler_configs:
            self._step_scheduler(config, batch_idx)
        return loss

    def _split(self, batch: Any) -> Iterator[tuple[Any, list[Any]]]:
        hiddens: list[Any] = [None]
        if not self.takes_hiddens or not self.pieces:
            yield batch, hiddens
            return
        split = getattr(self.module, "tbptt_split_batch", None)
        parts = split(batch, self.pieces) if split is not None else _pieces(batch, self.pieces)
        for part in parts:
            yield part, hiddens

    def _due(self, optimizers: list[Any], batch_idx: int) -> list[tuple[int, Any]]:
        """All optimizers, or the one whose turn it is when they have frequencies."""
        frequencies = self.trainer._optimizer_frequencies
        if not frequencies:
            return list(enumerate(optimizers))
        place = batch_idx % sum(frequencies)
        for index, frequency in enumerate(frequencies):
            if place < frequency:
                return [(index, optimizers[index])]
            place -= frequency
        return []

    def _step_scheduler(self, config: Any, batch_idx: int) -> None:
        last = batch_idx + 1 == self.trainer.num_training_batches
        count = batch_idx + 1 if config.interval == "step" else self.trainer.current_epoch + 1
        if (config.interval == "step" or last) and count % config.frequency == 0:
            self.module.lr_scheduler_step(config.scheduler, None)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (list, tuple)):
        return type(value)(_detached(part) for part in value)
    return value


def _pieces(batch: Any, size: int) -> list[Any]:
    """A batch of sequences (B, T, ...) cut along T."""
    if isinstance(batch, Tensor):
        return list(torch.split(batch, size, dim=1)) if batch.ndim > 1 else [batch]
    parts = [_pieces(part, size) for part in batch]
    length = max(map(len, parts))
    return [type(batch)(part[i] if len(part) > 1 else part[0] for part in parts) for i in range(length)]
