"""Loggers of Lightning for services that this runtime does not speak to; making one says what to use instead."""

from __future__ import annotations

from typing import Any

from ..errors import MisconfigurationException
from .base import DummyLogger


class _Absent(DummyLogger):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise MisconfigurationException(
            f"`{type(self).__name__}` is not part of this runtime. Use `WandbLogger`, `MLFlowLogger`, `CometLogger`,"
            " `TensorBoardLogger` or `CSVLogger`, or derive a logger of your own from `Logger`."
        )


class LitLogger(_Absent):
    """Lightning AI's service."""


class NeptuneLogger(_Absent):
    """Neptune, which Lightning has dropped, too."""
