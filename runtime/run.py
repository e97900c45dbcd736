"""What one `fit` needs, chosen before its first batch: the parts of a step, the limits, and the edges of an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import fetching, loops
from .data import Loaders, device_mover, prepare_loaders, request
from .errors import MisconfigurationException, PossibleUserWarning, WarningCache, rank_zero_info, rank_zero_warn
from .evaluation import EvaluationRun, evaluate, in_context
from .hooks import Bound, Hooks, is_overridden
from .loaders import (
    advance,
    inexact_reason,
    load_loader_state,
    loader_state,
    order_state,
    pass_state,
    restore_order,
    restore_pass,
    running_pass_state,
    set_epoch,
)
from .module import LightningModule, accepts
from .optim import LRSchedulerConfig, needs_closure
from .precision import Precision
from .randomness import capture, restore
from .results import Results
from .state import RunningStage, RunState

if TYPE_CHECKING:
    from .trainer import Trainer

INFINITE = float("inf")
NO_BATCH = object()


class TrainingRun:
    """The bound parts of a fit. `loops.py` reads them; only the methods here change them.

    Attributes:
        take_step: the function of `loops.py` that handles a batch.
        window: batches per optimizer step; `opens` and `closes` say where the current batch is in it.
        zero_grad, backward, step: parts of an automatic step; None where the plain call is enough.
        has_due_checks: whether something can become due between two batches of this epoch.
        wants_out: SIGTERM was received.
    """

    __slots__ = (
        "_said",
        "backward",
        "closes",
        "epoch_loop",
        "has_due_checks",
        "hooks",
        "last_reload",
        "last_validation",
        "loaders",
        "log_every",
        "logs_steps",
        "max_steps",
        "module",
        "num_batches",
        "opens",
        "optimizer",
        "pass_start",
        "plateau_step_schedulers",
        "precision",
        "results",
        "resume",
        "state",
        "step",
        "step_schedulers",
        "strategy",
        "take_step",
        "to_device",
        "trainer",
        "training_step",
        "val_every",
        "val_seconds",
        "val_shift",
        "validates",
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
        self.strategy, self.precision = trainer.strategy, trainer.precision_plugin
        self.results = Results(training=True, device=self.strategy.root_device)
        self.loaders: Loaders | None = None
        self.num_batches: int | float = INFINITE
        self.last_reload = -(10**9)
        self.last_validation = time.monotonic()
        self.validation = EvaluationRun(trainer, hooks, RunningStage.VALIDATING, verbose=False)
        self.resume: dict[str, Any] | None = None
        self.pass_start: dict[str, Any] = {}
        self.validation_start: dict[str, Any] | None = None
        self.wants_out = False
        self._said = WarningCache()

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
        self.epoch_loop = fetching.train_epoch if fetching.is_wanted(module.training_step) else loops.train_epoch
        configs = trainer.lr_scheduler_configs if module.automatic_optimization else []
        per_step = [c for c in configs if c.interval == "step"]
        self.step_schedulers = [c for c in per_step if not c.reduce_on_plateau]
        self.plateau_step_schedulers = [c for c in per_step if c.reduce_on_plateau]
        self.backward = self._bind_backward()
        if not module.automatic_optimization:
            self.window = 1
            self.take_step = loops.manual_step
            return
        self.optimizer = trainer.optimizers[0]
        self.wrapped_optimizer = trainer._lightning_optimizers[0]
        self.zero_grad = self._bind_zero_grad()
        self.step = self._bind_optimizer_step()
        uses_closure = is_overridden("optimizer_step", module, LightningModule) or needs_closure(self.optimizer)
        self.window_step = loops.closure_step if uses_closure else loops.automatic_step
        self.window = trainer.accumulate_grad_batches
        self.take_step = self.window_step if self.window == 1 else loops.accumulating_step

    def _bind_step(self) -> Callable[..., Any]:
        step = self.strategy.wrap_step(self.module, "training_step")
        step = self.trainer._profiled("[Strategy]", "training_step", step)
        if self.precision.needs_forward_context:
            step = in_context(self.precision.forward_context, step)
        if not accepts(self.module.training_step, "batch_idx", at_least=2):
            return lambda batch, batch_idx: step(batch)
        return step

    def _bind_backward(self) -> Callable[..., None] | None:
        hooks = self.hooks["on_before_backward"], self.hooks["on_after_backward"]
        # In manual optimization DDP has to be told of each backward pass.
        announced = self.strategy.handles_sync and not self.module.automatic_optimization
        plain = not announced and not is_overridden("backward", self.module, LightningModule)
        if plain and not any(hooks) and not self.precision.scales_loss and self.trainer._profile is None:
            return None
        return self._backward

    def _backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        state, before = self.state, self.state.hook
        if self.precision.scales_loss:
            loss = self.precision.scale_loss(loss)
        self.strategy.pre_backward(loss)
        state.hook = "on_before_backward"
        for hook in self.hooks["on_before_backward"]:
            hook(loss)
        state.hook = "backward"
        self.trainer._profiled("[LightningModule]", "backward", self.module.backward)(loss, *args, **kwargs)
        state.hook = "on_after_backward"
        for hook in self.hooks["on_after_backward"]:
            hook()
        state.hook = before

    def _bind_zero_grad(self) -> Callable[[], None]:
        overridden = is_overridden("optimizer_zero_grad", self.module, LightningModule)
        if not overridden and not self.hooks["on_before_zero_grad"]:
            return self.optimizer.zero_grad
        return self._zero_grad

    def _zero_grad(self) -> None:
        state, before = self.state, self.state.hook
        state.hook = "on_before_zero_grad"
        for hook in self.hooks["on_before_zero_grad"]:
            hook(self.optimizer)
        state.hook = "optimizer_zero_grad"
        self.module.optimizer_zero_grad(state.epoch, state.batch_idx, self.optimizer)
        state.hook = before

    def _bind_optimizer_step(self) -> Callable[[], Any] | None:
        plain = (
            not self.hooks["on_before_optimizer_step"]
            and not self._clips()
            and type(self.precision).step is Precision.step
        )
        return None if plain else lambda: self.step_optimizer(self.optimizer)

    def _clips(self) -> bool:
        overridden = is_overridden("configure_gradient_clipping", self.module, LightningModule)
        return self.module.automatic_optimization and bool(self.trainer.gradient_clip_val or overridden)

    def step_optimizer(self, optimizer: Any, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Steps an optimizer with everything that belongs before it: unscaling, hooks, clipping."""
        if not self.module.automatic_optimization:
            self.state.global_step += 1
        if closure is not None and self.precision.scaler is not None:
            # A scaler must see the gradients before it decides to step, so the closure cannot run inside.
            answer = closure()
            self._before_step(optimizer)
            self.precision.step(optimizer, None, **kwargs)
            return answer
        if closure is None:
            self._before_step(optimizer)
            return self.precision.step(optimizer, None, **kwargs)
        evaluate_loss = closure

        def closure_and_hooks() -> Any:
            loss = evaluate_loss()
            self._before_step(optimizer)
            return loss

        return self.precision.step(optimizer, closure_and_hooks, **kwargs)

    def _before_step(self, optimizer: Any) -> None:
        state, before = self.state, self.state.hook
        self.precision.unscale(optimizer)
        state.hook = "on_before_optimizer_step"
        for hook in self.hooks["on_before_optimizer_step"]:
            hook(optimizer)
        if self._clips():
            trainer = self.trainer
            state.hook = "configure_gradient_clipping"
            self.module.configure_gradient_clipping(
                optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
        state.hook = before

    # ---------------------------------------------------------------- edges of the fit

    def setup_data(self) -> None:
        """Asks for the training loaders, the first time or when they are to be reloaded."""
        trainer, every = self.trainer, self.trainer.reload_dataloaders_every_n_epochs
        if self.loaders is not None and not (every and self.state.epoch - self.last_reload >= every):
            return
        if trainer.limit_train_batches == 0 or not is_overridden("training_step", self.module, LightningModule):
            return
        source = request(trainer, RunningStage.TRAINING)
        self.strategy.barrier("train_dataloader()")
        loaders = prepare_loaders(trainer, RunningStage.TRAINING, source, trainer.limit_train_batches, "max_size_cycle")
        if loaders.is_sequential:
            raise ValueError(
                'Training does not support the `CombinedLoader(mode="sequential")` mode.'
                " The available modes are: ['min_size', 'max_size_cycle', 'max_size']"
            )
        self.loaders = loaders
        self.num_batches = loaders.num_batches
        if trainer.checkpoint_callbacks:
            for reason in filter(None, map(inexact_reason, loaders.given)):
                self._said.info(f"A run that is taken up within an epoch will not be exactly this one: {reason}.")
        if self.num_batches:
            self.last_reload = self.state.epoch
            trainer._set_validation_interval(self.num_batches)

    def nothing_to_do(self) -> bool:
        """Whether fit ends before its first epoch; prepares the data otherwise."""
        self.setup_data()
        torch.set_grad_enabled(True)
        if self.is_done() or self.trainer.limit_train_batches == 0:
            return True
        if self.trainer._validates_in_epoch(self.state.epoch):
            self.validation.setup_data()
        self._warn_of_eval_mode()
        return False

    def _warn_of_eval_mode(self) -> None:
        in_eval = [module for module in self.module.modules() if not module.training]
        if in_eval:
            rank_zero_warn(
                f"Found {len(in_eval)} module(s) in eval mode at the start of training."
                " This may lead to unexpected behavior during training. If this is intentional,"
                " you can ignore this warning.",
                category=PossibleUserWarning,
            )

    def is_done(self) -> bool:
        """Whether the epoch loop ends here; says why."""
        trainer, state = self.trainer, self.state
        if self.num_batches == 0:
            rank_zero_info("`Trainer.fit` stopped: No training batches.")
            return True
        if trainer.max_steps != -1 and state.global_step >= trainer.max_steps:
            rank_zero_info(f"`Trainer.fit` stopped: `max_steps={trainer.max_steps!r}` reached.")
            return True
        max_epochs = trainer.max_epochs
        if max_epochs is not None and max_epochs != -1 and state.epoch >= max_epochs:
            rank_zero_info(f"`Trainer.fit` stopped: `max_epochs={max_epochs!r}` reached.")
            return True
        return state.should_stop and self._may_stop()

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
        self.setup_data()
        assert self.loaders is not None
        for loader in self.loaders.given:
            set_epoch(loader, state.epoch)
        if self.resume is None or not (state.batches_done or state.epoch_closed):
            if self.resume is not None:
                self._restore_orders(self.resume["data"])
                restore(self.resume["random"])
            self.resume = None
            state.start_epoch()
            self.results.in_batches = False
            self.hooks.call("on_train_epoch_start")
        if self.module.automatic_optimization:
            # A callback may have changed the window for this epoch.
            self.window = trainer.accumulate_grad_batches
            self.take_step = self.window_step if self.window == 1 else loops.accumulating_step
            self.opens = self.closes = True
        self.max_steps = INFINITE if trainer.max_steps == -1 else trainer.max_steps
        self._bind_validation_checks()

    def _bind_validation_checks(self) -> None:
        trainer = self.trainer
        self.val_seconds = trainer._val_check_seconds
        self.val_every = trainer.val_check_batch
        self.val_shift = self.state.total_batches - self.state.batches_done + 1
        if trainer.check_val_every_n_epoch is not None:
            self.val_shift = 1
        if self.val_every == INFINITE and isinstance(trainer.limit_train_batches, int):
            self.val_every = trainer.limit_train_batches
        validates = trainer._validates_in_epoch(self.state.epoch)
        if not validates:
            self.val_every, self.val_seconds = 0, None
        self.validates = validates
        self.has_due_checks = bool(self.plateau_step_schedulers) or (validates and self.val_every != self.num_batches)

    def start_pass(self) -> Iterator[Any]:
        """Begins, or takes up again, this epoch's one pass over the data."""
        assert self.loaders is not None
        loaders, saved, self.resume, state = self.loaders, self.resume, None, self.state
        source = loaders.given[0] if loaders.is_single else loaders.combined
        if saved is None:
            self.pass_start = pass_state(source)
            return self._in_agreement(loaders.batches())
        self.pass_start = saved["data"]["pass_start"]
        batches: Iterator[Any] = iter(())
        if not state.epoch_closed and state.batches_done != self.num_batches:
            positions = saved["data"]["position"]
            if any(positions) and all(map(load_loader_state, loaders.given, positions)):
                batches = loaders.batches()
            else:
                restore_pass(source, self.pass_start)
                batches = loaders.batches()
                advance(batches, state.batches_done)
            self._restore_orders(saved["data"], of_training=False)
        else:
            self._restore_orders(saved["data"])
        restore(saved["random"])
        if state.checked < state.batches_done != self.num_batches:
            self.check_batch(state.batch_idx)
        return self._in_agreement(batches)

    def _in_agreement(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, between which several processes agree on signals that they heard."""
        signals = self.trainer._signals
        if signals is None or not signals.shared:
            return batches

        def largest(numbers: list[float]) -> list[float]:
            reduced: Tensor = self.strategy.reduce(torch.tensor(numbers, dtype=torch.float64), reduce_op="max")
            return reduced.tolist()

        return signals.agreeing(batches, largest)

    def position(self) -> dict[str, Any]:
        """Where this process is in the data and in its random streams, for a checkpoint.

        Inside a validation it is the validation's start: that is where a resumed run begins again.
        """
        assert self.loaders is not None
        combined = self.loaders.combined
        start = self.validation_start if not self.state.validated else None
        data = {
            "pass_start": running_pass_state(combined, self.pass_start),
            "position": [loader_state(loader) for loader in self.loaders.given],
            "order": order_state(combined),
            "validation_order": self._validation_order() if start is None else start["order"],
        }
        return {"random": capture() if start is None else start["random"], "data": data}

    def _validation_order(self) -> dict[str, Any] | None:
        loaders = self.validation.loaders
        return order_state(loaders.combined) if loaders is not None else None

    def _restore_orders(self, saved: dict[str, Any], of_training: bool = True) -> None:
        """Gives loaders with generators of their own these generators' states back."""
        if of_training and self.loaders is not None and saved["order"] is not None:
            restore_order(self.loaders.combined, saved["order"])
        if self.validation.loaders is not None and saved["validation_order"] is not None:
            restore_order(self.validation.loaders.combined, saved["validation_order"])

    def skips_rest_of_epoch(self, hooks: Bound, batch: Any, batch_idx: int) -> bool:
        """Calls the start hooks; True when the module's returned -1."""
        self.state.hook = "on_train_batch_start"
        answer = None
        for hook in hooks:
            answer = hook(batch, batch_idx)
        self.state.hook = None
        if not isinstance(answer, int) or answer != -1:
            return False
        self.update_schedulers("epoch")
        self.state.epoch_closed = self.state.skipped = True
        return True

    def note_missing_batch(self) -> object:
        """Takes the place of a step when the loader gave None."""
        self._said.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        return NO_BATCH

    def check_batch(self, batch_idx: int) -> None:
        """Validation and schedulers that wait for a metric, if they are due after this batch."""
        state = self.state
        if not state.validated and self.validates and self._validation_is_due(batch_idx):
            self.validate()
        if self.plateau_step_schedulers and self.closes:
            self.update_plateau_schedulers("step")
        state.checked, state.validated = batch_idx + 1, False

    def _validation_is_due(self, batch_idx: int) -> bool:
        if self.state.should_stop and self._may_stop():
            return True
        if self.val_seconds is not None:
            return time.monotonic() - self.last_validation >= self.val_seconds
        if self.val_every == INFINITE:
            return self.state.epoch_closed
        every = self.val_every
        return bool(every) and every is not None and (batch_idx + self.val_shift) % every == 0

    def stops_within_epoch(self) -> bool:
        """Whether to leave the epoch now, after this batch."""
        trainer, state = self.trainer, self.state
        if self.wants_out:
            self.wants_out = False
            trainer._act_on_signals()
        if state.global_step >= self.max_steps:
            return True
        if state.should_stop:
            for logger in trainer.loggers:
                logger.save()
            if self._may_stop():
                return True
            self._said.info(
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
            self.update_schedulers("epoch")
            state.epoch_closed = True
        if state.checked < state.batches_done or self.num_batches == INFINITE:
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
        self.update_step_schedulers()

    def end_epoch(self) -> None:
        """Hooks at the end of an epoch, and its completion."""
        self.trainer._board.fold(self.results)  # the last batch's values stay visible
        self.results.in_batches = False
        self.results.dataloader_idx = None
        self.state.ended = True
        self.hooks.call("on_train_epoch_end")
        self.complete_epoch()
        if self.wants_out:
            self.wants_out = False
            self.trainer._act_on_signals()

    def complete_epoch(self) -> None:
        """Metrics of the epoch, schedulers that wait for one, the counters."""
        trainer, state, results = self.trainer, self.state, self.results
        snapshot = trainer._board.fold(results)
        if state.epoch_closed:
            self.update_plateau_schedulers("epoch")
        # The epoch's metrics belong to its last step.
        state.logged_steps -= 1
        trainer._write_metrics(snapshot.log)
        state.logged_steps += 1
        results.reset()
        batch_idx = state.batch_idx
        state.epoch += 1
        state.start_epoch()
        state.batch_idx = batch_idx

    def take_up(self, saved: dict[str, Any]) -> None:
        """Continues from a checkpoint: counters now, sums when they are logged again, the rest at the first epoch."""
        state = self.state
        state.load_state_dict(saved["run"])
        self.results.load_state_dict(saved["results"], self.module)
        self.trainer._board.callback.update(saved["metrics"])
        self.closes = saved["closes"]
        self.resume = saved
        if state.ended:
            self.complete_epoch()

    # ---------------------------------------------------------------- schedulers

    def update_step_schedulers(self) -> None:
        if self.closes:
            self.update_schedulers("step")

    def update_schedulers(self, interval: str) -> None:
        """Steps the schedulers of an interval that need no metric."""
        for config in self._due(interval, on_plateau=False):
            self._step_scheduler(config, None)

    def update_plateau_schedulers(self, interval: str) -> None:
        """Steps the schedulers of an interval with the metric that they monitor."""
        for config in self._due(interval, on_plateau=True):
            metrics = self.trainer.callback_metrics
            metric = metrics.get(config.monitor or "")
            if metric is not None:
                self._step_scheduler(config, metric)
            elif config.strict:
                raise MisconfigurationException(
                    f"ReduceLROnPlateau conditioned on metric {config.monitor}"
                    f" which is not available. Available metrics are: {list(metrics)}."
                    " Condition can be set using `monitor` key in lr scheduler dict"
                )
            else:
                rank_zero_warn(
                    f"ReduceLROnPlateau conditioned on metric {config.monitor}"
                    " which is not available but strict is set to `False`. Skipping learning rate update.",
                    category=RuntimeWarning,
                )

    def _due(self, interval: str, on_plateau: bool) -> list[LRSchedulerConfig]:
        if not self.module.automatic_optimization:
            return []
        count = (self.state.batch_idx if interval == "step" else self.state.epoch) + 1
        return [
            config
            for config in self.trainer.lr_scheduler_configs
            if config.interval == interval and config.reduce_on_plateau == on_plateau and count % config.frequency == 0
        ]

    def _step_scheduler(self, config: LRSchedulerConfig, metric: Any) -> None:
        before, self.state.hook = self.state.hook, "lr_scheduler_step"
        self.module.lr_scheduler_step(config.scheduler, metric)
        self.state.hook = before

    # ---------------------------------------------------------------- outputs, metrics, validation

    def read_loss(self, output: Any) -> Tensor | None:
        """The loss of what `training_step` returned, divided among the batches of a window.

        Raises:
            MisconfigurationException: there is no loss in it.
        """
        if isinstance(output, Tensor):
            loss: Any = output
        elif output is None:
            if self.trainer.world_size > 1:
                raise RuntimeError(
                    "Skipping the `training_step` by returning None in distributed training is not supported."
                    " It is recommended that you rewrite your training logic to avoid having to skip the step in the"
                    " first place."
                )
            self._said.warn("`training_step` returned `None`. If this was on purpose, ignore this warning...")
            return None
        elif isinstance(output, Mapping):
            loss = output.get("loss")
            if "log" in output or "progress_bar" in output:
                self.trainer._log_returned(output)
            if loss is None:
                raise MisconfigurationException(
                    "In automatic_optimization, when `training_step` returns a dict, the 'loss' key needs to be present"
                )
        else:
            raise MisconfigurationException(
                "In automatic optimization, `training_step` must return a Tensor, a dict, or None (where the step will"
                " be skipped)."
            )
        scaled: Tensor = loss if self.window == 1 else loss / self.window
        return scaled

    def outputs(self, output: Any) -> Any:
        """What `on_train_batch_end` gets: a dict with the detached loss."""
        if isinstance(output, Tensor):
            return {"loss": output.detach() if self.window == 1 else output.detach() / self.window}
        if isinstance(output, Mapping):
            loss = output.get("loss")
            if not isinstance(loss, Tensor):
                return dict(output)
            return {**output, "loss": loss.detach() if self.window == 1 else loss.detach() / self.window}
        if output is None:
            return {}
        if output is NO_BATCH:
            return None
        raise MisconfigurationException(
            "In manual optimization, `training_step` must either return a Tensor or have no return."
        )

    def refuse_uncalled_closure(self) -> None:
        raise MisconfigurationException(
            "The closure hasn't been executed. HINT: did you call `optimizer_closure()` in your `optimizer_step` hook?"
            " It could also happen because the `optimizer.step(optimizer_closure)` call did not execute it internally."
        )

    def store_compiled_logs(self) -> None:
        """Takes in what a compiled step logged."""
        self.state.hook = "training_step"
        self.trainer._store_pending(self.results)

    def write_step_metrics(self) -> None:
        """Sends the current values to the loggers."""
        self.trainer._write_metrics(self.trainer._board.fold(self.results).log)

    def validate(self) -> None:
        """Validation inside the epoch."""
        trainer, state = self.trainer, self.state
        hook, state.hook = state.hook, None
        trainer._board.fold(self.results)
        if is_overridden("on_validation_model_zero_grad", self.module, LightningModule):
            self.module.on_validation_model_zero_grad()
        trainer.state.stage = RunningStage.VALIDATING
        trainer._results = self.validation.results
        self.validation_start = {"random": capture(), "order": self._validation_order()}
        evaluate(self.validation)
        self.validation_start = None
        trainer.state.stage = RunningStage.TRAINING
        trainer._results = self.results
        state.hook = hook
        self.last_validation = time.monotonic()
