"""What a module and a datamodule share: loaders, preparation, and the way of a batch to the device."""

from __future__ import annotations

from typing import Any

import torch

from .errors import MisconfigurationException
from .transfer import move_data_to_device


class DataHooks:
    """Hooks for data; implemented by the user in the module or in the datamodule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepare_data_per_node: bool = True
        self.allow_zero_length_dataloader_with_multiple_devices = False

    def prepare_data(self) -> None:
        """Downloads and the like: called by one process, so set no state here."""

    def setup(self, stage: str) -> None:
        """Called by every process when `stage` (fit, validate, test or predict) begins."""

    def teardown(self, stage: str) -> None:
        """Called by every process when `stage` ends."""

    def train_dataloader(self) -> Any:
        """The training data: any iterable, or a collection of them."""
        raise MisconfigurationException("`train_dataloader` must be implemented to be used with the Lightning Trainer")

    def val_dataloader(self) -> Any:
        """The validation data: one iterable or several."""
        raise MisconfigurationException("`val_dataloader` must be implemented to be used with the Lightning Trainer")

    def test_dataloader(self) -> Any:
        """The test data: one iterable or several."""
        raise MisconfigurationException("`test_dataloader` must be implemented to be used with the Lightning Trainer")

    def predict_dataloader(self) -> Any:
        """The data to predict: one iterable or several."""
        raise MisconfigurationException(
            "`predict_dataloader` must be implemented to be used with the Lightning Trainer"
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch before it moves to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch; override for batches that `move_data_to_device` does not know."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch after it moved to the device."""
        return batch
