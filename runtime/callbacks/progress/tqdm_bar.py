"""tqdm's bar with steadier numbers. Importing this file needs tqdm."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

if find_spec("ipywidgets") is not None:
    from tqdm.auto import tqdm as _tqdm
else:  # tqdm.auto would draw nothing in a notebook
    from tqdm import tqdm as _tqdm

_WIDTH = 5


class Tqdm(_tqdm):
    """Pads numbers with zeros, so that the bar does not jump as they change."""

    @staticmethod
    def format_num(n: int | float | str) -> str:
        """Formats a number, floats and numeric strings to at least five characters."""
        text = n if isinstance(n, str) else str(_tqdm.format_num(n))
        if isinstance(n, int) or "e" in text:
            return text
        if "." not in text and len(text) < _WIDTH:
            try:
                float(text)
            except ValueError:
                return text
            text += "."
        return text + "0" * (_WIDTH - len(text))


def restart(bar: Any, total: float | None, description: str) -> None:
    """Sets a bar back to the beginning, without drawing it."""
    bar.n = bar.initial = 0
    bar.total = total
    if not bar.disable:
        bar.last_print_n = 0
        bar.last_print_t = bar.start_t = bar._time()
        bar.set_description(description, refresh=False)
