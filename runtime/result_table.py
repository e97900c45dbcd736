"""The table of metrics that validation and test print at their end."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from typing import Any

import torch

from .randomness import isolate_rng


def print_results(results: list[dict[str, Any]], stage: str) -> None:
    """Prints a table of metrics, one column per loader."""
    columns = [{name.split("/dataloader_idx_")[0]: value for name, value in one.items()} for one in results]
    names = sorted({name for column in columns for name in column})
    if not names:
        return
    headers = [f"DataLoader {index}" for index in range(len(columns))]
    width_of_terminal = shutil.get_terminal_size(fallback=(120, 30)).columns or 120
    width = int(min(max(map(len, (max(names, key=len), headers[-1], " " * 25))), width_of_terminal / 2))
    per_table = max(1, (width_of_terminal - width) // width)
    for start in range(0, len(columns), per_table):
        part = columns[start : start + per_table]
        title = [f"{stage} metric".capitalize(), *headers[start : start + per_table]]
        rows = [[name, *(_shown(column.get(name)) for column in part)] for name in names]
        if find_spec("rich") is not None:
            _print_rich_table(title, rows, width)
        else:
            _print_table(title, rows, width, width_of_terminal)


def _shown(value: Any) -> str:
    if value is None:
        return " "
    if isinstance(value, torch.Tensor):
        return str(value.item() if value.numel() == 1 else value.tolist())
    return str(value)


def _print_rich_table(title: list[str], rows: list[list[str]], width: int) -> None:
    with isolate_rng(include_cuda=False):  # rich draws from Python's random stream when it is imported
        from rich import get_console
        from rich.table import Table

    table = Table()
    for number, cell in enumerate(title):
        table.add_column(cell, justify="center", style="magenta" if number else "cyan", width=width)
    for row in rows:
        table.add_row(*row)
    get_console().print(table)


def _print_table(title: list[str], rows: list[list[str]], width: int, width_of_terminal: int) -> None:
    bar = _bar_character() * width_of_terminal
    lines = [bar, "".join(f"{cell:^{width}}" for cell in title).rstrip(), bar]
    lines += ["".join(f"{cell:^{width}}" for cell in row).rstrip() for row in rows]
    print("\n".join([*lines, bar]))


def _bar_character() -> str:
    try:
        "─".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # some terminals do not have this character
        return "-"
    return "─"
