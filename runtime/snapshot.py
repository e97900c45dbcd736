"""The checkpoint dict: what a run is made of, put into Lightning's keys, and taken up again.

Ours beyond Lightning's is under the one key `lightify` of its `loops`: the counters, random states, position in the
data, gradients of an open accumulation window and what was logged so far. With it a run that was killed equals one that
was not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import randomness
from .errors import MisconfigurationException, rank_zero_info, rank_zero_warn
from .hooks import is_overridden
from .module import LightningModule
from .plain_types import pickled_places
from .position import position
from .state import TrainerFn
from .strategies.base import Gradients

if TYPE_CHECKING:
    from .callbacks.base import Callback
    from .trainer import Trainer

Checkpoint = dict[str, Any]
FORMAT = 2  # of the part under `lightify`
#: The version of Lightning whose names and layout of checkpoints these are.
LIGHTNING_VERSION = "2.6.6"


def dump(trainer: Trainer, weights_only: bool | None, callback_base: type) -> Checkpoint:
    """The checkpoint of this moment; weights_only leaves out what only training needs."""
    module, datamodule, state = trainer.lightning_module, trainer.datamodule, trainer.run
    hook = state.hook
    checkpoint: Checkpoint = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": LIGHTNING_VERSION,
        "state_dict": trainer.strategy.model_state_dict(module),
        "loops": {"fit_loop": _progress_for_lightning(trainer)},
    }
    if not weights_only:
        checkpoint["callbacks"] = _callback_states(trainer)
        checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(opt) for opt in trainer.optimizers]
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        precision = trainer.precision_plugin
        scaling = precision.state_dict()
        if scaling:
            checkpoint[precision.state_key] = scaling
    for owner in (module, datamodule):
        if owner is not None and owner.hparams:
            _dump_hparams(owner, checkpoint)
    if datamodule is not None:
        state.hook = "state_dict"
        name = f"[LightningDataModule]{type(datamodule).__name__}.state_dict"
        own = trainer.profiler.measured(name, datamodule.state_dict)()
        if own:
            checkpoint[type(datamodule).__qualname__] = own
    if not weights_only:
        for callback in trainer.callbacks:
            if is_overridden("on_save_checkpoint", callback, callback_base):
                state.hook = "on_save_checkpoint"
                callback.on_save_checkpoint(trainer, module, checkpoint)
    state.hook = "on_save_checkpoint"
    module.on_save_checkpoint(checkpoint)
    state.hook = hook
    if not weights_only:
        checkpoint["loops"]["lightify"] = _dump_run(trainer)
    return checkpoint


def _progress_for_lightning(trainer: Trainer) -> dict[str, Any]:
    """The counters in the form in which Lightning takes up a run; ours are under `lightify`."""
    state = trainer.run
    epochs = {"ready": state.epoch + 1, "started": state.epoch + 1, "completed": state.epoch}
    epochs["processed"] = state.epoch + int(state.epoch_closed)
    batches = dict.fromkeys(("ready", "started", "processed", "completed"), state.batches_done)
    steps = {"ready": trainer.global_step, "completed": trainer.global_step}
    module = trainer.lightning_module
    if module.automatic_optimization:
        key, counted = "epoch_loop.automatic_optimization.optim_progress", {"optimizer": {"step": _twice(steps)}}
        counted["optimizer"]["zero_grad"] = _twice({**steps, "started": trainer.global_step})
    else:
        key, counted = "epoch_loop.manual_optimization.optim_step_progress", _twice(steps)
    return {
        "state_dict": {},
        "epoch_progress": _twice(epochs),
        "epoch_loop.batch_progress": {
            "total": dict.fromkeys(batches, state.total_batches),
            "current": batches,
            "is_last_batch": state.epoch_closed,
        },
        key: counted,
    }


def _twice(counts: dict[str, int]) -> dict[str, Any]:
    return {"total": counts, "current": dict(counts)}


def _callback_states(trainer: Trainer) -> dict[str, Any]:
    states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}
    return {key: value for key, value in states.items() if value}


def _dump_hparams(owner: Any, checkpoint: Checkpoint) -> None:
    if hasattr(owner, "_hparams_name"):
        checkpoint[owner.CHECKPOINT_HYPER_PARAMS_NAME] = owner._hparams_name
    if isinstance(owner.hparams, dict):
        checkpoint[owner.CHECKPOINT_HYPER_PARAMS_KEY] = dict(owner.hparams)
        return
    checkpoint[owner.CHECKPOINT_HYPER_PARAMS_KEY] = owner.hparams
    checkpoint[owner.CHECKPOINT_HYPER_PARAMS_TYPE] = type(owner.hparams)
    omegaconf = sys.modules.get("omegaconf")
    if omegaconf is not None and omegaconf.OmegaConf.is_dict(owner.hparams):
        # As plain data, which any reader takes; `load_from_checkpoint` makes the container again.
        checkpoint[owner.CHECKPOINT_HYPER_PARAMS_KEY] = omegaconf.OmegaConf.to_container(owner.hparams)
        checkpoint[owner.CHECKPOINT_HYPER_PARAMS_TYPE] = "DictConfig"


def _dump_run(trainer: Trainer) -> dict[str, Any]:
    run, state, module = trainer._training, trainer.run, trainer.lightning_module
    saved: dict[str, Any] = {"format": FORMAT, "run": state.state_dict()}
    if run is None or run.loaders is None:
        return {**saved, "random": randomness.capture()}
    own = {**position(run), "results": run.results.state_dict()}
    # A closed window's gradients are cleared before the next ones come, unless the module sees to that itself.
    keeps = not module.automatic_optimization or is_overridden("optimizer_zero_grad", module, LightningModule)
    if keeps or not run.closes:
        gradients = trainer.strategy.gradients()
        own |= {"gradients": gradients.own, "common_gradients": gradients.common}
    saved.update(own)
    if trainer.world_size > 1:
        saved["ranks"] = trainer.strategy.gather_object(own)
        saved["exchange_order"] = trainer.strategy.exchange_order()
    if state.hook == "on_train_batch_end" and run.closes:
        saved["run"]["logged_steps"] += 1  # counted after this hook, which will not be called again
    saved["metrics"] = dict(trainer.callback_metrics)
    saved["closes"] = run.closes
    return saved


class Restorer:
    """A loaded checkpoint, given back to the parts of a run in the order in which they come to exist."""

    def __init__(self, trainer: Trainer, path: Any, weights_only: bool | None) -> None:
        self.trainer, self.path, self.weights_only = trainer, path, weights_only
        self.checkpoint: Checkpoint = {}

    def load(self) -> None:
        """Reads the file, if there is one."""
        if not self.path:
            return
        rank_zero_info(f"Restoring states from the checkpoint path at {self.path}")
        self.checkpoint = self.trainer.strategy.load_checkpoint(self.path, weights_only=self.weights_only)
        if "state_dict" not in self.checkpoint:
            raise KeyError(
                f"{self.path} is no checkpoint of a Trainer: it has no 'state_dict'."
                " Load plain weights with `model.load_state_dict(torch.load(path))` before the run."
            )

        pickled = list(pickled_places(self.checkpoint))
        if pickled and self.weights_only is not False:
            fn = self.trainer.state.fn
            raise MisconfigurationException(
                f"The checkpoint {self.path} holds objects that are restored only by running code from the file:"
                f" {', '.join(pickled)}. If you trust it, pass `trainer.{fn.value if fn else 'fit'}(...,"
                " weights_only=False)`."
            )

    def module_and_callbacks(self, callback_base: type) -> None:
        """Weights, datamodule and callbacks; before the strategy wraps the module, or after."""
        self.load()
        if not self.checkpoint:
            return
        trainer, state = self.trainer, self.trainer.run
        state.hook = "on_load_checkpoint"
        trainer.lightning_module.on_load_checkpoint(self.checkpoint)
        state.hook = None
        trainer.strategy.load_model_state_dict(self.checkpoint, strict=trainer.lightning_module.strict_loading)
        datamodule = trainer.datamodule
        if datamodule is not None and type(datamodule).__qualname__ in self.checkpoint:
            name = f"[LightningDataModule]{type(datamodule).__name__}.load_state_dict"
            load = trainer.profiler.measured(name, datamodule.load_state_dict)
            load(self.checkpoint[type(datamodule).__qualname__])
        self._callbacks(callback_base)

    def _callbacks(self, callback_base: type) -> None:
        trainer, saved = self.trainer, self.checkpoint.get("callbacks")
        if saved is None:
            return  # weights alone: callbacks had no part in it
        for callback in trainer.callbacks:
            if is_overridden("on_load_checkpoint", callback, callback_base):
                callback.on_load_checkpoint(trainer, trainer.lightning_module, self.checkpoint)
        lost = {_name(key) for key in saved} - {_name(callback.state_key) for callback in trainer.callbacks}
        if trainer.state.fn is TrainerFn.FITTING and lost:
            rank_zero_warn(
                "Be aware that when using `ckpt_path`,"
                " callbacks used to create the checkpoint need to be provided during `Trainer` instantiation."
                f" Please add the following callbacks: {sorted(lost)}."
            )
        for callback in trainer.callbacks:
            own = self._state_of(callback, saved)
            if own is not None:
                callback.load_state_dict(own)

    @staticmethod
    def _state_of(callback: Callback, saved: Mapping[Any, Any]) -> Any:
        found = saved.get(callback.state_key)
        return found if found is not None else saved.get(callback._legacy_state_key)

    def training(self) -> None:
        """Optimizers, schedulers, precision, loops; when all of them exist."""
        if not self.checkpoint:
            return
        trainer, checkpoint = self.trainer, self.checkpoint
        precision = trainer.precision_plugin
        if precision.state_key in checkpoint:
            precision.load_state_dict(checkpoint[precision.state_key])
        if trainer.state.fn is not TrainerFn.FITTING:
            return
        if "optimizer_states" not in checkpoint or "lr_schedulers" not in checkpoint:
            raise KeyError(
                "Trying to restore optimizer state but checkpoint contains only the model."
                " This is probably due to `ModelCheckpoint.save_weights_only` being set to `True`."
            )
        if trainer.strategy.lightning_restore_optimizer:
            trainer.strategy.load_optimizer_state_dict(checkpoint)
        for config, saved in zip(trainer.lr_scheduler_configs, checkpoint["lr_schedulers"]):
            config.scheduler.load_state_dict(saved)
        self._loops()

    def _loops(self) -> None:
        trainer, own = self.trainer, self.checkpoint.get("loops", {}).get("lightify")
        run = trainer._training
        assert run is not None
        if own is None or "data" not in own:
            self._foreign_loops()
        else:
            self._check_format(own)
            ranks = own.get("ranks", [])
            gradients, common = own.get("gradients", {}), own.get("common_gradients", {})
            if len(ranks) == trainer.world_size:
                own = {**own, **ranks[trainer.global_rank]}
                gradients = own.get("gradients", {})
            elif ranks:
                gradients = _mean([rank.get("gradients", {}) for rank in ranks])
            run.take_up(own)
            if len(ranks) == trainer.world_size:
                trainer.strategy.load_exchange_order(own.get("exchange_order", []))
            trainer.strategy.load_gradients(Gradients(gradients, common))
        state = trainer.run
        max_epochs = trainer.max_epochs
        if max_epochs is not None and max_epochs != -1 and state.epoch > max_epochs:
            raise MisconfigurationException(
                f"You restored a checkpoint with current_epoch={state.epoch}, but you have set"
                f" Trainer(max_epochs={max_epochs})."
            )

    def _check_format(self, own: Mapping[str, Any]) -> None:
        if own["format"] != FORMAT:
            raise MisconfigurationException(
                f"{self.path} was written by another version of lightify, whose runs this one cannot take up (format"
                f" {own['format']}, not {FORMAT}). Load the weights alone: `load_from_checkpoint({str(self.path)!r})`."
            )

    def _foreign_loops(self) -> None:
        # Lightning's: at an epoch's end its counters say "processed", not yet "completed".
        state, checkpoint = self.trainer.run, self.checkpoint
        state.global_step = state.logged_steps = checkpoint.get("global_step", 0)
        state.epoch = checkpoint.get("epoch", 0)
        fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
        progress = fit_loop.get("epoch_progress")
        if progress is not None:
            state.epoch = progress["current"]["processed"]
        batches = fit_loop.get("epoch_loop.batch_progress", {}).get("total")
        state.total_batches = batches["completed"] if batches else state.global_step

    def finish(self) -> None:
        """Lets go of the checkpoint."""
        if self.checkpoint:
            what = "Restored all states" if self.trainer.state.fn is TrainerFn.FITTING else "Loaded model weights"
            rank_zero_info(f"{what} from the checkpoint at {self.path}")
        self.checkpoint = {}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        self.trainer.strategy.barrier("checkpoint restored")


def _mean(gradients: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of as many processes as there were; each of those that there are now starts from it."""
    names = dict.fromkeys(name for each in gradients for name in each)
    return {name: sum(each[name] for each in gradients if name in each) / len(gradients) for name in names}  # type: ignore[misc]


def _name(key: Any) -> str:
    return key if isinstance(key, str) else key.__qualname__
