"""The contract of modules and datamodules: forms of optimizers, logging, hyperparameters, manual steps, data."""

from __future__ import annotations

import copy
import dataclasses
import functools
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightify.runtime as L
import numpy as np
import pytest
import torch
import yaml
from lightify.runtime import hparams
from lightify.runtime.entries import extract_batch_size
from lightify.runtime.optim import normal_form
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


def batches(count: int = 2, size: int = 1) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(float(count * size)).unsqueeze(1)), batch_size=size)


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.other = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


# ---------------------------------------------------------------- optimizers

A = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
B = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
STEP, PLATEAU = StepLR(A, 1), ReduceLROnPlateau(A)


@pytest.mark.parametrize(
    ("configured", "optimizers", "schedulers"),
    [
        (A, [A], []),
        ([A], [A], []),
        (([A], [STEP]), [A], [(STEP, "epoch", 1)]),
        (([A], STEP), [A], [(STEP, "epoch", 1)]),
        (([A], [{"scheduler": STEP, "interval": "step", "frequency": 3}]), [A], [(STEP, "step", 3)]),
        ({"optimizer": A}, [A], []),
        ({"optimizer": A, "lr_scheduler": STEP}, [A], [(STEP, "epoch", 1)]),
        ({"optimizer": A, "lr_scheduler": PLATEAU, "monitor": "loss"}, [A], [(PLATEAU, "epoch", 1)]),
    ],
)
def test_forms_of_configure_optimizers(configured: Any, optimizers: Any, schedulers: Any) -> None:
    found, configs = normal_form(configured, Module())
    assert found == optimizers
    assert [(config.scheduler, config.interval, config.frequency) for config in configs] == schedulers


def test_several_optimizers_are_for_manual_optimization() -> None:
    module = Module()
    with pytest.raises(RuntimeError, match="only supported with manual optimization"):
        normal_form((A, B), module)
    module.automatic_optimization = False
    assert normal_form((A, B), module)[0] == [A, B]
    both = ({"optimizer": A, "lr_scheduler": STEP}, {"optimizer": B})
    assert [config.scheduler for config in normal_form(both, module)[1]] == [STEP]


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (3, "Unknown configuration"),
        ({"optimizer": A, "lr_scheduler": PLATEAU}, "must include a monitor"),
        (([A], [{"scheduler": STEP, "interval": "batch"}]), '"step" or "epoch"'),
        (([A], [{"interval": "step"}]), 'must have the key "scheduler"'),
        (([B], [STEP]), "wasn't returned"),
        ({"optimiser": A}, 'without the key "optimizer"'),
        (([A], [{"scheduler": STEP, "frequency": 0}]), "at least 1 but is 0"),
        ({"optimizer": A, "lr_scheduler": None}, "returned None in place of an lr scheduler"),
        ({"optimizer": A, "lr_scheduler": [STEP]}, r"returned \[.*\] in place of an lr scheduler"),
        ([], "no optimizer. Return None"),
    ],
)
def test_wrong_forms_are_refused(configured: Any, message: str) -> None:
    with pytest.raises(L.MisconfigurationException, match=message):
        normal_form(configured, Module())


def test_unknown_keys_of_a_scheduler_are_warned_of_in_manual_optimization_too() -> None:
    module = Module()
    module.automatic_optimization = False
    with pytest.warns(RuntimeWarning, match="unsupported keys.*intervall"):
        normal_form(([A], [{"scheduler": STEP, "intervall": "step"}]), module)


def test_no_optimizer_trains_nothing() -> None:
    class Fixed(Module):
        def configure_optimizers(self) -> Any: ...

    module = Fixed()
    before = module.layer.weight.clone()
    with pytest.warns(UserWarning, match="no optimizer"):
        L.Trainer(max_epochs=1, **QUIET).fit(module, batches())
    assert torch.equal(module.layer.weight, before)


# ---------------------------------------------------------------- logging


def logged(arguments: dict[str, Any], size: int = 1) -> dict[str, float]:
    class Logging(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("a", batch[0].mean(), **arguments)
            return super().training_step(batch, batch_idx)

    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Logging(), DataLoader(TensorDataset(torch.tensor([[1.0], [2.0], [6.0]])), batch_size=size))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    ("arguments", "size", "expected"),
    [
        ({}, 1, {"a": 6.0}),
        ({"on_step": False, "on_epoch": True}, 1, {"a": 3.0}),
        ({"on_step": False, "on_epoch": True}, 2, {"a": 3.0}),
        ({"on_step": False, "on_epoch": True, "batch_size": 1}, 2, {"a": 3.75}),
        ({"on_epoch": True}, 1, {"a": 3.0, "a_step": 6.0, "a_epoch": 3.0}),
        ({"on_step": False, "on_epoch": True, "reduce_fx": "sum"}, 1, {"a": 9.0}),
        ({"on_step": False, "on_epoch": True, "reduce_fx": max}, 1, {"a": 6.0}),
        ({"on_step": False, "on_epoch": True, "reduce_fx": torch.min}, 1, {"a": 1.0}),
    ],
)
def test_levels_and_reductions(arguments: dict[str, Any], size: int, expected: dict[str, float]) -> None:
    assert logged(arguments, size) == expected


@pytest.mark.parametrize(
    ("hook", "arguments", "value", "message"),
    [
        ("on_fit_start", {}, 1.0, "can't `self.log"),
        ("configure_model", {}, 1.0, "can't `self.log"),
        ("configure_optimizers", {}, 1.0, "can't `self.log"),
        ("on_train_end", {}, 1.0, "can't `self.log"),
        ("on_train_epoch_end", {"on_step": True}, 1.0, "on_step=True"),
        ("on_train_start", {"on_epoch": False}, 1.0, "on_epoch=False"),
        ("on_train_epoch_end", {"reduce_fx": "median"}, 1.0, "min,max,mean,sum"),
        ("on_train_epoch_end", {}, torch.ones(2), "single element"),
        ("on_train_epoch_end", {}, "text", "cannot be logged"),
        ("on_train_epoch_end", {}, torch.tensor(1j), "complex values cannot be logged"),
        ("on_train_epoch_end", {}, {"b": None}, "{'b': None}.* was called, but `NoneType` values cannot be logged"),
    ],
)
def test_what_cannot_be_logged_is_refused(hook: str, arguments: Any, value: Any, message: str) -> None:
    module = Module()
    setattr(module, hook, lambda: module.log("a", value, **arguments))
    with pytest.raises((L.MisconfigurationException, ValueError), match=message):
        L.Trainer(max_epochs=1, **QUIET).fit(module, batches())


def test_texts_in_a_batch_say_nothing_of_its_size() -> None:
    assert extract_batch_size((["a caption"] * 2, torch.ones(2, 3))) == 2
    with pytest.raises(L.MisconfigurationException, match="could not infer the batch_size"):
        extract_batch_size({"caption": ["some text"]})


def test_no_graph_outlives_a_run() -> None:
    class Keeping(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, enable_graph=True)
            return loss

    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Keeping(), batches())
    assert not trainer.callback_metrics["loss"].requires_grad


@pytest.mark.parametrize("ignore", ["rate", ("rate", "size")])
def test_a_derived_class_ignores_what_its_base_kept(ignore: Any) -> None:
    class Base(Module):
        def __init__(self, rate: float, size: int, name: str) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Derived(Base):
        def __init__(self, rate: float, size: int, name: str) -> None:
            super().__init__(rate, size, name)
            self.save_hyperparameters(ignore=ignore)

    assert set(Derived(0.1, 2, "a").hparams) == {"rate", "size", "name"} - {
        *([ignore] * isinstance(ignore, str)),
        *ignore,
    }


def test_nothing_is_logged_as_a_scheduler_steps() -> None:
    class Scheduled(Module):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [StepLR(optimizer, 1)]

        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            self.log("lr", 1.0)

    with pytest.raises(L.MisconfigurationException, match="inside `lr_scheduler_step`"):
        L.Trainer(max_epochs=1, **QUIET).fit(Scheduled(), batches())


def test_a_class_that_is_mixed_in_gives_hyperparameters() -> None:
    class Base(Module):
        def __init__(self, size: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Mixin:
        def __init__(self, *args: Any, rate: float = 0.5, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.save_hyperparameters()  # type: ignore[attr-defined]

    class Mixed(Mixin, Base):
        pass

    assert dict(Mixed(rate=0.25, size=3).hparams) == {"size": 3, "rate": 0.25}


class Container(Module):
    def __init__(self, conf: Any) -> None:
        super().__init__()
        self.save_hyperparameters(conf)


def test_an_omegaconf_container_is_plain_in_the_checkpoint(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Container(omegaconf.OmegaConf.create({"a": {"b": [1, 2]}, "c": "${a.b}"})), batches())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["hyper_parameters"]["a"] == {"b": [1, 2]}
    again = Container.load_from_checkpoint(tmp_path / "x.ckpt")
    assert isinstance(again.hparams, omegaconf.DictConfig) and list(again.hparams.c) == [1, 2]


def test_hyperparameters_are_written_in_their_order_and_plain(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    conf = omegaconf.OmegaConf.create({"rate": 0.1, "deep": {"rate": "${rate}"}})
    hparams.save_hparams_to_yaml(tmp_path / "h.yaml", {"size": 2, "conf": conf, "act": [conf.deep]})
    written = yaml.safe_load((tmp_path / "h.yaml").read_text())
    assert list(written) == ["size", "conf", "act"]
    assert written["conf"] == {"rate": 0.1, "deep": {"rate": 0.1}} and written["act"] == [{"rate": 0.1}]


def test_what_yaml_cannot_hold_is_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Skipping 'kind'"):
        hparams.save_hparams_to_yaml(tmp_path / "h.yaml", {"kind": torch.float32, "size": 2})
    assert hparams.load_hparams_from_yaml(tmp_path / "h.yaml") == {"size": 2}


def test_sizes_of_from_datasets_reach_the_datamodule() -> None:
    class Sized(L.LightningDataModule):
        def __init__(self, other: int, batch_size: int = 1) -> None:
            super().__init__()
            self.other, self.batch_size = other, batch_size

    made = Sized.from_datasets(batches().dataset, batch_size=4, num_workers=0, other=5)
    assert (made.other, made.batch_size) == (5, 4)
    L.LightningDataModule.from_datasets(batches().dataset, batch_size=4)


def test_in_place_changes_after_the_call_are_not_logged() -> None:
    class Summing(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch[0]).sum() * 0 + 1
            self.log("first", loss)
            loss += 5
            return loss

    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Summing(), batches())
    assert trainer.callback_metrics["first"] == 1


def test_several_validation_loaders_have_names_of_their_own() -> None:
    class Validating(Module):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val", batch[0].mean())

    results = L.Trainer(**QUIET).validate(Validating(), [batches(2), batches(4)], verbose=False)
    assert results == [{"val/dataloader_idx_0": 0.5}, {"val/dataloader_idx_1": 1.5}]


def test_torchmetrics_objects_and_collections() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")

    class Measuring(Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torchmetrics.MeanMetric()
            self.several = torchmetrics.MetricCollection(
                {"low": torchmetrics.MinMetric(), "sum": torchmetrics.SumMetric()}
            )

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.mean(batch[0])
            self.several.update(batch[0])
            self.log("mean", self.mean)
            self.log_dict(self.several)

    trainer, module = L.Trainer(**QUIET), Measuring()
    for _ in range(2):  # reset between two passes
        assert trainer.validate(module, batches(4), verbose=False) == [{"mean": 1.5, "low": 0.0, "sum": 6.0}]
    for changed in (copy.deepcopy(module), module):  # other objects than those of the first pass
        changed.mean = torchmetrics.MeanMetric()
        assert trainer.validate(changed, batches(4), verbose=False) == [{"mean": 1.5, "low": 0.0, "sum": 6.0}]


def test_gradients_go_before_a_run_and_a_validation_where_the_module_says_so() -> None:
    class Dropping(Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropped = 0
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.layer(batch[0]).sum())

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.dropped += 1
            super().zero_grad(set_to_none)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert self.layer.weight.grad is None

        def on_validation_model_zero_grad(self) -> None:
            super().on_validation_model_zero_grad()

    module, trainer = Dropping(), L.Trainer(max_epochs=2, **QUIET)
    module.layer.weight.grad = torch.ones(1, 1)
    trainer.fit(module, batches(), batches())
    trainer.validate(module, batches(), verbose=False)
    assert module.dropped == 4  # before two runs, and before two validations of the first

    plain = Module()
    plain.other.weight.grad = torch.ones(1, 1)
    plain.validation_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    L.Trainer(**QUIET).validate(plain, batches(), verbose=False)
    assert plain.other.weight.grad is not None


# ---------------------------------------------------------------- hyperparameters


class Configured(Module):
    def __init__(self, width: int = 1, rate: float = 0.1, loss: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="loss")


def test_hyperparameters_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    module = Configured(width=7, loss=nn.MSELoss())
    assert dict(module.hparams) == {"width": 7, "rate": 0.1}
    module.hparams.rate = 0.5
    assert module.hparams_initial.rate == 0.1
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(module, batches())
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    loaded = Configured.load_from_checkpoint(tmp_path / "saved.ckpt", width=9)
    assert dict(loaded.hparams) == {"width": 9, "rate": 0.5}
    assert torch.equal(loaded.layer.weight, module.layer.weight)
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        module.load_from_checkpoint(tmp_path / "saved.ckpt")


@pytest.mark.parametrize("container", [{"a": 1, "b": 2}, Namespace(a=1, b=2)], ids=["dict", "namespace"])
def test_a_container_of_hyperparameters(container: Any) -> None:
    class Contained(Module):
        def __init__(self, table: Any, settings: Any) -> None:
            super().__init__()
            self.save_hyperparameters(settings)

    module = Contained(np.arange(3), container)  # an array, whose comparison has no truth
    assert module._hparams_name == "settings"
    assert (module.hparams.a, module.hparams["b"]) == (1, 2)


@dataclasses.dataclass
class Settings:
    a: int = 1


def test_what_holds_no_hyperparameters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unsupported config type .*Settings.*dataclasses.asdict"):
        Container(Settings())


def test_a_name_that_is_no_argument_is_refused() -> None:
    class Misspelt(Module):
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters("rat")

    with pytest.raises(L.MisconfigurationException, match=r"\['rat'\], but `Misspelt.__init__` has only \['rate'\]"):
        Misspelt()


def test_names_and_subclasses() -> None:
    class Named(Module):
        def __init__(self, a: int, b: int, **rest: Any) -> None:
            super().__init__()
            self.save_hyperparameters("a")

    class Derived(Configured):
        def __init__(self, extra: str, **rest: Any) -> None:
            super().__init__(**rest)

    assert dict(Named(1, 2).hparams) == {"a": 1}
    assert dict(Derived("x", width=3).hparams) == {"width": 3, "rate": 0.1, "extra": "x"}


# ---------------------------------------------------------------- manual steps, freezing, loops of one's own


def test_toggled_optimizers_let_only_their_parameters_require_gradients() -> None:
    seen: list[tuple[bool, bool]] = []

    class Toggling(Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.other.bias.requires_grad = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            with self.toggled_optimizer(first):
                seen.append((self.layer.weight.requires_grad, self.other.weight.requires_grad))
            with second.toggle_model():
                seen.append((self.layer.weight.requires_grad, self.other.weight.requires_grad))
            assert self.layer.weight.requires_grad and not self.other.bias.requires_grad

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]

    L.Trainer(max_epochs=1, **QUIET).fit(Toggling(), batches(1))
    assert seen == [(True, False), (False, True)]


def test_freeze_and_unfreeze() -> None:
    module = Module().freeze()
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert module.unfreeze().training and all(p.requires_grad for p in module.parameters())


def test_device_and_type_follow_moves() -> None:
    module = Module()
    assert (module.device, module.dtype) == (torch.device("cpu"), torch.float32)
    assert module.double().dtype == torch.float64
    assert module.to("meta").device.type == "meta"


def test_a_module_without_trainer() -> None:
    module = Module()
    with pytest.raises(RuntimeError, match="not attached to a `Trainer`"):
        _ = module.trainer
    with pytest.warns(UserWarning, match="reference is not registered"):
        module.log("a", 1.0)
    assert (module.current_epoch, module.global_step, module.logger) == (0, 0, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 3}, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": 3, "max_steps": 4}, 4),
        ({"max_epochs": -1}, float("inf")),
        ({"max_epochs": -1, "max_steps": 8}, 8),
    ],
)
def test_estimated_stepping_batches(arguments: dict[str, Any], expected: float) -> None:
    found: list[float] = []

    class Asking(Module):
        def configure_optimizers(self) -> Any:
            found.append(self.trainer.estimated_stepping_batches)
            self.trainer.should_stop = True
            return super().configure_optimizers()

    L.Trainer(**{**QUIET, **arguments}).fit(Asking(), batches(5))
    assert found == [expected]
    with pytest.raises(L.MisconfigurationException, match="is known when `fit` has begun"):
        _ = L.Trainer(**{**QUIET, "max_epochs": 1}).estimated_stepping_batches


# ---------------------------------------------------------------- data


class Data(L.LightningDataModule):
    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append(f"setup {stage}")

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")

    def train_dataloader(self) -> Any:
        return batches(self.hparams.size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.calls.append("transfer")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": len(self.calls)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict


def test_a_datamodule_gives_the_data_and_keeps_its_state(tmp_path: Path) -> None:
    data, trainer = Data(size=3), L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Module(), datamodule=data)
    assert data.calls == ["prepare_data", "setup fit", "transfer", "transfer", "transfer", "teardown fit"]
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    loaded = Data.load_from_checkpoint(tmp_path / "saved.ckpt")
    assert (loaded.hparams.size, loaded.loaded) == (3, {"calls": 6})
    with pytest.raises(L.MisconfigurationException, match="You cannot pass"):
        trainer.fit(Module(), batches(), datamodule=data)


def test_a_datamodule_is_asked_only_for_what_it_defines() -> None:
    """A method of the instance that only wraps the inherited one is not its own."""
    data, calls = Data(), []
    for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
        inherited = getattr(data, name)
        wrapped = functools.partial(lambda hook, *arguments: calls.append(1) or hook(*arguments), inherited)
        setattr(data, name, functools.update_wrapper(wrapped, inherited))
    L.Trainer(max_epochs=1, **QUIET).fit(Module(), datamodule=data)
    assert not calls and "transfer" in data.calls


def test_whose_way_to_the_device_a_batch_takes_is_said() -> None:
    class Moving(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return batches(1)

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return batch

    class Both(Module):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return batch

    class Other(Module):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

    for module, said in (
        (Both(), "`transfer_batch_to_device` in both .* from `LightningDataModule`"),
        (Other(), "`on_after_batch_transfer` in `LightningModule` but .* from `LightningModule`"),
    ):
        with pytest.warns(UserWarning, match=said):
            L.Trainer(max_epochs=1, **QUIET).fit(module, datamodule=Moving())


def test_a_datamodule_shows_batches_in_a_way_of_its_own() -> None:
    class Shown(L.LightningDataModule):
        def show_batch(self, split: str, count: int = 1) -> str:
            return f"{count} of {split}"

    assert Shown().show_batch("train", count=2) == "2 of train"
    with pytest.raises(NotImplementedError, match="define `show_batch`"):
        L.LightningDataModule().show_batch()


def test_what_is_no_datamodule_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a `LightningDataModule`, got `Linear`"):
        L.Trainer(max_epochs=1, **QUIET).fit(Module(), datamodule=nn.Linear(1, 1))  # type: ignore[arg-type]


def test_from_datasets() -> None:
    data = L.LightningDataModule.from_datasets(TensorDataset(torch.ones(4, 1)), [TensorDataset(torch.ones(2, 1))] * 2)
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(Module(), datamodule=data)
    assert trainer.global_step == 4
    assert [len(loader) for loader in data.val_dataloader()] == [2, 2]


def test_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Predicting(Module):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return (batch[0].sum().item(), batch_idx, dataloader_idx)

    trainer = L.Trainer(**QUIET)
    assert trainer.predict(Predicting(), batches(2)) == [(0.0, 0, 0), (1.0, 1, 0)]
    assert trainer.predict(Predicting(), [batches(1), batches(1)]) == [[(0.0, 0, 0)], [(0.0, 0, 1)]]
    assert trainer.predict(Predicting(), batches(2), return_predictions=False) is None
    dropping = torch.utils.data.DataLoader(torch.zeros(3, 1), batch_size=2, drop_last=True)
    assert len(trainer.predict(Predicting(), dropping) or []) == 2
    together = L.utilities.combined_loader.CombinedLoader([batches(1), batches(1)], "min_size")
    with pytest.raises(ValueError, match=r"only supports the `CombinedLoader\(mode=\"sequential\"\)`"):
        trainer.predict(Predicting(), together)
    monkeypatch.setattr(Predicting, "predict_step", lambda *_: None)
    with pytest.warns(UserWarning, match="predict returned None"):
        trainer.predict(Predicting(), batches(1))


def test_the_bar_of_one_process_reduces_nothing_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = L.Trainer(**QUIET)
    monkeypatch.setattr(trainer, "_results", SimpleNamespace(in_batches=False))  # the values of an epoch, or a pass
    monkeypatch.setattr(type(trainer), "world_size", property(lambda self: 2))
    assert trainer.progress_bar_metrics == {}


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize(
    ("data", "gathered"),
    [
        (3, torch.tensor(3)),
        (np.arange(2.0), torch.tensor([0.0, 1.0], dtype=torch.float64)),
        (Pair(1, ["text", None]), Pair(torch.tensor(1), ["text", None])),
        (Settings(2), Settings(torch.tensor(2))),  # type: ignore[arg-type]
        ({"a": (True,)}, {"a": (torch.tensor(True),)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_all_gather_takes(data: Any, gathered: Any) -> None:
    module = Module()
    L.Trainer(max_epochs=1, **QUIET).fit(module, batches())
    assert repr(module.all_gather(data)) == repr(gathered)
