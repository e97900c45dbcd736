"""The loaders of a stage: where they come from, how many batches they give, and one pass over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from .datahooks import DataHooks
from .errors import NoLoaderError, PossibleUserWarning, rank_zero_warn
from .hooks import is_overridden, is_redefined
from .loaders import (
    EMPTY,
    CombinedLoader,
    batch_count,
    check_loader,
    counts_of_all,
    for_prediction,
    in_step,
    limited_count,
    seed_workers,
    warn_of_iterable_length,
    with_distributed_sampler,
    without_shuffle,
)
from .order import keeps_its_place
from .randomness import workers_are_seeded
from .state import RunningStage, TrainerFn
from .transfer import move_data_to_device

if TYPE_CHECKING:
    from .trainer import Trainer

PREFIXES = {
    RunningStage.TRAINING: "train",
    RunningStage.VALIDATING: "val",
    RunningStage.SANITY_CHECKING: "val",
    RunningStage.TESTING: "test",
    RunningStage.PREDICTING: "predict",
}
TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class DataSource:
    """What `fit(...)` and its siblings were given: loaders by prefix, a datamodule, the module behind them."""

    def __init__(self, passed: dict[str, Any] | None = None, module: Any = None, datamodule: Any = None) -> None:
        self.passed, self.module, self.datamodule = passed or {}, module, datamodule

    def has(self, prefix: str) -> bool:
        """Whether anyone gives data of this kind."""
        return self.passed.get(prefix) is not None or self.owner(prefix) is not None

    def owner(self, prefix: str) -> Any:
        """Who defines ``<prefix>_dataloader``, or None."""
        return self.overriding(f"{prefix}_dataloader")

    def overriding(self, name: str) -> Any:
        """Who has its own method of this name: the datamodule if it does, else the module, else None."""
        if self.datamodule is not None and is_redefined(name, self.datamodule, DataHooks):
            return self.datamodule
        return self.module if self.module is not None and is_overridden(name, self.module, DataHooks) else None


class Loaders:
    """The prepared loaders of one stage.

    Attributes:
        combined: all of them, as Lightning shows them.
        limits: how many batches of each are used.
        given: the loaders alone, in order.
    """

    def __init__(self, combined: CombinedLoader, limits: list[int | float]) -> None:
        self.combined, self.limits = combined, limits
        self.given: list[Any] = combined.flattened
        self.lengths = [batch_count(loader) for loader in self.given]
        self.is_single = combined.iterables is self.given[0] if self.given else False
        if not self.is_single:
            combined.limits = limits

    @property
    def is_sequential(self) -> bool:
        return self.combined.mode == "sequential"

    @property
    def num_batches(self) -> int | float:
        """Batches in one pass; infinite when a loader does not say."""
        if self.is_single:
            return self.limits[0]
        count = batch_count(self.combined)
        return count

    def batches(self) -> Iterator[Any]:
        """One pass; `iter` is called once on each loader, now."""
        if not self.is_single:
            return (batch for batch, _, _ in iter(self.combined))
        return self.batches_of(0, self.limits[0])

    def rest(self, done: int) -> Iterator[Any]:
        """What is left of a pass whose loaders begin after its first `done` batches."""
        left = self.num_batches - done
        batches = self.batches()
        ends_itself = left == float("inf") or (self.is_single and self.limits[0] >= self.lengths[0])
        return batches if ends_itself else islice(batches, int(left))

    @property
    def keep_their_place(self) -> bool:
        """Whether a pass can go on from the loaders' own states; an ended one would begin again."""
        return all(map(keeps_its_place, self.given)) and (self.is_single or self.combined.mode != "max_size")

    def batches_of(self, index: int, limit: int | float) -> Iterator[Any]:
        """One pass over one loader; nothing is read beyond a limit, and an unlimited pass runs to its own end."""
        iterator = iter(self.given[index])
        if iterator is self.given[index]:
            iterator = _rest(iterator)  # a loop would call its __iter__ once more
        return iterator if limit >= self.lengths[index] else islice(iterator, int(limit))


def _rest(iterator: Iterator[Any]) -> Iterator[Any]:
    """What an iterator still gives, without `iter` of it."""
    ended = object()
    while (batch := next(iterator, ended)) is not ended:
        yield batch


def prepare_loaders(trainer: Trainer, stage: RunningStage, source: Any, limit: int | float, mode: str) -> Loaders:
    """Turns what a user gives as loaders into `Loaders`: samplers replaced, limits applied, warnings given."""
    prefix = PREFIXES[stage]
    combined = source if isinstance(source, CombinedLoader) else CombinedLoader(source, mode)
    overfit = trainer.overfit_batches > 0 and stage in (
        RunningStage.TRAINING,
        RunningStage.VALIDATING,
        RunningStage.SANITY_CHECKING,
    )
    if trainer.state.fn is not TrainerFn.FITTING:
        overfit = False
    strategy = trainer.strategy
    together = stage is RunningStage.TRAINING or strategy.steps_together
    sampler_kwargs = trainer.distributed_sampler_kwargs
    prepared = []
    for loader in combined.flattened:
        _check_iterable(loader, prefix, trainer)
        if overfit:
            loader = without_shuffle(loader, prefix)
        if sampler_kwargs is not None:
            whole, loader = loader, with_distributed_sampler(loader, sampler_kwargs, mode=stage)
            if loader is not whole and trainer.state.fn in (TrainerFn.VALIDATING, TrainerFn.TESTING):
                _warn_of_repeated_samples(trainer.state.fn)
        if together:
            loader = in_step(loader, strategy)
        if stage is RunningStage.PREDICTING:
            loader = for_prediction(loader)
        loader = strategy.process_dataloader(loader)
        reloads = bool(trainer.reload_dataloaders_every_n_epochs)
        check_loader(loader, f"{prefix}_dataloader", trainer.num_devices, reloads)
        if workers_are_seeded():
            seed_workers(loader, trainer.global_rank)
        prepared.append(loader)
    if any(new is not old for new, old in zip(prepared, combined.flattened)):
        combined.flattened = prepared
    counts = [batch_count(loader, warn=True) for loader in combined.flattened]
    if together:
        counts = counts_of_all(counts, strategy)
    limits = [limited_count(count, limit, prefix) for count in counts]
    return Loaders(combined, limits)


def _warn_of_repeated_samples(fn: TrainerFn) -> None:
    rank_zero_warn(
        f"Using `DistributedSampler` with the dataloaders. During `trainer.{fn.value}()`, it is"
        " recommended to use `Trainer(devices=1, num_nodes=1)` to ensure each sample/batch gets evaluated"
        " exactly once. Otherwise, some samples are repeated to give all processes as many batches.",
        category=PossibleUserWarning,
    )


def has_len_all_ranks(
    dataloader: Any, strategy: Any, allow_zero_length_dataloader_with_multiple_devices: bool = False
) -> bool:
    """Whether a loader knows its length in every process; warns of one that is empty."""
    count = batch_count(dataloader)
    if count == float("inf"):
        return False
    total = strategy.reduce(torch.tensor(float(count), device=strategy.root_device), reduce_op="sum")
    if total == 0:
        rank_zero_warn(EMPTY.format(type(dataloader).__name__))
    if total > 0 and count == 0 and not allow_zero_length_dataloader_with_multiple_devices:
        raise RuntimeError(
            f"`{type(dataloader).__name__}` within local rank has zero length."
            " Please make sure that it returns at least 1 batch."
        )
    warn_of_iterable_length(dataloader)
    return True


def _check_iterable(loader: Any, prefix: str, trainer: Trainer) -> None:
    # Asked of the type, not by calling `iter`: that would draw from the random stream.
    if hasattr(type(loader), "__iter__") or hasattr(type(loader), "__getitem__"):
        return
    if trainer._data.passed.get(prefix) is None:
        owner = type(trainer._data.owner(prefix)).__name__
        raise TypeError(f"An invalid dataloader was returned from `{owner}.{prefix}_dataloader()`. Found {loader}.")
    raise TypeError(f"An invalid dataloader was passed to {_argument(trainer, prefix)}. Found {loader}.")


def _argument(trainer: Trainer, prefix: str) -> str:
    fn = trainer.state.fn
    argument = f"{prefix}_dataloaders" if fn is TrainerFn.FITTING else "dataloaders"
    return f"`Trainer.{fn.value if fn else 'fit'}({argument}=...)`"


def no_loader(trainer: Trainer, prefix: str) -> NoLoaderError:
    """The error for a run without data."""
    fn = trainer.state.fn
    return NoLoaderError(
        f"An invalid dataloader was passed to {_argument(trainer, prefix)}. Found None."
        f" Pass one to the `.{fn.value if fn else 'fit'}()` method; without it, `{prefix}_dataloader` must be"
        " implemented to be used with the Lightning Trainer, in your LightningModule or LightningDataModule."
    )


def request(trainer: Trainer, stage: RunningStage) -> Any:
    """The loaders as the user gives them for a stage.

    Raises:
        NoLoaderError: nobody gives any.
        TypeError: the method that should returns None.
    """
    prefix = PREFIXES[stage]
    passed = trainer._data.passed.get(prefix)
    if passed is not None:
        return passed
    owner = trainer._data.owner(prefix)
    name = f"{prefix}_dataloader"
    if owner is None:
        raise no_loader(trainer, prefix)
    hook, trainer.run.hook = trainer.run.hook, name
    loaders = getattr(owner, name)()
    trainer.run.hook = hook
    if loaders is None:
        raise TypeError(f"An invalid dataloader was returned from `{type(owner).__name__}.{name}()`. Found None.")
    return loaders


def device_mover(trainer: Trainer, dataloader_idx: int = 0) -> Callable[[Any], Any] | None:
    """The way of a batch to the device; None when it stays as it is."""
    module = trainer.lightning_module
    device, precision = trainer.strategy.root_device, trainer.precision_plugin
    owners = {name: trainer._data.overriding(name) for name in TRANSFER_HOOKS}
    convert = precision.convert_input if precision.needs_input_conversion else None
    if all(owner is None for owner in owners.values()):
        if device.type == "cpu":
            return convert
        if convert is None:
            return lambda batch: move_data_to_device(batch, device)
        return lambda batch: move_data_to_device(convert(batch), device)
    before, move, after = (getattr(owners[name] or module, name) for name in TRANSFER_HOOKS)
    state = trainer.run

    def to_device(batch: Any) -> Any:
        if convert is not None:
            batch = convert(batch)
        state.hook = "on_before_batch_transfer"
        batch = before(batch, dataloader_idx)
        state.hook = "transfer_batch_to_device"
        batch = move(batch, device, dataloader_idx)
        state.hook = "on_after_batch_transfer"
        batch = after(batch, dataloader_idx)
        state.hook = None
        return batch

    return to_device
