"""Wrong arguments of the Trainer: refused when it is made, with what to write instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lightify.runtime as L
import pytest
from lightify.runtime.callbacks import Timer
from lightify.runtime.loggers import DummyLogger


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("max_epochs", "3", "-1 for no limit"),
        ("max_epochs", 1.5, "-1 for no limit"),
        ("max_steps", None, "-1 for no limit"),
        ("min_epochs", "3", "None for no limit"),
        ("log_every_n_steps", -1, "0 for never"),
        ("num_sanity_val_steps", -2, "0 for none, -1 for all batches"),
        ("fast_dev_run", 1.5, "a number of batches"),
        ("limit_val_batches", "0.5", "a share of the batches"),
        ("sync_batchnorm", "x", "True or False"),
        ("benchmark", 3, "True or False"),
        ("logger", "csv", "a `Logger`"),
        ("logger", [5], "a `Logger`"),
        ("callbacks", [object()], "derive yours from `Callback`"),
        ("callbacks", "timer", "derive yours from `Callback`"),
        ("gradient_clip_val", -1, "None for no clipping"),
        ("gradient_clip_algorithm", 5, '"norm" or "value"'),
        ("default_root_dir", 5, "a path"),
        ("max_time", 5, "DD:HH:MM:SS"),
        ("max_time", {"weeks_": 1}, "DD:HH:MM:SS"),
        ("val_check_interval", {"weeks_": 1}, "a share of an epoch as a float, a number of batches as an int"),
    ],
)
def test_wrong_kinds_are_refused(name: str, value: Any, instead: str) -> None:
    with pytest.raises(L.MisconfigurationException, match=f"`Trainer.{name}=.*Write .*{instead}"):
        L.Trainer(**{name: value})


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": 1e3, "max_steps": 1e6},
        {"max_time": {"hours": 1}},
        {"max_time": timedelta(hours=1), "callbacks": Timer()},
        {"callbacks": [L.Callback()]},
        {"limit_val_batches": None, "val_check_interval": 2, "fast_dev_run": True},
        {"num_sanity_val_steps": float("inf"), "use_distributed_sampler": 0},
    ],
)
def test_what_the_table_must_let_pass(arguments: dict[str, Any]) -> None:
    L.Trainer(**{"logger": False, **arguments})


def test_loggers_of_an_iterator_are_all_taken() -> None:
    assert len(L.Trainer(logger=(logger for logger in [DummyLogger(), DummyLogger()])).loggers) == 2
