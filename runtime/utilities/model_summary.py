"""The summary of a model; the callback of the same name is in ``callbacks``."""

from ..absent import DeepSpeedSummary
from ..summary import (
    LEFTOVER_PARAMS_NAME,
    NOT_APPLICABLE,
    UNKNOWN_SIZE,
    LayerSummary,
    ModelSummary,
    get_human_readable_count,
    parse_batch_shape,
    summarize,
)

__all__ = [
    "LEFTOVER_PARAMS_NAME",
    "NOT_APPLICABLE",
    "UNKNOWN_SIZE",
    "DeepSpeedSummary",
    "LayerSummary",
    "ModelSummary",
    "get_human_readable_count",
    "parse_batch_shape",
    "summarize",
]
