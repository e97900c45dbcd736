"""Prints what the model is made of before training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..summary import summarize, summary_table
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

log = logging.getLogger(__name__)


class ModelSummary(Callback):
    """Prints a table of the layers when ``fit`` starts.

    Args:
        max_depth: How deep layers are shown: 1 the children, -1 all, 0 prints nothing.
        **summarize_kwargs: For `summarize`.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        self._max_depth = max_depth
        self._summarize_kwargs = summarize_kwargs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._max_depth:
            return
        summary = summarize(pl_module, max_depth=self._max_depth)
        # read on every rank: a sharded parameter's size may need all of them
        values = (
            summary._get_summary_data(),
            summary.total_parameters,
            summary.trainable_parameters,
            summary.model_size,
            summary.total_training_modes,
        )
        if trainer.is_global_zero:
            self.summarize(*values, total_flops=summary.total_flops, **self._summarize_kwargs)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Prints the table; override it to show the summary in another way.

        Args:
            summary_data: The columns: title and cells.
            total_parameters: All parameters.
            trainable_parameters: Those that require a gradient.
            model_size: Megabytes.
            total_training_modes: Submodules in "train" and in "eval" mode.
            total_flops: Operations of a forward pass of the example input, 0 if there is none.
            **summarize_kwargs: What the callback was made with.
        """
        table = summary_table(
            summary_data, total_parameters, trainable_parameters, model_size, total_training_modes, total_flops
        )
        log.info("\n" + table)
