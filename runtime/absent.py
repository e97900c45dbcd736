"""Lightning's parts for hardware and libraries that this runtime has no engine for.

Their names are known, so that a script that mentions them imports; making one is refused with what to use instead.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .checkpoint_io import TorchCheckpointIO
from .errors import MisconfigurationException
from .precision import Precision
from .profilers import PassThroughProfiler
from .strategies.absent import NO_TPU, SHARDING, DeepSpeedStrategy, SingleDeviceXLAStrategy, XLAStrategy
from .strategies.environment import LightningEnvironment
from .summary import ModelSummary

__all__ = [
    "BitsandbytesPrecision",
    "DeepSpeedStrategy",
    "DeepSpeedSummary",
    "SingleDeviceXLAStrategy",
    "TransformerEnginePrecision",
    "XLACheckpointIO",
    "XLAEnvironment",
    "XLAPrecision",
    "XLAProfiler",
    "XLAStrategy",
    "convert_zero_checkpoint_to_fp32_state_dict",
]

PLAIN_TYPES = "Use `precision='bf16-mixed'` or `precision='bf16-true'`."


class _Absent:
    instead: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise MisconfigurationException(f"`{type(self).__name__}` is not part of this runtime. {self.instead}")


class BitsandbytesPrecision(_Absent, Precision):
    instead = PLAIN_TYPES


class TransformerEnginePrecision(_Absent, Precision):
    instead = PLAIN_TYPES


class XLAPrecision(_Absent, Precision):
    instead = NO_TPU


class XLACheckpointIO(_Absent, TorchCheckpointIO):
    instead = NO_TPU


class XLAEnvironment(_Absent, LightningEnvironment):
    instead = NO_TPU

    @staticmethod
    def detect() -> bool:
        return False


class XLAProfiler(_Absent, PassThroughProfiler):
    instead = NO_TPU


class DeepSpeedSummary(_Absent, ModelSummary):
    instead = SHARDING


def convert_zero_checkpoint_to_fp32_state_dict(*args: Any, **kwargs: Any) -> None:
    """Refuses: the format is DeepSpeed's, and so is the tool that converts it."""
    raise MisconfigurationException(
        "DeepSpeed's checkpoints are converted by DeepSpeed's own `zero_to_fp32.py`, which lies in their folder."
    )
