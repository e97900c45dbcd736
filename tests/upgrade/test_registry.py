"""Folder, registry, tables and catalogue name the same forms; the runtime accepts what the forms rewrite."""

from __future__ import annotations

import re
from pathlib import Path

import lightify.runtime as L
import pytest
from lightify.runtime import legacy

from lightify.upgrade import REGISTRY, attributes, hooks, step_ends, trainer_arguments, trainer_calls
from tests.upgrade.scripts import check_same, run

HERE = Path(__file__).parent
SUPPORT = {"__init__", "base", "edit", "manual", "names", "script"}
#: Arguments of 1.x that today's Trainer has under another meaning.
SHARED = {"accelerator"}


def test_each_form_has_a_file_a_table_and_an_entry() -> None:
    assert {path.stem for path in Path("lightify/upgrade").glob("*.py")} - SUPPORT == REGISTRY.keys()
    assert {path.stem for path in HERE.glob("test_*.py")} >= {f"test_{form}" for form in REGISTRY}
    catalogue = Path("docs/upgrade.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(\w+)`$", catalogue, re.MULTILINE) == list(REGISTRY)


def test_the_catalogue_has_each_argument() -> None:
    catalogue = Path("docs/upgrade.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([^|]+) \|", catalogue, re.MULTILINE)
    named = {name for row in listed for name in re.findall(r"`(\w+)`", row)}
    assert named >= trainer_arguments.RULES.keys() - SHARED


def test_the_runtime_knows_the_same_hooks_steps_and_arguments() -> None:
    assert legacy.EDGES == hooks.HOOKS
    assert legacy.STEPS == step_ends.STEPS
    accepted = legacy.RENAMED.keys() | legacy.DROPPED.keys() | legacy.SPECIAL.keys() | {"tpu_cores"}
    assert accepted == trainer_arguments.RULES.keys() - SHARED
    for name, new in trainer_arguments.RENAMED.items():
        assert legacy.RENAMED[name] == new


@pytest.mark.parametrize("method", trainer_calls.LOADERS)
def test_the_runtime_knows_the_same_names_of_loaders(method: str) -> None:
    current = {"train_dataloaders": None, "val_dataloaders": None} if method == "fit" else {"dataloaders": None}
    for old, new in trainer_calls.LOADERS[method].items():
        with pytest.warns(match=f"write `{new}=`"):
            legacy._said.clear()
            assert "x" in legacy.modern_loaders({old: "x"}, **current)


def test_the_runtime_knows_the_same_attributes() -> None:
    methods = {"tune", "get_model"}  # rewritten with their calls, in `trainer_calls`
    assert legacy.ATTRIBUTES.keys() == attributes.ATTRIBUTES.keys() | methods


@pytest.mark.parametrize("name", attributes.ATTRIBUTES)
def test_the_runtimes_attributes_say_the_same(name: str) -> None:
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    legacy._said.clear()
    with pytest.warns(match=name):
        old = getattr(trainer, name)
    assert old == eval(attributes.ATTRIBUTES[name].format("trainer"), {"trainer": trainer})


KEPT = ("max_epochs", "log_every_n_steps", "overfit_batches", "limit_train_batches", "limit_val_batches", "num_nodes",
        "limit_test_batches", "gradient_clip_val", "min_epochs", "num_sanity_val_steps", "precision",
        "default_root_dir", "num_devices", "reload_dataloaders_every_n_epochs", "_detect_anomaly")  # fmt: skip
ARGUMENTS = {
    **dict.fromkeys(trainer_arguments.RENAMED, "3"),
    "weights_save_path": "'out'",
    "overfit_pct": "0.5",
    "replace_sampler_ddp": "False",
    **dict.fromkeys(trainer_arguments.DROPPED, "True"),
    "gpus": "None",
    "num_processes": "1",
    "distributed_backend": "None",
    "checkpoint_callback": "True",
    "weights_summary": "'full'",
    "progress_bar_refresh_rate": "7",
    "process_position": "2",
    "terminate_on_nan": "True",
    "reload_dataloaders_every_epoch": "True",
    "use_amp": "True",
    "early_stop_callback": "L.EarlyStopping('loss')",
    "amp_backend": "'native'",
    "log_gpu_memory": "True",
    "track_grad_norm": "-1",
    "prepare_data_per_node": "True",
    "multiple_trainloader_mode": "'max_size_cycle'",
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_trainer_of_1x_is_the_upgraded_one(name: str) -> None:
    """The runtime's adapter and the rewritten call make the same Trainer."""
    old = f"L.Trainer({name}={ARGUMENTS[name]}, accelerator='cpu')".replace(
        ", accelerator='cpu'", "" if name in ("gpus", "num_processes") else ", accelerator='cpu'"
    )
    new = run(f"import lightify.runtime as L\n\ntrainer = {old}\n").text
    assert new is not None and f"Trainer({name}=" not in new
    legacy._said.clear()
    with pytest.warns(match=name):
        first = eval(old, {"L": L})
    scope: dict[str, object] = {}
    exec(new, scope)
    assert _shown(first) == _shown(scope["trainer"])


def _shown(trainer: object) -> dict[str, object]:
    shown: dict[str, object] = {name: getattr(trainer, name) for name in KEPT}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        fields = ("refresh_rate", "process_position", "_refresh_rate", "_process_position", "_max_depth", "monitor")
        shown[type(callback).__name__] = {name: getattr(callback, name, None) for name in fields}
    return {**shown, "accelerator": type(trainer.accelerator).__name__}  # type: ignore[attr-defined]


def test_what_convert_writes_has_no_old_form() -> None:
    for path in sorted(Path("fixtures").glob("*/expected.py"))[::2]:
        check_same(path.read_text(encoding="utf-8"))
