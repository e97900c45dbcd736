"""Where the public names of Lightning are today, in the runtime and in the package, and how they are imported."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.syntax.query import dotted, is_docstring
from lightify.upgrade.edit import lines, separator
from lightify.upgrade.script import Script

#: Subpackage to the names in it that both libraries have.
PUBLIC: dict[str, tuple[str, ...]] = {
    "": ("Trainer", "LightningModule", "LightningDataModule", "Callback", "seed_everything"),
    "accelerators": ("Accelerator", "CPUAccelerator", "CUDAAccelerator", "MPSAccelerator"),
    "callbacks": (
        "BackboneFinetuning",
        "BaseFinetuning",
        "BasePredictionWriter",
        "BatchSizeFinder",
        "Checkpoint",
        "DeviceStatsMonitor",
        "EarlyStopping",
        "GradientAccumulationScheduler",
        "LambdaCallback",
        "LearningRateFinder",
        "LearningRateMonitor",
        "ModelCheckpoint",
        "ModelPruning",
        "ModelSummary",
        "OnExceptionCheckpoint",
        "ProgressBar",
        "RichModelSummary",
        "RichProgressBar",
        "StochasticWeightAveraging",
        "TQDMProgressBar",
        "Timer",
    ),
    "cli": ("LightningArgumentParser", "LightningCLI", "SaveConfigCallback"),
    "loggers": ("CSVLogger", "CometLogger", "Logger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"),
    "plugins": ("CheckpointIO", "LayerSync", "MixedPrecision", "TorchCheckpointIO", "TorchSyncBatchNorm"),
    "plugins.environments": (
        "ClusterEnvironment",
        "LightningEnvironment",
        "SLURMEnvironment",
        "TorchElasticEnvironment",
    ),
    "profilers": ("AdvancedProfiler", "PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler"),
    "strategies": (
        "DDPStrategy",
        "DeepSpeedStrategy",
        "FSDPStrategy",
        "ParallelStrategy",
        "SingleDeviceStrategy",
        "Strategy",
    ),
    "tuner": ("Tuner",),
    "utilities": ("AttributeDict", "CombinedLoader", "grad_norm", "move_data_to_device"),
    "utilities.exceptions": ("MisconfigurationException",),
    "utilities.parsing": ("save_hyperparameters",),
    "utilities.rank_zero": (
        "rank_zero_debug",
        "rank_zero_deprecation",
        "rank_zero_info",
        "rank_zero_only",
        "rank_zero_warn",
    ),
    "utilities.types": ("EVAL_DATALOADERS", "STEP_OUTPUT", "TRAIN_DATALOADERS"),
}
#: Names that only their module tells from others, and names that are called otherwise today.
MOVED: dict[str, str] = {
    "callbacks.progress.ProgressBar": "callbacks.TQDMProgressBar",
    "callbacks.ProgressBar": "callbacks.TQDMProgressBar",
    "callbacks.progress.base.ProgressBarBase": "callbacks.ProgressBar",
    "callbacks.progress.ProgressBarBase": "callbacks.ProgressBar",
    "callbacks.ProgressBarBase": "callbacks.ProgressBar",
    "callbacks.LearningRateLogger": "callbacks.LearningRateMonitor",
    "callbacks.GPUStatsMonitor": "callbacks.DeviceStatsMonitor",
    "core.memory.ModelSummary": "utilities.model_summary.ModelSummary",
    "loggers.LightningLoggerBase": "loggers.Logger",
    "loggers.base.LightningLoggerBase": "loggers.Logger",
    "profiler.BaseProfiler": "profilers.Profiler",
    "plugins.DDPPlugin": "strategies.DDPStrategy",
    "plugins.training_type.DDPPlugin": "strategies.DDPStrategy",
    "plugins.training_type.ddp.DDPPlugin": "strategies.DDPStrategy",
}
#: Where the two libraries differ: the runtime's module (None: it has no such thing), the package's module.
APART: dict[str, tuple[str | None, str]] = {
    "DummyLogger": ("loggers", "loggers.logger"),
    "LightningOptimizer": ("core", "core.optimizer"),
    "PossibleUserWarning": (None, "utilities.warnings"),
}
#: Subpackages by their names today; metrics are a package of their own.
PACKAGES = {
    **{package: package for package in PUBLIC},
    "logging": "loggers",
    "profiler": "profilers",
    "utilities.cli": "cli",
    "utilities.distributed": "utilities.rank_zero",
}
METRICS = "metrics"
_HOME = {name: package for package, names in PUBLIC.items() for name in names}


def locate(relative: str, bundled: bool) -> tuple[str, str, str] | None:
    """Subpackage, name and rest of a 1.x name; `callbacks`, `ModelCheckpoint`, ``; None for an unknown name."""
    parts = relative.split(".")
    for count in range(len(parts), 0, -1):
        moved = MOVED.get(".".join(parts[:count]))
        if moved is not None:
            home, _, name = moved.rpartition(".")
            return home, name, ".".join(parts[count:])
    for place, name in enumerate(parts):
        apart = APART.get(name)
        package = _HOME.get(name) if apart is None else apart[0 if bundled else 1]
        if package is not None:
            return package, name, ".".join(parts[place + 1 :])
    return None


def library_root(package: str) -> str:
    """The module that subpackages are looked up in."""
    return "lightning.pytorch" if package == "lightning" else package


def with_imports(module: cst.Module, names: Sequence[str]) -> cst.Module:
    """The module with `from <the script's Lightning>.callbacks import X` for each `callbacks.X` that it lacks."""
    script = Script(module)
    for full in dict.fromkeys(names):
        package, _, name = full.rpartition(".")
        if script.package is None or name in script.imports:
            continue
        module = _with_import(module, f"{library_root(script.package)}.{package}", name)
        script = Script(module)
    return module


def _with_import(module: cst.Module, source: str, name: str) -> cst.Module:
    body, place = list(module.body), 0
    for number, statement in enumerate(body):
        if not isinstance(statement, cst.SimpleStatementLine):
            continue
        small = statement.body[0]
        if (
            isinstance(small, cst.ImportFrom)
            and dotted(small.module) == source
            and not isinstance(small.names, cst.ImportStar)
        ):
            last = small.names[-1]
            kept = last.with_changes(comma=separator([alias.comma for alias in small.names[:-1]]))
            added = [*small.names[:-1], kept, cst.ImportAlias(cst.Name(name), comma=last.comma)]
            body[number] = statement.with_changes(body=[small.with_changes(names=added)])
            return module.with_changes(body=body)
        if isinstance(small, (cst.Import, cst.ImportFrom)) or (number == 0 and is_docstring(statement)):
            place = number + 1
    for number, statement in enumerate(body):
        if isinstance(statement, cst.SimpleStatementLine) and isinstance(
            statement.body[0], (cst.Import, cst.ImportFrom)
        ):
            first = statement.body[0]
            text = dotted(first.module) if isinstance(first, cst.ImportFrom) else dotted(first.names[0].name)
            if (text or "").startswith(source.split(".")[0]):
                place = number + 1
    return module.with_changes(body=[*body[:place], *lines(f"from {source} import {name}"), *body[place:]])
