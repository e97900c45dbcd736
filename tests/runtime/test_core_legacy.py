"""The forms of Lightning 1.x that seeds L1-L10 name run, and warn with the new spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime import legacy
from lightify.runtime.callbacks import ProgressBar
from lightify.runtime.errors import LightningDeprecationWarning
from torch import nn
from torch.utils.data import DataLoader

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


@pytest.fixture(autouse=True)
def _forget_what_was_said() -> None:
    legacy._said.clear()


class Batches:
    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter(torch.ones(self.count, 1, 6))


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)
        self.calls: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.layer(batch).sum()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: L.LightningModule, *loaders: Any, **arguments: Any) -> L.Trainer:
    with pytest.warns(LightningDeprecationWarning, match="Lightning 1.x"):
        trainer = L.Trainer(**{"max_epochs": 1, **QUIET, **arguments})
        trainer.fit(module, *(loaders or (Batches(),)))
    return trainer


def test_epoch_ends_get_the_outputs_of_the_steps() -> None:
    class Old(Module):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"val_loss": torch.tensor(float(batch_idx))}

        def validation_epoch_end(self, outputs: Any) -> Any:
            mean = torch.stack([part["val_loss"] for part in outputs]).mean()
            return {"val_loss": mean, "log": {"logged": mean}, "progress_bar": {"shown": mean}}

        def training_epoch_end(self, outputs: Any) -> None:
            self.calls.append([sorted(part) for part in outputs])

    module = Old()
    trainer = fit(module, Batches(2), Batches(3))
    assert module.calls == [[["loss"], ["loss"]]]
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert metrics == {"val_loss": 1.0, "logged": 1.0, "shown": 1.0}
    assert set(trainer.progress_bar_metrics) == {"shown"}


def test_step_ends_follow_their_steps() -> None:
    class Old(Module):
        def training_step_end(self, outputs: Any) -> Any:
            self.calls.append("end")
            return outputs["loss"] * 2

    module = Old()
    fit(module)
    assert module.calls == ["end", "end"]
    assert "training_step" not in vars(module)


def test_optimizer_idx_and_frequency() -> None:
    class Old(Module):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(6, 1)

        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
            self.calls.append((batch_idx, optimizer_idx, self.layer.weight.requires_grad))
            return (self.layer, self.other)[optimizer_idx](batch).sum()

        def configure_optimizers(self) -> Any:
            first, second = (torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other))
            return {"optimizer": first, "frequency": 2}, {"optimizer": second, "frequency": 1}

    module = Old()
    trainer = fit(module, Batches(4))
    assert module.calls == [(0, 0, True), (1, 0, True), (2, 1, False), (3, 0, True)]
    assert trainer.global_step == 4
    assert module.automatic_optimization


def test_truncated_back_propagation() -> None:
    class Old(Module):
        truncated_bptt_steps = 2

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            self.calls.append((tuple(batch.shape), None if hiddens is None else hiddens.requires_grad))
            loss = self.layer(batch).sum()
            return {"loss": loss, "hiddens": loss}

    module = Old()
    fit(module, Batches(1))
    assert module.calls == [((1, 2), None), ((1, 2), False), ((1, 2), False)]


def test_old_signatures_of_optimizer_step_and_backward() -> None:
    class Old(Module):
        def optimizer_step(  # type: ignore[override]
            self, epoch: Any, batch_idx: Any, optimizer: Any, optimizer_idx: Any, optimizer_closure: Any, on_tpu: Any,
            using_native_amp: Any, using_lbfgs: Any,
        ) -> None:  # fmt: skip
            self.calls.append(("step", optimizer_idx, on_tpu, using_lbfgs))
            optimizer.step(closure=optimizer_closure)

        def backward(self, loss: Any, optimizer: Any, optimizer_idx: Any) -> None:  # type: ignore[override]
            self.calls.append(("backward", optimizer_idx))
            loss.backward()

    module = Old()
    fit(module, Batches(1))
    assert module.calls == [("step", 0, False, False), ("backward", 0)]


def test_pieces_that_the_trainer_was_told_to_cut() -> None:
    class Recurrent(Module):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
            self.calls.append((batch.shape[1], hiddens))
            return {"loss": batch.sum() * self.layer.weight.sum(), "hiddens": batch.shape[1]}

    module = Recurrent()
    fit(module, truncated_bptt_steps=4)
    assert module.calls == [(4, None), (2, 4)] * 2


def test_hooks_with_arguments_that_are_gone() -> None:
    class Old(Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            self.calls.append(("start", batch_idx, dataloader_idx))

        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int) -> None:
            self.calls.append(("before step", optimizer_idx))

        def configure_gradient_clipping(
            self, optimizer: Any, optimizer_idx: int, gradient_clip_val: Any, **other: Any
        ) -> None:
            self.calls.append(("clip", optimizer_idx, gradient_clip_val))

        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int) -> None:
            self.calls.append(("zero", optimizer_idx))

        def lr_scheduler_step(self, scheduler: Any, optimizer_idx: int, metric: Any) -> None:
            self.calls.append(("schedule", optimizer_idx, metric))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        def on_train_epoch_end(self, outputs: Any) -> None:
            self.calls.append(("end", len(outputs)))

    class Callback(L.Callback):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int
        ) -> None:
            pl_module.calls.append(("end of batch", batch_idx, dataloader_idx))

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any, outputs: Any) -> None:
            pl_module.calls.append(("validated", outputs))

    class Validated(Old):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return batch_idx

    module, callback = Validated(), Callback()
    fit(module, Batches(1), Batches(2), callbacks=callback, gradient_clip_val=2.0)
    assert module.calls == [
        ("start", 0, 0), ("zero", 0), ("before step", 0), ("clip", 0, 2.0), ("end of batch", 0, 0),
        ("schedule", 0, None), ("validated", [0, 1]), ("end", 1),
    ]  # fmt: skip
    assert not {"on_train_batch_start", "on_train_epoch_end"} & vars(module).keys()
    assert "on_train_batch_end" not in vars(callback)


def test_a_manual_step_that_asks_for_an_optimizer_index() -> None:
    class Manual(Module):
        @property
        def automatic_optimization(self) -> bool:
            return False

        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: Any) -> None:
            self.calls.append(optimizer_idx)
            optimizer = self.optimizers()
            self.manual_backward(self.layer(batch).sum())
            optimizer.step()

    module = Manual()
    assert fit(module).global_step == 2
    assert module.calls == [None, None]


def test_what_the_bar_shows() -> None:
    class Showing(Module):
        def get_progress_bar_dict(self) -> dict[str, Any]:
            return {**super().get_progress_bar_dict(), "temperature": 3}

    class Bar(ProgressBar):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            shown.append(self.get_metrics(trainer, pl_module))

    shown: list[Any] = []
    fit(Showing(), Batches(1), callbacks=Bar(), enable_progress_bar=True)
    assert shown == [{"temperature": 3}]


def test_gradient_norms_are_tracked() -> None:
    trainer = fit(Module(), track_grad_norm=2)
    assert {"grad_2.0_norm/layer.weight", "grad_2.0_norm_total"} <= trainer.callback_metrics.keys()


@pytest.mark.parametrize(("mode", "steps"), [("min_size", 1), ("max_size_cycle", 3)])
def test_the_mode_of_several_loaders(mode: str, steps: int) -> None:
    class Both(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch["a"] + batch["b"]).sum()

    loaders = {"a": Batches(1), "b": Batches(3)}
    assert fit(Both(), loaders, multiple_trainloader_mode=mode).global_step == steps


def test_data_prepared_once_per_node_or_once() -> None:
    class Preparing(Module):
        def prepare_data(self) -> None:
            self.calls.append(self.prepare_data_per_node)

    module = Preparing()
    fit(module, prepare_data_per_node=False)
    assert module.calls == [False]
    assert module.prepare_data_per_node


@pytest.mark.slow
def test_searches_before_training(tmp_path: Path) -> None:
    class Sized(Module):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size, self.lr = 2, 1e-3

        def train_dataloader(self) -> Any:
            return DataLoader(torch.ones(64, 6), batch_size=self.batch_size)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    with pytest.warns(LightningDeprecationWarning, match="Tuner"):
        trainer = L.Trainer(
            **QUIET, max_epochs=1, default_root_dir=tmp_path, auto_lr_find=True, auto_scale_batch_size="binsearch"
        )
        found = trainer.tune(Sized(), lr_find_kwargs={"num_training": 5}, scale_batch_size_kwargs={"max_trials": 2})
    assert found["scale_batch_size"] > 2
    assert found["lr_find"].results["lr"]


def test_old_names_of_hooks() -> None:
    class Old(Module):
        def on_epoch_start(self) -> None:
            self.calls.append("epoch")

        def on_pretrain_routine_start(self) -> None:
            self.calls.append("pretrain")

        def on_batch_start(self, batch: Any) -> None:
            self.calls.append("batch")

    module = Old()
    fit(module)
    assert module.calls == ["pretrain", "epoch", "batch", "batch"]


def test_logged_values_in_a_returned_dict() -> None:
    class Old(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": self.layer(batch).sum(), "log": {"train_loss": torch.tensor(3.0)}}

    assert fit(Old()).callback_metrics["train_loss"] == 3


@pytest.mark.parametrize(
    ("old", "attribute", "value"),
    [
        ({"row_log_interval": 7}, "log_every_n_steps", 7),
        ({"overfit_pct": 0.5}, "overfit_batches", 0.5),
        ({"gpus": None}, "num_devices", 1),
        ({"train_percent_check": 0.25}, "limit_train_batches", 0.25),
        ({"terminate_on_nan": True}, "_detect_anomaly", True),
        ({"amp_level": "O2"}, "precision", "32-true"),
    ],
)
def test_trainer_arguments(old: dict[str, Any], attribute: str, value: Any) -> None:
    with pytest.warns(LightningDeprecationWarning, match=next(iter(old))):
        trainer = L.Trainer(**QUIET, **old)
    assert getattr(trainer, attribute) == value


def test_arguments_that_cannot_be_translated() -> None:
    with pytest.raises(L.MisconfigurationException, match="no TPU engine"):
        L.Trainer(tpu_cores=8)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Did you mean `max_epochs`"):
        L.Trainer(max_epoch=8)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no argument `train_data`"):
        L.Trainer(max_epochs=1, **QUIET).fit(Module(), train_data=Batches())


def test_loaders_under_their_old_names_and_old_attributes() -> None:
    trainer = L.Trainer(max_epochs=1, **QUIET)
    with pytest.warns(LightningDeprecationWarning, match="train_dataloader="):
        trainer.fit(Module(), train_dataloader=Batches())
    assert trainer.global_step == 2
    assert trainer.use_amp is False
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trainer.nonsense


def test_the_old_name_of_configure_model() -> None:
    class Sharded(Module):
        def configure_sharded_model(self) -> None:
            self.calls.append("sharded")

    module = Sharded()
    with pytest.warns(LightningDeprecationWarning, match="override the `configure_model` hook instead"):
        L.Trainer(max_epochs=1, **QUIET).fit(module, Batches())
    assert module.calls == ["sharded"]
