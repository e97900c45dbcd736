"""The order of a run, how few frames it takes, and what ends it."""

from __future__ import annotations

import inspect
import os
import signal
import traceback
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.hooks import HOOKS
from lightify.runtime.utilities.compile import from_compiled, to_uncompiled
from torch import nn

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
RUNTIME = str(Path(inspect.getfile(L)).parent)


class Batches:
    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter(torch.ones(self.count, 1, 2))


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def recording(kind: type, name: str, calls: list[str], hooks: tuple[str, ...]) -> Any:
    """A class derived from `kind` whose hooks note their names and then do what `kind` does."""

    def method(hook: str) -> Any:
        def noted(self: Any, *arguments: Any, **keywords: Any) -> Any:
            calls.append(f"{name}.{hook}" if name else hook)
            return getattr(kind, hook)(self, *arguments, **keywords)

        return noted

    return type(f"Recording{kind.__name__}", (kind,), {hook: method(hook) for hook in hooks})


def test_order_of_a_fit() -> None:
    calls: list[str] = []

    class Validated(Module):
        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            super().lr_scheduler_step(scheduler, metric)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    shared = tuple(hook for hook in HOOKS if hasattr(L.LightningModule, hook))
    own = (
        "prepare_data", "setup", "teardown", "configure_model", "configure_callbacks", "configure_optimizers",
        "training_step", "validation_step", "backward", "optimizer_zero_grad", "configure_gradient_clipping",
        "on_validation_model_eval", "transfer_batch_to_device", "lr_scheduler_step",
    )  # fmt: skip
    module = recording(Validated, "", calls, (*shared, *own))()
    trainer = L.Trainer(max_epochs=1, num_sanity_val_steps=0, gradient_clip_val=1.0, **QUIET)
    trainer.fit(module, Batches(2), Batches(1))
    batch = [
        "transfer_batch_to_device", "on_train_batch_start", "training_step", "on_before_zero_grad",
        "optimizer_zero_grad", "on_before_backward", "backward", "on_after_backward", "on_before_optimizer_step",
        "configure_gradient_clipping", "on_train_batch_end",
    ]  # fmt: skip
    assert calls == [
        "configure_callbacks", "prepare_data", "setup", "configure_model", "configure_optimizers", "on_fit_start",
        "on_train_start", "on_train_epoch_start",
        *batch, *batch,
        "lr_scheduler_step",
        "on_validation_model_eval", "on_validation_start", "on_validation_epoch_start", "transfer_batch_to_device",
        "on_validation_batch_start", "validation_step", "on_validation_batch_end", "on_validation_epoch_end",
        "on_validation_end",
        "on_train_epoch_end", "on_train_end", "on_fit_end", "teardown",
    ]  # fmt: skip


def test_callbacks_come_before_the_module_and_those_that_save_after_it() -> None:
    calls: list[str] = []
    hooks = ("on_train_batch_end", "on_train_epoch_end")
    watcher = recording(L.Callback, "callback", calls, hooks)()
    saver = recording(L.ModelCheckpoint, "checkpoint", calls, hooks)()
    module = recording(Module, "module", calls, hooks)()
    trainer = L.Trainer(max_epochs=1, callbacks=[saver, watcher], **{**QUIET, "enable_checkpointing": True})
    trainer.fit(module, Batches(1))
    assert calls == [f"{who}.{hook}" for hook in hooks for who in ("callback", "module", "checkpoint")]


def test_four_frames_from_fit_to_training_step() -> None:
    frames: list[str] = []

    class Traced(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            frames[:] = [f.name for f in traceback.extract_stack() if f.filename.startswith(RUNTIME)]
            return super().training_step(batch, batch_idx)

    L.Trainer(max_epochs=1, **QUIET).fit(Traced(), Batches(1))
    assert frames == ["fit", "fit", "train_epoch", "automatic_step"]


def test_hooks_set_on_an_instance_are_called() -> None:
    calls: list[int] = []
    module, callback = Module(), L.Callback()
    module.on_train_batch_end = lambda outputs, batch, batch_idx: calls.append(batch_idx)  # type: ignore[method-assign]
    callback.on_train_end = lambda trainer, pl_module: calls.append(-1)  # type: ignore[method-assign]
    L.Trainer(max_epochs=1, callbacks=callback, **QUIET).fit(module, Batches(2))
    assert calls == [0, 1, -1]


def test_minus_one_skips_the_rest_of_the_epoch_and_its_validation() -> None:
    steps: list[tuple[int, int]] = []
    validated: list[int] = []

    class Skipping(Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            return -1 if self.current_epoch == 0 and batch_idx == 1 else None

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append((self.current_epoch, batch_idx))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            validated.append(self.current_epoch)

    L.Trainer(max_epochs=2, num_sanity_val_steps=0, **QUIET).fit(Skipping(), Batches(3), Batches(1))
    assert steps == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert validated == [1]


@pytest.mark.parametrize(
    ("skip_at", "batches", "max_steps", "answer"),
    [
        pytest.param(None, Batches(3), -1, True, id="a whole epoch"),
        pytest.param(1, Batches(3), -1, True, id="the rest of the epoch was given up"),
        pytest.param(None, (torch.ones(1, 2) for _ in range(3)), -1, True, id="no length, known once it ran out"),
        pytest.param(None, Batches(3), 2, False, id="steps ended within the epoch"),
    ],
)
def test_after_a_run_it_is_known_whether_an_epochs_last_batch_was_reached(
    skip_at: int | None, batches: Any, max_steps: int, answer: bool
) -> None:
    module = Module()
    module.on_train_batch_start = lambda batch, batch_idx: -1 if batch_idx == skip_at else None  # type: ignore
    trainer = L.Trainer(max_epochs=1, max_steps=max_steps, **QUIET)
    trainer.fit(module, batches)
    assert trainer.is_last_batch is answer


@pytest.mark.parametrize(
    ("hook", "min_epochs", "steps", "epochs"),
    [
        ("on_train_start", 0, 0, 0),
        ("on_train_epoch_start", 0, 0, 1),
        ("on_train_epoch_start", 1, 3, 1),
        ("on_train_batch_start", 0, 1, 1),
        ("on_train_epoch_end", 0, 3, 1),
    ],
)
def test_where_a_run_ends_that_a_hook_asks_to_stop(hook: str, min_epochs: int, steps: int, epochs: int) -> None:
    module = Module()
    setattr(module, hook, lambda *batch: setattr(module.trainer, "should_stop", True))
    trainer = L.Trainer(max_epochs=2, min_epochs=min_epochs, **QUIET)
    trainer.fit(module, Batches(3))
    assert (trainer.global_step, trainer.current_epoch) == (steps, epochs)


def test_an_evaluation_without_a_batch_has_no_results() -> None:
    module = Module()
    module.test_step = module.validation_step = lambda batch, batch_idx: None  # type: ignore
    trainer = L.Trainer(**QUIET)
    assert trainer.test(module, Batches(0)) == trainer.validate(module, Batches(0)) == []
    assert trainer.test(module, Batches(1)) == [{}]
    module.on_test_epoch_end = lambda: module.log("at_end", 1.0)  # type: ignore
    assert trainer.test(module, Batches(0)) == [{"at_end": 1.0}]


def test_what_a_callback_answers_to_the_start_of_a_batch_means_nothing() -> None:
    class Answering(L.Callback):
        def on_train_batch_start(self, *arguments: Any) -> Any:
            return -1

    trainer = L.Trainer(max_epochs=1, callbacks=Answering(), **QUIET)
    trainer.fit(Module(), Batches(3))
    assert trainer.global_step == 3


def test_clipping_of_ones_own_gets_its_arguments_by_name() -> None:
    given: list[dict[str, Any]] = []

    class Clipping(Module):
        def configure_gradient_clipping(self, optimizer: Any, **settings: Any) -> None:
            given.append(settings)
            self.clip_gradients(optimizer, **settings)

    L.Trainer(max_epochs=1, gradient_clip_val=0.5, **QUIET).fit(Clipping(), Batches(1))
    assert given == [{"gradient_clip_val": 0.5, "gradient_clip_algorithm": None}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_steps": 5, "max_epochs": 9}, (5, 3)),
        ({"max_epochs": 2}, (4, 2)),
        ({"limit_train_batches": 1, "max_epochs": 3}, (3, 3)),
        ({"limit_train_batches": 0.5, "max_epochs": 3}, (3, 3)),
        ({"fast_dev_run": 1}, (1, 1)),
        ({"max_epochs": 0}, (0, 0)),
        ({"max_epochs": 3, "limit_train_batches": 0}, (0, 0)),
    ],
)
def test_limits(arguments: dict[str, Any], expected: tuple[int, int]) -> None:
    trainer = L.Trainer(**QUIET, **arguments)
    trainer.fit(Module(), Batches(2))
    assert (trainer.global_step, trainer.current_epoch) == expected


def test_fit_goes_on_when_its_limit_is_raised() -> None:
    trainer, module = L.Trainer(max_epochs=2, **QUIET), Module()
    trainer.fit(module, Batches(2))
    trainer.fit(module, Batches(2))
    assert trainer.global_step == 4
    trainer.fit_loop.max_epochs = 3  # Lightning's way to say it
    trainer.fit(module, Batches(2))
    assert (trainer.global_step, trainer.max_epochs) == (6, 3)


def test_max_steps_counts_the_steps_of_all_optimizers() -> None:
    class TwoSteps(Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            for _ in range(2):
                optimizer.step()

    trainer = L.Trainer(max_steps=5, **QUIET)
    trainer.fit(TwoSteps(), Batches(9))
    assert (trainer.global_step, trainer.batch_idx) == (6, 2)


def test_each_submodule_gets_its_own_mode_back() -> None:
    class Frozen(Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Dropout().eval()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert not self.layer.training

        def on_train_epoch_end(self) -> None:
            assert self.layer.training
            assert not self.frozen.training

    L.Trainer(max_epochs=1, **QUIET).fit(Frozen(), Batches(1), Batches(1))


def test_gradients_outlive_validation_in_manual_optimization() -> None:
    class Manual(Module):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.layer(batch).sum())

        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        def on_train_epoch_end(self) -> None:
            assert self.layer.bias.grad.item() == 2 * (self.current_epoch + 1)

    L.Trainer(max_epochs=2, **QUIET).fit(Manual(), Batches(2), Batches(1))


def test_ctrl_c_closes_the_run_and_reaches_the_script() -> None:
    ended: list[str] = []

    class Interrupting(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            ended.append(f"batch {batch_idx}")

    class Watch(L.Callback):
        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            ended.append(type(exception).__name__)

    trainer = L.Trainer(max_epochs=1, callbacks=Watch(), **QUIET)
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(Interrupting(), Batches(5))
    assert ended == ["batch 0", "batch 1", "Interrupted"]
    assert trainer.interrupted
    assert isinstance(caught.value, SystemExit)
    assert caught.value.code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_train_epoch_ends", "on_train_epoch_end"),
        ("validation_steps", "validation_step"),
        ("val_step", "validation_step"),
        ("lr_schedulers_step", "lr_scheduler_step"),
        ("test_dataloaders", "test_dataloader"),
        ("on_fit_begin", "on_fit_start"),
        ("on_val_epoch_end", "on_validation_epoch_end"),
        ("on_train_batch_stop", "on_train_batch_end"),
    ],
)
def test_a_near_miss_of_a_hook_is_warned_of(name: str, meant: str) -> None:
    misspelt = type("Misspelt", (Module,), {name: lambda self: None})
    with pytest.warns(UserWarning, match=f"Misspelt.{name}.*If you meant `{meant}`"):
        L.Trainer(max_epochs=1, **QUIET).fit(misspelt(), Batches(1))


def test_near_misses_of_callbacks_and_datamodules() -> None:
    class Callback(L.Callback):
        def on_training_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...

        def validation_steps(self) -> None: ...  # a callback has no steps: a name of its own

    class Data(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return Batches(1)

        def val_dataloaders(self) -> Any: ...

    with pytest.warns() as caught:
        L.Trainer(max_epochs=1, callbacks=Callback(), **QUIET).fit(Module(), datamodule=Data())
    said = [str(warning.message) for warning in caught if "is not a hook" in str(warning.message)]
    assert [message.partition("` is")[0].rpartition(".")[2] for message in said] == [
        "val_dataloaders",
        "on_training_epoch_end",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": -2}, "max_epochs"),
        ({"max_steps": -2}, "max_steps"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches"),
        ({"gradient_clip_algorithm": "sum"}, "Allowed algorithms"),
        ({"limit_val_batches": 1.2}, "has to be in"),
        ({"val_check_interval": "1:2"}, "DD:HH:MM:SS"),
        ({"check_val_every_n_epoch": None, "val_check_interval": 0.5}, "should be an integer or a time"),
        ({"deterministic": "maybe"}, "deterministic"),
        ({"fast_dev_run": -1}, "fast_dev_run"),
        ({"check_val_every_n_epoch": 0}, "at least 1, found 0.*limit_val_batches=0"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_trainer_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(L.MisconfigurationException, match=message):
        L.Trainer(**arguments)


def test_what_fit_cannot_run_is_refused_with_what_to_write() -> None:
    class WithoutOptimizer(L.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any: ...

    class Manual(Module):
        automatic_optimization = False  # type: ignore[assignment]

    trainer = L.Trainer(max_epochs=1, **QUIET)
    with pytest.raises(L.MisconfigurationException, match="configure_optimizers"):
        trainer.fit(WithoutOptimizer(), Batches(1))
    with pytest.raises(L.MisconfigurationException, match=r"train_dataloaders=.*`train_dataloader` must be"):
        trainer.fit(Module())
    with pytest.raises(ValueError, match="found no path for the best weights: ''"):
        trainer.test(Module(), Batches(1), ckpt_path="")
    returning = Module()
    returning.training_step = lambda batch, batch_idx: {"loss": 1.0}  # type: ignore
    with pytest.raises(L.MisconfigurationException, match=r"'loss'.*must be a tensor.*not 1\.0"):
        trainer.fit(returning, Batches(1))
    with pytest.raises(TypeError, match="must be a `LightningModule`"):
        trainer.fit(nn.Linear(1, 1), Batches(1))  # type: ignore[arg-type]
    with pytest.raises(L.MisconfigurationException, match="clipping is not supported for manual"):
        L.Trainer(max_epochs=1, gradient_clip_val=1.0, **QUIET).fit(Manual(), Batches(1))


@pytest.mark.slow
def test_a_compiled_step_logs_without_a_graph_break() -> None:
    import torch._dynamo.testing

    class Logging(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch).sum()
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("double", 2 * loss)
            return loss

    counter = torch._dynamo.testing.CompileCounter()
    torch._dynamo.utils.counters.clear()
    module = Logging()
    module.training_step = torch.compile(module.training_step, backend=counter)  # type: ignore[method-assign]
    trainer = L.Trainer(max_epochs=2, **QUIET)
    trainer.fit(module, Batches(3))
    assert counter.frame_count == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert set(trainer.callback_metrics) == {"loss", "loss_step", "loss_epoch", "double"}


def test_a_compiled_module_has_the_steps_that_it_had_before_and_can_be_had_plain_again() -> None:
    class OnlyTrains(Module):
        validation_step = L.LightningModule.validation_step
        test_step = L.LightningModule.test_step

    module = OnlyTrains()
    compiled = torch.compile(module, backend="eager")
    trainer = L.Trainer(max_epochs=1, **QUIET)
    with pytest.warns(UserWarning, match="no `validation_step`"):
        trainer.fit(compiled, Batches(1), Batches(1))
    assert trainer.lightning_module is module
    assert "training_step" in module.__dict__
    assert from_compiled(compiled) is module
    assert to_uncompiled(compiled) is module
    assert "training_step" not in module.__dict__
    assert "predict_step" not in from_compiled(compiled).__dict__
    to_uncompiled(module)
    OnlyTrains.forward = lambda self, x: self.layer(x)
    assert "predict_step" in from_compiled(torch.compile(module, backend="eager")).__dict__  # which calls `forward`
    to_uncompiled(module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, Batches(1))
    with pytest.raises(ValueError, match="required to be a compiled LightningModule"):
        to_uncompiled(module)
    with pytest.raises(TypeError, match="compiled LightningModule"):
        from_compiled(torch.compile(torch.nn.Linear(1, 1), backend="eager"))
