"""LightningDataModule: data, its preparation and its loaders in one object."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from torch.utils.data import DataLoader, Dataset, IterableDataset

from .datahooks import DataHooks
from .hparams import HyperparametersMixin
from .loading import ClassOnly, load_datamodule

if TYPE_CHECKING:
    from .trainer import Trainer

Self = TypeVar("Self", bound="LightningDataModule")


class LightningDataModule(DataHooks, HyperparametersMixin):
    """Data for a module, reusable between modules."""

    name: str | None = None
    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "datamodule_hparams_type"

    def __init__(self) -> None:
        super().__init__()
        self.trainer: Trainer | None = None

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Dataset[Any] | Iterable[Dataset[Any]] | None = None,
        val_dataset: Dataset[Any] | Iterable[Dataset[Any]] | None = None,
        test_dataset: Dataset[Any] | Iterable[Dataset[Any]] | None = None,
        predict_dataset: Dataset[Any] | Iterable[Dataset[Any]] | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> LightningDataModule:
        """Makes a datamodule of data sets; training data is shuffled unless it is iterable-style.

        `batch_size` and `num_workers` are passed on where the class's ``__init__`` takes them.
        """

        def loader(dataset: Dataset[Any], shuffle: bool) -> DataLoader[Any]:
            shuffle = shuffle and not isinstance(dataset, IterableDataset)
            return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, pin_memory=True)

        def loaders(datasets: Any, shuffle: bool = False) -> Any:
            if isinstance(datasets, Mapping):
                return {key: loader(dataset, shuffle) for key, dataset in datasets.items()}
            if isinstance(datasets, Sequence):
                return [loader(dataset, shuffle) for dataset in datasets]
            return loader(datasets, shuffle)

        accepted = inspect.signature(cls.__init__).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        shared = {"batch_size": batch_size, "num_workers": num_workers}
        if not takes_all:
            shared = {name: value for name, value in shared.items() if name in accepted}
        datamodule = cls(**shared, **datamodule_kwargs)
        given: dict[str, Any] = {
            "val_dataloader": val_dataset,
            "test_dataloader": test_dataset,
            "predict_dataloader": predict_dataset,
        }
        if train_dataset is not None:
            datamodule.train_dataloader = lambda: loaders(train_dataset, shuffle=True)  # type: ignore[method-assign]
        for name, dataset in given.items():
            if dataset is not None:
                setattr(datamodule, name, lambda dataset=dataset: loaders(dataset))
        return datamodule

    def state_dict(self) -> dict[str, Any]:
        """What to keep in a checkpoint."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gets back what `state_dict` gave."""

    def show_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Shows a batch, in whatever way suits the data; yours to write and to call."""
        raise NotImplementedError(f"`{type(self).__name__}` does not say how to show a batch: define `show_batch`.")

    def on_exception(self, exception: BaseException) -> None:
        """Called when an exception ends the run."""

    @ClassOnly
    def load_from_checkpoint(
        cls: type[Self],
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Makes the datamodule with the hyperparameters that a checkpoint holds; see `LightningModule`'s."""
        datamodule: Self = load_datamodule(cls, checkpoint_path, map_location, hparams_file, weights_only, **kwargs)
        return datamodule

    def __str__(self) -> str:
        """The sizes of the data sets that are there now."""
        titles = {"train": "Train", "val": "Validation", "test": "Test", "predict": "Predict"}
        return "\n".join(
            f"{{{title} dataloader: {self._sizes(f'{prefix}_dataloader')}}}" for prefix, title in titles.items()
        )

    def _sizes(self, name: str) -> str:
        try:
            loaders = getattr(self, name)()
        except Exception:  # a loader that is not set up yet fails in its own way
            return "None"
        if isinstance(loaders, DataLoader):
            return f"size={_size(loaders)}"
        every = loaders.values() if isinstance(loaders, Mapping) else loaders
        return " ; ".join(f"{number}. size={_size(loader)}" for number, loader in enumerate(every, start=1))


def _size(loader: Any) -> str:
    dataset = getattr(loader, "dataset", None)
    return str(len(dataset)) if isinstance(dataset, Sized) else "NA"
