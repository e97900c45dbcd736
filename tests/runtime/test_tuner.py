"""Searches for a learning rate and a batch size, and that they leave no trace."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.attributes import lightning_getattr, lightning_setattr
from lightify.runtime.callbacks import BatchSizeFinder, LearningRateFinder
from lightify.runtime.callbacks.batch_size_finder import binary_search, is_oom_error, power_search
from lightify.runtime.callbacks.lr_finder import LRFinderResult
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.tuner import Tuner

from .leaves import Classifier, trainer, weights


def make(folder: Path, **options: Any) -> tuple[L.Trainer, Tuner]:
    run = trainer(folder, **{"max_epochs": 50, **options})
    return run, Tuner(run)


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_rates_grow_from_first_to_last(tmp_path: Path, mode: str) -> None:
    _, tuner = make(tmp_path)
    found = tuner.lr_find(Classifier(), min_lr=1e-4, max_lr=1.0, num_training=20, mode=mode, early_stop_threshold=None)
    rates = found.results["lr"]
    assert len(rates) == len(found.results["loss"]) == 20
    assert rates[0] == 1e-4 and rates[-1] == pytest.approx(1.0)
    third = 1e-4 * 1e4 ** (3 / 20) if mode == "exponential" else 1e-4 + 3 / 20 * (1 - 1e-4)
    assert rates[2] == pytest.approx(third)
    assert all(earlier < later for earlier, later in pairwise(rates))


def test_the_search_leaves_everything_as_it_was_but_the_rate(tmp_path: Path) -> None:
    class Counts(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.norm(x))

    model = Counts()
    run, tuner = make(tmp_path, max_steps=400)
    before = copy.deepcopy(model.state_dict())
    callbacks, random = list(run.callbacks), torch.get_rng_state()
    found = tuner.lr_find(model, num_training=30)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert (run.global_step, run.current_epoch, run.max_steps, run.callbacks) == (0, 0, 400, callbacks)
    assert model.lr == found.suggestion() != 0.1
    assert list(tmp_path.iterdir()) == []
    run.fit(model)
    assert run.global_step == 400 and run.optimizers[0].param_groups[0]["lr"] == model.lr


def test_the_same_search_finds_the_same(tmp_path: Path) -> None:
    model = Classifier()
    _, tuner = make(tmp_path)
    first, second = (tuner.lr_find(model, num_training=25, update_attr=False).results for _ in range(2))
    assert first == second


def test_a_loss_that_explodes_ends_the_search(tmp_path: Path) -> None:
    class Explodes(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.loss(batch) * (1000.0 if self.global_step >= 5 else 1.0)

    _, tuner = make(tmp_path)
    assert len(tuner.lr_find(Explodes(), num_training=50).results["lr"]) < 10
    assert len(tuner.lr_find(Explodes(), num_training=50, early_stop_threshold=None).results["lr"]) == 50


def test_accumulated_batches_count_as_one_step(tmp_path: Path) -> None:
    _, tuner = make(tmp_path, accumulate_grad_batches=2)
    found = tuner.lr_find(Classifier(), num_training=12, early_stop_threshold=None)
    assert len(found.results["lr"]) == len(found.results["loss"]) == 12


def test_the_suggestion_is_the_steepest_fall_and_needs_values() -> None:
    found = LRFinderResult("linear", 0.0, 2 * math.pi, 1000)
    rates = torch.linspace(0, 2 * math.pi, 1000)
    found.results = {"lr": rates.tolist(), "loss": torch.sin(rates).tolist()}
    assert found.suggestion() == pytest.approx(math.pi, abs=0.01)
    found.results = {"lr": [1.0] * 12, "loss": [float("nan")] * 12}
    assert found.suggestion() is None
    found.results = {"lr": [1.0], "loss": [1.0]}
    assert found.suggestion() is None


def test_the_plot_marks_the_suggestion(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    found = make(tmp_path)[1].lr_find(Classifier(), num_training=40)
    figure = found.plot(suggest=True)
    (axes,) = figure.axes
    line, mark = axes.lines
    assert list(line.get_xdata()) == found.results["lr"] and axes.get_xscale() == "log"
    assert mark.get_xdata()[0] == found.suggestion()
    figure.savefig(tmp_path / "lr.png")
    assert found.plot(ax=matplotlib.figure.Figure().subplots()) is not figure


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (Classifier, {"attr_name": "rate"}, AttributeError, "set to rate"),
        (Classifier, {"method": "test"}, MisconfigurationException, "only valid configuration"),
        (Classifier, {"dataloaders": []}, MisconfigurationException, "`dataloaders` argument should be None"),
        (Classifier, {"mode": "cubic"}, ValueError, "should be either of"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, model: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(tmp_path)[1].lr_find(model(), **options)


def test_the_finder_as_a_callback_trains_on_with_its_rate(tmp_path: Path) -> None:
    finder, model = LearningRateFinder(num_training_steps=30), Classifier()
    run = trainer(tmp_path, finder, max_epochs=4)
    run.fit(model)
    assert run.global_step == 32
    assert run.optimizers[0].param_groups[0]["lr"] == model.lr == finder.optimal_lr.suggestion()
    with pytest.raises(ValueError, match="already configured with a `LearningRateFinder`"):
        Tuner(run).lr_find(model)


@pytest.mark.parametrize(
    ("search", "options", "holds", "samples", "expected"),
    [
        (power_search, (25, 8192), 100, None, 64),
        (power_search, (25, 8192), 10**9, 640, 1024),
        (power_search, (25, 48), 10**9, None, 48),
        (power_search, (3, 8192), 10**9, None, 8),
        (power_search, (0, 8192), 10**9, None, 2),
        (binary_search, (25, 8192), 100, None, 100),
        (binary_search, (4, 8192), 10**9, None, 16),
        (binary_search, (25, 8192), 10**9, 640, 1024),
    ],
)
def test_searches(search: Any, options: tuple[int, int], holds: int, samples: int | None, expected: int) -> None:
    tried: list[int] = []

    def fits_memory(size: int) -> bool:
        tried.append(size)
        return size <= holds

    def fits_data(size: int) -> bool:
        return samples is None or size < samples

    assert search(fits_memory, fits_data, 2, *options) == expected
    assert tried == [] or expected in tried  # nothing is returned that was not seen to fit


@pytest.mark.parametrize("search", [power_search, binary_search])
def test_a_size_too_large_at_first_is_halved_and_one_sample_is_the_least(search: Any) -> None:
    assert search(lambda size: size <= 10, lambda size: True, 500, 25, 8192) in (7, 10)
    with pytest.raises(RuntimeError, match="not even a batch of one sample"):
        search(lambda size: False, lambda size: True, 8, 25, 8192)


class Hungry(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(batch[0]) > 12:
            raise RuntimeError("CUDA error: out of memory")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("mode", "margin", "expected"), [("power", 0.05, 8), ("binsearch", 0.0, 12), ("binsearch", 0.1, 10)]
)
def test_the_batch_size_follows_the_memory(tmp_path: Path, mode: str, margin: float, expected: int) -> None:
    run, tuner = make(tmp_path)
    model = Hungry()
    before = weights(model)
    assert tuner.scale_batch_size(model, mode=mode, margin=margin) == expected
    assert model.batch_size == run.train_dataloader.batch_size == expected
    assert torch.equal(weights(model), before) and run.global_step == 0


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_evaluation_runs_search_too(tmp_path: Path, method: str) -> None:
    _, tuner = make(tmp_path)
    model = Classifier()
    assert tuner.scale_batch_size(model, method=method, max_trials=4) == 16 == model.batch_size


@pytest.mark.parametrize("method", ["fit", "validate", "predict"])
def test_the_batch_size_finder_as_a_callback(tmp_path: Path, method: str) -> None:
    finder, model = BatchSizeFinder(max_trials=3), Classifier()
    run = trainer(tmp_path, finder, max_epochs=1)
    outputs = getattr(run, method)(model)
    assert model.batch_size == finder.optimal_batch_size == 8
    if method == "fit":
        assert run.global_step == 4
    if method == "predict":
        assert [len(batch) for batch in outputs] == [8] * 4


def test_errors_that_are_not_of_memory_go_through_and_leave_no_trace(tmp_path: Path) -> None:
    class Broken(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise RuntimeError("something else")

    run, tuner = make(tmp_path)
    callbacks = list(run.callbacks)
    with pytest.raises(RuntimeError, match="something else"):
        tuner.scale_batch_size(Broken())
    assert run.callbacks == callbacks


def test_loaders_passed_directly_and_a_missing_attribute_are_refused(tmp_path: Path) -> None:
    _, tuner = make(tmp_path)
    model = Classifier()
    with pytest.raises(MisconfigurationException, match="passed directly"):
        tuner.scale_batch_size(model, train_dataloaders=model.train_dataloader())
    with pytest.raises(MisconfigurationException, match="Field nothing not found"):
        tuner.scale_batch_size(model, batch_arg_name="nothing")


def test_fast_dev_run_skips_searches(tmp_path: Path) -> None:
    _, tuner = make(tmp_path, fast_dev_run=True)
    with pytest.warns(UserWarning, match="Skipping learning rate finder"):
        assert tuner.lr_find(Classifier()) is None
    with pytest.warns(UserWarning, match="Skipping batch size scaler"):
        assert tuner.scale_batch_size(Classifier()) is None


def test_values_are_found_and_set_wherever_they_are() -> None:
    model = Classifier(lr=0.5)
    lightning_setattr(model, "lr", 0.25)
    assert (model.lr, model.hparams["lr"], lightning_getattr(model, "lr")) == (0.25, 0.25, 0.25)
    with pytest.raises(AttributeError, match="neither stored in the model namespace"):
        lightning_getattr(model, "nothing")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate"), True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_oom_error(error) is expected
