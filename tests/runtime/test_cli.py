"""LightningCLI: objects from words and files, subcommands, and the saved configuration that repeats a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
import yaml
from lightify.runtime.callbacks import EarlyStopping
from lightify.runtime.errors import MisconfigurationException
from torch.utils.data import DataLoader

from .leaves import Classifier, data, weights

cli = pytest.importorskip("lightify.runtime.cli")


class Data(L.LightningDataModule):
    def __init__(self, samples: int = 16, batch_size: int = 4) -> None:
        super().__init__()
        self.samples = samples
        self.batch_size = batch_size

    def _loader(self) -> DataLoader:
        return DataLoader(data(self.samples), batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = _loader


QUIET = [
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.accelerator=cpu",
]


def run(folder: Path, *words: str, **options: Any) -> Any:
    given = [*words[:1], *QUIET, f"--trainer.default_root_dir={folder}", *words[1:]]
    model = options.pop("model_class", Classifier)
    return options.pop("cli_class", cli.LightningCLI)(model, Data, args=given, **options)


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py"])


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_subcommands_run_with_arguments_of_all_three(tmp_path: Path, command: str) -> None:
    made = run(tmp_path, command, "--model.lr=0.5", "--data.samples=8", "--trainer.logger=false")
    assert (made.model.lr, made.datamodule.samples, made.trainer.max_epochs) == (0.5, 8, 1)
    assert made.trainer.state.finished
    assert made.trainer.global_step == (2 if command == "fit" else 0)


def test_without_run_only_the_objects_are_made(tmp_path: Path) -> None:
    made = cli.LightningCLI(Classifier, Data, args=["--model.batch_size=3"], run=False)
    assert made.subcommand is None and made.model.batch_size == 3 and isinstance(made.trainer, L.Trainer)
    assert made.trainer.global_step == 0


def test_a_file_gives_values_and_words_win_over_it(tmp_path: Path) -> None:
    path = tmp_path / "in.yaml"
    path.write_text(yaml.dump({"model": {"lr": 0.25, "batch_size": 7}, "trainer": {"max_steps": 3}}))
    made = run(tmp_path, "fit", f"--config={path}", "--model.lr=0.125", "--trainer.logger=false")
    assert (made.model.lr, made.model.batch_size, made.trainer.max_steps) == (0.125, 7, 3)


def test_a_dictionary_does_as_well() -> None:
    made = cli.LightningCLI(Classifier, Data, args={"model": {"lr": 0.3}, "trainer": {"max_steps": 1}}, run=False)
    assert (made.model.lr, made.trainer.max_steps) == (0.3, 1)


def test_the_saved_configuration_repeats_the_run(tmp_path: Path) -> None:
    first = run(
        tmp_path, "fit", "--trainer.logger=lightify.runtime.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path}"
    )
    saved = Path(first.trainer.log_dir) / "config.yaml"
    config = yaml.safe_load(saved.read_text())
    assert saved.read_text().startswith("# lightify.runtime, with the arguments of lightning.pytorch==2.")
    assert isinstance(config["seed_everything"], int) and not isinstance(config["seed_everything"], bool)
    again = cli.LightningCLI(Classifier, Data, args=["fit", f"--config={saved}"])
    assert torch.equal(weights(first.model), weights(again.model))
    assert Path(again.trainer.log_dir).name == "version_1"


def test_a_configuration_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    words = ["fit", "--trainer.logger=false"]
    run(tmp_path, *words)
    with pytest.raises(RuntimeError, match=r"expected .*config\.yaml to NOT exist"):
        run(tmp_path, *words)
    run(tmp_path, *words, save_config_kwargs={"overwrite": True})
    run(tmp_path, *words, save_config_callback=None)


def test_callbacks_from_words_and_fixed_ones(tmp_path: Path) -> None:
    fixed = EarlyStopping("train_loss")
    words = ["--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks.logging_interval=epoch"]
    made = cli.LightningCLI(
        Classifier, Data, args=words, run=False, trainer_defaults={"callbacks": fixed, "max_epochs": 7}
    )
    names = [type(callback).__name__ for callback in made.trainer.callbacks]
    assert "LearningRateMonitor" in names and fixed in made.trainer.callbacks and "SaveConfigCallback" in names
    assert made.trainer.max_epochs == 7


def test_optimizer_and_scheduler_by_name_replace_the_modules_own() -> None:
    words = ["--optimizer=Adam", "--optimizer.lr=0.02", "--lr_scheduler=StepLR", "--lr_scheduler.step_size=5"]
    with pytest.warns(UserWarning, match="will be overridden by `LightningCLI.configure_optimizers`"):
        made = cli.LightningCLI(Classifier, Data, args=words, run=False)
    (optimizer,), (scheduler,) = made.model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["lr"] == 0.02
    assert isinstance(scheduler, torch.optim.lr_scheduler.StepLR) and scheduler.step_size == 5


def test_a_plateau_scheduler_takes_its_metric() -> None:
    words = [
        "--optimizer=SGD",
        "--optimizer.lr=0.1",
        "--lr_scheduler=lightify.runtime.cli.ReduceLROnPlateau",
        "--lr_scheduler.monitor=val_loss",
    ]
    with pytest.warns(UserWarning, match="will be overridden"):
        made = cli.LightningCLI(Classifier, Data, args=words, run=False)
    assert made.model.configure_optimizers()["lr_scheduler"]["monitor"] == "val_loss"


def test_without_a_choice_the_module_keeps_its_own_optimizer() -> None:
    made = cli.LightningCLI(Classifier, Data, args=[], run=False)
    assert isinstance(made.model.configure_optimizers(), torch.optim.SGD)


class Linked(cli.LightningCLI):
    calls: list[str]

    def add_arguments_to_parser(self, parser: Any) -> None:
        self.calls = []
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.add_lightning_class_args(EarlyStopping, "stopping")
        parser.set_defaults({"stopping.monitor": "train_loss", "stopping.patience": 5})

    def before_instantiate_classes(self) -> None:
        self.calls.append("before_instantiate_classes")

    def before_fit(self) -> None:
        self.calls.append("before_fit")

    def after_fit(self) -> None:
        self.calls.append("after_fit")


def test_links_own_callbacks_and_hooks(tmp_path: Path) -> None:
    made = run(tmp_path, "fit", "--data.batch_size=8", "--trainer.logger=false", cli_class=Linked)
    assert made.model.batch_size == 8
    assert made.trainer.early_stopping_callback.patience == 5
    assert made.calls == ["before_instantiate_classes", "before_fit", "after_fit"]


def test_the_seed_is_set_before_the_module_is_made() -> None:
    def made(*words: str) -> torch.Tensor:
        return weights(cli.LightningCLI(Classifier, Data, args=list(words), run=False).model)

    assert torch.equal(made("--seed_everything=3"), made("--seed_everything=3"))
    assert not torch.equal(made("--seed_everything=3"), made("--seed_everything=4"))


def test_a_subclass_is_chosen_by_name() -> None:
    words = ["--model=tests.runtime.leaves.Classifier", "--model.lr=0.75"]
    made = cli.LightningCLI(args=words, run=False, subclass_mode_model=True)
    assert type(made.model).__name__ == "Classifier" and made.model.lr == 0.75


def test_hyperparameters_of_a_checkpoint_are_taken(tmp_path: Path) -> None:
    model = Classifier(lr=0.625)
    trainer = L.Trainer(default_root_dir=tmp_path, max_epochs=1, logger=False, enable_progress_bar=False)
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    made = run(tmp_path, "test", f"--ckpt_path={tmp_path / 'm.ckpt'}", "--trainer.logger=false")
    assert made.model.lr == 0.625 and torch.equal(weights(made.model), weights(model))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--model.nothing=1"], "nothing"),
        (["fit", "--trainer.max_epochs=many"], "max_epochs"),
        (["train"], "train"),
        ([], "subcommand"),
    ],
)
def test_wrong_words_end_with_a_message(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.LightningCLI(Classifier, Data, args=words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_no_class_but_ours_gives_arguments() -> None:
    with pytest.raises(MisconfigurationException, match="Cannot add arguments from"):
        cli.LightningArgumentParser().add_lightning_class_args(dict, "key")


@pytest.mark.slow
def test_as_a_script(tmp_path: Path, python: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "import lightify.runtime as L\n"
        "from lightify.runtime.cli import LightningCLI\n"
        "class M(L.LightningModule):\n"
        "    def __init__(self, width: int = 3):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(2, width)\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        return self.layer(batch).sum()\n"
        "    def train_dataloader(self):\n"
        "        return torch.utils.data.DataLoader(torch.ones(4, 2))\n"
        "    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
        "if __name__ == '__main__':\n"
        "    made = LightningCLI(M, save_config_callback=None)\n"
        "    print('steps', made.trainer.global_step, 'width', made.model.layer.out_features)\n"
    )
    words = ["fit", "--model.width=5", "--trainer.max_steps=3", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    words += ["--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
    result = subprocess.run([python, script, *words], capture_output=True, text=True, cwd=tmp_path)
    assert "steps 3 width 5" in result.stdout, result.stderr
    helped = subprocess.run([python, script, "fit", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert "--model.width" in helped.stdout and "--trainer.max_epochs" in helped.stdout


class Configured(Classifier):
    def __init__(
        self,
        make_optimizer: cli.OptimizerCallable = torch.optim.Adam,
        activation: torch.nn.Module | None = None,
        size: int = 2,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make_optimizer, self.activation, self.size = make_optimizer, activation, size

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self.parameters())


INSTANTIATED = {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
OBJECTS = [
    "--model.make_optimizer=SGD",
    "--model.make_optimizer.lr=0.25",
    "--model.activation=torch.nn.LeakyReLU",
    "--model.activation.negative_slope=0.5",
]


@pytest.mark.parametrize("by_name", [False, True])
def test_arguments_that_are_objects_are_made_again_from_a_checkpoint(tmp_path: Path, by_name: bool) -> None:
    words = ["fit", f"--trainer.default_root_dir={tmp_path}", *QUIET, "--trainer.enable_checkpointing=true"]
    if by_name:
        made = cli.LightningCLI(
            None, Data, args=[*words, f"--model={__name__}.Configured", *OBJECTS], auto_configure_optimizers=False
        )
    else:
        made = cli.LightningCLI(Configured, Data, args=[*words, *OBJECTS], auto_configure_optimizers=False)
    path = made.trainer.checkpoint_callback.best_model_path
    hparams = torch.load(path, weights_only=True)["hyper_parameters"]  # the description, not the objects
    assert hparams["activation"]["init_args"]["negative_slope"] == 0.5 and hparams["size"] == 2
    assert ("_class_path" in hparams) == by_name
    again = (L.LightningModule if by_name else Configured).load_from_checkpoint(path)
    assert isinstance(again, Configured) and isinstance(again.activation, torch.nn.LeakyReLU)
    optimizer = again.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["lr"] == 0.25
    assert again.activation.negative_slope == 0.5


class Kept(Data):
    def __init__(self, samples: int = 16, batch_size: int = 4) -> None:
        super().__init__(samples, batch_size)
        self.save_hyperparameters()


def test_a_datamodule_chosen_by_name_is_made_again_from_a_checkpoint(tmp_path: Path) -> None:
    words = ["fit", f"--trainer.default_root_dir={tmp_path}", *QUIET, "--trainer.enable_checkpointing=true"]
    made = cli.LightningCLI(Classifier, args=[*words, f"--data={__name__}.Kept", "--data.samples=8"])
    again = L.LightningDataModule.load_from_checkpoint(made.trainer.checkpoint_callback.best_model_path)
    assert isinstance(again, Kept) and (again.samples, again.batch_size) == (8, 4)


def test_a_class_that_is_not_imported_is_not_made(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {"_class_path": "os.path.join", **INSTANTIATED}}, tmp_path / "x")
    with pytest.raises(ValueError, match="already imported subclass"):
        L.LightningModule.load_from_checkpoint(tmp_path / "x")


def test_a_strategy_is_described_by_its_arguments() -> None:
    made = cli.LightningCLI(
        Classifier,
        args=[
            "--trainer.strategy=lightify.runtime.strategies.DDPStrategy",
            "--trainer.strategy.find_unused_parameters=true",
            "--trainer.accelerator=cpu",
            "--trainer.devices=1",
        ],
        run=False,
        trainer_defaults={"callbacks": {"class_path": "lightify.runtime.callbacks.Timer", "init_args": {}}},
    )
    assert made.trainer.strategy.ddp_arguments["find_unused_parameters"] is True
    assert [type(callback).__name__ for callback in made.trainer.callbacks].count("Timer") == 1


def test_hyperparameters_of_another_module_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"hyper_parameters": {"nothing_like_it": 1}}, tmp_path / "x.ckpt")
    with pytest.raises(SystemExit):
        run(tmp_path, "predict", f"--ckpt_path={tmp_path / 'x.ckpt'}")
    assert "Parsing of ckpt_path hyperparameters failed" in capsys.readouterr().err
