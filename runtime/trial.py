"""Short runs inside a run, which leave the Trainer, the module and the random state as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from . import loops
from .call import STAGES
from .callbacks.base import Callback
from .evaluation import evaluate
from .loggers import DummyLogger
from .prediction import predict
from .preparation import bind_hooks, configure_optimizers, make_runs
from .randomness import isolate_rng
from .results import Board
from .state import RunState, TrainerFn

if TYPE_CHECKING:
    from .trainer import Trainer

_KEPT = (
    "run", "callbacks", "loggers", "optimizers", "lr_scheduler_configs", "max_steps", "min_steps", "min_epochs",
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "val_check_batch",
    "val_check_interval", "accumulate_grad_batches", "log_every_n_steps", "predict_loop", "_lightning_optimizers",
    "_board", "_results", "_training", "_hooks", "_call",
)  # fmt: skip
_QUIET = {"min_steps": None, "min_epochs": 0, "log_every_n_steps": 0}


@contextmanager
def trial(
    trainer: Trainer, callbacks: Sequence[Callback], reloads: bool = False, **settings: Any
) -> Iterator[Callable[..., None]]:
    """Yields a function that makes the Trainer's current run (fit, validate, ...) anew, as often as it is called.

    Each run has counters, optimizers and loaders of its own, no logger, and no callbacks but those given. At the end
    of the block the weights and everything else are as before it, also after an error.

    Args:
        trainer: In the middle of a run.
        callbacks: Those that the trial runs with.
        reloads: Asks for the data of the run in progress anew at the end.
        **settings: Attributes of the Trainer during the trial: ``max_steps``, ``limit_val_batches``, ...
    """
    module, precision, stage = trainer.lightning_module, trainer.precision_plugin, trainer.state.stage
    kept = {name: getattr(trainer, name) for name in _KEPT}
    evaluations = dict(trainer._evaluations)
    tensors = [(tensor, tensor.detach().clone()) for tensor in chain(module.parameters(), module.buffers())]
    modes = [(part, part.training) for part in module.modules()]
    scaling = precision.state_dict()
    try:
        trainer.callbacks = list(callbacks)
        trainer.loggers = [DummyLogger()] if kept["loggers"] else []
        for name, value in {**_QUIET, **settings}.items():
            setattr(trainer, name, value)
        assert trainer._call is not None
        trainer._call = replace(trainer._call, verbose=False)
        with isolate_rng():
            yield lambda prepare=None: _run(trainer, prepare)
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        trainer._evaluations = evaluations
        trainer.state.stage = stage
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        for part, training in modes:
            part.training = training
        if scaling:
            precision.load_state_dict(scaling)
    if reloads:
        _reload(trainer)


def _run(trainer: Trainer, prepare: Callable[[], None] | None) -> None:
    """Makes one run; ``prepare`` is called when its optimizers are there."""
    fn = trainer.state.fn
    assert fn is not None
    trainer.run, trainer._board = RunState(), Board()
    bind_hooks(trainer)
    make_runs(trainer)
    trainer.state.stage = STAGES[fn]
    if fn is TrainerFn.FITTING:
        configure_optimizers(trainer)
        if prepare is not None:
            prepare()
        assert trainer._training is not None
        trainer._training.bind()
        loops.fit(trainer._training)
        for optimizer in trainer.optimizers:
            optimizer.zero_grad()
    elif fn is TrainerFn.PREDICTING:
        assert trainer.predict_loop is not None
        predict(trainer.predict_loop)
    else:
        evaluate(trainer._evaluations[STAGES[fn]])


def _reload(trainer: Trainer) -> None:
    assert trainer.state.fn is not None
    if trainer._training is not None and trainer.state.fn is TrainerFn.FITTING:
        trainer._training.setup_data()
        if trainer.enable_validation:
            trainer._training.validation.setup_data()
        return
    predicting = trainer.state.fn is TrainerFn.PREDICTING
    run = trainer.predict_loop if predicting else trainer._evaluations[STAGES[trainer.state.fn]]
    assert run is not None
    run.loaders = None
    run.setup_data()
