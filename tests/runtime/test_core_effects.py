"""What arguments of the Trainer, of `log` and of `load_from_checkpoint` do, each seen in a run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
import yaml
from lightify.runtime.callbacks import EarlyStopping
from torchmetrics import MeanMetric

from .leaves import Classifier, trainer, weights


class Stops(Classifier):
    """Asks for the end in the first batch of all."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("least", "steps"), [({}, 1), ({"min_epochs": 2}, 16), ({"min_steps": 11}, 11)], ids=["none", "epochs", "steps"]
)
def test_the_least_is_done_though_a_stop_is_asked_for(least: dict[str, int], steps: int, tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=4, **least)
    run.fit(Stops())
    assert run.global_step == steps


def test_no_batch_begins_after_the_longest_time(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=-1, max_time=timedelta(seconds=0.2))
    run.fit(Classifier())
    assert run.global_step > 0 and run.should_stop


def test_validation_by_the_clock(tmp_path: Path) -> None:
    checks: list[int] = []
    model = Classifier()
    model.on_validation_start = lambda: checks.append(model.global_step)
    options = {"num_sanity_val_steps": 0, "max_epochs": 1, "check_val_every_n_epoch": 1}
    trainer(tmp_path, val_check_interval=timedelta(microseconds=1), **options).fit(model)
    assert checks == list(range(1, 9))
    checks.clear()
    trainer(tmp_path, val_check_interval=timedelta(hours=1), **options).fit(model)
    assert checks == []


def test_overfitting_sees_the_same_batches_in_order(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Sees(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(super().train_dataloader().dataset, 4, shuffle=True)

    trainer(tmp_path, overfit_batches=2).fit(Sees())
    assert len(seen) == 4
    assert torch.equal(torch.stack(seen[:2]), torch.stack(seen[2:]))


@pytest.mark.parametrize("asked", [False, True, "warn"])
def test_deterministic_algorithms(asked: Any, tmp_path: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        trainer(tmp_path, deterministic=asked)
        assert torch.are_deterministic_algorithms_enabled() == bool(asked)
        assert torch.is_deterministic_algorithms_warn_only_enabled() == (asked == "warn")
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.mark.parametrize("asked", [False, True])
def test_cudnn_benchmark(asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not asked)
    trainer(tmp_path, benchmark=asked)
    assert torch.backends.cudnn.benchmark is asked


def test_anomalies_are_detected_within_the_run_only(tmp_path: Path) -> None:
    class Anomalous(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return (super().training_step(batch, batch_idx) * 0).sqrt()

    with pytest.raises(RuntimeError, match="nan values"), pytest.warns(UserWarning, match="Traceback of forward"):
        trainer(tmp_path, detect_anomaly=True).fit(Anomalous())
    assert not torch.is_anomaly_enabled()


def test_the_last_checkpoint_is_found(tmp_path: Path) -> None:
    saves = L.ModelCheckpoint(tmp_path, save_last=True)
    run = trainer(tmp_path, saves)
    model = Classifier()
    run.fit(model)
    trained = weights(model)
    with torch.no_grad():
        model.layer.weight.zero_()
    run.test(model, ckpt_path="last", verbose=False)
    assert torch.equal(weights(model), trained)


def test_sanity_checking_has_its_own_hooks(tmp_path: Path) -> None:
    class Notes(L.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[str, bool]] = []

        def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seen.append(("start", trainer.sanity_checking))

        def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            self.seen.append(("batch", trainer.sanity_checking))

        def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seen.append(("end", trainer.sanity_checking))

    notes = Notes()
    trainer(tmp_path, notes, max_epochs=1, num_sanity_val_steps=2, limit_val_batches=3).fit(Classifier())
    assert notes.seen == [("start", True), *[("batch", True)] * 2, ("end", True), *[("batch", False)] * 3]


def test_a_metric_is_found_by_its_attribute(tmp_path: Path) -> None:
    class Measures(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.mean = MeanMetric()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.mean(float(batch_idx))
            self.log("mean", self.mean, metric_attribute="mean")
            self.log("first", float(batch_idx), rank_zero_only=True)

    (values,) = trainer(tmp_path).validate(Measures(), verbose=False)
    assert values == {"mean": 3.5, "first": 3.5}


def test_hyperparameters_of_a_file_win(tmp_path: Path) -> None:
    run = trainer(tmp_path, L.ModelCheckpoint(tmp_path, filename="a"), max_epochs=1)
    run.fit(Classifier(lr=0.1))
    (tmp_path / "hparams.yaml").write_text(yaml.safe_dump({"lr": 0.3, "batch_size": 2}))
    loaded = Classifier.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=tmp_path / "hparams.yaml")
    assert (loaded.lr, loaded.batch_size) == (0.3, 2)


@pytest.mark.parametrize("strict", [True, False])
def test_a_monitor_that_is_never_logged(strict: bool, tmp_path: Path) -> None:
    run = trainer(tmp_path, EarlyStopping("nothing", strict=strict, verbose=True), max_epochs=2)
    if strict:
        with pytest.raises(RuntimeError, match="nothing"):
            run.fit(Classifier())
    else:
        with pytest.warns(RuntimeWarning, match="nothing"):
            run.fit(Classifier())
        assert run.global_step == 16
