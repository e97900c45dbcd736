"""The model summary as a rich table."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..randomness import isolate_rng
from ..summary import summary_totals
from .model_summary import ModelSummary

_RIGHT = {"Params", "Params per Device", "FLOPs", "In sizes", "Out sizes"}


class RichModelSummary(ModelSummary):
    """Prints the model summary with rich; ``header_style`` is its style for the header.

    Args:
        max_depth: How deep layers are shown: 1 the children, -1 all, 0 prints nothing.
        **summarize_kwargs: For `summarize`.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        if find_spec("rich") is None:
            raise ModuleNotFoundError("`RichModelSummary` requires `rich` to be installed: pip install rich")
        super().__init__(max_depth, **summarize_kwargs)

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
        with isolate_rng(include_cuda=False):  # rich draws from Python's random stream when it is imported
            from rich import get_console
            from rich.table import Table

        table = Table(header_style=summarize_kwargs.get("header_style", "bold magenta"))
        for title, _ in summary_data:
            table.add_column(
                title,
                justify="right" if title in _RIGHT else "left",
                no_wrap=title == "Name",
                style="dim" if title == " " else "",
            )
        for row in zip(*(cells for _, cells in summary_data)):
            table.add_row(*row)
        grid = Table.grid(expand=True)
        for what, number in summary_totals(
            int(total_parameters), int(trainable_parameters), model_size, total_training_modes, total_flops
        ):
            grid.add_row(f"[bold]{what}[/]: {number}")
        console = get_console()
        console.print(table)
        console.print(grid)


def default_model_summary() -> ModelSummary:
    """Returns the summary a Trainer has when none was given: rich's, else lines of text."""
    return RichModelSummary() if find_spec("rich") is not None else ModelSummary()
