"""Validation and test: one loop, the step as an argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from .data import Loaders, device_mover, prepare_loaders, request
from .fetching import BatchIterator, is_wanted
from .hooks import Hooks, accepts, is_overridden, is_redefined
from .loaders import set_epoch
from .logged import store_pending, write_metrics
from .module import LightningModule
from .position import ask
from .profilers.base import FETCHES
from .result_table import print_results
from .results import Results
from .state import RunningStage, TrainerFn
from .validation_checks import validates_in_epoch

if TYPE_CHECKING:
    from .trainer import Trainer

STEMS = {RunningStage.VALIDATING: "validation", RunningStage.TESTING: "test", RunningStage.PREDICTING: "predict"}


class EvaluationRun:
    """The bound parts of one evaluation; made once per trainer call, used for every pass.

    Attributes:
        metrics: what each loader's pass came to.
        seen: batches of each loader, over all passes.
        iterator: of a step that fetches its batches itself.
    """

    def __init__(self, trainer: Trainer, hooks: Hooks, stage: RunningStage, verbose: bool = True) -> None:
        self.trainer, self.hooks, self.stage, self.verbose = trainer, hooks, stage, verbose
        self.module: LightningModule = trainer.lightning_module
        self.stem = STEMS[stage]
        self.results = Results(trainer.run, training=False, device=trainer.strategy.root_device)
        self.loaders: Loaders | None = None
        self.last_reload = -(10**9)
        self.metrics: list[dict[str, Any]] = []
        self.seen: dict[int, int] = {}
        self.iterator: BatchIterator | None = None

    @property
    def has_several_loaders(self) -> bool:
        """Whether hooks get the index of a loader."""
        return self.loaders is not None and self.loaders.is_sequential and len(self.loaders.given) > 1

    @property
    def num_batches(self) -> list[int | float]:
        """Batches of each loader in the coming pass."""
        limits = self.loaders.limits if self.loaders is not None else []
        if not self.trainer.sanity_checking:
            return limits
        return [min(self.trainer.num_sanity_val_steps, limit) for limit in limits]

    @property
    def is_due(self) -> bool:
        """Whether new loaders are to be asked for in this epoch."""
        every = self.trainer.reload_dataloaders_every_n_epochs
        fitting = self.trainer.state.fn is TrainerFn.FITTING
        return bool(fitting and every and self.trainer.current_epoch - self.last_reload >= every)

    def setup_data(self) -> None:
        """Asks for the loaders, the first time or when they are to be reloaded."""
        trainer, is_due = self.trainer, self.is_due
        if self.loaders is not None and not is_due:
            return
        prefix = "val" if self.stage is RunningStage.VALIDATING else self.stage.value
        limit = getattr(trainer, f"limit_{prefix}_batches")
        if limit == 0 or (
            self.stem != "predict" and not is_overridden(f"{self.stem}_step", self.module, LightningModule)
        ):
            return
        training = trainer._training if trainer.state.fn is TrainerFn.FITTING else None
        is_again = training is not None and not is_due and self.stage.value in training.made_before
        if not is_again and (not trainer.sanity_checking or validates_in_epoch(trainer, trainer.current_epoch)):
            self.last_reload = trainer.current_epoch
        source = request(trainer, self.stage) if training is None else ask(training, self.stage, is_due)
        trainer.strategy.barrier(f"{prefix}_dataloader()")
        self.loaders = prepare_loaders(trainer, self.stage, source, limit, "sequential")
        self.seen = {}

    def passes(self) -> Iterator[tuple[int, Iterator[Any]]]:
        """The index of each loader and a pass over it; loaders that are not read one after another count as one."""
        assert self.loaders is not None
        if not self.loaders.is_sequential:
            self.loaders.combined.limits = self.num_batches
            yield 0, (batch for batch, _, _ in iter(self.loaders.combined))
            return
        for index, limit in enumerate(self.num_batches):
            if limit or not self.loaders.lengths[index]:  # what was empty may have been filled
                yield index, self.loaders.batches_of(index, limit)

    def batches(
        self, batches: Iterator[Any], index: int, to_device: Callable[[Any], Any] | None
    ) -> Iterator[tuple[int, Any]]:
        """Index and batch on its device; the last one fetched, for a step that fetches them itself."""
        batches = self.trainer.profiler.fetched(FETCHES[self.stem], batches, self.num_batches[index])
        if not is_wanted(getattr(self.module, f"{self.stem}_step")):
            return enumerate(batches if to_device is None else map(to_device, batches))
        limit = self.num_batches[index]
        iterator = self.iterator = BatchIterator(batches, limit, to_device, index, before=self.iterator)
        return iter(lambda: None if iterator.done else (iterator.batch_idx, iterator.batch), None)  # type: ignore[arg-type]

    def dataloader_idx(self, index: int) -> int:
        """The index of the loader whose batch hooks get."""
        return index if self.iterator is None else self.iterator.dataloader_idx

    def bind_step(self) -> Callable[..., Any]:
        """The step with its precision and profile; arguments that it does not take are left out."""
        name = f"{self.stem}_step"
        own = getattr(self.module, name)
        strategy, precision = self.trainer.strategy, self.trainer.precision_plugin
        label = f"[Strategy]{type(strategy).__name__}.{name}"
        step = self.trainer.profiler.measured(label, strategy.wrap_step(self.module, name))
        if precision.needs_forward_context:
            step = in_context(precision.forward_context, step)
        if not accepts(own, "batch_idx", at_least=2) and not is_wanted(own):
            return lambda batch, batch_idx, *index: step(batch, *index)
        return step

    def check_dataloader_idx(self) -> None:
        """Refuses hooks that do not fit the number of loaders.

        Raises:
            RuntimeError: `dataloader_idx` is missing where there are several loaders, or asked for where there is one.
        """
        several = self.has_several_loaders
        names = [f"{self.stem}_step", f"on_{self.stem}_batch_start", f"on_{self.stem}_batch_end"]
        for name in names:
            if not is_overridden(name, self.module, LightningModule):
                continue
            function = getattr(self.module, name)
            if is_wanted(function):
                continue
            takes = accepts(function, "dataloader_idx")
            if several and not takes:
                raise RuntimeError(
                    f"You provided multiple `{self.stage.dataloader_prefix}_dataloader`, but no `dataloader_idx`"
                    f" argument in `{type(self.module).__name__}.{name}()`. Try adding `dataloader_idx=0` to its"
                    " signature."
                )
            if not several and _requires(function, "dataloader_idx"):
                raise RuntimeError(
                    f"You provided only a single `{self.stage.dataloader_prefix}_dataloader`, but have included"
                    f" `dataloader_idx` in `{type(self.module).__name__}.{name}()`. Either remove the argument or"
                    " give it a default value i.e. `dataloader_idx=0`."
                )

    def gradients(self) -> AbstractContextManager[Any]:
        """No gradients; inference mode outside fit, if the trainer may use it."""
        if self.trainer.state.fn is TrainerFn.FITTING or not self.trainer.inference_mode:
            return torch.no_grad()
        return torch.inference_mode() if self.trainer.world_size == 1 else torch.no_grad()

    def mode_hooks(self) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """What sets the mode for the evaluation and what sets it back: each submodule's own by default."""
        module, name = self.module, f"on_{self.stem}_model_train"
        to_eval = getattr(module, f"on_{self.stem}_model_eval")
        if is_redefined(name, module, LightningModule):
            return to_eval, getattr(module, name)
        modes = [(part, part.training) for part in (self.trainer.model or module).modules()]

        def restore() -> None:
            for part, training in modes:
                part.training = training

        return to_eval, restore

    # ---------------------------------------------------------------- what is kept of a pass

    def start_pass(self) -> None:
        self.results.reset()
        self.metrics = []

    def start_batch(self, batch: Any, batch_idx: int, index: int) -> None:
        self.results.start_batch(batch, index if self.has_several_loaders else None)

    def end_batch(self, output: Any, index: int) -> None:
        """Sends what was logged per step; each loader counts its own steps, over all passes."""
        trainer, results = self.trainer, self.results
        results.batch = None
        if trainer.sanity_checking:
            return
        step = self.seen.get(index, 0)
        self.seen[index] = step + 1
        # Asked of the entries first: a pass that logs nothing per step reads no value.
        if trainer.loggers and any(entry.on_step for entry in results.entries.values()):
            write_metrics(trainer, results.read().log, step=step)

    def end_loader(self, index: int) -> None:
        trainer, results = self.trainer, self.results
        if not trainer.sanity_checking:
            trainer._board.fold(results)  # the last batch's values stay visible
        results.in_batches = False
        results.dataloader_idx = index if self.has_several_loaders else None
        self.metrics.append({} if trainer.sanity_checking else trainer._board.fold(results).log)
        results.dataloader_idx = None

    def end_epoch(self) -> None:
        """Sends the metrics of all loaders, once the hooks of the epoch's end have logged theirs."""
        trainer, results = self.trainer, self.results
        if trainer.sanity_checking:
            return
        last = trainer._board.fold(results).log
        merged = {name: value for metrics in reversed(self.metrics) for name, value in metrics.items()} | last
        for metrics in self.metrics:
            metrics.update(last)
        write_metrics(trainer, merged)
        trainer.run.validated = trainer.state.fn is TrainerFn.FITTING  # a checkpoint of the next hook is after it


def in_context(context: Callable[[], Any], step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that runs within a fresh context each time."""

    def step_in_context(*args: Any) -> Any:
        with context():
            return step(*args)

    return step_in_context


def _requires(function: Callable[..., Any], name: str) -> bool:
    param = inspect.signature(function).parameters.get(name)
    return param is not None and param.default is inspect.Parameter.empty


def evaluate(run: EvaluationRun) -> list[dict[str, Any]]:
    """Runs one pass over the loaders of a stage and returns the metrics of each loader; none where no batch came."""
    run.setup_data()
    if run.loaders is None or (run.trainer.sanity_checking and sum(run.num_batches) == 0):
        return []
    run_pass(run)
    if not run.seen and not any(run.metrics):
        return []
    if run.verbose and run.trainer.is_global_zero:
        print_results(run.metrics, run.stage.value)
    return run.metrics


def run_pass(run: EvaluationRun) -> None:
    """One pass over the loaders of a stage; what is kept of it is the business of `run`."""
    trainer, hooks, stem, state, loaders = run.trainer, run.hooks, run.stem, run.trainer.run, run.loaders
    assert loaders is not None
    several = run.has_several_loaders
    run.check_dataloader_idx()
    run.start_pass()
    if trainer.state.fn is TrainerFn.FITTING:
        for loader in loaders.given:
            set_epoch(loader, trainer.current_epoch)
    to_eval, to_train = run.mode_hooks()
    with run.gradients():
        state.hook = f"on_{stem}_model_eval"
        to_eval()
        state.hook = None
        hooks.call(f"on_{stem}_start")
        hooks.call(f"on_{stem}_epoch_start")
        step, step_name = run.bind_step(), f"{stem}_step"
        start_name, end_name = f"on_{stem}_batch_start", f"on_{stem}_batch_end"
        start_hooks, end_hooks = hooks[start_name], hooks[end_name]
        for index, batches in run.passes():
            to_device = device_mover(trainer, index)
            for batch_idx, batch in run.batches(batches, index, to_device):
                place = (run.dataloader_idx(index),) if several else ()
                run.start_batch(batch, batch_idx, index)
                if start_hooks:
                    state.hook = start_name
                    for hook in start_hooks:
                        hook(batch, batch_idx, *place)
                state.hook = step_name
                if run.iterator is None:
                    output = step(batch, batch_idx, *place)
                else:
                    try:
                        output = step(run.iterator)
                    except StopIteration:
                        break
                    batch_idx, batch = run.iterator.batch_idx, run.iterator.batch
                    place = (index,) if several else ()
                if run.results.pending:
                    store_pending(run.module, run.results)
                if end_hooks:
                    state.hook = end_name
                    for hook in end_hooks:
                        hook(output, batch, batch_idx, *place)
                state.hook = None
                run.end_batch(output, index)
                if trainer._signals is not None:
                    trainer._signals.act()
            run.end_loader(index)
        hooks.call(f"on_{stem}_epoch_end")
        run.end_epoch()
        hooks.call(f"on_{stem}_end")
        run.results.reset()
        state.hook = f"on_{stem}_model_train"
        to_train()
        state.hook = None
