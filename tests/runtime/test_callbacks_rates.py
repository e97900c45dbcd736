"""Learning rates, accumulation, finetuning and averaging by callbacks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightify.runtime.callbacks.lr_monitor import named_optimizers
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.loggers import Logger
from lightify.runtime.optim import LRSchedulerConfig
from torch import nn

from .leaves import Classifier, data, trainer, weights


class Notes(Logger):
    """Keeps what is logged."""

    name = version = "notes"

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.metrics.append((step or 0, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def of(self, name: str) -> list[tuple[int, float]]:
        return [(step, metrics[name]) for step, metrics in self.metrics if name in metrics]


def sgd(groups: int = 1, **options: Any) -> torch.optim.SGD:
    parameters = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    return torch.optim.SGD(parameters, lr=0.1, **options)


def scheduled(optimizer: Any, name: str | None = None) -> LRSchedulerConfig:
    return LRSchedulerConfig(torch.optim.lr_scheduler.StepLR(optimizer, 1), name=name)


@pytest.mark.parametrize(
    ("scheduled_by", "others", "expected"),
    [
        ([None], [], [("lr-SGD",)]),
        ([None, None], [], [("lr-SGD",), ("lr-SGD-1",)]),
        (["mine"], [], [("mine",)]),
        ([], [1, 1], [("lr-SGD",), ("lr-SGD-1",)]),
        ([None], [1], [("lr-SGD",), ("lr-SGD-1",)]),
        ([], [2], [("lr-SGD/pg1", "lr-SGD/pg2")]),
    ],
)
def test_names(scheduled_by: list[str | None], others: list[int], expected: list[tuple[str, ...]]) -> None:
    configs = [scheduled(sgd(), name) for name in scheduled_by]
    assert [named.names for named in named_optimizers(configs, [sgd(groups) for groups in others])] == expected


def test_groups_with_names_and_with_one_name_twice() -> None:
    optimizer = sgd(2)
    optimizer.param_groups[1]["name"] = "head"
    assert named_optimizers([], [optimizer])[0].names == ("lr-SGD/pg1", "lr-SGD/head")
    optimizer.param_groups[0]["name"] = "head"
    with pytest.raises(MisconfigurationException, match="identical `name` values"):
        named_optimizers([], [optimizer])


class Stepped(Classifier):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def test_rates_are_logged_by_epoch_as_their_scheduler_steps(tmp_path: Path) -> None:
    monitor, notes = LearningRateMonitor(log_momentum=True, log_weight_decay=True), Notes()
    run = trainer(tmp_path, monitor, logger=notes, max_epochs=3)
    run.fit(Stepped())
    assert notes.of("lr-SGD") == [(0, 0.1), (8, 0.05), (16, 0.025)]
    assert notes.of("lr-SGD-momentum")[0] == (0, 0.9) and notes.of("lr-SGD-weight_decay")[0] == (0, 0.01)
    assert monitor.lrs == {"lr-SGD": [0.1, 0.05, 0.025]}
    assert run.callback_metrics["lr-SGD"] == 0.025


def test_rates_are_logged_by_step_at_the_logging_interval(tmp_path: Path) -> None:
    notes = Notes()
    trainer(tmp_path, LearningRateMonitor("step"), logger=notes, log_every_n_steps=4).fit(Stepped())
    assert [step for step, _ in notes.of("lr-SGD")] == [3, 7, 11, 15]


def test_the_monitor_binds_only_the_hook_it_needs() -> None:
    assert LearningRateMonitor("epoch").idle_hooks == {"on_train_batch_start"}
    assert LearningRateMonitor("step").idle_hooks == {"on_train_epoch_start"}


def test_the_monitor_needs_a_logger(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="no logger"):
        trainer(tmp_path, LearningRateMonitor()).fit(Stepped())


def test_accumulation_by_epoch(tmp_path: Path) -> None:
    steps: list[int] = []

    class Counts(Classifier):
        def on_train_epoch_end(self) -> None:
            steps.append(self.global_step)

    trainer(tmp_path, GradientAccumulationScheduler({1: 4, 2: 8}), max_epochs=4).fit(Counts())
    assert steps == [8, 10, 11, 12]


@pytest.mark.parametrize(
    ("scheduling", "error"),
    [
        ({}, TypeError),
        ({-1: 2}, MisconfigurationException),
        ({0: 0}, MisconfigurationException),
        ({"1": 2}, MisconfigurationException),
    ],
)
def test_wrong_schedules_are_refused(scheduling: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        GradientAccumulationScheduler(scheduling)


class WithBackbone(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.backbone(x))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def test_the_backbone_joins_later_with_a_rate_of_its_own(tmp_path: Path) -> None:
    rates: list[list[float]] = []

    class Notes(WithBackbone):
        def on_train_epoch_end(self) -> None:
            rates.append([group["lr"] for group in self.optimizers().param_groups])

    model = Notes()
    frozen = model.backbone[0].weight.detach().clone()
    callback = BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda epoch: 4.0)
    trainer(tmp_path, callback, max_epochs=1).fit(model)
    assert torch.equal(model.backbone[0].weight, frozen)
    trainer(tmp_path, BackboneFinetuning(1, lambda epoch: 4.0), max_epochs=4).fit(model)
    assert not torch.equal(model.backbone[0].weight, frozen)
    assert rates == [[0.1], [0.1], [0.1, 0.1 * 0.1], [0.1, pytest.approx(0.04)], [0.1, 0.1]]


def test_freezing_reaches_every_level_and_leaves_batch_norm_if_asked() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.ModuleDict({"a": nn.Linear(2, 1)})))
    BaseFinetuning.freeze(model, train_bn=True)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["1.0.weight", "1.0.bias"]
    BaseFinetuning.freeze(model, train_bn=False)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model[1][0].track_running_stats
    BaseFinetuning.make_trainable(model)
    assert all(p.requires_grad for p in model.parameters()) and model[1][0].track_running_stats


def test_parameters_that_are_there_already_are_named() -> None:
    layer = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match="Did you init your optimizer"):
        assert BaseFinetuning.filter_on_optimizer(torch.optim.SGD(layer.parameters(), lr=1), layer.parameters()) == []


def test_groups_added_by_finetuning_come_back_on_resume(tmp_path: Path) -> None:
    first = trainer(tmp_path, BackboneFinetuning(1), L.ModelCheckpoint(tmp_path), max_epochs=2)
    first.fit(WithBackbone())
    again = trainer(tmp_path, BackboneFinetuning(1), max_epochs=3)
    again.fit(WithBackbone(), ckpt_path=first.checkpoint_callback.best_model_path)
    # batch normalization's two train from the beginning, the backbone's other two join in epoch 1
    assert [len(group["params"]) for group in again.optimizers[0].param_groups] == [4, 2]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_swa_ends_with_the_mean_of_the_epochs_starts(tmp_path: Path, batch_norm: bool) -> None:
    """Epochs 2 to 4 (counted from 0) are averaged as they begin; batch normalization sees the data once more."""
    seen: list[torch.Tensor] = []

    class Keeps(WithBackbone if batch_norm else Classifier):  # type: ignore[misc]
        def on_train_epoch_start(self) -> None:
            seen.append(weights(self))

    torch.manual_seed(0)
    model = Keeps()
    run = trainer(tmp_path, StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=3), max_epochs=5)
    run.fit(model)
    torch.testing.assert_close(weights(model), torch.stack(seen[2:5]).mean(0))
    assert type(run.lr_scheduler_configs[0].scheduler).__name__ == "SWALR"
    assert run.current_epoch == 5 and run.global_step == 40
    if batch_norm:
        samples = torch.stack([x for x, _ in data()])
        expected = model.backbone[0](samples).mean(0)
        torch.testing.assert_close(model.backbone[1].running_mean, expected.detach(), rtol=1e-4, atol=1e-5)


def test_swa_resumed_equals_swa_uninterrupted(tmp_path: Path) -> None:
    def run(folder: str, epochs: int, ckpt: Any = None) -> Classifier:
        torch.manual_seed(0)
        model = Classifier()
        options = {"max_epochs": 6, "limit_train_batches": 8}
        callbacks = [StochasticWeightAveraging(0.05, 3), L.ModelCheckpoint(tmp_path / folder, save_top_k=-1)]
        if epochs < 6:
            callbacks.append(Stops(epochs))
        trainer(tmp_path, *callbacks, **options).fit(model, ckpt_path=ckpt)
        return model

    whole = run("whole", 6)
    run("part", 4)
    resumed = run("rest", 6, tmp_path / "part" / "epoch=3-step=32.ckpt")
    assert torch.equal(weights(whole), weights(resumed))


class Stops(L.Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


@pytest.mark.parametrize(
    "options",
    [
        {"swa_lrs": -1.0},
        {"swa_lrs": 1},
        {"swa_lrs": [0.1, 0.0]},
        {"swa_epoch_start": 0},
        {"swa_epoch_start": 1.5},
        {"avg_fn": 1},
        {"device": 3},
    ],
)
def test_swa_refuses_wrong_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException):
        StochasticWeightAveraging(**{"swa_lrs": 0.1, **options})


def test_ema_equals_the_formula_is_validated_and_ends_the_run(tmp_path: Path) -> None:
    steps: list[torch.Tensor] = []
    validated: list[torch.Tensor] = []

    class Keeps(Classifier):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            steps.append(weights(self))

        def on_validation_epoch_start(self) -> None:
            if not self.trainer.sanity_checking:
                validated.append(weights(self))

    model = Keeps()
    start = copy.deepcopy(weights(model))
    trainer(tmp_path, EMAWeightAveraging(decay=0.9), max_epochs=1).fit(model)
    expected = steps[0]  # torch's AveragedModel takes the first weights as they are
    for step in steps[1:]:
        expected = 0.9 * expected + 0.1 * step
    torch.testing.assert_close(weights(model), expected)
    torch.testing.assert_close(validated[0], expected)
    assert not torch.equal(expected, start)


def test_checkpoints_hold_the_average_and_the_weights_in_training(tmp_path: Path) -> None:
    run = trainer(tmp_path, WeightAveraging(), L.ModelCheckpoint(tmp_path), max_epochs=2)
    model = Classifier()
    run.fit(model)
    checkpoint = torch.load(run.checkpoint_callback.best_model_path, weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["layer.weight"], model.layer.weight)  # the average
    assert not torch.equal(checkpoint["current_model_state"]["layer.weight"], model.layer.weight)
    assert checkpoint["averaging_state"]["n_averaged"] == 16


def test_ema_schedule() -> None:
    ema = EMAWeightAveraging(update_every_n_steps=3, update_starting_at_step=4, update_starting_at_epoch=2)
    assert [step for step in range(10) if ema.should_update(step_idx=step)] == [6, 9]
    assert [epoch for epoch in range(5) if ema.should_update(epoch_idx=epoch)] == [2, 3, 4]
