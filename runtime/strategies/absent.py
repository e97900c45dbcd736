"""Engines of Lightning that this runtime does not have: their names are known, and refused with what to use instead."""

from __future__ import annotations

from typing import Any

from ..errors import MisconfigurationException
from .single_device import SingleDeviceStrategy

SHARDING = "Use `strategy='fsdp'`, which shards parameters, gradients and optimizer states with torch alone."
NO_TPU = "There is no TPU engine. Use `accelerator='auto'`, or Lightning itself."


class _Absent(SingleDeviceStrategy):
    instead = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise MisconfigurationException(f"`{type(self).__name__}` is not part of this runtime. {self.instead}")


class DeepSpeedStrategy(_Absent):
    instead = SHARDING


class XLAStrategy(_Absent):
    instead = NO_TPU


class SingleDeviceXLAStrategy(XLAStrategy):
    pass
