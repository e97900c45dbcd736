"""One process on one device."""

from __future__ import annotations

import torch

from ..accelerators import Accelerator
from ..checkpoint_io import CheckpointIO
from ..precision import Precision
from .base import Strategy


class SingleDeviceStrategy(Strategy):
    """Runs everything on `device`."""

    strategy_name = "single_device"

    def __init__(
        self,
        device: torch.device | str = "cpu",
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        super().__init__(accelerator, checkpoint_io, precision_plugin)
        self._root_device = torch.device(device)

    @property
    def root_device(self) -> torch.device:
        return self._root_device
