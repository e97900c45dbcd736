"""The same script on the runtime and on Lightning: rows that loggers get, and values that scripts read."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightify.runtime as ours
import lightify.runtime.loggers as our_loggers
import pytest
import torch
from torch.utils.data import DataLoader

lightning = pytest.importorskip("lightning.pytorch")
pytestmark = [pytest.mark.lightning, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def module(library: Any) -> Any:
    class Module(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train", float(batch_idx))
            self.log("epoch_only", float(batch_idx), on_step=False, on_epoch=True)
            self.log("both", float(batch_idx), on_step=True, on_epoch=True)
            return self.layer(batch).sum()

        def on_train_epoch_end(self) -> None:
            self.log("at_end", 2.0)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", float(batch_idx))
            self.log("val_step", float(batch_idx), on_step=True, on_epoch=False)

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("test", float(batch_idx + dataloader_idx))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    return Module()


def data(count: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(count, 4))


def rows(library: Any, logger: type, folder: Path, **options: Any) -> list[Any]:
    torch.manual_seed(0)
    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        logger=logger(folder, name="run", version="one"),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        **options,
    )
    made = module(library)
    trainer.fit(made, data(4), data(2))
    trainer.validate(made, data(2), verbose=False)
    tested = trainer.test(made, [data(2), data(3)], verbose=False)
    with open(folder / "run" / "one" / "metrics.csv") as file:
        logged = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    known = [{name: float(value) for name, value in getattr(trainer, kind).items()} for kind in METRICS]
    return [logged, tested, known, trainer.global_step, trainer.current_epoch]


METRICS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 2},
        {"max_epochs": 1, "val_check_interval": 2},
        {"max_epochs": 1, "accumulate_grad_batches": 2, "val_check_interval": 1},
        {"max_epochs": 4, "check_val_every_n_epoch": 2},
        {"max_steps": 3},
    ],
    ids=str,
)
def test_rows_and_metrics(tmp_path: Path, options: dict[str, Any]) -> None:
    wanted = rows(lightning, lightning.loggers.CSVLogger, tmp_path / "lightning", **options)
    assert rows(ours, our_loggers.CSVLogger, tmp_path / "ours", **options) == wanted


def stage_of(trainer: Any) -> str:
    stage = getattr(getattr(trainer, "state", None), "stage", None)
    return "" if stage is None else str(stage.value)


def hooks_of(library: Any, automatic: bool, **options: Any) -> list[str]:
    """Every hook of module and callback that a fit, a test and a prediction call, in order, with the stage it is in."""
    called: list[str] = []

    def recording(base: type, tag: str, more: tuple[str, ...] = ()) -> type:
        def record(name: str) -> Any:
            own = getattr(base, name)

            def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                trainer = vars(self).get("_trainer") or next(iter(args), None)
                called.append(f"{tag}.{name} {stage_of(trainer)}")
                return own(self, *args, **kwargs)

            return call

        names = [name for name in dir(base) if name.startswith("on_") and callable(getattr(base, name))]
        return type(tag, (base,), {name: record(name) for name in (*names, *more) if name != "on_gpu"})

    class Module(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
            self.automatic_optimization = automatic

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch).sum()
            if not automatic:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        test_step = predict_step = validation_step

        def val_dataloader(self) -> Any:
            return data(1)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    more = (
        "setup", "teardown", "prepare_data", "configure_model", "configure_callbacks", "configure_optimizers",
        "training_step", "validation_step", "test_step", "predict_step", "optimizer_step", "optimizer_zero_grad",
        "backward", "lr_scheduler_step", "configure_gradient_clipping", "transfer_batch_to_device", "val_dataloader",
    )  # fmt: skip
    made = recording(Module, "module", more)()
    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        callbacks=[recording(library.Callback, "callback", ("setup", "teardown"))()],
        **options,
    )
    trainer.fit(made, data(2))
    trainer.test(made, data(1), verbose=False)
    trainer.predict(made, data(1))
    return called


@pytest.mark.parametrize(
    ("automatic", "options"),
    [
        (True, {"enable_checkpointing": False}),
        (True, {"enable_checkpointing": True}),
        (True, {"enable_checkpointing": False, "accumulate_grad_batches": 2, "gradient_clip_val": 1.0}),
        (False, {"enable_checkpointing": False, "val_check_interval": 1}),
        (True, {"enable_checkpointing": False, "num_sanity_val_steps": 0}),
    ],
    ids=str,
)
def test_the_order_of_hooks(tmp_path: Path, automatic: bool, options: dict[str, Any]) -> None:
    theirs = hooks_of(lightning, automatic, default_root_dir=tmp_path / "lightning", **options)
    mine = hooks_of(ours, automatic, default_root_dir=tmp_path / "ours", **options)
    schedulers = "module.lr_scheduler_step train"  # the one difference: docs/runtime-order.md, line 16
    assert [name for name in mine if name != schedulers] == [name for name in theirs if name != schedulers]
    assert mine.count(schedulers) == theirs.count(schedulers)
