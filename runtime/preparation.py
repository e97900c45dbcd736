"""The parts of a call brought into being: callbacks, data, hooks, model, optimizers, runs; and taken down again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .callbacks.base import Callback
from .callbacks.checkpoint import Checkpoint
from .callbacks.early_stopping import EarlyStopping
from .datamodule import LightningDataModule
from .errors import rank_zero_info
from .evaluation import EvaluationRun
from .hooks import Hooks, is_overridden, is_redefined
from .loggers import WandbLogger
from .module import LightningModule
from .optim import LightningOptimizer, check_schedulers, normal_form
from .parts import in_order
from .prediction import PredictionRun
from .run import TrainingRun
from .state import RunningStage, TrainerFn

if TYPE_CHECKING:
    from .trainer import Trainer


def bind_hooks(trainer: Trainer) -> None:
    """Finds out who overrides which hook; each call of one is measured if there is a profiler."""
    module, late, measured = trainer.lightning_module, (EarlyStopping, Checkpoint), trainer.profiler.measured
    trainer._hooks = Hooks(trainer, module, trainer.callbacks, trainer.run, Callback, LightningModule, late, measured)


def make_runs(trainer: Trainer) -> None:
    """The bound parts of the loop that this call runs."""
    call, fn, hooks = trainer._call, trainer.state.fn, trainer._hooks
    assert call is not None
    trainer._results = None
    if fn is TrainerFn.FITTING:
        trainer._training = TrainingRun(trainer, hooks)
        trainer._results = trainer._training.results
    elif fn is TrainerFn.PREDICTING:
        trainer.predict_loop = PredictionRun(trainer, hooks, call.return_predictions)
    else:
        stage = RunningStage.VALIDATING if fn is TrainerFn.VALIDATING else RunningStage.TESTING
        run = EvaluationRun(trainer, hooks, stage, verbose=call.verbose)
        trainer._evaluations[stage] = run
        trainer._results = run.results


def attach_module_callbacks(trainer: Trainer) -> None:
    """Adds what `configure_callbacks` returns; it replaces the trainer's callbacks of the same type."""
    module = trainer.lightning_module
    trainer.run.hook = "configure_callbacks"
    given = module.configure_callbacks()
    trainer.run.hook = None
    own = [given] if isinstance(given, Callback) else list(given or [])
    if not own:
        return
    replaced = {
        type(callback)
        for callback in trainer.callbacks
        if type(callback) is not Callback and any(issubclass(type(new), type(callback)) for new in own)
    }
    if replaced:
        rank_zero_info(
            "The following callbacks returned in `LightningModule.configure_callbacks` will override"
            f" existing callbacks passed to Trainer: {', '.join(sorted(kind.__name__ for kind in replaced))}"
        )
    trainer.callbacks = in_order([c for c in trainer.callbacks if type(c) not in replaced] + own)


def prepare_data(trainer: Trainer) -> None:
    """Calls `prepare_data` on one process per node, or on one process."""
    local_zero = trainer.local_rank == 0
    global_zero = local_zero and trainer.node_rank == 0
    for owner, base in ((trainer.datamodule, LightningDataModule), (trainer.lightning_module, LightningModule)):
        if owner is None or not is_overridden("prepare_data", owner, base):
            continue
        if local_zero if owner.prepare_data_per_node else global_zero:
            trainer.run.hook = "prepare_data"
            with trainer.profiler.profile(f"[{base.__name__}]{type(owner).__name__}.prepare_data"):
                owner.prepare_data()
            trainer.run.hook = None
        trainer.strategy.barrier("prepare_data")


def _measured(trainer: Trainer, method: Any) -> Callable[..., Any]:
    return trainer.profiler.measured(
        f"[LightningDataModule]{type(trainer.datamodule).__name__}.{method.__name__}", method
    )


def call_setup_hooks(trainer: Trainer) -> None:
    fn, module = trainer.state.fn, trainer.lightning_module
    assert fn is not None
    for part in module.modules():
        if isinstance(part, LightningModule):
            part._device = trainer.strategy.root_device
    # Some make their folder or run name when first asked; wandb comes first, as it patches what TensorBoard writes.
    for logger in sorted(trainer.loggers, key=lambda logger: not isinstance(logger, WandbLogger)):
        getattr(logger, "experiment", None)
    trainer.strategy.barrier("pre_setup")
    state = trainer.run
    state.hook = "setup"
    if trainer.datamodule is not None:
        _measured(trainer, trainer.datamodule.setup)(stage=fn)
    for callback in trainer.callbacks:
        callback.setup(trainer, module, stage=fn)
    module.setup(stage=fn)
    state.hook = None
    trainer.strategy.barrier("post_setup")


def configure_model(trainer: Trainer) -> None:
    module = trainer.lightning_module
    for name in ("configure_sharded_model", "configure_model"):
        if is_redefined(name, module, LightningModule):
            trainer.run.hook = name
            with trainer.strategy.tensor_init_context(), trainer.strategy.model_sharded_context():
                getattr(module, name)()
            trainer.run.hook = None


def configure_optimizers(trainer: Trainer) -> None:
    module = trainer.lightning_module
    trainer.run.hook = "configure_optimizers"
    configured = trainer.profiler.measured(
        f"[LightningModule]{type(module).__name__}.configure_optimizers", module.configure_optimizers
    )()
    trainer.run.hook = None
    optimizers, configs = normal_form(configured, module)
    parts = [part for part in configured if isinstance(part, dict)] if isinstance(configured, (list, tuple)) else []
    trainer._optimizer_frequencies = [part["frequency"] for part in parts if "frequency" in part]
    own_steps = not module.automatic_optimization or is_overridden("lr_scheduler_step", module, LightningModule)
    check_schedulers(configs, own_steps)
    trainer.optimizers = trainer.strategy.setup_optimizers(optimizers)
    trainer.lr_scheduler_configs = configs
    trainer._lightning_optimizers = [LightningOptimizer(optimizer, trainer) for optimizer in trainer.optimizers]


def log_hyperparameters(trainer: Trainer) -> None:
    """Sends the hyperparameters of module and datamodule to the loggers, once."""
    module, datamodule = trainer.lightning_module, trainer.datamodule
    wanted = [
        owner.hparams_initial
        for owner in (datamodule, module)
        if owner is not None and owner._log_hyperparams and owner.hparams_initial
    ]
    if len(wanted) == 2:
        # `_class_path` is what a command line notes of each.
        shared = (wanted[0].keys() & wanted[1].keys()) - {"_class_path"}
        different = [key for key in shared if _differ(wanted[0][key], wanted[1][key])]
        if different:
            raise RuntimeError(
                f"Error while merging hparams: the keys {different} are present in both the LightningModule's and"
                " LightningDataModule's hparams but have different values."
            )
    merged: dict[str, Any] = {}
    for hparams in wanted:
        merged.update(hparams)
    merged.pop("_class_path", None)
    for logger in trainer.loggers:
        if merged:
            logger.log_hyperparams(merged)
        logger.log_graph(module)
        logger.save()


def _differ(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return not torch.equal(first, second)
    return type(first) is not type(second) or bool(first != second)


def call_teardown_hooks(trainer: Trainer) -> None:
    fn, module, state = trainer.state.fn, trainer.lightning_module, trainer.run
    assert fn is not None
    state.hook = "teardown"
    if trainer.datamodule is not None:
        _measured(trainer, trainer.datamodule.teardown)(stage=fn)
    for callback in trainer.callbacks:
        callback.teardown(trainer, module, stage=fn)
    module.teardown(stage=fn)
    state.hook = None
    for logger in trainer.loggers:
        logger.finalize("success")
    trainer.profiler.describe()
