"""What a run in spawned processes leaves behind, brought from the first of them to the process that started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from ..trainer import Trainer


@dataclass(frozen=True)
class Leftovers:
    """Of a trainer after a run; plain data, which any process can read."""

    weights: dict[str, Tensor] | None
    callbacks: dict[str, Any]
    counters: dict[str, Any]
    status: tuple[Any, Any, Any]
    metrics: tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]
    max_epochs: int | None


def collect(trainer: Trainer) -> Leftovers:
    """To be called in the first process, after the run."""
    module = trainer.lightning_module
    weights = None if module is None else {name: value.cpu() for name, value in module.state_dict().items()}
    return Leftovers(
        weights,
        {callback.state_key: callback.state_dict() for callback in trainer.callbacks},
        trainer.run.state_dict(),
        (trainer.state.fn, trainer.state.status, trainer.state.stage),
        (dict(trainer.callback_metrics), dict(trainer.logged_metrics), dict(trainer.progress_bar_metrics)),
        trainer.max_epochs,
    )


def hand_over(leftovers: Leftovers, trainer: Trainer, module: Any) -> None:
    """Gives them to the trainer of the process that waited; `module` is None if the last run's goes on."""
    if module is not None:
        trainer.strategy.connect(module)
        trainer._module = module
        module.trainer = trainer
    if leftovers.weights is not None:
        trainer.lightning_module.load_state_dict(leftovers.weights)
    for callback in trainer.callbacks:
        own = leftovers.callbacks.get(callback.state_key)
        if own:
            if "dirpath" in own and hasattr(callback, "dirpath"):
                callback.dirpath = own["dirpath"]  # resolved in the run; another one would part it from its files
            callback.load_state_dict(own)
    trainer.run.load_state_dict(leftovers.counters)
    trainer.state.fn, trainer.state.status, trainer.state.stage = leftovers.status
    board = trainer._board
    board.callback, board.logged, board.bar = leftovers.metrics
    trainer.max_epochs = leftovers.max_epochs
