"""Device statistics, throughput, predictions written by callbacks, and callbacks made of functions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightify.runtime.callbacks import (
    BasePredictionWriter,
    DeviceStatsMonitor,
    LambdaCallback,
    LearningRateMonitor,
    ModelPruning,
    ThroughputMonitor,
)
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.loggers import CometLogger
from lightify.runtime.throughput import Throughput, measure_flops

from .leaves import Classifier, trainer, weights
from .test_callbacks_rates import Notes


def test_device_stats_are_logged_around_batches(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    notes = Notes()
    trainer(tmp_path, DeviceStatsMonitor(), logger=notes, log_every_n_steps=4, max_epochs=1).fit(Classifier())
    name = "DeviceStatsMonitor.on_train_batch_start/cpu_percent"
    assert [step for step, _ in notes.of(name)] == [3, 7]
    # The sanity check has two batches; the validation after the last step belongs to that step.
    assert [step for step, _ in notes.of(name.replace("train", "validation"))] == [7, 7]
    unasked = Notes()
    monitors = DeviceStatsMonitor(), LearningRateMonitor(logging_interval="step")
    trainer(tmp_path, *monitors, logger=unasked, log_every_n_steps=0, max_epochs=1).fit(Classifier())
    assert {name for _, metrics in unasked.metrics for name in metrics} == {"val_loss", "epoch"}
    silent = Notes()
    trainer(tmp_path, DeviceStatsMonitor(cpu_stats=False), logger=silent, max_epochs=1).fit(Classifier())
    assert not any("cpu" in name for _, metrics in silent.metrics for name in metrics)


def test_device_stats_need_a_logger(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="logger=False"):
        trainer(tmp_path, DeviceStatsMonitor()).fit(Classifier())


def test_rates_come_with_a_full_window() -> None:
    throughput = Throughput(available_flops=100, world_size=2, window_size=3)
    for step in range(1, 4):
        throughput.update(time=step * 0.5, batches=step, samples=step * 4, lengths=step * 20, flops=10)
        if step < 3:
            assert "device/batches_per_sec" not in throughput.compute()
    assert throughput.compute() == {
        "time": 1.5, "batches": 3, "samples": 12, "lengths": 60,
        "device/batches_per_sec": 2.0, "batches_per_sec": 4.0,
        "device/samples_per_sec": 8.0, "samples_per_sec": 16.0,
        "device/items_per_sec": 40.0, "items_per_sec": 80.0,
        "device/flops_per_sec": 20.0, "flops_per_sec": 40.0, "device/mfu": 0.2,
    }  # fmt: skip
    throughput.reset()
    assert throughput.compute() == {} and throughput.elapsed == 0


@pytest.mark.parametrize(
    "wrong", [{"time": 1.0}, {"batches": 1}, {"samples": 1, "batches": 2}, {"lengths": 3}, {"samples": 4}]
)
def test_totals_must_grow_and_fit_one_another(wrong: dict[str, Any]) -> None:
    throughput = Throughput()
    throughput.update(time=1.0, batches=1, samples=4, lengths=8)
    with pytest.raises(ValueError, match="Expected"):
        throughput.update(**{"time": 2.0, "batches": 2, "samples": 8, "lengths": 16, **wrong})


def test_flops_are_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer, x = torch.nn.Linear(4, 2), torch.randn(3, 4)
    assert measure_flops(layer, lambda: layer(x)) == 2 * 3 * 4 * 2
    assert measure_flops(layer, lambda: layer(x), torch.Tensor.sum) > 2 * 3 * 4 * 2


def test_throughput_of_a_run_leaves_validation_out_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightify.runtime.callbacks import throughput_monitor

    now = 0.0
    monkeypatch.setattr(throughput_monitor, "time", SimpleNamespace(perf_counter=lambda: now))

    class Clocked(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            nonlocal now
            now += 1
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            nonlocal now
            now += 100

    notes = Notes()
    monitor = ThroughputMonitor(lambda batch: len(batch[0]), window_size=2)
    options = {"max_epochs": 2, "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    with pytest.warns(UserWarning, match="flops_per_batch"):
        trainer(tmp_path, monitor, logger=notes, **options).fit(Clocked())
    assert notes.of("train/time")[-1] == (15, 16) and notes.of("train/samples")[-1] == (15, 64)
    assert notes.of("validate/time")[-1] == (16, 800) and notes.of("validate/batches")[-1] == (16, 8)
    assert {rate for _, rate in notes.of("train/device/batches_per_sec")} == {1.0}


@pytest.mark.parametrize("interval", ["batch", "epoch", "batch_and_epoch"])
def test_predictions_are_written_with_the_positions_of_their_samples(tmp_path: Path, interval: Any) -> None:
    batches: list[Any] = []
    epochs: list[Any] = []

    class Writer(BasePredictionWriter):
        def write_on_batch_end(
            self, trainer: Any, module: Any, prediction: Any, indices: Any, batch: Any, batch_idx: int, loader: int
        ) -> None:
            batches.append((indices, batch_idx, loader, tuple(prediction.shape)))

        def write_on_epoch_end(self, trainer: Any, module: Any, predictions: Any, indices: Any) -> None:
            epochs.append((len(predictions), indices))

    model = Classifier(batch_size=16)
    trainer(tmp_path, Writer(interval)).predict(model, return_predictions=True)
    first, second = list(range(16)), list(range(16, 32))
    assert batches == ([(first, 0, 0, (16, 2)), (second, 1, 0, (16, 2))] if "batch" in interval else [])
    assert epochs == ([(2, [[first, second]])] if "epoch" in interval else [])
    idle = {"batch": {"on_predict_epoch_end"}, "epoch": {"on_predict_batch_end"}}
    assert Writer(interval).idle_hooks == idle.get(interval, set())


def test_a_wrong_interval_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="`write_interval` should be one of"):
        BasePredictionWriter("step")  # type: ignore[arg-type]


def test_functions_as_hooks(tmp_path: Path) -> None:
    seen: list[str] = []
    callback = LambdaCallback(
        setup=lambda trainer, module, stage: seen.append(f"setup {stage}"),
        on_train_batch_end=lambda trainer, module, outputs, batch, batch_idx: seen.append(f"batch {batch_idx}"),
        on_fit_end=None,
    )
    trainer(tmp_path, callback, max_epochs=1, limit_train_batches=2).fit(Classifier())
    assert seen == ["setup fit", "batch 0", "batch 1"]


def test_a_function_for_no_hook_is_refused() -> None:
    with pytest.raises(TypeError, match="no hook on_train_ends"):
        LambdaCallback(on_train_ends=print)


@pytest.mark.parametrize("fn", ["l1_unstructured", "random_unstructured"])
def test_pruning_zeroes_the_share_asked_for_and_stays_zero(tmp_path: Path, fn: str) -> None:
    model = Classifier()
    pruning = ModelPruning(fn, amount=0.5, parameter_names=["weight"], use_lottery_ticket_hypothesis=False)
    trainer(tmp_path, pruning, max_epochs=1).fit(model)
    assert int((model.layer.weight == 0).sum()) == 4
    assert sorted(model.state_dict()) == ["layer.bias", "layer.weight"]  # masks are gone


def test_the_lottery_ticket_goes_back_to_the_first_values(tmp_path: Path) -> None:
    model = Classifier()
    before = weights(model)[:8].reshape(2, 4)
    pruning = ModelPruning("l1_unstructured", amount=0.25, parameter_names=["weight"])
    trainer(tmp_path, pruning, max_epochs=1).fit(model)
    kept = model.layer.weight != 0
    assert int(kept.sum()) == 6 and torch.equal(model.layer.weight[kept], before[kept])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pruning_fn": "magic"}, "isn't available"),
        ({"pruning_fn": "ln_structured"}, "`pruning_dim` should be provided"),
        ({"pruning_fn": "ln_structured", "pruning_dim": 0}, "`pruning_norm` should be provided"),
        ({"pruning_fn": "random_structured", "pruning_dim": 0}, "PRUNING_TYPE"),
        ({"pruning_fn": 3}, "expected to be a str"),
        ({"pruning_fn": "l1_unstructured", "amount": "half"}, "`amount` should be provided"),
        ({"pruning_fn": "l1_unstructured", "parameter_names": ["kernel"]}, "kernel isn't in"),
        ({"pruning_fn": "l1_unstructured", "verbose": 5}, "`verbose` must be"),
    ],
)
def test_wrong_pruning_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        ModelPruning(**arguments)


def test_comet_gets_numbers_by_its_public_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: the library cannot be had without an account."""
    import sys

    from lightify.runtime.loggers import comet

    calls: list[Any] = []
    experiment = SimpleNamespace(
        get_key=lambda: "key",
        project_name="project",
        log_metrics=lambda *args, **kwargs: calls.append((args, kwargs)),
        log_parameters=lambda *args, **kwargs: calls.append((args, kwargs)),
        flush=lambda: calls.append("flush"),
    )
    started: list[dict[str, Any]] = []

    def start(**kwargs: Any) -> Any:
        started.append({"project": kwargs["project"], **kwargs["experiment_config"].given})
        return experiment

    library = SimpleNamespace(
        ExperimentConfig=lambda **kwargs: SimpleNamespace(offline_directory="dir", given=kwargs), start=start
    )
    monkeypatch.setattr(comet, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "comet_ml", library)
    with pytest.warns(UserWarning, match="`name` today"):
        CometLogger(project_name="p", experiment_name="n", save_dir="s")
    CometLogger(project="p", name="n", offline_directory="s")
    assert started == [{"project": "p", "name": "n", "offline_directory": "s"}] * 2
    logger = CometLogger(online=False, prefix="p")
    logger.log_metrics({"loss": torch.tensor(1.5), "epoch": 2}, step=3)
    logger.log_hyperparams({"lr": 1})
    logger.finalize("success")
    several = torch.ones(2, requires_grad=True)
    logger.log_metrics({"several": several})
    given = calls.pop()[0][0]["several"]
    assert torch.equal(given, several) and not given.requires_grad
    assert calls == [
        (({"loss": 1.5},), {"prefix": "p", "step": 3, "epoch": 2}),
        (({"lr": 1},), {"nested_support": True}),
        "flush",
    ]
    assert (logger.name, logger.version, logger.save_dir) == ("project", "key", "dir")
