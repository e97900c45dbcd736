"""What one `fit` needs, chosen before its first batch: the parts of a step, the limits, and the edges of an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from . import fetching, loops, outputs
from .data import Loaders, device_mover, prepare_loaders
from .errors import MisconfigurationException, WarningCache, rank_zero_info
from .evaluation import EvaluationRun, evaluate, in_context
from .held_state import put_back_after
from .hooks import Bound, Hooks, accepts, is_overridden
from .loaders import set_epoch
from .logged import store_pending, write_metrics
from .module import LightningModule
from .module_checks import warn_of_eval_mode
from .optim import needs_closure
from .optimization import Optimization
from .order import inexact_reason
from .position import ask, restore_orders, validation_order
from .randomness import RandomState, capture, restore
from .results import Results
from .schedulers import Schedulers
from .state import RunningStage, RunState
from .validation_checks import INFINITE, ValidationChecks, resolve_interval, validates_in_epoch

if TYPE_CHECKING:
    from .trainer import Trainer


class TrainingRun:
    """The bound parts of a fit. `loops.py` reads them; only the methods here change them.

    Attributes:
        take_step: the function of `loops.py` that handles a batch.
        window: batches per optimizer step; `opens` and `closes` say where the current batch is in it.
        zero_grad, backward, step: parts of an automatic step; None where the plain call is enough.
        has_due_checks: whether something can become due between two batches of this epoch.
        made_in: the random states in which loaders were asked for, by stage; `made_before`: of the run taken up.
        wants_out: SIGTERM was received.
    """

    __slots__ = (
        "backward",
        "checks",
        "closes",
        "epoch_loop",
        "has_due_checks",
        "hooks",
        "last_reload",
        "loaders",
        "log_every",
        "logs_steps",
        "made_before",
        "made_in",
        "max_steps",
        "module",
        "num_batches",
        "opens",
        "optimization",
        "optimizer",
        "pass_start",
        "results",
        "resume",
        "said",
        "schedulers",
        "state",
        "step",
        "strategy",
        "take_step",
        "to_device",
        "trainer",
        "training_step",
        "validation",
        "validation_start",
        "wants_out",
        "window",
        "window_step",
        "wrapped_optimizer",
        "zero_grad",
    )  # fmt: skip

    def __init__(self, trainer: Trainer, hooks: Hooks) -> None:
        self.trainer, self.hooks = trainer, hooks
        self.module: LightningModule = trainer.lightning_module
        self.state: RunState = trainer.run
        self.strategy = trainer.strategy
        self.results = Results(self.state, training=True, device=self.strategy.root_device)
        self.loaders: Loaders | None = None
        self.num_batches: int | float = INFINITE
        self.last_reload = -(10**9)
        self.checks = ValidationChecks(trainer)
        self.optimization = Optimization(trainer, hooks)
        self.validation = EvaluationRun(trainer, hooks, RunningStage.VALIDATING, verbose=False)
        self.resume: dict[str, Any] | None = None
        self.pass_start: dict[str, Any] = {}
        self.made_in: dict[str, RandomState] = {}
        self.made_before: dict[str, RandomState] = {}
        self.validation_start: dict[str, Any] | None = None
        self.wants_out = False
        self.said = WarningCache()

    # ---------------------------------------------------------------- binding

    def bind(self) -> None:
        """Chooses the parts of a step. Called when optimizers exist and hooks are bound."""
        trainer, module = self.trainer, self.module
        self.max_steps = INFINITE if trainer.max_steps == -1 else trainer.max_steps
        self.logs_steps = bool(trainer.loggers) and trainer.log_every_n_steps > 0
        self.log_every = 1 if trainer.fast_dev_run else max(trainer.log_every_n_steps, 1)
        self.to_device = device_mover(trainer)
        self.training_step = self._bind_step()
        self.opens = self.closes = True
        epoch_loop = fetching.train_epoch if fetching.is_wanted(module.training_step) else loops.train_epoch
        self.epoch_loop = trainer.profiler.measured("run_training_epoch", epoch_loop)
        self.schedulers = Schedulers(trainer)
        self.backward = self.optimization.bind_backward()
        if not module.automatic_optimization:
            self.window = 1
            self.take_step = trainer.profiler.measured("run_training_batch", loops.manual_step)
            return
        self.optimizer = trainer.optimizers[0]
        self.wrapped_optimizer = trainer._lightning_optimizers[0]
        self.zero_grad = self.optimization.bind_zero_grad(self.optimizer)
        self.step = self.optimization.bind_step(self.optimizer)
        uses_closure = is_overridden("optimizer_step", module, LightningModule) or needs_closure(self.optimizer)
        self.window_step = loops.closure_step if uses_closure else loops.automatic_step
        self._set_window()

    def _set_window(self) -> None:
        """How many batches share a step; a callback may change that for each epoch."""
        self.window = self.trainer.accumulate_grad_batches
        step = self.window_step if self.window == 1 else loops.accumulating_step
        self.take_step = self.trainer.profiler.measured("run_training_batch", step)

    def _bind_step(self) -> Callable[..., Any]:
        strategy, precision = self.strategy, self.trainer.precision_plugin
        label = f"[Strategy]{type(strategy).__name__}.training_step"
        step = self.trainer.profiler.measured(label, strategy.wrap_step(self.module, "training_step"))
        if precision.needs_forward_context:
            step = in_context(precision.forward_context, step)
        if not accepts(self.module.training_step, "batch_idx", at_least=2):
            return lambda batch, batch_idx: step(batch)
        return step

    # ---------------------------------------------------------------- edges of the fit

    def setup_data(self) -> None:
        """Asks for the training loaders, the first time or when they are to be reloaded."""
        trainer, every = self.trainer, self.trainer.reload_dataloaders_every_n_epochs
        if self.loaders is not None and not (every and self.state.epoch - self.last_reload >= every):
            return
        if trainer.limit_train_batches == 0 or not is_overridden("training_step", self.module, LightningModule):
            return
        source = ask(self, RunningStage.TRAINING, is_due=self.loaders is not None)
        self.strategy.barrier("train_dataloader()")
        mode = trainer._older.get("_multiple_trainloader_mode", "max_size_cycle")
        loaders = prepare_loaders(trainer, RunningStage.TRAINING, source, trainer.limit_train_batches, mode)
        self.loaders = loaders
        self.num_batches = loaders.num_batches
        if loaders.is_sequential:
            raise ValueError(
                'As in Lightning, the `FitLoop` does not support the `CombinedLoader(mode="sequential")` mode.'
                " The available modes are: ['min_size', 'max_size_cycle', 'max_size']"
            )
        if trainer.checkpoint_callbacks:
            others = (*(callback.inexact for callback in trainer.callbacks), self.strategy.inexact)
            for reason in filter(None, (*map(inexact_reason, loaders.given), *others)):
                self.said.info(f"A run that is taken up within an epoch will not be exactly this one: {reason}.")
        if self.num_batches:
            self.last_reload = self.state.epoch
            resolve_interval(trainer, self.num_batches)

    def nothing_to_do(self) -> bool:
        """Whether fit ends before its first epoch; prepares the data otherwise."""
        self.setup_data()
        torch.set_grad_enabled(True)
        if self.is_done() or self.trainer.limit_train_batches == 0:
            return True
        asks_later = self.resume and self.validation.is_due and self.trainer._data.passed.get("val") is None
        if validates_in_epoch(self.trainer, self.state.epoch) and not asks_later:
            self.trainer.state.stage = RunningStage.VALIDATING
            self.validation.setup_data()
            self.trainer.state.stage = RunningStage.TRAINING
        warn_of_eval_mode(self.module)
        return False

    def is_done(self) -> bool:
        """Whether the epoch loop ends here; says why."""
        trainer, state = self.trainer, self.state
        if self.num_batches == 0 and trainer.max_epochs == -1 != trainer.max_steps:  # the steps would never come
            rank_zero_info("`Trainer.fit` stopped: No training batches.")
            return True
        if trainer.max_steps != -1 and state.global_step >= trainer.max_steps:
            rank_zero_info(f"`Trainer.fit` stopped: `max_steps={trainer.max_steps!r}` reached.")
            return True
        max_epochs = trainer.max_epochs
        if max_epochs is not None and max_epochs != -1 and state.epoch >= max_epochs:
            rank_zero_info(f"`Trainer.fit` stopped: `max_epochs={max_epochs!r}` reached.")
            return True
        return self.stops()

    def stops(self) -> bool:
        """Whether someone asked to stop, and the run has what it must have before."""
        return self.state.should_stop and self._may_stop()

    def _may_stop(self) -> bool:
        trainer, state = self.trainer, self.state
        epochs = state.epoch + (state.epoch_closed or state.batches_done == self.num_batches)
        return (not trainer.min_epochs or epochs >= trainer.min_epochs) and (
            not trainer.min_steps or state.global_step >= trainer.min_steps
        )

    # ---------------------------------------------------------------- edges of an epoch

    def start_epoch(self) -> None:
        """Loaders, samplers and hooks at the start of an epoch; one taken up in its middle has had its hooks."""
        trainer, state = self.trainer, self.state
        if self.resume is not None:
            self.last_reload = self.resume["data"]["last_reload"]
            if not (state.batches_done or state.epoch_closed):
                restore_orders(self, self.resume["data"])
                restore(self.resume["random"])
                self.resume = None
        self.setup_data()
        assert self.loaders is not None
        for loader in self.loaders.given:
            set_epoch(loader, state.epoch)
        self.results.in_batches = False
        if self.resume is None:
            state.start_epoch()
            self.hooks.call("on_train_epoch_start")
        elif self.hooks["on_train_epoch_start"]:
            with put_back_after(self, "on_train_epoch_start"):
                self.hooks.call("on_train_epoch_start")
        if self.module.automatic_optimization:
            self._set_window()
            if self.resume is None or self.window == 1:
                self.opens = self.closes = True
        self.max_steps = INFINITE if trainer.max_steps == -1 else trainer.max_steps
        self.schedulers.bind()
        self.checks.bind(self.num_batches)
        self.has_due_checks = self.schedulers.plateau_per_step or self.checks.within_epoch

    def skips_rest_of_epoch(self, hooks: Bound, batch: Any, batch_idx: int) -> bool:
        """Calls the start hooks; True when the module's returned -1."""
        self.state.hook = "on_train_batch_start"
        answer = None
        for hook in hooks:
            answer = hook(batch, batch_idx)
        self.state.hook = None
        asks_to_skip = isinstance(answer, int) and answer == -1
        if not asks_to_skip or not is_overridden("on_train_batch_start", self.module, LightningModule):
            return False  # a callback's answer means nothing
        self.schedulers.update("epoch")
        self.state.epoch_closed = self.state.was_last = True
        return True

    def note_missing_batch(self) -> object:
        """Takes the place of a step when the loader gave None."""
        self.said.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        return outputs.NO_BATCH

    def check_batch(self, batch_idx: int) -> None:
        """Validation and schedulers that wait for a metric, if they are due after this batch."""
        state = self.state
        if not state.validated and self.checks.is_due(batch_idx, self.stops()):
            self.validate()
        if self.schedulers.plateau_per_step and self.closes:
            self.schedulers.update_plateau("step")
        state.checked, state.validated = batch_idx + 1, False

    def stops_within_epoch(self) -> bool:
        """Whether to leave the epoch now, after this batch."""
        trainer, state = self.trainer, self.state
        if self.wants_out:
            self.act_on_signals()
        if state.global_step >= self.max_steps:
            return True
        if state.should_stop:
            for logger in trainer.loggers:
                logger.save()
            if self._may_stop():
                return True
            self.said.info(
                f"Trainer was signaled to stop but the required `min_epochs={trainer.min_epochs!r}` or"
                f" `min_steps={trainer.min_steps!r}` has not been met. Training will continue..."
            )
        return False

    def finish_pass(self) -> None:
        """What is due after the last batch: an open window's step, schedulers per epoch, validation."""
        state = self.state
        if not state.epoch_closed:
            if not self.closes:
                self._close_window()
            self.schedulers.update("epoch")
            state.epoch_closed = True
        if state.checked < state.batches_done or self.num_batches in (0, INFINITE):
            self.check_batch(state.batch_idx)

    def _close_window(self) -> None:
        # Only a source without a length ends inside a window: nobody could know that the last batch was the last.
        if self.step is None:
            self.optimizer.step()
        else:
            self.step()
        self.closes = True
        self.state.global_step += 1
        self.state.logged_steps += 1
        if self.schedulers.per_step:
            self.schedulers.update("step")

    def end_epoch(self) -> None:
        """Hooks at the end of an epoch, and its completion."""
        self.trainer._board.fold(self.results)  # the last batch's values stay visible
        self.results.in_batches = False
        self.results.dataloader_idx = None
        self.state.ended = True
        if self.trainer.world_size > 1:
            self.trainer._board.fold(self.results)  # by all processes: the bar of the first may show it
        self.hooks.call("on_train_epoch_end")
        self.complete_epoch()
        if self.wants_out:
            self.act_on_signals()

    def act_on_signals(self) -> None:
        """Saves or ends the run as signals ask for it, now that it is whole."""
        self.wants_out = False
        if self.trainer._signals is not None:
            self.trainer._signals.act()

    def complete_epoch(self) -> None:
        """Metrics of the epoch, schedulers that wait for one, the counters."""
        trainer, state, results = self.trainer, self.state, self.results
        snapshot = trainer._board.fold(results)
        if state.epoch_closed:
            self.schedulers.update_plateau("epoch")
        # The epoch's metrics belong to its last step.
        state.logged_steps -= 1
        write_metrics(trainer, snapshot.log)
        state.logged_steps += 1
        results.reset()
        batch_idx, was_last = state.batch_idx, state.epoch_closed
        state.epoch += 1
        state.start_epoch()
        state.batch_idx, state.was_last = batch_idx, was_last

    def take_up(self, saved: dict[str, Any]) -> None:
        """Continues from a checkpoint: counters now, sums when they are logged again, the rest at the first epoch."""
        state = self.state
        state.load_state_dict(saved["run"])
        self.results.load_state_dict(saved["results"], self.module)
        self.trainer._board.callback.update(saved["metrics"])
        self.closes = saved["closes"]
        self.resume = saved
        self.made_before = dict(saved["data"].get("made_in", {}))
        self.validation.last_reload = saved["data"].get("validation_reload", self.validation.last_reload)
        if state.ended:
            self.complete_epoch()

    # ---------------------------------------------------------------- within an epoch

    def refuse_uncalled_closure(self) -> None:
        raise MisconfigurationException(
            "The closure hasn't been executed. HINT: did you call `optimizer_closure()` in your `optimizer_step` hook?"
            " It could also happen because the `optimizer.step(optimizer_closure)` call did not execute it internally."
        )

    def store_compiled_logs(self) -> None:
        """Takes in what a compiled step logged."""
        self.state.hook = "training_step"
        store_pending(self.module, self.results)

    def write_step_metrics(self) -> None:
        """Sends the current values to the loggers."""
        write_metrics(self.trainer, self.trainer._board.fold(self.results).log)

    def validate(self) -> None:
        """Validation inside the epoch."""
        trainer, state = self.trainer, self.state
        hook, state.hook = state.hook, "on_validation_model_zero_grad"
        trainer._board.fold(self.results)
        self.strategy.share_buffers()
        trainer.state.stage = RunningStage.VALIDATING
        if is_overridden("on_validation_model_zero_grad", self.module, LightningModule):
            self.module.on_validation_model_zero_grad()
        state.hook = None
        trainer._results = self.validation.results
        self.validation.setup_data()
        self.validation_start = {"random": capture(), "order": validation_order(self)}
        evaluate(self.validation)
        self.validation_start = None
        trainer.state.stage = RunningStage.TRAINING
        trainer._results = self.results
        state.hook = hook
        self.checks.last = time.monotonic()
