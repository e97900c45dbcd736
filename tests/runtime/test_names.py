"""Names and import paths of Lightning: those with a part behind them, and those that say what to use instead."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime import absent, plain_types
from lightify.runtime.callbacks.spike import SpikeDetection, TrainingSpikeException
from lightify.runtime.demos import (
    BoringDataModule,
    BoringModel,
    DemoModel,
    LightningLSTM,
    LightningTransformer,
    SequenceSampler,
    SimpleLSTM,
    WikiText2,
)
from lightify.runtime.demos.boring_classes import ManualOptimBoringModel
from lightify.runtime.loggers import LitLogger, NeptuneLogger, merge_dicts
from lightify.runtime.optim import LightningOptimizer
from lightify.runtime.serve import ServableModule, ServableModuleValidator


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("plugins", "AsyncCheckpointIO"),
        ("plugins.environments", "SLURMEnvironment"),
        ("plugins.io", "TorchCheckpointIO"),
        ("plugins.precision", "MixedPrecision"),
        ("plugins.layer_sync", "TorchSyncBatchNorm"),
        ("utilities", "grad_norm"),
        ("utilities.combined_loader", "CombinedLoader"),
        ("utilities.exceptions", "MisconfigurationException"),
        ("utilities.memory", "garbage_collection_cuda"),
        ("utilities.model_summary", "ModelSummary"),
        ("utilities.parsing", "AttributeDict"),
        ("utilities.rank_zero", "rank_zero_only"),
        ("utilities.seed", "isolate_rng"),
        ("utilities.types", "OptimizerLRSchedulerConfig"),
    ],
)
def test_lightnings_import_paths(path: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"lightify.runtime.{path}"), name)


def test_packages_are_attributes() -> None:
    script = """
import lightify.runtime as L
L.utilities.rank_zero.rank_zero_only, L.utilities.types.STEP_OUTPUT, L.plugins.io.TorchCheckpointIO, L.tuner.Tuner
L.core.LightningModule, L.demos.BoringModel, L.callbacks.Timer, L.loggers.CSVLogger, L.strategies.DDPStrategy
L.no_such_name
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "module 'lightify.runtime' has no attribute 'no_such_name'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("make", [absent.XLAProfiler, absent.DeepSpeedSummary, LitLogger, NeptuneLogger])
def test_parts_without_an_engine_say_what_to_use(make: Any) -> None:
    with pytest.raises(L.MisconfigurationException, match="is not part of this runtime"):
        make()


def quick(**options: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(accelerator="cpu", devices=1, logger=False, **quiet, **options)


def test_the_optimizer_of_a_manual_step_is_an_optimizer() -> None:
    seen = []

    class Module(ManualOptimBoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer: Any = self.optimizers()
            assert isinstance(optimizer, torch.optim.SGD) and isinstance(optimizer, LightningOptimizer)
            torch.optim.lr_scheduler.StepLR(optimizer, 1)  # refuses what is no optimizer
            seen.append(pickle.loads(pickle.dumps(copy.deepcopy(optimizer))).param_groups[0]["lr"])
            return super().training_step(batch, batch_idx)

    trainer = quick(max_steps=2)
    trainer.fit(Module())
    assert trainer.global_step == 2 and seen == [0.1, 0.1]


class Offline(LightningTransformer):
    def prepare_data(self) -> None:
        """Downloads nothing."""


class Recurrent(LightningLSTM):
    def prepare_data(self) -> None:
        """Downloads nothing."""


def test_demos_train(tmp_path: Path) -> None:
    quick(max_epochs=1, limit_train_batches=2, limit_val_batches=1).fit(BoringModel(), datamodule=BoringDataModule())
    quick(max_steps=2).fit(DemoModel(), torch.utils.data.DataLoader(torch.ones(4, 32)))
    (tmp_path / "wikitext-2.txt").write_text("a b c d\nb c d a\n" * 4)
    words = WikiText2(tmp_path, block_size=5, download=False)
    assert words.vocab_size == 5 and torch.equal(words[1][0][1:], words[1][1][:-1])
    quick(max_steps=2).fit(Offline(words.vocab_size), torch.utils.data.DataLoader(words, batch_size=2))
    sampler = SequenceSampler(words, batch_size=2)
    assert list(sampler) == [[0, 3], [1, 4], [2, 5]][: len(sampler)] and len(sampler) == len(words) // 2
    lstm = Recurrent(words.vocab_size)
    lstm.model = SimpleLSTM(words.vocab_size, ninp=4, nhid=4, nlayers=1)
    quick(max_steps=2).fit(lstm, torch.utils.data.DataLoader(words, batch_sampler=sampler))


class Losses(DemoModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = 100.0 if batch_idx == 4 else 1 / (batch_idx + 1)
        return self.l1.weight.sum() * 0 + loss


def test_a_spike_ends_the_run_and_names_its_batches(tmp_path: Path) -> None:
    detection = SpikeDetection(exclude_batches_path=tmp_path)
    data = torch.utils.data.DataLoader(torch.ones(8, 32))
    with pytest.raises(TrainingSpikeException, match="batch 4"):
        quick(max_epochs=1, callbacks=[detection]).fit(Losses(), data)
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == [3, 4]
    again = SpikeDetection()
    again.load_state_dict(pickle.loads(pickle.dumps(detection.state_dict())))
    assert again.bad_batches == [3, 4] and again.state_dict() == detection.state_dict()
    quick(max_epochs=1, callbacks=[SpikeDetection(atol=1000.0)]).fit(Losses(), data)


class Served(BoringModel, ServableModule):
    answer = (2.0, 3.0)

    def configure_payload(self) -> dict[str, Any]:
        return {"body": {"x": [1.0, 2.0]}}

    def configure_serialization(self) -> Any:
        return {"x": torch.tensor}, {"y": torch.Tensor.tolist}

    def serve_step(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        assert not self.training
        return {"y": x + 1}

    def configure_response(self) -> dict[str, Any]:
        return {"y": list(self.answer)}


def test_a_module_is_served_before_it_trains(unused_port: int) -> None:
    validator = ServableModuleValidator(port=unused_port)
    module = Served()
    quick(max_steps=1, limit_val_batches=0, callbacks=[validator]).fit(module)
    assert validator.successful and validator.resp is not None and validator.resp.json() == {"y": [2.0, 3.0]}
    module.answer = (0.0, 0.0)
    with pytest.raises(L.MisconfigurationException, match="doesn't match"):
        quick(max_steps=1, limit_val_batches=0, callbacks=[ServableModuleValidator(port=unused_port)]).fit(module)
    with pytest.raises(TypeError, match="subclass of ServableModule"):
        quick(max_steps=1, limit_val_batches=0, callbacks=[ServableModuleValidator()]).fit(BoringModel())


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_metrics_of_several_runs_are_merged() -> None:
    runs = [{"a": 1, "b": {"c": 2}}, {"a": 3, "b": {"c": 5, "d": 7}}]
    assert merge_dicts(runs, {"b": {"c": max}}) == {"a": 2, "b": {"c": 5, "d": 7}}


@pytest.mark.parametrize("value", [{BoringModel: 1}, {(BoringModel, 1): 2}, {BoringModel, 3}])
def test_classes_as_keys_are_kept_in_a_checkpoint(value: Any) -> None:
    kept = plain_types.loadable({"value": value})
    assert plain_types.restore_foreign(kept) == {"value": value}


def test_is_overridden_sees_through_wrappers() -> None:
    from unittest.mock import Mock

    from lightify.runtime.utilities.model_helpers import is_overridden

    model = BoringModel()
    assert is_overridden("training_step", model) and not is_overridden("on_fit_start", model)
    assert is_overridden("train_dataloader", BoringDataModule()) and not is_overridden("on_fit_start", L.Callback())
    for wrapped in (
        functools.wraps(model.on_fit_start)(lambda: model.on_fit_start()),
        functools.partial(model.on_fit_start),
        Mock(wraps=model.on_fit_start),
    ):
        model.on_fit_start = wrapped  # type: ignore[method-assign]
        assert not is_overridden("on_fit_start", model)
        del model.on_fit_start
    model.on_fit_start = lambda: None  # type: ignore[method-assign]
    assert is_overridden("on_fit_start", model) and not is_overridden("on_fit_start", None)
    with pytest.raises(ValueError, match="Expected a parent"):
        is_overridden("on_fit_start", object())
